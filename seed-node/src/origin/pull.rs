//! Pulling segments, each once: whoever asks for one that is under way, or was pulled a moment ago, gets the same bytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use headwater_wire::limits::MAX_SEGMENT_LEN;
use tokio::sync::OnceCell;

use super::page::is_web_page;
use crate::cache::{Cached, DiskCache};
use crate::http::{Http, HttpError, Validator};
use crate::node::Location;

/// How often a segment is tried before it is given up (in a live stream: until the next look at the playlist).
const ATTEMPTS: u32 = 5;

/// The same of a file: one that is being replaced is there a moment later.
const ATTEMPTS_ON_DISK: u32 = 3;

/// Bytes of segments pulled last that are kept for others who ask, at most. The node's store shares their memory while it
/// holds them.
pub(crate) const MAX_RECENT_BYTES: usize = 128 * 1024 * 1024;

/// One pull: under way, or done.
type Flight = Arc<OnceCell<Bytes>>;

#[derive(Debug, Default)]
struct Flights {
    by_location: BTreeMap<Location, Flight>,
    /// Done, oldest first.
    recent: VecDeque<(Location, usize)>,
    recent_bytes: usize,
}

/// Pulls segments of one stream.
#[derive(Debug, Clone)]
pub struct Puller {
    http: Http,
    cache: Option<Arc<DiskCache>>,
    /// Whether the stream is live: then an address may come again with other bytes after its encoder has started anew.
    live: bool,
    /// Most bytes of what was pulled last that are kept.
    recent: usize,
    flights: Arc<Mutex<Flights>>,
}

impl Puller {
    /// Pulls segments of a stream, by way of the disk where there is a cache.
    #[must_use]
    pub fn new(http: Http, cache: Option<Arc<DiskCache>>, live: bool) -> Self {
        Self { http, cache, live, recent: MAX_RECENT_BYTES, flights: Arc::default() }
    }

    /// The same, that keeps no more than so many bytes of what was pulled last.
    #[must_use]
    pub fn keeping(self, recent: usize) -> Self {
        Self { recent: recent.min(MAX_RECENT_BYTES), ..self }
    }

    /// Whoever asks for it next gets it anew.
    pub(crate) fn forget(&self, location: &Location) {
        self.flights().forget(location);
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, Flights> {
        // Nothing panics while it holds the lock.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pulls one, unless somebody else does or has.
    ///
    /// # Errors
    /// See [`HttpError`]. Whoever else waited tries again.
    pub async fn pull(&self, location: &Location) -> Result<Bytes, HttpError> {
        let flight = Arc::clone(self.flights().by_location.entry(location.clone()).or_default());
        let mut first = false;
        let result = flight
            .get_or_try_init(|| {
                first = true;
                self.pull_anew(location)
            })
            .await
            .cloned();
        match &result {
            Ok(bytes) if first => self.flights().land(location, bytes.len(), self.recent),
            Err(_) => self.flights().give_up(location, &flight),
            Ok(_) => {}
        }
        result
    }

    /// Gets one again that was pulled before: from the disk without asking the origin, as long as it is there. It may have
    /// changed since.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub(crate) async fn pull_again(&self, location: &Location) -> Result<Bytes, HttpError> {
        if let Some(cache) = &self.cache
            && let Some(cached) = load(cache, location).await
        {
            return Ok(cached.bytes);
        }
        if location.url.scheme() == "file" {
            let limit = MAX_SEGMENT_LEN as usize;
            return self
                .http
                .get(&location.url, location.range, limit, ATTEMPTS_ON_DISK)
                .await
                .map(|fetched| fetched.bytes);
        }
        self.pull(location).await
    }

    async fn pull_anew(&self, location: &Location) -> Result<Bytes, HttpError> {
        let limit = MAX_SEGMENT_LEN as usize;
        let Some(cache) = self.cache.as_ref().filter(|_| location.url.scheme() != "file") else {
            return media(location, self.http.get(&location.url, location.range, limit, ATTEMPTS).await?.bytes);
        };
        let cached = load(cache, location).await;
        if let Some(cached) = &cached {
            match self.still_good(location, cached).await? {
                State::Same => return Ok(cached.bytes.clone()),
                State::Changed(bytes, validator) => {
                    keep(cache, location, validator, bytes.clone()).await;
                    return Ok(bytes);
                }
                State::Unknown => {}
            }
        }
        let fetched = self.http.get_valid(&location.url, location.range, limit, ATTEMPTS).await;
        match fetched.and_then(|(fetched, validator)| Ok((media(location, fetched.bytes)?, validator))) {
            Ok((bytes, validator)) => {
                keep(cache, location, validator, bytes.clone()).await;
                Ok(bytes)
            }
            Err(error) => match cached.filter(|_| !self.live && says_nothing(&error)) {
                Some(cached) => {
                    tracing::warn!(%error, "cannot ask whether a segment has changed; taking it from the disk");
                    Ok(cached.bytes)
                }
                None => Err(error),
            },
        }
    }

    /// Asks the origin whether what the disk has is still what it serves.
    async fn still_good(&self, location: &Location, cached: &Cached) -> Result<State, HttpError> {
        let mut validator = cached.validator.clone();
        if validator.is_empty() {
            return Ok(if self.live { State::Unknown } else { State::Same });
        }
        let limit = MAX_SEGMENT_LEN as usize;
        let answer = match self.http.get_changed(&location.url, location.range, limit, &mut validator).await {
            Ok(None) => return Ok(State::Same),
            Ok(Some(fetched)) => media(location, fetched.bytes),
            Err(error) => Err(error),
        };
        match answer {
            Ok(bytes) => Ok(State::Changed(bytes, validator)),
            // An origin in trouble says nothing of a finished stream's segments. In a live one an address may come again.
            Err(error @ HttpError::NoRanges { .. }) => {
                // Some answer a conditional request for a range with the whole: what it is now is to be seen without condition.
                tracing::debug!(%error, "cannot ask whether a segment has changed");
                Ok(State::Unknown)
            }
            Err(error) if !self.live && says_nothing(&error) => {
                tracing::warn!(%error, "cannot ask whether a segment has changed; taking it from the disk");
                Ok(State::Same)
            }
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "cannot ask whether a segment has changed");
                Ok(State::Unknown)
            }
            Err(error) => Err(error),
        }
    }
}

/// What has become of a segment that is on the disk.
enum State {
    Same,
    Changed(Bytes, Validator),
    /// The origin does not say.
    Unknown,
}

/// Whether an answer tells nothing of the segment that was asked for.
fn says_nothing(error: &HttpError) -> bool {
    error.is_transient() || matches!(error, HttpError::Page { .. } | HttpError::NoRanges { .. })
}

/// What came, unless it is a web page.
fn media(location: &Location, bytes: Bytes) -> Result<Bytes, HttpError> {
    if is_web_page(&bytes) { Err(HttpError::Page { url: location.url.to_string() }) } else { Ok(bytes) }
}

impl Flights {
    fn land(&mut self, location: &Location, len: usize, most: usize) {
        self.recent.push_back((location.clone(), len));
        self.recent_bytes += len;
        while self.recent_bytes > most {
            let Some((oldest, len)) = self.recent.pop_front() else { break };
            self.recent_bytes -= len;
            self.by_location.remove(&oldest);
        }
    }

    /// Unless it is under way.
    fn forget(&mut self, location: &Location) {
        if let Some(place) = self.recent.iter().position(|(landed, _)| landed == location)
            && let Some((_, len)) = self.recent.remove(place)
        {
            self.recent_bytes -= len;
            self.by_location.remove(location);
        }
    }

    /// Unless another has taken its place.
    fn give_up(&mut self, location: &Location, flight: &Flight) {
        let is_empty = !flight.initialized();
        if is_empty && self.by_location.get(location).is_some_and(|there| Arc::ptr_eq(there, flight)) {
            self.by_location.remove(location);
        }
    }
}

async fn load(cache: &Arc<DiskCache>, location: &Location) -> Option<Cached> {
    let (cache, location) = (Arc::clone(cache), location.clone());
    tokio::task::spawn_blocking(move || cache.load(&location.url, location.range)).await.ok()?
}

async fn keep(cache: &Arc<DiskCache>, location: &Location, validator: Validator, bytes: Bytes) {
    let (cache, location) = (Arc::clone(cache), location.clone());
    let write = move || cache.store(&location.url, location.range, &validator, &bytes);
    // A write that panicked is one segment to be pulled again.
    let _ = tokio::task::spawn_blocking(write).await;
}
