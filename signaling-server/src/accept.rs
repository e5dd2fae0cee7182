//! One accepted socket: TLS where it is wanted, then HTTP until the connection ends or becomes a WebSocket.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;
use tracing::debug;

use crate::acme::ACME_ALPN;
use crate::admission::PlainPlace;
use crate::net::Stream;

/// A request's head must be there by then, and before it TLS. Also ends connections kept alive without a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest that a connection without a WebSocket lives: nobody needs longer for a player, and a client that reads
/// it one byte a second must not stay for ever.
const HTTP_LIFETIME: Duration = Duration::from_secs(300);

/// Buffer of an HTTP connection: a request's head must fit. hyper's own default grows to 400 KiB.
const HTTP_BUFFER: usize = 16 * 1024;

/// Where a request came from, as the socket says. In the extensions of every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemoteAddr(pub(crate) SocketAddr);

/// A socket, and what it is served with.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) addr: SocketAddr,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) router: Router,
    /// True once the server stops.
    pub(crate) drain: watch::Receiver<bool>,
    /// One of the places for HTTP connections, held until this one ends or is upgraded.
    pub(crate) slot: OwnedSemaphorePermit,
    /// As well, one of its address's.
    pub(crate) plain: Option<PlainPlace>,
}

impl Accepted {
    /// Serves it to its end.
    pub(crate) async fn serve(self) {
        let Self { stream, addr, tls, router, drain, slot, plain } = self;
        debug!(%addr, "connection");
        // Signalling is small messages that somebody waits for.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY");
        }
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(tls) => match timeout(HEADER_TIMEOUT, tls.accept(stream)).await {
                // An authority has seen what it came for in the handshake.
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(ACME_ALPN) => return,
                Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                Ok(Err(error)) => {
                    debug!(%error, "TLS handshake");
                    return;
                }
                Err(_) => return,
            },
        };
        serve_http(stream, RemoteAddr(addr), router, drain).await;
        drop((slot, plain));
    }
}

async fn serve_http(stream: Stream, addr: RemoteAddr, router: Router, mut drain: watch::Receiver<bool>) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(addr);
        let mut router = router.clone();
        async move { router.call(request.map(axum::body::Body::new) as Request).await }
    });
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
}
