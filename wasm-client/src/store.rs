//! The chunk store: segments at their place and chunks that are still coming in, all in JavaScript's memory.

use alloc::vec::Vec;

use crate::bytes::Bytes;
use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{ChunkId, ChunkIndex, DataHeader, PeerId, SegmentId, SegmentLen};

/// Chunk buffers kept for reuse: a few neighbours' worth, so that a running viewer allocates none.
const SPARE_BUFFERS: usize = 16;

/// One segment's place. Grows while the segment's length is not known.
struct Place {
    segment: SegmentId,
    bytes: Bytes,
    len: Option<SegmentLen>,
    /// The chunks that are whole, a bit each.
    held: Vec<u32>,
}

/// A chunk that a peer is sending.
struct Incoming {
    peer: PeerId,
    chunk: ChunkId,
    buffer: Bytes,
    filled: u32,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Store {
    /// Sorted by segment.
    places: Vec<Place>,
    /// Few: the engine bounds what is asked of a peer.
    incoming: Vec<Incoming>,
    spare: Vec<Bytes>,
}

impl Store {
    fn find(&self, segment: SegmentId) -> Option<&Place> {
        self.places.binary_search_by_key(&segment, |place| place.segment).ok().and_then(|at| self.places.get(at))
    }

    fn place(&mut self, segment: SegmentId) -> &mut Place {
        let at = match self.places.binary_search_by_key(&segment, |place| place.segment) {
            Ok(at) => at,
            Err(at) => {
                let place = Place { segment, bytes: Bytes::zeroed(0), len: None, held: Vec::new() };
                self.places.insert(at, place);
                at
            }
        };
        &mut self.places[at]
    }

    /// Notes the length of a segment and makes room for it.
    pub(crate) fn set_len(&mut self, segment: SegmentId, len: SegmentLen) {
        let place = self.place(segment);
        place.len = Some(len);
        place.reserve(len.bytes());
    }

    /// The length of a segment, where it is known.
    pub(crate) fn len(&self, segment: SegmentId) -> Option<SegmentLen> {
        self.find(segment)?.len
    }

    /// Bytes of a segment's whole chunks.
    pub(crate) fn held_bytes(&self, segment: SegmentId) -> u32 {
        let chunks = self.find(segment).map_or(0, |place| place.held.iter().map(|word| word.count_ones()).sum());
        chunks * CHUNK_LEN
    }

    /// Writes bytes of an HTTP body to their place, unless the chunk that they belong to is whole already.
    pub(crate) fn write(&mut self, segment: SegmentId, at: u32, bytes: &Bytes) {
        let place = self.place(segment);
        if !place.holds(ChunkIndex(at / CHUNK_LEN)) {
            place.reserve(at + bytes.length());
            place.bytes.set(bytes, at);
        }
    }

    /// Notes that a chunk is whole.
    pub(crate) fn mark(&mut self, segment: SegmentId, index: ChunkIndex) {
        self.place(segment).mark(index);
    }

    /// Takes a whole segment over.
    pub(crate) fn adopt(&mut self, segment: SegmentId, len: SegmentLen, bytes: Bytes) {
        let place = self.place(segment);
        place.bytes = bytes;
        place.len = Some(len);
        for index in len.chunks().iter() {
            place.mark(index);
        }
    }

    /// A view of `len` bytes of a chunk.
    pub(crate) fn part(&self, header: &DataHeader, len: u32) -> Option<Bytes> {
        let place = self.find(header.chunk.segment)?;
        let start = header.chunk.index.0.checked_mul(CHUNK_LEN)?.checked_add(header.offset)?;
        let end = start.checked_add(len)?;
        (end <= place.bytes.length()).then(|| place.bytes.subarray(start, end))
    }

    /// A copy of a whole segment.
    pub(crate) fn copy(&self, segment: SegmentId, len: SegmentLen) -> Option<Bytes> {
        let place = self.find(segment)?;
        (len.bytes() <= place.bytes.length()).then(|| place.bytes.slice(0, len.bytes()))
    }

    /// Forgets a segment.
    pub(crate) fn evict(&mut self, segment: SegmentId) {
        if let Ok(at) = self.places.binary_search_by_key(&segment, |place| place.segment) {
            self.places.remove(at);
        }
    }

    /// Appends a piece, which begins at `offset`, to the chunk that comes in from `peer`.
    pub(crate) fn append(&mut self, peer: PeerId, chunk: ChunkId, offset: u32, piece: &Bytes) {
        let at = self.find_incoming(peer, chunk).unwrap_or_else(|| {
            let buffer = self.spare.pop().unwrap_or_else(|| Bytes::zeroed(CHUNK_LEN));
            self.incoming.push(Incoming { peer, chunk, buffer, filled: 0 });
            self.incoming.len() - 1
        });
        let incoming = &mut self.incoming[at];
        // A frame's header says no more than CHUNK_LEN: `DataHeader::parse`.
        incoming.buffer.set(piece, offset);
        incoming.filled = offset + piece.length();
    }

    /// What has come of a chunk from `peer`.
    pub(crate) fn incoming(&self, peer: PeerId, chunk: ChunkId) -> Option<Bytes> {
        let incoming = &self.incoming[self.find_incoming(peer, chunk)?];
        Some(incoming.buffer.subarray(0, incoming.filled))
    }

    /// Moves a chunk that came in from `peer` to its place.
    pub(crate) fn keep(&mut self, peer: PeerId, chunk: ChunkId, len: SegmentLen) {
        if let Some(bytes) = self.incoming(peer, chunk) {
            self.set_len(chunk.segment, len);
            let place = self.place(chunk.segment);
            let start = chunk.index.0.saturating_mul(CHUNK_LEN);
            if start.saturating_add(bytes.length()) <= place.bytes.length() {
                place.bytes.set(&bytes, start);
                place.mark(chunk.index);
            }
        }
        self.drop_chunk(peer, chunk);
    }

    /// Forgets a chunk that came in from `peer`.
    pub(crate) fn drop_chunk(&mut self, peer: PeerId, chunk: ChunkId) {
        if let Some(at) = self.find_incoming(peer, chunk) {
            let incoming = self.incoming.swap_remove(at);
            if self.spare.len() < SPARE_BUFFERS {
                self.spare.push(incoming.buffer);
            }
        }
    }

    /// Forgets all that comes in from `peer`.
    pub(crate) fn drop_peer(&mut self, peer: PeerId) {
        self.incoming.retain(|incoming| incoming.peer != peer);
    }

    fn find_incoming(&self, peer: PeerId, chunk: ChunkId) -> Option<usize> {
        self.incoming.iter().position(|incoming| incoming.peer == peer && incoming.chunk == chunk)
    }
}

impl Place {
    fn reserve(&mut self, len: u32) {
        let room = self.bytes.length();
        if len > room {
            // Where the length is not known, doubling keeps the copies few.
            let room = self.len.map_or(room.saturating_mul(2), SegmentLen::bytes).max(len);
            let bytes = Bytes::zeroed(room);
            bytes.set(&self.bytes, 0);
            self.bytes = bytes;
        }
    }

    fn holds(&self, index: ChunkIndex) -> bool {
        self.held.get((index.0 / 32) as usize).is_some_and(|word| word & (1 << (index.0 % 32)) != 0)
    }

    fn mark(&mut self, index: ChunkIndex) {
        let word = (index.0 / 32) as usize;
        if word >= self.held.len() {
            self.held.resize(word + 1, 0);
        }
        self.held[word] |= 1 << (index.0 % 32);
    }
}
