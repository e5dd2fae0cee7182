//! Signing a stream at its origin.

use std::path::Path;

use headwater_wire::SegmentId;
use headwater_wire::catalogue::FILE_SUFFIX;
use tokio::sync::mpsc;
use url::Url;

use super::file::{CatalogueFile, Changed, WriteError};
use super::{Hashed, Signer};
use crate::http::Http;
use crate::origin::mirror::{Mirror, MirrorEvent};
use crate::origin::pull::Puller;
use crate::origin::{Source, SourceError};
use crate::progress::Progress;

/// Segments pulled and not yet hashed.
const QUEUE: usize = 4;

/// Why a stream was not signed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteSignError {
    /// It cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The catalogue cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A live stream is signed as it goes.
    #[error("{0} is live: add --watch, which keeps signing what is new until it is stopped")]
    Live(String),
    /// Some segments could not be had, so that the catalogue has holes.
    #[error("{missing} segments of {url} could not be had; the catalogue is written without them")]
    Incomplete {
        /// The stream.
        url: String,
        /// How many.
        missing: usize,
    },
}

/// What was signed.
#[derive(Debug)]
pub struct Signed {
    /// The file that was written.
    pub file: CatalogueFile,
    /// Where it belongs.
    pub belongs: Url,
}

/// Signs the stream at `url` into a file in `folder`. A live one is signed until it ends, where `watch` is set.
///
/// # Errors
/// See [`RemoteSignError`].
pub async fn sign_url(
    http: &Http,
    url: &Url,
    signers: &[Signer],
    folder: &Path,
    watch: bool,
    progress: &Progress,
) -> Result<Signed, RemoteSignError> {
    let source = Source::open(http, url).await?;
    let live = source.is_live();
    if live && !watch {
        return Err(RemoteSignError::Live(url.to_string()));
    }
    let belongs = source.catalogue_url();
    let name = url.path_segments().and_then(Iterator::last).filter(|name| !name.is_empty()).unwrap_or("index");
    let mut file = CatalogueFile::new(folder.join(format!("{name}{FILE_SUFFIX}")));
    let all = source.tracks.iter().map(|track| track.media.segments.len()).sum::<usize>();
    let mut expected = all;

    let puller = Puller::new(http.clone(), None, live);
    let (events_tx, mut events) = mpsc::channel(QUEUE);
    let mirror = tokio::spawn(Mirror { puller, budget: u64::MAX, needs: None, events: events_tx }.run(source));
    while let Some(event) = events.recv().await {
        match event {
            MirrorEvent::Playlist { update, .. } if update.live => {
                // What is new, and what was there: about the length of the window.
                let window = file.window(update.track, update.first) + update.segments.len() as u64;
                file.forget_before(update.track, update.first, window);
            }
            MirrorEvent::Playlist { .. } => {}
            MirrorEvent::Segment { segment, bytes, .. } => {
                expected = expected.saturating_sub(1);
                if !live {
                    progress.set(all - expected, all);
                }
                add(&mut file, segment, &bytes, live);
            }
        }
        if live {
            file.write(signers)?;
        }
    }
    // It has ended, since its end of the queue is gone.
    let _ = mirror.await;
    file.write(signers)?;
    if expected > 0 && !live {
        return Err(RemoteSignError::Incomplete { url: url.to_string(), missing: expected });
    }
    Ok(Signed { file, belongs })
}

/// Adds a segment, or says why not.
pub(super) fn add(file: &mut CatalogueFile, segment: SegmentId, bytes: &[u8], live: bool) {
    let Some(hashed) = Hashed::of(segment, bytes, live) else {
        tracing::error!(%segment, len = bytes.len(), "no segment has this length; leaving it out");
        return;
    };
    if let Err(Changed(segment)) = file.add(segment.track, hashed.entry) {
        tracing::error!(%segment, "a segment changed after it was signed; the signature of the first one stays");
    }
}
