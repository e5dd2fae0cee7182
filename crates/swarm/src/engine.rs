//! The engine's surface.

use headwater_wire::{DataHeader, PeerId};

use crate::config::Config;
use crate::io::{DataVerdict, Input, Output, Stats};
use crate::time::Now;

/// One peer's part in a swarm.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    stats: Stats,
}

impl Engine {
    /// An engine at time `now`; `seed` makes its choices its own, and the same again for the same seed.
    #[must_use]
    pub fn new(config: Config, seed: u64, now: Now) -> Self {
        let _ = (seed, now);
        Self { config, stats: Stats::default() }
    }

    /// Takes in what happened. Drain [`Engine::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) {
        let _ = (now, input, &self.config);
    }

    /// Decides about the payload of a data frame, `payload_len` bytes after the header.
    pub fn handle_data(&mut self, now: Now, peer: PeerId, header: &DataHeader, payload_len: u32) -> DataVerdict {
        let _ = (now, peer, header, payload_len);
        DataVerdict::Ignore
    }

    /// What to do next; until [`Output::Timeout`], call again.
    pub fn poll_output(&mut self) -> Output {
        Output::Timeout { at: None }
    }

    /// Bytes by source, and what is going on now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
