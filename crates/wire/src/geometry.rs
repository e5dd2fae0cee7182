//! How a segment is cut: chunks of [`CHUNK_LEN`] bytes, the last one shorter.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use serde::{Deserialize, Deserializer, Serialize};

use crate::codec::{Wire, wire_struct};
use crate::limits::{CHUNK_LEN, MAX_CHUNKS, MAX_SEGMENT_LEN};

/// The length of a segment in bytes: from 1 to [`MAX_SEGMENT_LEN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SegmentLen(u32);

/// A length that no segment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a segment has between 1 and {MAX_SEGMENT_LEN} bytes")]
pub struct SegmentLenError;

impl SegmentLen {
    /// Checks a length.
    ///
    /// # Errors
    /// For zero and for more than [`MAX_SEGMENT_LEN`].
    pub const fn new(len: u32) -> Result<Self, SegmentLenError> {
        if len == 0 || len > MAX_SEGMENT_LEN {
            return Err(SegmentLenError);
        }
        Ok(Self(len))
    }

    /// The length in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// How many chunks there are: from 1 to [`MAX_CHUNKS`].
    #[must_use]
    pub const fn chunk_count(self) -> u32 {
        self.0.div_ceil(CHUNK_LEN)
    }

    /// All of its chunks.
    #[must_use]
    pub const fn chunks(self) -> ChunkRange {
        ChunkRange { first: ChunkIndex(0), count: self.chunk_count() }
    }

    /// The length of the chunk at `index` in bytes, or `None` past the end.
    #[must_use]
    pub fn chunk_len(self, index: ChunkIndex) -> Option<u32> {
        let start = index.0.checked_mul(CHUNK_LEN)?;
        (start < self.0).then(|| CHUNK_LEN.min(self.0 - start))
    }

    /// The bytes that `chunks` cover, cut at the end of the segment.
    #[must_use]
    pub fn byte_range(self, chunks: ChunkRange) -> ByteRange {
        let start = chunks.first.0.saturating_mul(CHUNK_LEN).min(self.0);
        let end = chunks.end().saturating_mul(CHUNK_LEN).min(self.0);
        ByteRange { start, end }
    }
}

impl<'de> Deserialize<'de> for SegmentLen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u32::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for SegmentLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

/// Bytes of a segment, from `start` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl ByteRange {
    /// How many bytes.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }
}

/// The place of a chunk in its segment, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkIndex(pub u32);

/// Consecutive chunks of one segment. May be empty, may reach past the end: receivers check against the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkRange {
    /// The first chunk.
    pub first: ChunkIndex,
    /// How many.
    pub count: u32,
}

impl ChunkRange {
    /// The chunk at `index` alone.
    #[must_use]
    pub const fn one(index: ChunkIndex) -> Self {
        Self { first: index, count: 1 }
    }

    /// The index after the last chunk.
    #[must_use]
    pub const fn end(self) -> u32 {
        self.first.0.saturating_add(self.count)
    }

    /// Whether the range lies within what any segment can have, and is not empty.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.count > 0 && self.count <= MAX_CHUNKS && self.first.0 < MAX_CHUNKS && self.end() <= MAX_CHUNKS
    }

    /// Its chunks in order.
    pub fn iter(self) -> impl Iterator<Item = ChunkIndex> {
        let indices: Range<u32> = self.first.0..self.end();
        indices.map(ChunkIndex)
    }
}

wire_struct!(ChunkIndex { 0 });
wire_struct!(ChunkRange { first, count });

impl Wire for SegmentLen {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Self::new(u32::take(from)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_chunk_is_shorter() {
        let len = SegmentLen::new(CHUNK_LEN * 2 + 1).unwrap();
        assert_eq!(len.chunk_count(), 3);
        assert_eq!(len.chunk_len(ChunkIndex(1)), Some(CHUNK_LEN));
        assert_eq!(len.chunk_len(ChunkIndex(2)), Some(1));
        assert_eq!(len.chunk_len(ChunkIndex(3)), None);
        assert_eq!(len.chunk_len(ChunkIndex(u32::MAX)), None);
        let tail = len.byte_range(ChunkRange { first: ChunkIndex(1), count: u32::MAX });
        assert_eq!(tail, ByteRange { start: CHUNK_LEN, end: CHUNK_LEN * 2 + 1 });
    }

    #[test]
    fn no_segment_is_empty_or_endless() {
        assert_eq!(SegmentLen::new(0), Err(SegmentLenError));
        assert_eq!(SegmentLen::new(MAX_SEGMENT_LEN + 1), Err(SegmentLenError));
        assert_eq!(SegmentLen::new(MAX_SEGMENT_LEN).unwrap().chunk_count(), MAX_CHUNKS);
    }
}
