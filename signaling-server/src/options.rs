//! What a server is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use headwater_rendezvous::tracker::TrackerConfig;
use headwater_rendezvous::{Config, Rate};
use url::Url;

use crate::admission::AdmissionOptions;
use crate::assets::Assets;
use crate::nats::Nats;
use crate::tls::TlsSource;
use crate::turn::Turn;

/// How long a server waits for its clients.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between two pings. Half a minute keeps the mappings of common NATs and the patience of common proxies alive.
    pub ping_every: Duration,
    /// A connection not heard for so long is dead: three pings.
    pub silence: Duration,
    /// A WebTorrent client that has announced nothing by then is closed. Most announce as they open; Headwater's own have to
    /// join in a time of the core's.
    pub first_announce: Duration,
    /// A client that takes none of what is written to it for so long is given up.
    pub stuck: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(30),
            silence: Duration::from_secs(90),
            first_announce: Duration::from_secs(60),
            stuck: Duration::from_secs(20),
        }
    }
}

/// What one connection may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages and control frames.
    pub messages: Rate,
    /// Bytes.
    pub bytes: Rate,
    /// Offers of the tracker protocol.
    pub offers: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: Rate::MESSAGES,
            // What the messages at once may have in bytes, and half of what an SDP a second would.
            bytes: Rate { burst: 6 * 1024 * 1024, per_second: 64 * 1024 },
            offers: Rate { burst: 200, per_second: 10 },
        }
    }
}

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The signalling core's settings.
    pub core: Config,
    /// The tracker's settings; none serves no WebTorrent clients.
    pub tracker: Option<TrackerConfig>,
    /// What one connection may send.
    pub limits: Limits,
    /// Who may connect and join.
    pub admission: AdmissionOptions,
    /// TURN servers.
    pub turn: Option<Turn>,
    /// Waiting times of the sockets.
    pub timing: Timing,
    /// Where the certificate comes from, where the server speaks TLS by itself.
    pub tls: Option<TlsSource>,
    /// MMDB files with autonomous systems and countries.
    pub geo_db: Vec<PathBuf>,
    /// The directory of a carrier's ALTO server.
    pub alto: Option<Url>,
    /// The bus between nodes; none serves alone.
    pub nats: Option<Nats>,
    /// Whether `/metrics` is served.
    pub metrics: bool,
    /// Where peers are sent when the server stops.
    pub drain_url: Option<String>,
    /// How long they have to go.
    pub drain_time: Duration,
    /// The player to serve.
    pub assets: Assets,
}

impl Options {
    /// The defaults, with the embedded player and a random key for `resume`. No limits by address: those are for servers
    /// that strangers reach, and come from the settings.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn new(listen: SocketAddr) -> Result<Self, getrandom::Error> {
        let mut resume_key = [0; 32];
        getrandom::fill(&mut resume_key)?;
        Ok(Self {
            listen,
            core: Config::new(resume_key),
            tracker: Some(TrackerConfig::default()),
            limits: Limits::default(),
            admission: AdmissionOptions::default(),
            turn: None,
            timing: Timing::default(),
            tls: None,
            geo_db: Vec::new(),
            alto: None,
            nats: None,
            metrics: true,
            drain_url: None,
            drain_time: Duration::from_secs(3),
            assets: Assets::embedded(),
        })
    }
}
