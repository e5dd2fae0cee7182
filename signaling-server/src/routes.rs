//! What is answered at which path: the two protocols' WebSockets, health, and the player's files.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use headwater_wire::PeerId;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tracing::{debug, error};

use crate::accept::RemoteAddr;
use crate::assets::Assets;
use crate::connection::{self, Serving};
use crate::hub::{Hub, Protocol};
use crate::net::Stream;
use crate::ws;

/// What every request can reach.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) hub: Arc<Hub>,
    pub(crate) assets: Arc<Assets>,
    pub(crate) serving: Serving,
    /// True once the server stops. Every connection holds a receiver: none left means all have ended.
    pub(crate) drain: Arc<watch::Sender<bool>>,
}

/// All paths.
pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/signal", any(signal))
        .route("/announce", any(announce))
        .route("/", any(root))
        .route("/healthz", get(|| async { "ok" }))
        .fallback(file)
        .with_state(shared)
}

async fn signal(State(shared): State<Shared>, request: Request) -> Response {
    upgrade(&shared, Protocol::Native, request)
}

async fn announce(State(shared): State<Shared>, request: Request) -> Response {
    upgrade(&shared, Protocol::Tracker, request)
}

/// The root: a tracker for WebSockets, the page for others.
async fn root(State(shared): State<Shared>, request: Request) -> Response {
    if ws::is_upgrade(request.headers()) {
        return upgrade(&shared, Protocol::Tracker, request);
    }
    shared.assets.respond(request.method(), request.uri().path(), request.headers())
}

async fn file(State(shared): State<Shared>, request: Request) -> Response {
    shared.assets.respond(request.method(), request.uri().path(), request.headers())
}

/// Answers the handshake, and serves the connection once the answer is out.
fn upgrade(shared: &Shared, protocol: Protocol, mut request: Request) -> Response {
    let fresh = match getrandom::u64() {
        Ok(random) => PeerId(random),
        Err(error) => {
            error!(%error, "the operating system gives no random numbers");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let response = match ws::handshake(request.method(), request.version(), request.headers()) {
        Ok(response) => response,
        Err(refusal) => return refusal.into_response(),
    };
    if let Some(RemoteAddr(addr)) = request.extensions().get() {
        debug!(%addr, ?protocol, "WebSocket");
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let open = shared.drain.subscribe();
    let hub = Arc::clone(&shared.hub);
    let serving = shared.serving;
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Stream>>() else {
            error!("an upgraded connection is not of the kind that was accepted");
            return;
        };
        // Copied: the buffer that these few bytes are in is as large as an HTTP head may be.
        let first = parts.read_buf.to_vec();
        drop(parts.read_buf);
        let place = hub.open(protocol, fresh);
        drop(hub);
        connection::serve(place, parts.io.into_inner(), first, serving, open).await;
    });
    response
}
