//! Segments that the player loaded by itself before the client was there: hashed in small steps, then shared.

use alloc::vec::Vec;

use crate::bytes::Bytes;
use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{ChunkHash, SegmentId, SegmentLen};

use crate::hash::Scratch;

/// Chunks hashed in one step: about a millisecond, so that no frame is late.
const CHUNKS_PER_STEP: usize = 4;

/// A segment on its way into the store.
pub(crate) struct Adoption {
    pub(crate) segment: SegmentId,
    pub(crate) len: SegmentLen,
    pub(crate) bytes: Bytes,
    pub(crate) hashes: Vec<ChunkHash>,
}

impl Adoption {
    /// `None` where no segment has that many bytes.
    pub(crate) fn new(segment: SegmentId, bytes: Bytes) -> Option<Self> {
        let len = SegmentLen::new(bytes.length()).ok()?;
        Some(Self { segment, len, bytes, hashes: Vec::new() })
    }

    /// Hashes a few chunks. Returns whether all are hashed.
    pub(crate) fn step(&mut self, scratch: &mut Scratch) -> bool {
        for _ in 0..CHUNKS_PER_STEP {
            let start = (self.hashes.len() as u32).saturating_mul(CHUNK_LEN);
            if start >= self.len.bytes() {
                return true;
            }
            let end = start.saturating_add(CHUNK_LEN).min(self.len.bytes());
            self.hashes.push(scratch.hash(&self.bytes.subarray(start, end)));
        }
        self.hashes.len() as u32 == self.len.chunk_count()
    }
}
