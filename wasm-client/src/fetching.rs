//! HTTP bodies on their way into the store: cut into chunks, hashed as they come, checked for their length.

use crate::bytes::Bytes;
use headwater_swarm::FetchId;
use headwater_wire::hash::ChunkHasher;
use headwater_wire::limits::{CHUNK_LEN, MAX_SEGMENT_LEN};
use headwater_wire::{ByteRange, ChunkHash, ChunkIndex, SegmentId, SegmentLen};

use crate::hash::Scratch;
use crate::store::Store;

/// A request under way.
pub(crate) struct Fetching {
    /// Its name.
    pub(crate) id: FetchId,
    segment: SegmentId,
    asked: Option<ByteRange>,
    /// The next byte's place in the segment.
    at: u32,
    /// Where the body must end, where that is known.
    end: Option<u32>,
    /// The length of the whole segment, where the response says it.
    total: Option<SegmentLen>,
    hasher: ChunkHasher,
    /// Whether the hasher has seen bytes of a chunk that is not whole yet.
    open: bool,
}

/// A chunk of a body that has become whole.
pub(crate) struct Whole {
    pub(crate) index: ChunkIndex,
    pub(crate) len: u32,
    pub(crate) hash: ChunkHash,
}

/// The body is not what it should be: too long, too short, empty.
pub(crate) struct WrongBody;

impl Fetching {
    pub(crate) fn new(id: FetchId, segment: SegmentId, asked: Option<ByteRange>) -> Self {
        let hasher = ChunkHasher::new();
        Self { id, segment, asked, at: 0, end: None, total: None, hasher, open: false }
    }

    /// Takes in the head of the response; `total` is the whole segment's length, or 0 where it is not known. Returns
    /// whether the body is the range that was asked for.
    pub(crate) fn head(&mut self, ranged: bool, total: u32, store: &mut Store) -> bool {
        self.total = SegmentLen::new(total).ok();
        if let Some(len) = self.total {
            store.set_len(self.segment, len);
        }
        match self.asked.filter(|_| ranged) {
            Some(range) => {
                self.at = range.start;
                self.end = Some(range.end);
                true
            }
            None => {
                self.end = self.total.map(SegmentLen::bytes);
                false
            }
        }
    }

    pub(crate) fn total(&self) -> Option<SegmentLen> {
        self.total
    }

    /// Takes in the first bytes of `bytes`, up to the end of a chunk. Returns how many, and the chunk where it is whole.
    pub(crate) fn take(
        &mut self,
        bytes: &Bytes,
        store: &mut Store,
        scratch: &mut Scratch,
    ) -> Result<(u32, Option<Whole>), WrongBody> {
        let chunk_end = (self.at / CHUNK_LEN + 1).saturating_mul(CHUNK_LEN);
        let end = self.end.unwrap_or(MAX_SEGMENT_LEN).min(chunk_end);
        let count = bytes.length().min(end.saturating_sub(self.at));
        if count == 0 {
            return Err(WrongBody);
        }
        let piece = bytes.subarray(0, count);
        scratch.update(&mut self.hasher, &piece);
        store.write(self.segment, self.at, &piece);
        self.at += count;
        self.open = true;
        let whole = self.at == chunk_end || Some(self.at) == self.end;
        Ok((count, whole.then(|| self.close(store)).flatten()))
    }

    /// The body has ended. Returns its last chunk, where that was not known to be the last, and the segment's length.
    pub(crate) fn finish(mut self, store: &mut Store) -> Result<(Option<Whole>, SegmentLen), WrongBody> {
        if self.end.is_some_and(|end| self.at < end) {
            return Err(WrongBody);
        }
        let last = self.close(store);
        // A response to a range request may hide the whole length (CORS does): then the engine knows it better.
        let ranged = self.asked.is_some_and(|range| self.end == Some(range.end));
        let total = match self.total.or_else(|| store.len(self.segment).filter(|_| ranged)) {
            Some(total) => total,
            None => SegmentLen::new(self.at).map_err(|_| WrongBody)?,
        };
        store.set_len(self.segment, total);
        Ok((last, total))
    }

    fn close(&mut self, store: &mut Store) -> Option<Whole> {
        if !self.open {
            return None;
        }
        self.open = false;
        let index = ChunkIndex((self.at - 1) / CHUNK_LEN);
        store.mark(self.segment, index);
        Some(Whole { index, len: self.at - index.0 * CHUNK_LEN, hash: self.hasher.finish() })
    }
}
