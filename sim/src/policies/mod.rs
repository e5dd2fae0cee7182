//! Who decides for a viewer: the real engine, nobody, or the model of another system.

mod p2pml;
mod talk;

use headwater_swarm::{Config, Engine, Now};

use crate::brain::Brain;
use crate::policies::p2pml::{P2pml, Version};

/// Who decides for the viewers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The real engine.
    Headwater,
    /// Nobody: players load over HTTP.
    HttpOnly,
    /// A model of p2p-media-loader 2.3: random HTTP prefetch.
    P2pMediaLoader2,
    /// A model of p2p-media-loader 5.0: election among neighbours.
    P2pMediaLoader5,
}

impl Policy {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Headwater, Self::HttpOnly, Self::P2pMediaLoader2, Self::P2pMediaLoader5];

    /// The policy of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Headwater => "headwater",
            Self::HttpOnly => "http-only",
            Self::P2pMediaLoader2 => "p2pml-2.3-model",
            Self::P2pMediaLoader5 => "p2pml-5.0-model",
        }
    }
}

/// The brain of one viewer; `None` where it has none.
pub(crate) fn make(policy: Policy, config: Config, seed: u64, now: Now) -> Option<Box<dyn Brain>> {
    match policy {
        Policy::Headwater => Some(Box::new(Engine::new(config, seed, now))),
        Policy::HttpOnly => None,
        Policy::P2pMediaLoader2 => Some(Box::new(P2pml::new(Version::V2, &config, seed, now))),
        Policy::P2pMediaLoader5 => Some(Box::new(P2pml::new(Version::V5, &config, seed, now))),
    }
}
