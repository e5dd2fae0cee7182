//! The same content over HTTP: a seed that stands before a weak origin. Playlists, segments, initialisation segments and
//! the catalogue are answered here, each pulled once however many ask. Anything else beside the playlist, keys above all,
//! is not ours to hold: whoever asks is sent to the origin. So is who asks for a file of which segments are byte ranges,
//! since that may be a whole film.

mod answer;
mod playlists;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use headwater_wire::catalogue::FILE_SUFFIX;
use tokio::net::TcpListener;
use url::Url;

use crate::http::HttpError;
use crate::node::Location;
use crate::origin::pull::Puller;
use crate::seed::Published;
use answer::{Freshness, answer};
use playlists::{Found, Playlists};

/// One stream to be served.
#[derive(Debug)]
pub struct Served {
    /// Its address as viewers know it: they ask this program for that path.
    public: Url,
    from: Url,
    puller: Puller,
    published: Arc<Published>,
    playlists: Playlists,
}

impl Served {
    /// A stream that viewers know as `public` and that is pulled from `from`.
    #[must_use]
    pub fn new(public: Url, from: Url, puller: Puller, published: Arc<Published>) -> Self {
        let playlists = Playlists::new(from.clone(), puller.clone());
        Self { public, from, puller, published, playlists }
    }

    /// The folder that its playlist lies in, with a slash at its end.
    fn folder(&self) -> &str {
        let path = self.public.path();
        path.rfind('/').map_or("/", |slash| &path[..=slash])
    }

    /// What answers for a path below the folder.
    async fn answer(&self, request: &Parts) -> Response {
        let path = request.uri.path();
        if path.strip_suffix(FILE_SUFFIX) == Some(self.public.path()) {
            return answer(request, path, self.published.catalogue().into(), Freshness::Soon);
        }
        // Its own playlist may be called otherwise where it is pulled from.
        let url = if path == self.public.path() {
            Ok(self.from.clone())
        } else {
            self.from.join(&path[self.folder().len()..])
        };
        let Ok(url) = url else { return StatusCode::NOT_FOUND.into_response() };
        if !url.as_str().starts_with(folder_of(&self.from)) {
            return StatusCode::NOT_FOUND.into_response();
        }
        match self.playlists.find(&url).await {
            Ok(Found::Playlist { bytes, live }) => {
                answer(request, path, bytes, if live { Freshness::Soon } else { Freshness::Later })
            }
            Ok(Found::Segment) => match self.puller.pull(&Location { url, range: None }).await {
                Ok(bytes) => answer(request, path, bytes, Freshness::Forever),
                Err(error) => failed(&error),
            },
            Ok(Found::Nothing) if url.scheme() == "file" => StatusCode::NOT_FOUND.into_response(),
            Ok(Found::Nothing) => {
                (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url.to_string())]).into_response()
            }
            Err(error) => failed(&error),
        }
    }
}

fn folder_of(url: &Url) -> &str {
    let text = url.as_str();
    let end = text.find(['?', '#']).unwrap_or(text.len());
    text[..end].rfind('/').map_or(text, |slash| &text[..=slash])
}

/// What the origin says is said again; what it does not say is a bad gateway.
fn failed(error: &HttpError) -> Response {
    tracing::debug!(%error, "cannot serve");
    let status = match error.status() {
        Some(404 | 410) => StatusCode::NOT_FOUND,
        Some(503 | 429) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    };
    (status, [(header::CACHE_CONTROL, "no-store")]).into_response()
}

/// Serves streams at `address` from now on. Gives the address bound.
///
/// # Errors
/// Where it cannot be bound.
pub async fn serve(address: SocketAddr, streams: Vec<Served>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let router = Router::new().fallback(dispatch).with_state(Arc::new(streams));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "content is not served any more");
        }
    });
    Ok(bound)
}

async fn dispatch(State(streams): State<Arc<Vec<Served>>>, request: Request) -> Response {
    // The body is nobody's concern.
    let (request, _) = request.into_parts();
    let mut response = match request.method {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        Method::GET | Method::HEAD => {
            let path = request.uri.path();
            let mine = streams.iter().filter(|stream| path.starts_with(stream.folder()));
            // Where one stream's folder lies in another's, the inner one is meant.
            match mine.max_by_key(|stream| stream.folder().len()) {
                Some(stream) => stream.answer(&request).await,
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    };
    answer::allow_all_pages(&mut response);
    response
}
