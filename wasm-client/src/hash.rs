//! Hashing of bytes that live in JavaScript's memory, through one fixed buffer in WASM's.

use headwater_wire::ChunkHash;
use headwater_wire::hash::ChunkHasher;
use headwater_wire::limits::CHUNK_LEN;
use js_sys::Uint8Array;

/// The one place where media bytes enter WASM's memory: a chunk's worth.
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(vec![0; CHUNK_LEN as usize])
    }

    /// Feeds `bytes`, at most a chunk's worth, to `hasher`.
    pub(crate) fn update(&mut self, hasher: &mut ChunkHasher, bytes: &Uint8Array) {
        if let Some(copy) = self.0.get_mut(..bytes.length() as usize) {
            bytes.copy_to(copy);
            hasher.update(copy);
        }
    }

    /// The hash of `chunk`.
    pub(crate) fn hash(&mut self, chunk: &Uint8Array) -> ChunkHash {
        let mut hasher = ChunkHasher::new();
        self.update(&mut hasher, chunk);
        hasher.finish()
    }
}
