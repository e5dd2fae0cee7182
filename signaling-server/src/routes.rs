//! What is answered at which path: the two protocols' WebSockets, health, metrics,
//! statistics, and the player's files.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use headwater_wire::PeerId;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tracing::{debug, error};

use crate::accept::RemoteAddr;
use crate::admission::Admission;
use crate::assets::Assets;
use crate::connection::{self, Guest, Serving};
use crate::hub::{Hub, Protocol};
use crate::locality::Locality;
use crate::metrics::{Metrics, Refused};
use crate::net::Stream;
use crate::{stats, ws};

/// What every request can reach.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) hub: Arc<Hub>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) locality: Arc<Locality>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) assets: Arc<Assets>,
    pub(crate) serving: Serving,
    /// What is served besides the native protocol and the files.
    pub(crate) offers: Offers,
    /// True once the server stops. Every connection holds a receiver: none left means all have ended.
    pub(crate) drain: Arc<watch::Sender<bool>>,
}

/// What a server may leave out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offers {
    pub(crate) tracker: bool,
    pub(crate) metrics: bool,
}

/// All paths.
pub(crate) fn router(shared: Shared) -> Router {
    let Offers { tracker, metrics } = shared.offers;
    let mut router = Router::new()
        .route("/v1/signal", any(signal))
        .route("/v1/swarms/{swarm}/stats", get(stats::stats).options(stats::preflight))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready));
    if tracker {
        router = router.route("/announce", any(announce)).route("/", any(root));
    }
    if metrics {
        router = router.route("/metrics", get(prometheus));
    }
    router.fallback(file).with_state(shared)
}

/// Whether new connections should come here.
async fn ready(State(shared): State<Shared>) -> Response {
    if *shared.drain.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    // A node that other nodes do not reach still serves its own peers: that is said, and is no reason to send them away.
    match shared.hub.bus().map(|bus| bus.is_connected()) {
        None => "ready\n",
        Some(true) => "ready\nnats: connected\n",
        Some(false) => "ready\nnats: not connected, peers of this node alone are paired\n",
    }
    .into_response()
}

async fn prometheus(State(shared): State<Shared>) -> Response {
    let page = shared.metrics.render(&shared.hub.counts(), shared.hub.bus().map(|bus| &**bus));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
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

/// Why a WebSocket is not opened.
fn refused(shared: &Shared, why: Refused, text: &str) -> Response {
    shared.metrics.refused(why);
    let status = match why {
        Refused::Origin => StatusCode::FORBIDDEN,
        Refused::Address => StatusCode::TOO_MANY_REQUESTS,
        Refused::Token => StatusCode::UNAUTHORIZED,
        Refused::Full => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{text}\n")).into_response()
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
    let Some(&RemoteAddr(socket)) = request.extensions().get() else {
        error!("a request has no address");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let admission = &shared.admission;
    let client = admission.client(socket.ip(), request.headers());
    if !admission.allows_origin(request.headers()) {
        return refused(shared, Refused::Origin, "pages of this origin may not connect here");
    }
    let Some(address) = admission.open(client) else {
        return refused(shared, Refused::Address, "too many connections from this address: try again later");
    };
    // After the limit of the address: checking signatures costs.
    let pass = match protocol {
        Protocol::Native => None,
        Protocol::Tracker => match admission.tracker_pass(shared.hub.now(), request.uri().query()) {
            Ok(pass) => pass,
            Err(error) => return refused(shared, Refused::Token, &format!("{error}, as ?token= in the URL")),
        },
    };
    let Some(seat) = shared.hub.seat() else {
        return refused(shared, Refused::Full, "this server is full: try again later");
    };
    debug!(addr = %client, ?protocol, "WebSocket");
    let upgraded = hyper::upgrade::on(&mut request);
    let (hub, metrics, admission) = (Arc::clone(&shared.hub), Arc::clone(&shared.metrics), Arc::clone(admission));
    let location = shared.locality.place(client);
    let (open, serving) = (shared.drain.subscribe(), shared.serving);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Stream>>() else {
            error!("an upgraded connection is not of the kind that was accepted");
            return;
        };
        // Copied: the buffer that these few bytes are in is as large as an HTTP head may be.
        let first = parts.read_buf.to_vec();
        drop(parts.read_buf);
        metrics.opened(protocol);
        let place = hub.open(protocol, fresh, location);
        let guest = Guest { place, admission, pass, has_announced: false, address, seat, metrics, open };
        connection::serve(guest, parts.io.into_inner(), first, serving).await;
    });
    response
}
