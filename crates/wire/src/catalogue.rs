//! The publisher's signed list of segments: what makes bytes from a stranger trustworthy.
//!
//! A [`BatchBody`] names segments of one track with their length and root hash. It is encoded once, signed with Ed25519
//! and from then on passed around as those very bytes ([`SignedBatch`]): whoever relays it neither re-encodes nor can
//! alter it. Signing and verifying are the shells' work (they have the cryptography); what is signed is defined here.
//!
//! A catalogue file ([`encode_file`], [`split_file`]) is a row of batches behind a magic number, and lies beside the
//! playlist that viewers open, under the playlist's name with `.catalogue` appended.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{Wire, wire_enum, wire_struct};
use crate::geometry::SegmentLen;
use crate::hash::{ChunkHash, RootHash, hash};
use crate::id::{SegmentId, SeqNo, SwarmName, TrackId};
use crate::limits::{MAX_BATCH_ENTRIES, MAX_BATCH_LEN, MAX_CATALOGUE_FILE_LEN};

/// What every signed message of this protocol begins with, so that no other use of the key can be taken for it.
const SIGNING_CONTEXT: &[u8] = b"headwater catalogue v1\0";

/// The first bytes of a catalogue file.
pub const FILE_MAGIC: [u8; 8] = *b"HWCAT\0\0\x01";

/// What is appended to the name of a playlist to name its catalogue file.
pub const FILE_SUFFIX: &str = ".catalogue";

/// The only version of [`BatchBody`] so far.
pub const BATCH_VERSION: u8 = 1;

/// A publisher's Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The first four bytes: enough to pick the right one of a publisher's keys before verifying.
    #[must_use]
    pub fn hint(self) -> [u8; 4] {
        [self.0[0], self.0[1], self.0[2], self.0[3]]
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:02x}{:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// What content a batch is about, so that one publisher's key can sign many streams whose tracks have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Any content of this key. Trusted only when it comes from beside the playlist over HTTP, never from a peer.
    Any,
    /// The swarm whose name has this BLAKE3 hash.
    Swarm([u8; 32]),
}

impl Scope {
    /// The scope of one swarm.
    #[must_use]
    pub fn of_swarm(swarm: &SwarmName) -> Self {
        Self::Swarm(hash(swarm.as_str().as_bytes()))
    }
}

/// One segment of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number in the track.
    pub seq: SeqNo,
    /// Its length.
    pub len: SegmentLen,
    /// Its root hash.
    pub root: RootHash,
    /// The hashes of its chunks, or none. Live streams carry them, so that a chunk can be checked and passed on the moment
    /// it comes, by whoever fetches it first; on demand there is time to ask a peer for them, and the catalogue stays small.
    pub hashes: Vec<ChunkHash>,
}

impl Entry {
    /// The entry of a whole segment, or `None` where no segment has that many bytes.
    #[must_use]
    pub fn of_segment(seq: SeqNo, segment: &[u8], with_hashes: bool) -> Option<Self> {
        let (len, hashes, root) = RootHash::of_segment(segment)?;
        Some(Self { seq, len, root, hashes: if with_hashes { hashes } else { Vec::new() } })
    }

    fn is_well_formed(&self) -> bool {
        self.hashes.is_empty() || self.hashes.len() == self.len.chunk_count() as usize
    }
}

/// What is signed: entries of one track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchBody {
    /// [`BATCH_VERSION`].
    pub version: u8,
    /// What content it is about.
    pub scope: Scope,
    /// The track of all entries.
    pub track: TrackId,
    /// When it was signed, in milliseconds since the Unix epoch. Where two entries disagree, the later one holds.
    pub issued_ms: u64,
    /// From 1 to [`MAX_BATCH_ENTRIES`] entries.
    pub entries: Vec<Entry>,
}

wire_enum!(Scope { 0 => Any, 1 => Swarm { 0: name_hash } });
wire_struct!(Entry { seq, len, root, hashes });
wire_struct!(BatchBody { version, scope, track, issued_ms, entries });

/// What is wrong with the bytes of a batch or of a catalogue file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// The bytes end too early, or are not a batch.
    #[error("the catalogue batch is malformed")]
    Malformed,
    /// A version this program does not know.
    #[error("the catalogue batch has version {0}, this program knows {BATCH_VERSION}")]
    Version(u8),
    /// No entry, or too many.
    #[error("a catalogue batch has between 1 and {MAX_BATCH_ENTRIES} entries, this one has {0}")]
    EntryCount(usize),
    /// A batch longer than [`MAX_BATCH_LEN`].
    #[error("a catalogue batch has at most {MAX_BATCH_LEN} bytes, this one has {0}")]
    TooLong(usize),
    /// Not a catalogue file: the first bytes are others.
    #[error("this is not a catalogue file")]
    NotACatalogue,
    /// A file longer than [`MAX_CATALOGUE_FILE_LEN`].
    #[error("a catalogue file has at most {MAX_CATALOGUE_FILE_LEN} bytes, this one has {0}")]
    FileTooLong(usize),
}

impl BatchBody {
    /// The bytes to sign: the context and the encoded body.
    ///
    /// # Errors
    /// Where the number of entries is out of bounds.
    pub fn signing_bytes(&self) -> Result<Vec<u8>, CatalogueError> {
        check_count(self.entries.len())?;
        let mut bytes = SIGNING_CONTEXT.to_vec();
        self.put(&mut bytes);
        Ok(bytes)
    }

    /// The segments it names.
    pub fn segments(&self) -> impl Iterator<Item = (SegmentId, &Entry)> {
        self.entries.iter().map(|entry| (SegmentId { track: self.track, seq: entry.seq }, entry))
    }
}

/// An encoded, signed batch: 4 bytes key hint, 64 bytes signature, the encoded body.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedBatch(Vec<u8>);

const HINT_LEN: usize = 4;
const SIGNATURE_LEN: usize = 64;
const BODY_AT: usize = HINT_LEN + SIGNATURE_LEN;

impl SignedBatch {
    /// Joins a signature with what [`BatchBody::signing_bytes`] gave to sign.
    ///
    /// # Errors
    /// Where `signing_bytes` is no such thing, or too long.
    pub fn assemble(key: PublicKey, signature: Signature, signing_bytes: &[u8]) -> Result<Self, CatalogueError> {
        let body = signing_bytes.strip_prefix(SIGNING_CONTEXT).ok_or(CatalogueError::Malformed)?;
        let mut bytes = Vec::with_capacity(BODY_AT + body.len());
        bytes.extend_from_slice(&key.hint());
        bytes.extend_from_slice(&signature.0);
        bytes.extend_from_slice(body);
        let (batch, _) = Self::parse(&bytes)?;
        Ok(batch)
    }

    /// Takes a batch from bytes of anybody's: its shape is checked, its signature is not.
    ///
    /// # Errors
    /// See [`CatalogueError`].
    pub fn parse(bytes: &[u8]) -> Result<(Self, BatchBody), CatalogueError> {
        if bytes.len() > MAX_BATCH_LEN {
            return Err(CatalogueError::TooLong(bytes.len()));
        }
        let encoded = bytes.get(BODY_AT..).filter(|body| !body.is_empty()).ok_or(CatalogueError::Malformed)?;
        if encoded[0] != BATCH_VERSION {
            return Err(CatalogueError::Version(encoded[0]));
        }
        let mut rest = encoded;
        let body = BatchBody::take(&mut rest).filter(|_| rest.is_empty()).ok_or(CatalogueError::Malformed)?;
        check_count(body.entries.len())?;
        if !body.entries.iter().all(Entry::is_well_formed) {
            return Err(CatalogueError::Malformed);
        }
        Ok((Self(bytes.to_vec()), body))
    }

    /// The hint of the key that signed it.
    #[must_use]
    pub fn key_hint(&self) -> [u8; 4] {
        let mut hint = [0; HINT_LEN];
        hint.copy_from_slice(&self.0[..HINT_LEN]);
        hint
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> Signature {
        let mut signature = [0; SIGNATURE_LEN];
        signature.copy_from_slice(&self.0[HINT_LEN..BODY_AT]);
        Signature(signature)
    }

    /// The bytes that the signature must cover.
    #[must_use]
    pub fn signing_bytes(&self) -> Vec<u8> {
        [SIGNING_CONTEXT, &self.0[BODY_AT..]].concat()
    }

    /// The batch as it travels.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SignedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedBatch({} bytes)", self.0.len())
    }
}

fn check_count(count: usize) -> Result<(), CatalogueError> {
    if count == 0 || count > MAX_BATCH_ENTRIES { Err(CatalogueError::EntryCount(count)) } else { Ok(()) }
}

/// The bytes of a catalogue file: [`FILE_MAGIC`], then each batch behind its length as u32 little-endian.
#[must_use]
pub fn encode_file<'a>(batches: impl IntoIterator<Item = &'a SignedBatch>) -> Vec<u8> {
    let mut file = FILE_MAGIC.to_vec();
    for batch in batches {
        // Lengths are bounded by MAX_BATCH_LEN.
        file.extend_from_slice(&(batch.0.len() as u32).to_le_bytes());
        file.extend_from_slice(&batch.0);
    }
    file
}

/// The encoded batches of a catalogue file, each still to be given to [`SignedBatch::parse`].
///
/// # Errors
/// Where the file is no catalogue, too long, or cut off. A live one is replaced as a whole, never read half.
pub fn split_file(file: &[u8]) -> Result<Vec<&[u8]>, CatalogueError> {
    if file.len() > MAX_CATALOGUE_FILE_LEN {
        return Err(CatalogueError::FileTooLong(file.len()));
    }
    let mut rest = file.strip_prefix(&FILE_MAGIC).ok_or(CatalogueError::NotACatalogue)?;
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk::<4>().ok_or(CatalogueError::Malformed)?;
        let len = u32::from_le_bytes(*len) as usize;
        if len > MAX_BATCH_LEN {
            return Err(CatalogueError::TooLong(len));
        }
        let (batch, after) = after.split_at_checked(len).ok_or(CatalogueError::Malformed)?;
        batches.push(batch);
        rest = after;
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::rust_2024::*;

    fn body() -> BatchBody {
        let (len, _, root) = RootHash::of_segment(b"segment").unwrap();
        BatchBody {
            version: BATCH_VERSION,
            scope: Scope::of_swarm(&SwarmName::new("K/v.m3u8").unwrap()),
            track: TrackId::of_key("v.m3u8"),
            issued_ms: 1_700_000_000_000,
            entries: [4, 5].map(|seq| Entry { seq: SeqNo(seq), len, root, hashes: vec![] }).to_vec(),
        }
    }

    fn signed() -> SignedBatch {
        SignedBatch::assemble(PublicKey([9; 32]), Signature([3; 64]), &body().signing_bytes().unwrap()).unwrap()
    }

    #[test]
    fn a_batch_travels_as_the_bytes_that_were_signed() {
        let batch = signed();
        let (again, parsed) = SignedBatch::parse(batch.as_bytes()).unwrap();
        assert_eq!(parsed, body());
        assert_eq!(again.signing_bytes(), body().signing_bytes().unwrap());
        assert_eq!(again.signature(), Signature([3; 64]));
        assert_eq!(again.key_hint(), [9; 4]);
    }

    #[test]
    fn a_batch_of_another_version_is_refused_by_its_number() {
        let mut bytes = signed().as_bytes().to_vec();
        bytes[BODY_AT] = 2;
        assert_eq!(SignedBatch::parse(&bytes), Err(CatalogueError::Version(2)));
    }

    #[test]
    fn an_entry_has_all_hashes_or_none() {
        let mut body = body();
        body.entries[0].hashes = vec![ChunkHash([1; 32]); 2];
        let bytes = body.signing_bytes().unwrap();
        let batch = SignedBatch::assemble(PublicKey([9; 32]), Signature([3; 64]), &bytes);
        assert_eq!(batch, Err(CatalogueError::Malformed));
    }

    #[test]
    fn cut_or_padded_batches_are_malformed() {
        let bytes = signed().as_bytes().to_vec();
        for len in 0..bytes.len() {
            assert!(SignedBatch::parse(&bytes[..len]).is_err(), "cut to {len}");
        }
        assert_eq!(SignedBatch::parse(&[&bytes[..], &[0]].concat()), Err(CatalogueError::Malformed));
    }

    #[test]
    fn a_file_is_a_row_of_batches() {
        let batch = signed();
        let file = encode_file([&batch, &batch]);
        assert_eq!(split_file(&file).unwrap(), vec![batch.as_bytes(); 2]);
        assert_eq!(split_file(&file[..file.len() - 1]), Err(CatalogueError::Malformed));
        assert_eq!(split_file(b"<html>"), Err(CatalogueError::NotACatalogue));
    }
}
