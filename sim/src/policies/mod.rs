//! Who decides for a viewer: the real engine, nobody, or the model of another system.

use headwater_swarm::{Config, Engine, Now};

use crate::brain::Brain;

/// Who decides for the viewers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The real engine.
    Headwater,
    /// Nobody: players load over HTTP.
    HttpOnly,
}

impl Policy {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Headwater, Self::HttpOnly];

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
        }
    }
}

/// The brain of one viewer; `None` where it has none.
pub(crate) fn make(policy: Policy, config: Config, seed: u64, now: Now) -> Option<Box<dyn Brain>> {
    match policy {
        Policy::Headwater => Some(Box::new(Engine::new(config, seed, now))),
        Policy::HttpOnly => None,
    }
}
