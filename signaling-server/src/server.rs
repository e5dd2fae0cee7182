//! The listening socket: accepts connections, speaks HTTP on them, hands WebSockets on, and stops in order.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use headwater_wire::PeerId;
use headwater_wire::limits::MAX_SIGNAL_MESSAGE_LEN;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::assets::Assets;
use crate::connection;
use crate::hub::Hub;
use crate::options::{Options, Timing};

/// Plain HTTP connections at once; WebSockets are counted by the core instead.
const MAX_HTTP_CONNECTIONS: usize = 4096;

/// A request's head must be there by then. Also ends connections kept alive without a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest that a connection without a WebSocket lives: nobody needs longer for a player, and a client that reads
/// it one byte a second must not stay for ever.
const HTTP_LIFETIME: Duration = Duration::from_secs(300);

/// Buffer of an HTTP connection: a request's head must fit. hyper's own default grows to 400 KiB.
const HTTP_BUFFER: usize = 16 * 1024;

/// Read buffer of a WebSocket, allocated at once for each: the default of 128 KiB would be the server's memory.
const READ_BUFFER: usize = 4 * 1024;

/// Beyond this a WebSocket writes without waiting for the flush.
const WRITE_BUFFER: usize = 4 * 1024;

/// What the WebSocket layer takes. Four times the protocol's limit, so that a client somewhat above that can be told so;
/// whatever is larger is not even read.
const MAX_WEBSOCKET_MESSAGE: usize = 4 * MAX_SIGNAL_MESSAGE_LEN;

/// How long the connections have to end when the server stops.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// Pause after a failed accept: out of file descriptors, trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens there.
    #[error(
        "cannot listen on {0}: another program has this port. Stop it, or choose another with --listen (port 0 picks a free one)"
    )]
    Taken(SocketAddr),
    /// The system refuses.
    #[error("cannot listen on {0}: {1}. Choose an address of this machine and a port above 1023 with --listen")]
    Refused(SocketAddr, #[source] io::Error),
    /// No randomness to name peers with.
    #[error("the operating system gives no random numbers: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

/// A server that listens, and serves once it is run.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Shared,
}

/// What every request can reach.
#[derive(Debug, Clone)]
struct Shared {
    hub: Arc<Hub>,
    assets: Arc<Assets>,
    timing: Timing,
    /// True once the server stops. Every connection holds a receiver: none left means all have ended.
    drain: Arc<watch::Sender<bool>>,
}

impl Server {
    /// Opens the listening socket.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(options: Options) -> Result<Self, BindError> {
        let Options { listen, core, timing, assets } = options;
        let seed = getrandom::u64()?;
        let listener = TcpListener::bind(listen).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken(listen),
            _ => BindError::Refused(listen, error),
        })?;
        let local_addr = listener.local_addr().map_err(|error| BindError::Refused(listen, error))?;
        let drain = Arc::new(watch::Sender::new(false));
        let shared = Shared { hub: Hub::new(core, seed), assets: Arc::new(assets), timing, drain };
        Ok(Self { listener, local_addr, shared })
    }

    /// Where it listens: with the port that was picked, if that was left open.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop` resolves, then tells every client, and returns when all are gone or have had their time.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, shared, .. } = self;
        let router = router(shared.clone());
        let slots = Arc::new(Semaphore::new(MAX_HTTP_CONNECTIONS));
        let serve = async {
            loop {
                let (stream, addr) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!(%error, "could not accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                    warn!(limit = MAX_HTTP_CONNECTIONS, "too many HTTP connections: one is dropped");
                    continue;
                };
                debug!(%addr, "connection");
                tokio::spawn(serve_http(stream, router.clone(), shared.drain.subscribe(), slot));
            }
        };
        tokio::select! {
            () = serve => {}
            () = shared.hub.run_timer() => {}
            () = stop => {}
        }
        info!("stopping: telling every client");
        drop(listener);
        shared.drain.send_replace(true);
        if timeout(STOP_WAIT, shared.drain.closed()).await.is_err() {
            warn!(connections = shared.drain.receiver_count(), "some connections did not end in time");
        }
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/signal", any(signal))
        .route("/healthz", get(|| async { "ok" }))
        .fallback(file)
        .with_state(shared)
}

async fn serve_http(stream: TcpStream, router: Router, mut drain: watch::Receiver<bool>, slot: OwnedSemaphorePermit) {
    // Signalling is small messages that somebody waits for.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY");
    }
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HTTP_BUFFER)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let lifetime = sleep(HTTP_LIFETIME);
    let stopping = async {
        let _ = drain.wait_for(|drain| *drain).await;
    };
    tokio::select! {
        result = &mut connection => {
            if let Err(error) = result {
                debug!(%error, "HTTP connection");
            }
        }
        () = lifetime => {}
        () = stopping => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    drop(slot);
}

async fn signal(State(shared): State<Shared>, upgrade: WebSocketUpgrade) -> Response {
    let fresh = match getrandom::u64() {
        Ok(random) => PeerId(random),
        Err(error) => {
            error!(%error, "the operating system gives no random numbers");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let drain = shared.drain.subscribe();
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(MAX_WEBSOCKET_MESSAGE)
        .max_frame_size(MAX_WEBSOCKET_MESSAGE)
        .on_upgrade(move |socket| async move {
            let inbox = shared.hub.open(fresh);
            connection::serve(&shared.hub, inbox, socket, shared.timing, drain).await;
        })
}

async fn file(State(shared): State<Shared>, request: Request) -> Response {
    shared.assets.respond(request.method(), request.uri().path(), request.headers())
}
