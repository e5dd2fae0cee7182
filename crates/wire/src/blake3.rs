//! BLAKE3 for the browser: its hash of plain input and nothing else, in a tenth of the library's size.
//!
//! The library unrolls what it can, for processors whose instructions a WASM module does not reach anyway. Elsewhere
//! `hash` uses the library. After the reference implementation of the BLAKE3 paper.

use alloc::vec::Vec;

const BLOCK_LEN: usize = 64;
const CHUNK_LEN: usize = 1024;

const CHUNK_START: u32 = 1;
const CHUNK_END: u32 = 2;
const PARENT: u32 = 4;
const ROOT: u32 = 8;

const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

type Words = [u32; 8];

/// What gives a chaining value or, with [`ROOT`], the hash.
struct Node {
    input: Words,
    block: [u8; BLOCK_LEN],
    block_len: u32,
    chunk: u64,
    flags: u32,
}

#[inline(always)]
fn mix(state: &mut [u32; 16], [a, b, c, d]: [usize; 4], x: u32, y: u32) {
    state[a] = state[a].wrapping_add(state[b]).wrapping_add(x);
    state[d] = (state[d] ^ state[a]).rotate_right(16);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_right(12);
    state[a] = state[a].wrapping_add(state[b]).wrapping_add(y);
    state[d] = (state[d] ^ state[a]).rotate_right(8);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_right(7);
}

fn compress(input: &Words, block: &[u8; BLOCK_LEN], block_len: u32, chunk: u64, flags: u32) -> Words {
    let mut message = [0; 16];
    for (word, bytes) in message.iter_mut().zip(block.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let mut state = [0; 16];
    state[..8].copy_from_slice(input);
    state[8..12].copy_from_slice(&IV[..4]);
    state[12..].copy_from_slice(&[chunk as u32, (chunk >> 32) as u32, block_len, flags]);
    for _ in 0..7 {
        mix(&mut state, [0, 4, 8, 12], message[0], message[1]);
        mix(&mut state, [1, 5, 9, 13], message[2], message[3]);
        mix(&mut state, [2, 6, 10, 14], message[4], message[5]);
        mix(&mut state, [3, 7, 11, 15], message[6], message[7]);
        mix(&mut state, [0, 5, 10, 15], message[8], message[9]);
        mix(&mut state, [1, 6, 11, 12], message[10], message[11]);
        mix(&mut state, [2, 7, 8, 13], message[12], message[13]);
        mix(&mut state, [3, 4, 9, 14], message[14], message[15]);
        // Named one by one they stay out of memory, which is twice as fast as a table.
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = message;
        message = [c, g, d, k, h, a, e, n, b, l, m, f, j, o, p, i];
    }
    let mut output = [0; 8];
    for (at, word) in output.iter_mut().enumerate() {
        *word = state[at] ^ state[at + 8];
    }
    output
}

impl Node {
    fn finish(&self, flags: u32) -> Words {
        compress(&self.input, &self.block, self.block_len, self.chunk, self.flags | flags)
    }

    fn parent(left: &Words, right: &Words) -> Self {
        let mut block = [0; BLOCK_LEN];
        for (bytes, word) in block.as_chunks_mut().0.iter_mut().zip(left.iter().chain(right)) {
            *bytes = word.to_le_bytes();
        }
        Self { input: IV, block, block_len: BLOCK_LEN as u32, chunk: 0, flags: PARENT }
    }
}

/// Hashes bytes that arrive in pieces.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    /// The subtrees that are complete, the widest first: one for each bit of the number of chunks.
    subtrees: Vec<Words>,
    /// The chunk that is under way: its number, what its whole blocks came to, how many of those, and its last block.
    chunk: u64,
    value: Words,
    blocks: usize,
    block: [u8; BLOCK_LEN],
    filled: usize,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { subtrees: Vec::new(), chunk: 0, value: IV, blocks: 0, block: [0; BLOCK_LEN], filled: 0 }
    }
}

impl Hasher {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // The last block of anything waits until it is known not to be the last.
            if self.filled == BLOCK_LEN {
                self.close_block();
            }
            // A whole block that is not the last of anything is taken from where it lies.
            if self.filled == 0
                && self.blocks + 1 < CHUNK_LEN / BLOCK_LEN
                && let Some((block, later)) = bytes.split_first_chunk()
                && !later.is_empty()
            {
                self.value = compress(&self.value, block, BLOCK_LEN as u32, self.chunk, self.start());
                self.blocks += 1;
                bytes = later;
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_LEN - self.filled));
            self.block[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
        }
    }

    pub(crate) fn finalize(&self) -> [u8; 32] {
        let mut node = self.last();
        for left in self.subtrees.iter().rev() {
            node = Node::parent(left, &node.finish(0));
        }
        let mut hash = [0; 32];
        for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(node.finish(ROOT)) {
            *bytes = word.to_le_bytes();
        }
        hash
    }

    /// The block that is under way, as the end of its chunk.
    fn last(&self) -> Node {
        let mut block = [0; BLOCK_LEN];
        block[..self.filled].copy_from_slice(&self.block[..self.filled]);
        let flags = self.start() | CHUNK_END;
        Node { input: self.value, block, block_len: self.filled as u32, chunk: self.chunk, flags }
    }

    fn start(&self) -> u32 {
        if self.blocks == 0 { CHUNK_START } else { 0 }
    }

    fn close_block(&mut self) {
        if self.blocks + 1 < CHUNK_LEN / BLOCK_LEN {
            self.value = compress(&self.value, &self.block, BLOCK_LEN as u32, self.chunk, self.start());
            self.blocks += 1;
        } else {
            let mut subtree = self.last().finish(0);
            self.chunk += 1;
            // Two subtrees of a width become one, as a carry does in counting.
            for _ in 0..self.chunk.trailing_zeros() {
                if let Some(left) = self.subtrees.pop() {
                    subtree = Node::parent(&left, &subtree).finish(0);
                }
            }
            self.subtrees.push(subtree);
            self.value = IV;
            self.blocks = 0;
        }
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::prelude::rust_2024::*;

    fn ours(bytes: &[u8]) -> [u8; 32] {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finalize()
    }

    #[test]
    fn it_is_blake3_at_every_edge_of_its_tree() {
        let bytes: Vec<u8> = (0..70_000_u32).map(|i| (i % 251) as u8).collect();
        let lengths =
            [0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3072, 3073, 4096, 5120, 8192, 65_535, 65_536, 70_000];
        for len in lengths {
            let bytes = &bytes[..len];
            assert_eq!(ours(bytes), *::blake3::hash(bytes).as_bytes(), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes in prop::collection::vec(any::<u8>(), 0..5_000), at: prop::sample::Index) {
            let at = at.index(bytes.len() + 1);
            let mut hasher = Hasher::new();
            for _ in 0..2 {
                hasher.update(&bytes[..at]);
                hasher.update(&bytes[at..]);
                prop_assert_eq!(hasher.finalize(), *::blake3::hash(&bytes).as_bytes());
                hasher.reset();
            }
        }
    }
}
