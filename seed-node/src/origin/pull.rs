//! Pulling segments, each once: whoever asks for one that is under way, or was pulled a moment ago, gets the same bytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use headwater_wire::limits::MAX_SEGMENT_LEN;
use tokio::sync::OnceCell;

use crate::cache::{Cached, DiskCache};
use crate::http::{Http, HttpError, Validator};
use crate::node::Location;

/// How often a segment is tried before it is given up (in a live stream: until the next look at the playlist).
const ATTEMPTS: u32 = 5;

/// Bytes of segments pulled last that are kept for others who ask. The node's store shares their memory while it holds
/// them.
const MAX_RECENT_BYTES: usize = 128 * 1024 * 1024;

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
    flights: Arc<Mutex<Flights>>,
}

impl Puller {
    /// Pulls segments of a stream, by way of the disk where there is a cache.
    #[must_use]
    pub fn new(http: Http, cache: Option<Arc<DiskCache>>, live: bool) -> Self {
        Self { http, cache, live, flights: Arc::default() }
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
            Ok(bytes) if first => self.flights().land(location, bytes.len()),
            Err(_) => self.flights().give_up(location, &flight),
            Ok(_) => {}
        }
        result
    }

    async fn pull_anew(&self, location: &Location) -> Result<Bytes, HttpError> {
        let limit = MAX_SEGMENT_LEN as usize;
        let Some(cache) = self.cache.as_ref().filter(|_| location.url.scheme() != "file") else {
            return media(location, self.http.get(&location.url, location.range, limit, ATTEMPTS).await?.bytes);
        };
        if let Some(cached) = load(cache, location).await {
            let mut validator = cached.validator;
            if validator.is_empty() && !self.live {
                return Ok(cached.bytes);
            }
            if !validator.is_empty() {
                match self.http.get_changed(&location.url, location.range, limit, &mut validator).await {
                    Ok(None) => return Ok(cached.bytes),
                    Ok(Some(fetched)) => {
                        let bytes = media(location, fetched.bytes)?;
                        keep(cache, location, validator, bytes.clone()).await;
                        return Ok(bytes);
                    }
                    Err(error) => tracing::debug!(%error, "cannot ask whether a segment has changed"),
                }
            }
        }
        let (fetched, validator) = self.http.get_valid(&location.url, location.range, limit, ATTEMPTS).await?;
        let bytes = media(location, fetched.bytes)?;
        keep(cache, location, validator, bytes.clone()).await;
        Ok(bytes)
    }
}

/// What came, unless it is a web page: some origins answer "not found" or "back soon" as if all were well, and what is
/// signed once stays.
fn media(location: &Location, bytes: Bytes) -> Result<Bytes, HttpError> {
    /// A page says what it is within so much; media has a table of boxes or sync bytes there.
    const HEAD: usize = 512;
    let head = &bytes[..bytes.len().min(HEAD)];
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let has = |part: &[u8]| text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part));
    // Text from its first character on: what is inside media by chance does not count.
    if text.starts_with(b"<") && (has(b"<!doctype html") || has(b"<html") || has(b"<head")) {
        return Err(HttpError::Page { url: location.url.to_string() });
    }
    Ok(bytes)
}

impl Flights {
    fn land(&mut self, location: &Location, len: usize) {
        self.recent.push_back((location.clone(), len));
        self.recent_bytes += len;
        while self.recent_bytes > MAX_RECENT_BYTES {
            let Some((oldest, len)) = self.recent.pop_front() else { break };
            self.recent_bytes -= len;
            self.by_location.remove(&oldest);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn web_pages_are_no_media_however_they_begin() {
        let location = Location { url: url::Url::parse("https://video.example/1.ts").unwrap(), range: None };
        let is_media = |bytes: &'static [u8]| media(&location, Bytes::from_static(bytes)).is_ok();
        for page in [
            &b"<!DOCTYPE html><title>Not found</title>"[..],
            b"\n  <HTML lang=en>",
            b"\xef\xbb\xbf<html>",
            b"<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\">",
            b"<!-- cached --><head><title>Back soon</title>",
        ] {
            assert!(!is_media(page), "{}", String::from_utf8_lossy(page));
        }
        // Media, subtitles, and what has such words in it by chance.
        let texts =
            [&b"WEBVTT\n\n00:00.000 --> 00:01.000\n<html>"[..], b"<tt xmlns=\"http://www.w3.org/ns/ttml\">", b"", b"<"];
        for bytes in [&b"\x47\x40\x11\x10<html>"[..], b"\0\0\0\x18ftypcmf2<!doctype html>"].iter().chain(&texts) {
            assert!(is_media(bytes), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
