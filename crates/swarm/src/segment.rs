//! One segment on its way into the store: which chunks are there, which are asked of whom, what HTTP is doing.

use alloc::vec::Vec;

use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{ByteRange, ChunkHash, ChunkIndex, ChunkRange, PeerId, SegmentLen};

use crate::io::{DemandId, FetchId};
use crate::map::SortedMap;
use crate::ranges::ChunkSet;
use crate::time::{Now, Span};

/// An HTTP request under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetch {
    pub(crate) id: FetchId,
    pub(crate) range: Option<ByteRange>,
    pub(crate) started: Now,
    pub(crate) head: Option<Now>,
    pub(crate) last_progress: Now,
    pub(crate) bytes: u64,
}

impl Fetch {
    /// The chunks it brings; `None` for all of them.
    pub(crate) fn chunks(&self) -> Option<ChunkRange> {
        let range = self.range?;
        let (first, end) = (range.start / CHUNK_LEN, range.end.div_ceil(CHUNK_LEN));
        Some(ChunkRange { first: ChunkIndex(first), count: end.saturating_sub(first) })
    }
}

/// Bytes by source, and when they came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Arrival {
    pub(crate) requested: Option<Now>,
    pub(crate) complete: Option<Now>,
    pub(crate) http_bytes: u32,
    pub(crate) seed_bytes: u32,
    pub(crate) viewer_bytes: u32,
}

/// One segment.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    /// Known from the catalogue, or from a complete HTTP load.
    pub(crate) len: Option<SegmentLen>,
    /// The chunk hashes, once checked against the catalogue's root (or computed here). Empty before.
    pub(crate) hashes: Vec<ChunkHash>,
    /// Hashes on their way in, from one peer, not checked yet.
    pub(crate) hash_parts: Option<(PeerId, Vec<ChunkHash>)>,
    /// Whether there was a catalogue entry when a neighbour was last asked about this segment.
    pub(crate) entry_seen: bool,
    /// Hashes of chunks that came over HTTP while `hashes` is not known.
    pub(crate) http_hashes: SortedMap<ChunkIndex, ChunkHash>,
    /// Chunks in the store.
    pub(crate) held: ChunkSet,
    /// Chunks in incoming buffers that wait for `hashes`.
    pub(crate) unchecked: SortedMap<ChunkIndex, (PeerId, ChunkHash)>,
    /// Chunks asked of peers: of whom, and when to look for one that would bring it sooner.
    pub(crate) asked: SortedMap<ChunkIndex, (PeerId, Now)>,
    pub(crate) fetch: Option<Fetch>,
    /// When the origin failed last, and how often in a row.
    pub(crate) failures: Option<(Now, u32)>,
    /// All chunks are in the store.
    pub(crate) complete: bool,
    /// What is in the store is what the catalogue says: peers may have it.
    pub(crate) shared: bool,
    /// The origin's bytes are not the catalogue's: nothing of peers is used.
    pub(crate) differs: bool,
    pub(crate) demands: Vec<DemandId>,
    /// In no hurry, and yet begun: see `Engine::may_begin`.
    pub(crate) begun: bool,
    /// When it was first demanded or wanted: elections count from here.
    pub(crate) since: Option<Now>,
    /// When the catalogue entry came, or an own fetch of a part ended, if later.
    pub(crate) news: Option<Now>,
    /// How often each chunk was sent to a neighbour.
    pub(crate) sent: Vec<u8>,
    /// When it was last used, once complete: see `Engine::touch`.
    pub(crate) stamp: u64,
    /// Where asking begins, so that viewers of one source ask for different chunks first.
    pub(crate) first_chunk: u32,
    pub(crate) arrival: Arrival,
}

impl Segment {
    /// Chunks that are neither here nor waiting to be checked: what to ask of peers. Empty where the length is not known.
    pub(crate) fn missing(&self) -> impl Iterator<Item = ChunkIndex> {
        self.lacking().filter(|index| !self.unchecked.contains_key(index))
    }

    /// Chunks that are not here: what the origin must bring in the end. What waits to be checked may be a lie.
    pub(crate) fn lacking(&self) -> impl Iterator<Item = ChunkIndex> {
        let count = self.len.map_or(0, SegmentLen::chunk_count);
        let first = if count == 0 { 0 } else { self.first_chunk % count };
        (0..count).map(move |step| ChunkIndex((first + step) % count)).filter(|index| !self.held.contains(*index))
    }

    /// The smallest range that has all missing chunks in it. `None` where all of the segment is missing (or its length
    /// is not known), and nothing is gained by naming it.
    pub(crate) fn missing_range(&self) -> Option<ChunkRange> {
        let len = self.len?;
        let mut first = u32::MAX;
        let mut end = 0;
        for index in self.lacking() {
            first = first.min(index.0);
            end = end.max(index.0 + 1);
        }
        let range = ChunkRange { first: ChunkIndex(first), count: end.saturating_sub(first) };
        (range.is_valid() && range != len.chunks()).then_some(range)
    }

    pub(crate) fn missing_bytes(&self) -> Option<u64> {
        let len = self.len?;
        Some(self.lacking().filter_map(|index| len.chunk_len(index)).map(u64::from).sum())
    }

    /// The chunks that the fetch under way brings; `None` for all of them.
    pub(crate) fn fetched_chunks(&self) -> Option<ChunkRange> {
        self.fetch?.chunks()
    }

    /// Whether the fetch under way leaves something out that is not here.
    pub(crate) fn is_fetched_in_part(&self) -> bool {
        self.lacking().any(|index| !self.is_being_fetched(index))
    }

    pub(crate) fn is_all_held(&self) -> bool {
        self.len.is_some_and(|len| self.held.len() == len.chunk_count())
    }

    /// Whether the fetch under way will bring `index`.
    pub(crate) fn is_being_fetched(&self, index: ChunkIndex) -> bool {
        let Some(fetch) = &self.fetch else { return false };
        let Some((range, len)) = fetch.range.zip(self.len) else { return true };
        let chunk = len.byte_range(ChunkRange::one(index));
        range.start <= chunk.start && chunk.end <= range.end
    }

    /// The moment before which the origin is not to be asked again after failures.
    pub(crate) fn retry_at(&self) -> Option<Now> {
        let (at, count) = self.failures?;
        Some(at + Span::from_millis(250) * (1 << count.min(4)))
    }
}
