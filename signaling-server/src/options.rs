//! What a server is started with.

use std::net::SocketAddr;
use std::time::Duration;

use headwater_rendezvous::Config;

use crate::assets::Assets;

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
    /// Waiting times of the sockets.
    pub timing: Timing,
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
        Ok(Self { listen, core: Config::new(resume_key), timing: Timing::default(), assets: Assets::embedded() })
    }
}
