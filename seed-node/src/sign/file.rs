//! The catalogue file of one stream: what is in it, and how it is replaced as a whole.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use headwater_wire::catalogue::encode_file;
use headwater_wire::{CatalogueError, Entry, SegmentId, SeqNo, SignedBatch, TrackId};

use super::{Signer, sign_all};

/// How many times its window a live stream's entries stay after their segments are not listed any more: viewers behind
/// the edge, and playlists in caches, still name these.
const WINDOWS_BEHIND: u64 = 2;

/// Why a catalogue file was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk does not take it.
    #[error("cannot write {} ({cause})", .path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// Signing failed.
    #[error("cannot sign: {0}")]
    Sign(#[from] CatalogueError),
}

/// A segment differs from what was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed(pub SegmentId);

#[derive(Debug)]
struct TrackEntries {
    signed: Vec<(SeqNo, SignedBatch)>,
    fresh: Vec<Entry>,
    known: BTreeMap<SeqNo, Entry>,
}

/// The catalogue of one stream.
#[derive(Debug)]
pub struct CatalogueFile {
    path: PathBuf,
    tracks: BTreeMap<TrackId, TrackEntries>,
    dirty: bool,
}

impl CatalogueFile {
    /// An empty one, to be written to `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, tracks: BTreeMap::new(), dirty: true }
    }

    /// Where it is written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a segment is in it.
    #[must_use]
    pub fn knows(&self, segment: SegmentId) -> bool {
        self.tracks.get(&segment.track).is_some_and(|track| track.known.contains_key(&segment.seq))
    }

    /// How many segments are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracks.values().map(|track| track.known.len()).sum()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many segments of a track are known from `first` on.
    #[must_use]
    pub fn window(&self, track: TrackId, first: SeqNo) -> u64 {
        self.tracks.get(&track).map_or(0, |track| track.known.range(first..).count() as u64)
    }

    /// Adds a segment.
    ///
    /// # Errors
    /// Where it is known with other bytes: what was signed stays, since viewers may hold it.
    pub fn add(&mut self, track: TrackId, entry: Entry) -> Result<(), Changed> {
        let entries = self.tracks.entry(track).or_insert_with(|| TrackEntries {
            signed: Vec::new(),
            fresh: Vec::new(),
            known: BTreeMap::new(),
        });
        if let Some(known) = entries.known.get(&entry.seq) {
            let same = (known.len, known.root) == (entry.len, entry.root);
            return if same { Ok(()) } else { Err(Changed(SegmentId { track, seq: entry.seq })) };
        }
        entries.fresh.push(entry.clone());
        entries.known.insert(entry.seq, entry);

        self.dirty = true;
        Ok(())
    }

    /// Lets go of what lies far behind a live window, whose first segment is `first` and which has `window` segments.
    pub fn forget_before(&mut self, track: TrackId, first: SeqNo, window: u64) {
        let Some(entries) = self.tracks.get_mut(&track) else { return };
        let oldest = SeqNo(first.0.saturating_sub(window.saturating_mul(WINDOWS_BEHIND)));
        entries.known.retain(|seq, _| *seq >= oldest);
        let before = entries.signed.len();
        entries.signed.retain(|(last, _)| *last >= oldest);
        self.dirty |= entries.signed.len() != before;
    }

    /// Signs what is new with each signer and replaces the file, where there is a difference. Says whether there was.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write(&mut self, signers: &[Signer]) -> Result<bool, WriteError> {
        for (track, entries) in &mut self.tracks {
            entries.fresh.sort_unstable_by_key(|entry| entry.seq);
            let last = entries.fresh.last().map_or(SeqNo(0), |entry| entry.seq);
            let batches = sign_all(signers, *track, &entries.fresh)?;
            entries.signed.extend(batches.into_iter().map(|batch| (last, batch)));
            entries.fresh.clear();
        }
        if !self.dirty {
            return Ok(false);
        }
        let batches = self.tracks.values().flat_map(|track| track.signed.iter().map(|(_, batch)| batch));
        replace(&self.path, &encode_file(batches))
            .map_err(|cause| WriteError::Disk { path: self.path.clone(), cause })?;
        self.dirty = false;
        Ok(true)
    }
}

/// Replaces a file, so that whoever reads it sees the old one or the new one and nothing in between.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        // It may never have been made.
        let _ = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use headwater_wire::catalogue::split_file;
    use headwater_wire::{RootHash, Scope};

    use super::*;
    use crate::key::Key;

    const TRACK: TrackId = TrackId(7);

    fn entry(seq: u64, bytes: &[u8]) -> Entry {
        let (len, _, root) = RootHash::of_segment(bytes).unwrap();
        Entry { seq: SeqNo(seq), len, root, hashes: Vec::new() }
    }

    fn listed(path: &Path) -> Vec<u64> {
        let file = std::fs::read(path).unwrap();
        let bodies = split_file(&file).unwrap().into_iter().map(|batch| SignedBatch::parse(batch).unwrap().1);
        bodies.flat_map(|body| body.entries).map(|entry| entry.seq.0).collect()
    }

    #[test]
    fn a_live_file_holds_the_window_and_a_little_more_and_keeps_what_it_signed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.m3u8.catalogue");
        let signers = [Signer::new(Key::generate().unwrap(), Scope::Any)];
        let mut file = CatalogueFile::new(path.clone());
        for seq in 0..30 {
            file.add(TRACK, entry(seq, b"bytes")).unwrap();
            file.forget_before(TRACK, SeqNo(u64::saturating_sub(seq, 2)), 3);
            assert!(file.write(&signers).unwrap());
            assert!(!file.write(&signers).unwrap());
        }
        assert_eq!(listed(&path), (21..30).collect::<Vec<_>>());
        assert_eq!(file.add(TRACK, entry(29, b"other")), Err(Changed(SegmentId { track: TRACK, seq: SeqNo(29) })));
        assert_eq!(file.add(TRACK, entry(29, b"bytes")), Ok(()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_without_space_leaves_the_catalogue_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.m3u8.catalogue");
        let signers = [Signer::new(Key::generate().unwrap(), Scope::Any)];
        let mut file = CatalogueFile::new(path.clone());
        file.add(TRACK, entry(1, b"bytes")).unwrap();
        assert!(file.write(&signers).unwrap());
        file.add(TRACK, entry(2, b"bytes")).unwrap();
        // Every write to it fails as on a full disk.
        let temporary = folder.path().join(format!("a.m3u8.catalogue.{}.tmp", std::process::id()));
        std::os::unix::fs::symlink("/dev/full", temporary).unwrap();
        let error = file.write(&signers).unwrap_err().to_string();
        assert!(error.contains("a.m3u8.catalogue") && error.contains("No space left"), "{error}");
        assert_eq!(listed(&path), [1]);
        assert!(file.write(&signers).unwrap(), "it is tried again");
        assert_eq!(listed(&path), [1, 2]);
    }
}
