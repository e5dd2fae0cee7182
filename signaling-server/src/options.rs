//! What a server is started with.

use std::net::SocketAddr;
use std::time::Duration;

use headwater_rendezvous::tracker::TrackerConfig;
use headwater_rendezvous::{Config, Rate};

use crate::assets::Assets;
use crate::tls::TlsFiles;

/// How long a server waits for its clients.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between two pings. Half a minute keeps the mappings of common NATs and the patience of common proxies alive.
    pub ping_every: Duration,
    /// A connection not heard for so long is dead: three pings.
    pub silence: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { ping_every: Duration::from_secs(30), silence: Duration::from_secs(90) }
    }
}

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The signalling core's settings.
    pub core: Config,
    /// The tracker's settings.
    pub tracker: TrackerConfig,
    /// How many messages one connection may send, control frames included.
    pub message_rate: Rate,
    /// Waiting times of the sockets.
    pub timing: Timing,
    /// Certificate and key, where the server speaks TLS by itself.
    pub tls: Option<TlsFiles>,
    /// The player to serve.
    pub assets: Assets,
}

impl Options {
    /// The defaults, with the embedded player and a random key for `resume`.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn new(listen: SocketAddr) -> Result<Self, getrandom::Error> {
        let mut resume_key = [0; 32];
        getrandom::fill(&mut resume_key)?;
        Ok(Self {
            listen,
            core: Config::new(resume_key),
            tracker: TrackerConfig::default(),
            message_rate: Rate::MESSAGES,
            timing: Timing::default(),
            tls: None,
            assets: Assets::embedded(),
        })
    }
}
