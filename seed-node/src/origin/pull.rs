//! Pulling one segment: from the origin, or from the disk where the origin says that nothing has changed.

use std::sync::Arc;

use bytes::Bytes;
use headwater_wire::limits::MAX_SEGMENT_LEN;

use crate::cache::{Cached, DiskCache};
use crate::http::{Http, HttpError, Validator};
use crate::node::Location;

/// How often a segment is tried before it is given up (in a live stream: until the next look at the playlist).
const ATTEMPTS: u32 = 5;

/// Pulls segments.
#[derive(Debug, Clone)]
pub(super) struct Puller {
    pub(super) http: Http,
    pub(super) cache: Option<Arc<DiskCache>>,
    /// Whether the stream is live: then an address may come again with other bytes after its encoder has started anew.
    pub(super) live: bool,
}

impl Puller {
    /// Pulls one.
    pub(super) async fn pull(&self, location: &Location) -> Result<Bytes, HttpError> {
        let cache = self.cache.as_ref().filter(|_| location.url.scheme() != "file");
        let Some(cache) = cache else {
            let fetched = self.http.get(&location.url, location.range, MAX_SEGMENT_LEN as usize, ATTEMPTS).await?;
            return Ok(fetched.bytes);
        };
        let cached = load(cache, location).await;
        let mut validator = cached.as_ref().map_or_else(Validator::default, |cached| cached.validator.clone());
        if let Some(cached) = cached {
            if validator.is_empty() && !self.live {
                return Ok(cached.bytes);
            }
            if !validator.is_empty() {
                let limit = MAX_SEGMENT_LEN as usize;
                match self.http.get_changed(&location.url, location.range, limit, &mut validator).await {
                    Ok(None) => return Ok(cached.bytes),
                    Ok(Some(fetched)) => {
                        keep(cache, location, validator, fetched.bytes.clone()).await;
                        return Ok(fetched.bytes);
                    }
                    Err(error) => tracing::debug!(%error, "cannot ask whether a segment has changed"),
                }
            }
        }
        let limit = MAX_SEGMENT_LEN as usize;
        let (fetched, validator) = self.http.get_valid(&location.url, location.range, limit, ATTEMPTS).await?;
        keep(cache, location, validator, fetched.bytes.clone()).await;
        Ok(fetched.bytes)
    }
}

async fn load(cache: &Arc<DiskCache>, location: &Location) -> Option<Cached> {
    let (cache, location) = (Arc::clone(cache), location.clone());
    tokio::task::spawn_blocking(move || cache.load(&location.url, location.range)).await.ok()?
}

/// Not waited for by whoever wants the bytes, but bounded by their number: at most as many as are pulled at once.
async fn keep(cache: &Arc<DiskCache>, location: &Location, validator: Validator, bytes: Bytes) {
    let (cache, location) = (Arc::clone(cache), location.clone());
    let write = move || cache.store(&location.url, location.range, &validator, &bytes);
    // A write that panicked is one segment to be pulled again.
    let _ = tokio::task::spawn_blocking(write).await;
}
