//! The bytes of the segments that the engine speaks of by name, and of chunks that are still arriving.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{ChunkId, ChunkIndex, PeerId, SegmentId};

/// Chunks by segment, and incoming chunks by sender. What comes in and what goes is the engine's decision, and so is how
/// much there is.
#[derive(Debug, Default)]
pub struct Store {
    segments: BTreeMap<SegmentId, BTreeMap<ChunkIndex, Bytes>>,
    incoming: BTreeMap<(PeerId, ChunkId), Vec<u8>>,
}

impl Store {
    /// Takes in a whole segment; its chunks share the memory of `bytes`.
    pub fn put_segment(&mut self, segment: SegmentId, bytes: &Bytes) {
        let chunk_len = CHUNK_LEN as usize;
        let chunks = (0..).map(ChunkIndex).zip((0..bytes.len()).step_by(chunk_len));
        let chunks = chunks.map(|(index, start)| (index, bytes.slice(start..(start + chunk_len).min(bytes.len()))));
        self.segments.insert(segment, chunks.collect());
    }

    /// Takes in one chunk.
    pub fn put_chunk(&mut self, chunk: ChunkId, bytes: Bytes) {
        self.segments.entry(chunk.segment).or_default().insert(chunk.index, bytes);
    }

    /// The bytes of a chunk.
    #[must_use]
    pub fn chunk(&self, chunk: ChunkId) -> Option<Bytes> {
        self.segments.get(&chunk.segment)?.get(&chunk.index).cloned()
    }

    /// The bytes of a whole segment of `len` bytes, or `None` where some are missing.
    #[must_use]
    pub fn segment(&self, segment: SegmentId, len: u32) -> Option<Bytes> {
        let chunks = self.segments.get(&segment)?;
        let mut bytes = Vec::with_capacity(len as usize);
        for (expected, (index, chunk)) in (0..).map(ChunkIndex).zip(chunks) {
            if *index != expected {
                return None;
            }
            bytes.extend_from_slice(chunk);
        }
        (bytes.len() == len as usize).then(|| bytes.into())
    }

    /// Frees a segment.
    pub fn evict(&mut self, segment: SegmentId) {
        self.segments.remove(&segment);
    }

    /// Appends a piece to an incoming chunk, and gives what there is of it now.
    pub fn append(&mut self, peer: PeerId, chunk: ChunkId, piece: &[u8]) -> &[u8] {
        let incoming = self.incoming.entry((peer, chunk)).or_default();
        incoming.extend_from_slice(piece);
        incoming
    }

    /// Moves an incoming chunk to its place.
    pub fn keep(&mut self, peer: PeerId, chunk: ChunkId) {
        if let Some(bytes) = self.incoming.remove(&(peer, chunk)) {
            self.put_chunk(chunk, bytes.into());
        }
    }

    /// Forgets an incoming chunk.
    pub fn discard(&mut self, peer: PeerId, chunk: ChunkId) {
        self.incoming.remove(&(peer, chunk));
    }

    /// Forgets all incoming chunks of a peer.
    pub fn discard_all(&mut self, peer: PeerId) {
        self.incoming.retain(|(sender, _), _| *sender != peer);
    }
}

#[cfg(test)]
mod tests {
    use headwater_wire::{SeqNo, TrackId};

    use super::*;

    const SEGMENT: SegmentId = SegmentId { track: TrackId(1), seq: SeqNo(2) };

    fn chunk(index: u32) -> ChunkId {
        ChunkId { segment: SEGMENT, index: ChunkIndex(index) }
    }

    #[test]
    fn a_segment_is_its_chunks() {
        let bytes = Bytes::from((0..CHUNK_LEN + 9).map(|i| i as u8).collect::<Vec<_>>());
        let mut store = Store::default();
        store.put_segment(SEGMENT, &bytes);
        assert_eq!(store.chunk(chunk(0)).unwrap(), bytes.slice(..CHUNK_LEN as usize));
        assert_eq!(store.chunk(chunk(1)).unwrap(), bytes.slice(CHUNK_LEN as usize..));
        assert_eq!(store.chunk(chunk(2)), None);
        assert_eq!(store.segment(SEGMENT, CHUNK_LEN + 9).unwrap(), bytes);
        store.evict(SEGMENT);
        assert_eq!(store.segment(SEGMENT, CHUNK_LEN + 9), None);
    }

    #[test]
    fn chunks_of_two_senders_do_not_mix() {
        let (alice, bob) = (PeerId(1), PeerId(2));
        let mut store = Store::default();
        store.append(alice, chunk(0), b"al");
        store.append(bob, chunk(0), b"bob");
        assert_eq!(store.append(alice, chunk(0), b"ice"), b"alice");
        store.discard(bob, chunk(0));
        store.keep(alice, chunk(0));
        assert_eq!(store.segment(SEGMENT, 5).unwrap(), &b"alice"[..]);
        assert_eq!(store.segment(SEGMENT, 6), None);
    }
}
