//! Looking at live playlists and manifests again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use url::Url;

use super::dash::Numbering;
use super::playlist::{Media, Playlist};
use super::{MAX_PLAYLIST_LEN, SourceError, Track, read};
use crate::backoff::{Backoff, jitter};
use crate::http::{Fetched, Http, Validator};

/// The first wait after a failed look at a live playlist, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Follows the playlists of live tracks, one file once however many tracks are in it. Gives where each track's news come
/// from; it ends when the stream has.
pub(crate) fn watch(http: &Http, tracks: &[Track], tasks: &mut JoinSet<()>) -> Vec<mpsc::Receiver<Media>> {
    let mut files: BTreeMap<Url, Watcher> = BTreeMap::new();
    let mut receivers = Vec::with_capacity(tracks.len());
    for track in tracks {
        let (media, receiver) = mpsc::channel(1);
        receivers.push(receiver);
        let watcher = files.entry(track.url.clone()).or_insert_with(|| Watcher {
            http: http.clone(),
            url: track.url.clone(),
            target: track.media.target,
            last: None,
            listeners: Vec::new(),
        });
        let part = track.numbering.map(|numbering| (track.name.clone(), numbering));
        watcher.listeners.push(Listener { part, media });
    }
    for watcher in files.into_values() {
        tasks.spawn(watcher.run());
    }
    receivers
}

/// Whoever waits for the news of one track.
struct Listener {
    /// Which representation of a manifest it is.
    part: Option<(String, Numbering)>,
    media: mpsc::Sender<Media>,
}

/// Follows one file.
struct Watcher {
    http: Http,
    url: Url,
    target: Duration,
    /// The manifest as it was loaded last: time alone may add segments to it.
    last: Option<(Url, Bytes)>,
    listeners: Vec<Listener>,
}

impl Watcher {
    /// Until the stream has ended, or nobody listens any more.
    async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut failing = false;
        let mut delay = jitter(self.target / 2, self.target);
        let mut validator = Validator::default();
        loop {
            sleep(delay).await;
            match self.look(&mut validator).await {
                // Half a target duration, as RFC 8216 has it for a playlist without news.
                Ok(None) => delay = jitter(self.target / 4, self.target / 2),
                Ok(Some(playlist)) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(url = %self.url, "the playlist is back");
                        backoff.reset();
                    }
                    if !self.tell(&playlist).await {
                        return;
                    }
                    delay = jitter(self.target / 2, self.target);
                }
                Err(error) => {
                    failing = true;
                    delay = backoff.next_delay();
                    tracing::warn!(%error, retry_in_ms = delay.as_millis() as u64, "cannot load the live playlist");
                }
            }
        }
    }

    /// The file as it is now; `None` where it says the same as before.
    async fn look(&mut self, validator: &mut Validator) -> Result<Option<Playlist>, SourceError> {
        let fetched = self.http.get_changed(&self.url, None, MAX_PLAYLIST_LEN, validator).await?;
        let file = match (fetched, &self.last) {
            (Some(file), _) => file,
            (None, Some((url, bytes))) => Fetched { url: url.clone(), bytes: bytes.clone() },
            (None, None) => return Ok(None),
        };
        let playlist = read(&self.url, &file)?;
        match &playlist {
            Playlist::Media(_) => {}
            Playlist::Manifest(_) => self.last = Some((file.url, file.bytes)),
            Playlist::Multivariant(_) => return Err(SourceError::Nested(self.url.to_string())),
        }
        Ok(Some(playlist))
    }

    /// Hands on what is new; says whether there is a reason to look again.
    async fn tell(&mut self, playlist: &Playlist) -> bool {
        let (mut heard, mut live) = (false, false);
        for Listener { part, media } in &self.listeners {
            let news = match (playlist, part) {
                (Playlist::Media(media), None) => Some(media.clone()),
                // A rendition may have nothing for a while, between periods.
                (Playlist::Manifest(manifest), Some((id, numbering))) => {
                    live |= manifest.live;
                    manifest.media(id, *numbering)
                }
                _ => None,
            };
            heard |= !media.is_closed();
            if let Some(news) = news {
                self.target = news.target;
                live |= news.live;
                let _ = media.send(news).await;
            }
        }
        heard && live
    }
}
