//! The listening socket: accepts connections, and stops in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_rendezvous::cluster::NodeId;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};
use url::Url;

use crate::accept::Accepted;
use crate::admission::Admission;
use crate::bus::{Bus, Letter};
use crate::connection::Serving;
use crate::follow::follow_if_any;
use crate::hub::{Drain, Hub};
use crate::locality::{GeoError, Locality, alto};
use crate::metrics::Metrics;
use crate::nats::{self, Nats, NatsError};
use crate::options::Options;
use crate::routes::{Offers, Shared, router};
use crate::tls::{Certificates, TlsError};
use crate::token::KeysError;

/// Plain HTTP connections at once; WebSockets are counted by the core instead.
const MAX_HTTP_CONNECTIONS: usize = 4096;

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
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The keys of the tokens cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// What NATS servers are checked with cannot be used.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// A geo database cannot be used.
    #[error(transparent)]
    Geo(#[from] GeoError),
}

/// A server that listens, and serves once it is run.
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    tls: Option<(Certificates, TlsAcceptor)>,
    shared: Shared,
    alto: Option<Url>,
    carried: Option<(Nats, Arc<Bus>, mpsc::Receiver<Letter>)>,
    drain_url: Option<String>,
    drain_time: Duration,
}

impl Server {
    /// Opens the listening socket.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(options: Options) -> Result<Self, BindError> {
        let Options {
            listen,
            mut core,
            tracker,
            limits,
            admission,
            turn,
            timing,
            tls,
            geo_db,
            alto,
            nats,
            metrics,
            drain_url,
            drain_time,
            assets,
        } = options;
        let admission = Admission::new(admission)?;
        let locality = Arc::new(Locality::new(geo_db)?);
        let seed = getrandom::u64()?;
        let tls = tls.map(Certificates::new).transpose()?;
        let carried = match nats {
            None => None,
            Some(nats) => {
                nats.check()?;
                let own = NodeId(getrandom::u64()?);
                core.node = Some(own);
                let (bus, letters) = Bus::new(own);
                Some((nats, Arc::new(bus), letters))
            }
        };
        let bus = carried.as_ref().map(|(_, bus, _)| Arc::clone(bus));
        let listener = TcpListener::bind(listen).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken(listen),
            _ => BindError::Refused(listen, error),
        })?;
        let local_addr = listener.local_addr().map_err(|error| BindError::Refused(listen, error))?;
        let shared = Shared {
            offers: Offers { tracker: tracker.is_some(), metrics },
            serving: Serving { timing, limits, max_offers: tracker.as_ref().map_or(0, |tracker| tracker.max_offers) },
            hub: Hub::new(core, tracker.unwrap_or_default(), turn, bus, seed),
            admission,
            locality,
            metrics: Arc::new(Metrics::new()),
            assets: Arc::new(assets),
            drain: Arc::new(watch::Sender::new(false)),
        };
        Ok(Self { listener, local_addr, tls, shared, alto, carried, drain_url, drain_time })
    }

    /// Where it listens: with the port that was picked, if that was left open.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What its URLs begin with: `https` where it speaks TLS.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Serves until `stop` resolves, then tells every client, and returns when all are gone or have had their time.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, shared, tls, alto, carried, drain_url, drain_time, .. } = self;
        let (certificates, acceptor) = tls.unzip();
        if shared.locality.databases().is_none() && alto.is_none() {
            info!("no --geo-db and no --alto: beyond the same address and subnet, peers are paired at random");
        }
        let (all_said, left) = watch::channel(false);
        let carrier = carried
            .map(|(nats, bus, letters)| tokio::spawn(nats::run(nats, Arc::clone(&shared.hub), bus, letters, left)));
        tokio::select! {
            () = accept(&listener, acceptor, &shared) => {}
            () = shared.hub.run_timer() => {}
            () = follow_certificates(certificates.as_ref()) => {}
            () = follow_if_any(shared.admission.keys()) => {}
            () = follow_if_any(shared.locality.databases()) => {}
            () = alto::follow(alto.as_ref(), &shared.locality, &shared.hub) => {}
            () = stop => {}
        }
        info!("stopping: telling every client");
        drop(listener);
        shared.drain.send_replace(true);
        shared.hub.drain(Drain { url: drain_url });
        if timeout(drain_time, shared.drain.closed()).await.is_err() {
            warn!(connections = shared.drain.receiver_count(), "some connections did not end in time");
        }
        if let Some(carrier) = carrier {
            shared.hub.leave();
            all_said.send_replace(true);
            // A NATS that hangs must not hold this server up.
            let _ = timeout(nats::STOP_TIMEOUT, carrier).await;
        }
    }
}

async fn follow_certificates(certificates: Option<&Certificates>) {
    match certificates {
        Some(certificates) => certificates.follow().await,
        None => std::future::pending().await,
    }
}

/// Accepts connections. Never returns.
async fn accept(listener: &TcpListener, tls: Option<TlsAcceptor>, shared: &Shared) {
    let router = router(shared.clone());
    let slots = Arc::new(Semaphore::new(MAX_HTTP_CONNECTIONS));
    loop {
        let (stream, addr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(plain) = shared.admission.open_plain(addr.ip()) else {
            debug!(%addr, "too many HTTP connections from this address: one is dropped");
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            warn!(limit = MAX_HTTP_CONNECTIONS, "too many HTTP connections: one is dropped");
            continue;
        };
        let (tls, router, drain) = (tls.clone(), router.clone(), shared.drain.subscribe());
        tokio::spawn(Accepted { stream, addr, tls, router, drain, slot, plain: Some(plain) }.serve());
    }
}

/// Serves a router of a test, with this server's own means.
#[cfg(test)]
pub(crate) async fn serve_for_tests(listener: TcpListener, router: axum::Router) {
    let slots = Arc::new(Semaphore::new(MAX_HTTP_CONNECTIONS));
    let drain = watch::Sender::new(false);
    while let (Ok((stream, addr)), Ok(slot)) = (listener.accept().await, Arc::clone(&slots).acquire_owned().await) {
        let (router, drain) = (router.clone(), drain.subscribe());
        tokio::spawn(Accepted { stream, addr, tls: None, router, drain, slot, plain: None }.serve());
    }
}
