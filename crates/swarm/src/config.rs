//! The engine's settings. The defaults are meant to be right for everyone; tests and simulations change them.

use core::time::Duration;

use headwater_wire::{Role, Scope};

/// What makes bytes from a peer usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// A signed catalogue entry of this scope.
    Signed(Scope),
    /// What the first peer asked says of a segment. Chosen by name (`integrity="open"`), never by default.
    Open,
}

/// The engine's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What this peer is.
    pub role: Role,
    /// What makes bytes from a peer usable.
    pub integrity: Integrity,
    /// Whether this peer gives anything to others.
    pub uploads: bool,
    /// Most bytes a second to all others together; `None` for no cap.
    pub upload_cap: Option<u64>,
    /// Whether the engine itself sees to it that no more is under way than the path carries. Off where the transport does.
    pub paces: bool,
    /// Most bytes in the store. The segments around the playhead stay, whatever this says.
    pub memory_budget: u64,
    /// How far ahead of the playhead segments are asked of peers before the player demands them.
    pub prefetch: Duration,
    /// How many neighbours to aim for.
    pub neighbours: u16,
    /// How many connections at most; more are told goodbye.
    pub max_neighbours: u16,
}

impl Config {
    /// The settings of a viewer.
    #[must_use]
    pub fn viewer(integrity: Integrity) -> Self {
        Self {
            role: Role::Viewer,
            integrity,
            uploads: true,
            upload_cap: None,
            paces: true,
            memory_budget: 128 * 1024 * 1024,
            prefetch: Duration::from_secs(30),
            neighbours: 8,
            max_neighbours: 16,
        }
    }

    /// The settings of a seed, whose transport paces what it sends.
    #[must_use]
    pub fn seed(integrity: Integrity) -> Self {
        Self {
            role: Role::Seed,
            paces: false,
            memory_budget: 1024 * 1024 * 1024,
            neighbours: 0,
            max_neighbours: 256,
            ..Self::viewer(integrity)
        }
    }
}
