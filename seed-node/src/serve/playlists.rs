//! The playlists of a stream as they are now, and so what else belongs to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use m3u8_rs::Playlist as Parsed;
use tokio::sync::Mutex;
use url::Url;

use crate::http::{HttpError, Validator};
use crate::origin::MAX_PLAYLIST_LEN;
use crate::origin::playlist::{self, Playlist};
use crate::origin::pull::Puller;

/// How long a playlist is answered without asking the origin: live, and finished.
const FRESH: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// How long the segments of a live playlist may still be asked for after they are not listed any more.
const REMEMBERED: Duration = Duration::from_secs(120);

/// What a URL is to a stream.
pub(super) enum Found {
    /// One of its playlists.
    Playlist { bytes: Bytes, live: bool },
    /// A segment, or what players need before one.
    Segment,
    /// None of its parts.
    Nothing,
}

/// One playlist.
#[derive(Debug, Default)]
struct Entry {
    bytes: Bytes,
    /// Where it came from in the end.
    base: Option<Url>,
    live: bool,
    validator: Validator,
    loaded: Option<Instant>,
    /// What it names, and when it last did.
    parts: BTreeMap<Url, Instant>,
}

/// The playlists of a stream.
#[derive(Debug)]
pub(super) struct Playlists {
    from: Url,
    puller: Puller,
    /// Each behind a lock of its own, which is held while it is loaded: whoever else asks waits for the same answer.
    entries: Mutex<BTreeMap<Url, Arc<Mutex<Entry>>>>,
}

impl Playlists {
    pub(super) fn new(from: Url, puller: Puller) -> Self {
        let entries = Mutex::new(BTreeMap::from([(from.clone(), Arc::default())]));
        Self { from, puller, entries }
    }

    /// What a URL is to the stream.
    pub(super) async fn find(&self, url: &Url) -> Result<Found, HttpError> {
        if let Some(found) = self.known(url).await? {
            return Ok(found);
        }
        // Nobody has asked for the playlist that names it yet, or not lately.
        self.load(&self.from).await?;
        let names: Vec<Url> = self.entries.lock().await.keys().cloned().collect();
        for name in names {
            // A rendition that is away is no reason to refuse the others.
            if let Err(error) = self.load(&name).await {
                tracing::debug!(%error, "cannot load a playlist");
            }
        }
        Ok(self.known(url).await?.unwrap_or(Found::Nothing))
    }

    async fn known(&self, url: &Url) -> Result<Option<Found>, HttpError> {
        let entry = self.entries.lock().await.get(url).cloned();
        if entry.is_some() {
            let (bytes, live) = self.load(url).await?;
            return Ok(Some(Found::Playlist { bytes, live }));
        }
        let entries: Vec<_> = self.entries.lock().await.values().cloned().collect();
        for entry in entries {
            if entry.lock().await.parts.contains_key(url) {
                return Ok(Some(Found::Segment));
            }
        }
        Ok(None)
    }

    /// A playlist, from the origin where what is here is too old.
    async fn load(&self, url: &Url) -> Result<(Bytes, bool), HttpError> {
        let entry = Arc::clone(self.entries.lock().await.entry(url.clone()).or_default());
        let mut entry = entry.lock().await;
        let fresh = if entry.live { FRESH.0 } else { FRESH.1 };
        if entry.loaded.is_some_and(|loaded| loaded.elapsed() < fresh) {
            return Ok((entry.bytes.clone(), entry.live));
        }
        let mut validator = entry.validator.clone();
        let fetched = self.puller.http().get_changed(url, None, MAX_PLAYLIST_LEN, &mut validator).await?;
        let now = Instant::now();
        entry.loaded = Some(now);
        if let Some(fetched) = fetched {
            (entry.base, entry.bytes, entry.validator) = (Some(fetched.url), fetched.bytes, validator);
        } else if !entry.live {
            return Ok((entry.bytes.clone(), false));
        }
        // To a live manifest, time alone may have added segments.
        let base = entry.base.clone().unwrap_or_else(|| url.clone());
        let Named { parts, playlists, live } = named(&base, &entry.bytes);
        entry.parts.retain(|_, named| now.duration_since(*named) < REMEMBERED);
        entry.parts.extend(parts.into_iter().map(|part| (part, now)));
        entry.live = live;
        let mut entries = self.entries.lock().await;
        for playlist in playlists {
            entries.entry(playlist).or_default();
        }
        Ok((entry.bytes.clone(), live))
    }
}

/// What a playlist names.
#[derive(Default)]
struct Named {
    /// Segments and initialisation segments. Keys are neither.
    parts: BTreeSet<Url>,
    playlists: BTreeSet<Url>,
    live: bool,
}

fn named(base: &Url, bytes: &[u8]) -> Named {
    let mut named = Named::default();
    match playlist::parse(base, bytes) {
        Ok(Playlist::Manifest(manifest)) => {
            named.live = manifest.live;
            named.parts.extend(manifest.initializations);
            let parts = manifest.renditions.into_iter().flat_map(|rendition| rendition.segments);
            let whole = parts.map(|part| part.location).filter(|location| location.range.is_none());
            named.parts.extend(whole.map(|location| location.url));
            return named;
        }
        Ok(Playlist::Media(media)) => named.live = media.live,
        _ => {}
    }
    match m3u8_rs::parse_playlist_res(bytes) {
        Ok(Parsed::MediaPlaylist(media)) => {
            for segment in &media.segments {
                let map = segment.map.as_ref().map(|map| map.uri.as_str());
                let whole = segment.byte_range.is_none().then_some(segment.uri.as_str());
                named.parts.extend(map.into_iter().chain(whole).filter_map(|uri| base.join(uri).ok()));
            }
        }
        Ok(Parsed::MasterPlaylist(master)) => {
            let variants = master.variants.iter().map(|variant| variant.uri.as_str());
            let others = master.alternatives.iter().filter_map(|media| media.uri.as_deref());
            named.playlists.extend(variants.chain(others).filter_map(|uri| base.join(uri).ok()));
        }
        Err(_) => {}
    }
    named
}
