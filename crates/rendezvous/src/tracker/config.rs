//! What a server may set of the tracker, and every bound of it.

use crate::time::Duration;

/// What a tracker may hold and say.
#[derive(Debug, Clone)]
pub struct TrackerConfig {
    /// When a client is asked to announce again. Two minutes, as the JavaScript tracker says: sockets tell who is there.
    pub announce_interval: Duration,
    /// When a client may scrape again.
    pub scrape_interval: Duration,
    /// Most offers of one announce that are forwarded; the rest is dropped. The usual client sends at most 5, some send
    /// ten times as many.
    pub max_offers: usize,
    /// Most info hashes.
    pub max_swarms: usize,
    /// Most peers of one swarm.
    pub max_swarm_size: usize,
    /// Most info hashes of one connection: a client with many torrents has one socket for all.
    pub max_swarms_per_connection: usize,
    /// Most info hashes of one scrape.
    pub max_scrape: usize,
    /// Whether a scrape without info hashes lists every swarm. It says what everyone watches, and its answer grows with the
    /// server: off by default.
    pub scrape_all: bool,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            announce_interval: Duration::from_secs(120),
            scrape_interval: Duration::from_secs(600),
            max_offers: 20,
            max_swarms: 100_000,
            max_swarm_size: 50_000,
            max_swarms_per_connection: 256,
            max_scrape: 64,
            scrape_all: false,
        }
    }
}
