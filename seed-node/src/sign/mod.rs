//! Signing: from the bytes of segments to signed batches, and to the catalogue file that lies beside a playlist.
//!
//! [`folder`] signs what lies on a disk, [`remote`] what an origin serves; [`file`] is the file both write.

pub mod file;
pub mod folder;
pub mod remote;

use std::time::{SystemTime, UNIX_EPOCH};

use headwater_wire::catalogue::BATCH_VERSION;
use headwater_wire::limits::MAX_BATCH_ENTRIES;
use headwater_wire::{BatchBody, CatalogueError, ChunkHash, Entry, RootHash, Scope, SegmentId, SignedBatch, TrackId};

use crate::key::Key;

/// A segment's hashes, and what the catalogue says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// For the catalogue.
    pub entry: Entry,
    /// The hashes of its chunks.
    pub hashes: Vec<ChunkHash>,
}

impl Hashed {
    /// Hashes a segment; `None` where no segment has that many bytes.
    #[must_use]
    pub fn of(segment: SegmentId, bytes: &[u8]) -> Option<Self> {
        let (len, hashes, root) = RootHash::of_segment(bytes)?;
        Some(Self { entry: Entry { seq: segment.seq, len, root }, hashes })
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
        let bodies = entries.chunks(MAX_BATCH_ENTRIES).map(|entries| BatchBody {
            version: BATCH_VERSION,
            scope: self.scope,
            track,
            issued_ms,
            entries: entries.to_vec(),
        });
        bodies.map(|body| self.key.sign(&body)).collect()
    }
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
