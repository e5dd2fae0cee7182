//! Chunk hashes and the root hash that binds them to a segment.
//!
//! `root = BLAKE3("headwater segment v1\0" ‖ length as u32 little-endian ‖ the BLAKE3 hashes of the chunks in order)`.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::wire_struct;
use crate::geometry::SegmentLen;
use crate::limits::CHUNK_LEN;

/// What the bytes that a root hash covers begin with, so that no other hash of this protocol can be taken for one.
const ROOT_CONTEXT: &[u8] = b"headwater segment v1\0";

#[cfg(target_family = "wasm")]
use crate::blake3::Hasher;

#[cfg(not(target_family = "wasm"))]
use library::Hasher;

/// The library's hasher, as this crate's own one is used.
#[cfg(not(target_family = "wasm"))]
mod library {
    #[derive(Debug, Clone, Default)]
    pub(super) struct Hasher(::blake3::Hasher);

    impl Hasher {
        pub(super) fn new() -> Self {
            Self::default()
        }

        pub(super) fn update(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        pub(super) fn finalize(&self) -> [u8; 32] {
            *self.0.finalize().as_bytes()
        }

        pub(super) fn reset(&mut self) {
            self.0.reset();
        }
    }
}

/// The BLAKE3 hash of some bytes.
pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finalize()
}

/// The BLAKE3 hash of a chunk's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkHash(pub [u8; 32]);

impl ChunkHash {
    /// The hash of `chunk`.
    #[must_use]
    pub fn of(chunk: &[u8]) -> Self {
        Self(hash(chunk))
    }
}

impl fmt::Debug for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkHash({:02x}{:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

wire_struct!(ChunkHash { 0 });
wire_struct!(RootHash { 0 });

/// Hashes a chunk that arrives in pieces.
#[derive(Debug, Clone, Default)]
pub struct ChunkHasher(Hasher);

impl ChunkHasher {
    /// A hasher that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the chunk.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes taken, and a hasher ready for the next chunk.
    pub fn finish(&mut self) -> ChunkHash {
        let hash = ChunkHash(self.0.finalize());
        self.0.reset();
        hash
    }
}

/// The hash that binds the length and the chunk hashes of one segment; what the publisher signs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RootHash(pub [u8; 32]);

impl RootHash {
    /// The root over the chunk hashes of a segment of `len` bytes. Where the number of hashes is wrong for the length,
    /// the root is simply one that no honest segment has.
    #[must_use]
    pub fn of_chunks(len: SegmentLen, hashes: &[ChunkHash]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(ROOT_CONTEXT);
        hasher.update(&len.bytes().to_le_bytes());
        for hash in hashes {
            hasher.update(&hash.0);
        }
        Self(hasher.finalize())
    }

    /// The chunk hashes and the root of a whole segment, or `None` where no segment has that many bytes.
    #[must_use]
    pub fn of_segment(segment: &[u8]) -> Option<(SegmentLen, Vec<ChunkHash>, Self)> {
        let len = SegmentLen::new(u32::try_from(segment.len()).ok()?).ok()?;
        let hashes: Vec<ChunkHash> = segment.chunks(CHUNK_LEN as usize).map(ChunkHash::of).collect();
        let root = Self::of_chunks(len, &hashes);
        Some((len, hashes, root))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootHash({:02x}{:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::rust_2024::*;

    #[test]
    fn a_chunk_hashed_in_pieces_is_the_same_chunk() {
        let bytes: Vec<u8> = (0..70_000_u32).map(|i| i as u8).collect();
        let mut hasher = ChunkHasher::new();
        hasher.update(&bytes[..1_000]);
        hasher.update(&bytes[1_000..]);
        assert_eq!(hasher.finish(), ChunkHash::of(&bytes));
        hasher.update(b"next");
        assert_eq!(hasher.finish(), ChunkHash::of(b"next"));
    }

    #[test]
    fn the_root_binds_length_and_order() {
        let (len, hashes, root) = RootHash::of_segment(&vec![7; CHUNK_LEN as usize + 5]).unwrap();
        assert_eq!(hashes.len(), 2);
        assert_eq!(RootHash::of_chunks(len, &hashes), root);
        let swapped = [hashes[1], hashes[0]];
        assert_ne!(RootHash::of_chunks(len, &swapped), root);
        let other_len = SegmentLen::new(len.bytes() + 1).unwrap();
        assert_ne!(RootHash::of_chunks(other_len, &hashes), root);
    }
}
