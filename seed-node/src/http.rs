//! The HTTP client: time-outs, retries, bounds, and errors that a person can act on. It reads `file:` addresses as well, so
//! that a folder is an origin like any other.

mod disk;

use std::sync::Once;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    RANGE,
};
use reqwest::{Client, Response, StatusCode};
use tokio::time::sleep;
use url::Url;

use crate::backoff::Backoff;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// How long an origin may say nothing in the middle of an answer.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The first wait after a failed request, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

/// Bytes of a larger resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

/// Why a resource cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No answer at all.
    #[error("{url} cannot be reached ({cause}): is the origin running, and is the address right?")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What went wrong.
        cause: String,
    },
    /// An answer that is not the resource.
    #[error("{url} answers {status}: {}", advice(*.status))]
    Status {
        /// What was asked for.
        url: String,
        /// How it was answered.
        status: StatusCode,
    },
    /// The answer broke off.
    #[error("{url} broke off in mid-answer ({cause})")]
    Interrupted {
        /// What was asked for.
        url: String,
        /// What went wrong.
        cause: String,
    },
    /// More than this program takes.
    #[error("{url} is longer than {limit} bytes")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The most it may have.
        limit: usize,
    },
    /// Other bytes than the range that was asked for.
    #[error("{url} does not answer byte ranges, which its playlist needs")]
    NoRanges {
        /// What was asked for.
        url: String,
    },
    /// A web page where a segment should be: an error page that says it is none.
    #[error("{url} is a web page, not a segment: look at what the origin shows there")]
    Page {
        /// What was asked for.
        url: String,
    },
    /// A file that cannot be read.
    #[error("{path} cannot be read ({cause})")]
    File {
        /// Which.
        path: String,
        /// What went wrong.
        cause: std::io::Error,
    },
    /// The client itself cannot be made.
    #[error("cannot set up HTTP: {0}")]
    Client(String),
}

impl HttpError {
    /// The status of the answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(status.as_u16()),
            _ => None,
        }
    }

    /// Whether trying again may help.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || *status == StatusCode::REQUEST_TIMEOUT
            }
            // A file that is being written, or replaced, is there a moment later.
            Self::File { .. } => true,
            Self::TooLong { .. } | Self::NoRanges { .. } | Self::Page { .. } | Self::Client(_) => false,
        }
    }
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => "there is nothing at this address; check it for typing errors",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "the origin does not let this machine in",
        status if status.is_server_error() => "the origin is in trouble; try again later",
        _ => "the origin does not serve it",
    }
}

/// A resource as it came.
#[derive(Debug)]
pub struct Fetched {
    /// Where it came from in the end, after redirects.
    pub url: Url,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What tells one state of a resource from the next, as the origin says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validator {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

impl Validator {
    /// The validator with these values; an empty one, or one that no header may have, is none.
    #[must_use]
    pub fn new(etag: &[u8], modified: &[u8]) -> Self {
        let value = |bytes: &[u8]| if bytes.is_empty() { None } else { HeaderValue::from_bytes(bytes).ok() };
        Self { etag: value(etag), modified: value(modified) }
    }

    /// The entity tag.
    #[must_use]
    pub fn etag(&self) -> Option<&[u8]> {
        self.etag.as_ref().map(HeaderValue::as_bytes)
    }

    /// When it was modified last.
    #[must_use]
    pub fn modified(&self) -> Option<&[u8]> {
        self.modified.as_ref().map(HeaderValue::as_bytes)
    }

    /// Whether the origin said anything to tell states by.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.modified.is_none()
    }

    fn of(headers: &HeaderMap) -> Self {
        Self { etag: headers.get(ETAG).cloned(), modified: headers.get(LAST_MODIFIED).cloned() }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(etag) = &self.etag {
            headers.insert(IF_NONE_MATCH, etag.clone());
        } else if let Some(modified) = &self.modified {
            headers.insert(IF_MODIFIED_SINCE, modified.clone());
        }
        headers
    }
}

/// The HTTP client.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
}

impl Http {
    /// Makes a client.
    ///
    /// # Errors
    /// Where the system's certificates cannot be used.
    pub fn new() -> Result<Self, HttpError> {
        Self::with_patience(STALL_TIMEOUT)
    }

    /// Makes a client that gives an origin up once it has said nothing for so long.
    ///
    /// # Errors
    /// Where the system's certificates cannot be used.
    pub fn with_patience(stall: Duration) -> Result<Self, HttpError> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // It fails only where another provider was installed before, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(stall)
            .user_agent(concat!("headwater-seed/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| HttpError::Client(root_cause(&error)))?;
        Ok(Self { client })
    }

    /// Fetches a resource of at most `limit` bytes; tries `attempts` times where trying again may help.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn get(
        &self,
        url: &Url,
        range: Option<Range>,
        limit: usize,
        attempts: u32,
    ) -> Result<Fetched, HttpError> {
        self.get_valid(url, range, limit, attempts).await.map(|(fetched, _)| fetched)
    }

    /// The same, with what tells this state of the resource from the next.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn get_valid(
        &self,
        url: &Url,
        range: Option<Range>,
        limit: usize,
        attempts: u32,
    ) -> Result<(Fetched, Validator), HttpError> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut attempt = 1;
        loop {
            let mut validator = Validator::default();
            // Without anything to compare with, it always comes.
            match self.get_changed(url, range, limit, &mut validator).await {
                Ok(Some(fetched)) => return Ok((fetched, validator)),
                Ok(None) => return Err(HttpError::Status { url: url.to_string(), status: StatusCode::NOT_MODIFIED }),
                Err(error) if error.is_transient() && attempt < attempts => {
                    attempt += 1;
                    tracing::debug!(%url, %error, "trying again");
                    sleep(backoff.next_delay()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Fetches a resource of at most `limit` bytes, unless the origin says that it is still the one of `validator`, which
    /// is brought up to date.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn get_changed(
        &self,
        url: &Url,
        range: Option<Range>,
        limit: usize,
        validator: &mut Validator,
    ) -> Result<Option<Fetched>, HttpError> {
        if let Some(path) = disk::path(url) {
            return disk::read(url, path, range, limit).await.map(Some);
        }
        let response = self.send(url, range, validator.headers()).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let response = successful(url, response)?;
        let fresh = Validator::of(response.headers());
        let fetched = take_range(url, response, range, limit).await?;
        // Only what came whole counts as seen.
        *validator = fresh;
        Ok(Some(fetched))
    }

    /// Sends a request and gives the head of a successful answer.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn request(&self, url: &Url, range: Option<Range>) -> Result<Response, HttpError> {
        successful(url, self.send(url, range, HeaderMap::new()).await?)
    }

    async fn send(&self, url: &Url, range: Option<Range>, headers: HeaderMap) -> Result<Response, HttpError> {
        let mut request = self.client.get(url.clone()).headers(headers);
        if let Some(Range { offset, len }) = range {
            let last = offset.saturating_add(len).saturating_sub(1);
            request = request
                .header(RANGE, format!("bytes={offset}-{last}"))
                .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        request.send().await.map_err(|error| HttpError::Unreachable { url: url.to_string(), cause: root_cause(&error) })
    }
}

async fn take_range(url: &Url, response: Response, range: Option<Range>, limit: usize) -> Result<Fetched, HttpError> {
    if range.is_some() && response.status() != StatusCode::PARTIAL_CONTENT {
        return Err(HttpError::NoRanges { url: url.to_string() });
    }
    let fetched = take_in(url, response, limit).await?;
    if range.is_some_and(|range| range.len != fetched.bytes.len() as u64) {
        return Err(HttpError::NoRanges { url: url.to_string() });
    }
    Ok(fetched)
}

fn successful(url: &Url, response: Response) -> Result<Response, HttpError> {
    let status = response.status();
    if status.is_success() { Ok(response) } else { Err(HttpError::Status { url: url.to_string(), status }) }
}

async fn take_in(url: &Url, mut response: Response, limit: usize) -> Result<Fetched, HttpError> {
    let too_long = || HttpError::TooLong { url: url.to_string(), limit };
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(too_long());
    }
    let mut bytes = BytesMut::with_capacity(announced as usize);
    while let Some(piece) = next_piece(&mut response, url).await? {
        if bytes.len() + piece.len() > limit {
            return Err(too_long());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Fetched { url: response.url().clone(), bytes: bytes.freeze() })
}

/// The next bytes of a body.
///
/// # Errors
/// [`HttpError::Interrupted`].
pub async fn next_piece(response: &mut Response, url: &Url) -> Result<Option<Bytes>, HttpError> {
    response.chunk().await.map_err(|error| HttpError::Interrupted { url: url.to_string(), cause: root_cause(&error) })
}

/// The length of the whole resource that a partial answer is a part of.
#[must_use]
pub fn whole_len(response: &Response) -> Option<u64> {
    let content_range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    content_range.rsplit_once('/')?.1.parse().ok()
}

/// The innermost reason, which says what happened; the outer ones only say that something did.
fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
