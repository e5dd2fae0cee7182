//! Signing: from the bytes of segments to signed batches, and to the catalogue file that lies beside a playlist.
//!
//! [`folder`] signs what lies on a disk, [`remote`] what an origin serves; [`mod@file`] is the file both write, and [`check`]
//! holds a stream against it.

pub mod check;
pub mod file;
pub mod folder;
pub mod remote;

use std::time::{SystemTime, UNIX_EPOCH};

use headwater_wire::catalogue::BATCH_VERSION;
use headwater_wire::limits::{MAX_BATCH_ENTRIES, MAX_BATCH_LEN, MAX_HASHES};
use headwater_wire::{BatchBody, CatalogueError, ChunkHash, Entry, RootHash, Scope, SegmentId, SignedBatch, TrackId};

use crate::key::Key;

/// The longest encoding of an entry without chunk hashes: two varints, the root and the number of hashes.
const MAX_ENTRY_LEN: usize = 10 + 5 + 32 + 2;

/// More than a batch needs besides its entries: key hint, signature, scope, track, time.
const BATCH_HEAD_LEN: usize = 256;

/// A segment's hashes, and what the catalogue says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// For the catalogue.
    pub entry: Entry,
    /// The hashes of its chunks.
    pub hashes: Vec<ChunkHash>,
}

impl Hashed {
    /// Hashes a segment; `None` where no segment has that many bytes. The entries of live ones carry the chunk hashes, so
    /// that viewers can pass chunks on while the segment is still arriving.
    #[must_use]
    pub fn of(segment: SegmentId, bytes: &[u8], live: bool) -> Option<Self> {
        let (len, hashes, root) = RootHash::of_segment(bytes)?;
        let signed_along = if live && hashes.len() <= MAX_HASHES { hashes.clone() } else { Vec::new() };
        Some(Self { entry: Entry { seq: segment.seq, len, root, hashes: signed_along }, hashes })
    }
}

/// Signs entries for one kind of content.
#[derive(Debug)]
pub struct Signer {
    key: Key,
    scope: Scope,
}

impl Signer {
    /// A signer for content of this scope.
    #[must_use]
    pub fn new(key: Key, scope: Scope) -> Self {
        Self { key, scope }
    }

    /// Signs entries of one track, in as many batches as it takes.
    ///
    /// # Errors
    /// Never for entries that are entries: batches are cut to their bound here.
    pub fn sign(&self, track: TrackId, entries: &[Entry]) -> Result<Vec<SignedBatch>, CatalogueError> {
        let issued_ms = now_ms();
        let bodies = cut(entries).into_iter().map(|entries| BatchBody {
            version: BATCH_VERSION,
            scope: self.scope,
            track,
            issued_ms,
            entries: entries.to_vec(),
        });
        bodies.map(|body| self.key.sign(&body)).collect()
    }
}

/// Cuts entries into parts that fit one batch each, by number and by length.
fn cut(mut entries: &[Entry]) -> Vec<&[Entry]> {
    let mut parts = Vec::new();
    while !entries.is_empty() {
        let mut len = 0;
        let fits = |entry: &&Entry| {
            len += MAX_ENTRY_LEN + entry.hashes.len() * size_of::<ChunkHash>();
            len <= MAX_BATCH_LEN - BATCH_HEAD_LEN
        };
        let count = entries.iter().take(MAX_BATCH_ENTRIES).take_while(fits).count();
        let (part, rest) = entries.split_at(count.max(1));
        parts.push(part);
        entries = rest;
    }
    parts
}

/// Signs entries of one track with every signer.
pub(crate) fn sign_all(
    signers: &[Signer],
    track: TrackId,
    entries: &[Entry],
) -> Result<Vec<SignedBatch>, CatalogueError> {
    let mut batches = Vec::new();
    for signer in signers {
        batches.extend(signer.sign(track, entries)?);
    }
    Ok(batches)
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
