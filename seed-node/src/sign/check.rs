//! Checking a stream against the catalogue file beside its playlist, as a viewer would.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use futures_util::{StreamExt, stream};
use headwater_wire::limits::{MAX_CATALOGUE_FILE_LEN, MAX_SEGMENT_LEN};
use headwater_wire::{CatalogueError, Entry, PublicKey, RootHash, Scope, SegmentId, SignedBatch, SwarmName, catalogue};
use url::Url;

use crate::http::{Http, HttpError};
use crate::key::verify;
use crate::origin::{Source, SourceError};
use crate::progress::Progress;

/// Segments fetched at once.
const PARALLEL: usize = 4;

/// How often a segment is tried.
const ATTEMPTS: u32 = 3;

/// Why a stream cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Its playlists cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is no catalogue file.
    #[error("{0}; `headwater-seed sign` writes one, while a running seed keeps its catalogue in the swarm alone")]
    NoCatalogue(HttpError),
    /// What lies in its place is none.
    #[error("{url} is of no use: {error}")]
    Catalogue {
        /// The file.
        url: String,
        /// What is wrong with it.
        error: CatalogueError,
    },
}

/// Something wrong with a stream.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A batch cannot be read.
    #[error("a batch of the catalogue cannot be read: {0}")]
    Batch(CatalogueError),
    /// A batch is somebody else's.
    #[error(
        "a batch of the catalogue is not signed with this key: sign again, or put the right key into the embed code"
    )]
    Signature,
    /// A batch is about another stream.
    #[error("a batch of the catalogue is for another swarm: sign again with this address, or give --swarm")]
    Scope,
    /// A segment is listed and not signed.
    #[error("segment {segment} ({url}) is not in the catalogue: viewers get it over HTTP alone")]
    Unsigned {
        /// Which.
        segment: SegmentId,
        /// Where it is.
        url: String,
    },
    /// A segment has other bytes than were signed.
    #[error("segment {segment} ({url}) has {have} bytes that are not the {signed} that were signed: sign again")]
    Differs {
        /// Which.
        segment: SegmentId,
        /// Where it is.
        url: String,
        /// Its length.
        have: usize,
        /// The length that was signed.
        signed: u32,
    },
    /// A segment cannot be had.
    #[error("segment {segment}: {error}")]
    Missing {
        /// Which.
        segment: SegmentId,
        /// Why.
        error: HttpError,
    },
}

/// The outcome of a check.
#[derive(Debug, Default)]
pub struct Checked {
    /// Segments that are as they were signed.
    pub good: usize,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Checks every segment that the playlists of `url` list now.
///
/// # Errors
/// See [`CheckError`].
pub async fn check(
    http: &Http,
    url: &Url,
    keys: &[VerifyingKey],
    swarm: &SwarmName,
    progress: &Progress,
) -> Result<Checked, CheckError> {
    let source = Source::open(http, url).await?;
    let file_url = source.catalogue_url();
    let file = http.get(&file_url, None, MAX_CATALOGUE_FILE_LEN, ATTEMPTS).await.map_err(CheckError::NoCatalogue)?;
    let batches = catalogue::split_file(&file.bytes)
        .map_err(|error| CheckError::Catalogue { url: file_url.to_string(), error })?;
    let mut checked = Checked::default();
    let mut entries: BTreeMap<SegmentId, (u64, Entry)> = BTreeMap::new();
    let mut others = false;
    for batch in batches {
        match open_batch(batch, keys, swarm) {
            Ok(Some(opened)) => {
                for (segment, issued, entry) in opened {
                    // The later of two entries holds.
                    let known = entries.entry(segment).or_insert_with(|| (issued, entry.clone()));
                    if issued > known.0 {
                        *known = (issued, entry);
                    }
                }
            }
            // While keys are changed, a catalogue is signed with both: that is nothing wrong, unless it is all there is.
            Ok(None) => others = true,
            Err(fault) => checked.faults.push(fault),
        }
    }
    if others && entries.is_empty() && checked.faults.is_empty() {
        checked.faults.push(Fault::Signature);
    }
    let listed = source.tracks.iter().flat_map(|track| {
        track
            .media
            .segments
            .iter()
            .map(|listed| (SegmentId { track: track.id, seq: listed.seq }, listed.location.clone()))
    });
    let listed: Vec<_> = listed.collect();
    let all = listed.len();
    let mut results = stream::iter(listed.into_iter().map(|(segment, location)| {
        let entry = entries.get(&segment).map(|(_, entry)| entry.clone());
        async move {
            let url = location.url.to_string();
            let Some(entry) = entry else { return Err(Fault::Unsigned { segment, url }) };
            let fetched = http.get(&location.url, location.range, MAX_SEGMENT_LEN as usize, ATTEMPTS).await;
            let bytes = fetched.map_err(|error| Fault::Missing { segment, error })?.bytes;
            let same =
                RootHash::of_segment(&bytes).is_some_and(|(len, _, root)| (len, root) == (entry.len, entry.root));
            if same {
                Ok(())
            } else {
                Err(Fault::Differs { segment, url, have: bytes.len(), signed: entry.len.bytes() })
            }
        }
    }))
    .buffered(PARALLEL);
    for done in 1.. {
        let Some(result) = results.next().await else { break };
        progress.set(done, all);
        match result {
            Ok(()) => checked.good += 1,
            Err(fault) => checked.faults.push(fault),
        }
    }
    Ok(checked)
}

/// A segment, when its entry was issued, and the entry.
type Opened = (SegmentId, u64, Entry);

/// The entries of a batch; `None` where it is signed with another key.
fn open_batch(batch: &[u8], keys: &[VerifyingKey], swarm: &SwarmName) -> Result<Option<Vec<Opened>>, Fault> {
    let (batch, body) = SignedBatch::parse(batch).map_err(Fault::Batch)?;
    if !keys.iter().any(|key| PublicKey(key.to_bytes()).hint() == batch.key_hint()) {
        return Ok(None);
    }
    if !keys.iter().any(|key| verify(key, &batch)) {
        return Err(Fault::Signature);
    }
    if body.scope != Scope::Any && body.scope != Scope::of_swarm(swarm) {
        return Err(Fault::Scope);
    }
    let (track, issued) = (body.track, body.issued_ms);
    Ok(Some(body.entries.into_iter().map(|entry| (SegmentId { track, seq: entry.seq }, issued, entry)).collect()))
}
