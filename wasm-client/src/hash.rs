//! Hashing of bytes that live in JavaScript's memory, through one fixed buffer in WASM's.

use alloc::vec;
use alloc::vec::Vec;

use crate::bytes::{Bytes, copy_into};
use headwater_wire::ChunkHash;
use headwater_wire::hash::ChunkHasher;
use headwater_wire::limits::CHUNK_LEN;

/// The one place where media bytes enter WASM's memory: a chunk's worth.
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(vec![0; CHUNK_LEN as usize])
    }

    /// Feeds `bytes`, at most a chunk's worth, to `hasher`.
    pub(crate) fn update(&mut self, hasher: &mut ChunkHasher, bytes: &Bytes) {
        if let Some(copy) = self.0.get_mut(..bytes.length() as usize) {
            copy_into(copy, bytes);
            hasher.update(copy);
        }
    }

    /// The hash of `chunk`.
    pub(crate) fn hash(&mut self, chunk: &Bytes) -> ChunkHash {
        let mut hasher = ChunkHasher::new();
        self.update(&mut hasher, chunk);
        hasher.finish()
    }
}
