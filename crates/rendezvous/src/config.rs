//! Every bound of the signalling core, with its reason, and the values that a server may set.

use headwater_wire::signal::IceServer;

use crate::cluster::NodeId;
use crate::time::Duration;

/// Most connections, joined or not. One was measured at 4.5 KiB in the server, 8 KiB with neighbours and 12 KiB with TLS, so this is
/// about 1.5 GiB at most.
pub const MAX_CONNECTIONS: usize = 100_000;

/// Most swarms. An empty swarm is forgotten at once, so only members can make swarms; a stranger with many sockets
/// still may not fill the memory with names.
pub const MAX_SWARMS: usize = 20_000;

/// Most members of one swarm: what one process serves. Larger audiences are split over servers.
pub const MAX_SWARM_SIZE: usize = 50_000;

/// Most pairings of a viewer: five times the neighbours it keeps (8-12), so that those that failed without a word do
/// not cut it off, yet few enough that nobody is flooded with offers.
pub const MAX_VIEWER_PAIRS: usize = 64;

/// Pairings of a viewer from which on it is not offered to those who wait: the most neighbours that an engine keeps.
pub const VIEWER_TARGET: usize = 12;

/// Most pairings of a seed: native, one UDP port for all; beyond it, viewers serve each other.
pub const MAX_SEED_PAIRS: usize = 256;

/// Seeds that a viewer is given while there are viewers enough: two, so that one may die; more would spend the
/// publisher's upload where viewers could serve.
pub const SEEDS_FIRST: usize = 2;

/// Viewers without a seed that are introduced to a seed as it arrives: enough to spread a new segment, few enough for
/// its first seconds.
pub const SEED_GREETING: usize = 8;

/// Waiting members that one newcomer is introduced to: no more than it may have asked for itself.
pub const MAX_WAITING_SERVED: usize = headwater_wire::limits::MAX_WANT as usize;

/// Members looked at to choose from. Taking the best of a sample evens load almost as well as taking the best of all,
/// at a cost that does not grow with the swarm.
pub const SAMPLE: usize = 128;

/// Lost neighbours remembered per member, to be chosen last: a pair that just failed will likely fail again.
pub const MAX_LOST: usize = 16;

/// Browsers give a connection up after 10 seconds or so: one that is lost within this never was there.
pub const CONNECTS_WITHIN: Duration = Duration::from_secs(20);

/// So many connections that came to nothing, and more than there were others, make a member hard to reach.
pub const HARD_MISSES: u32 = 3;

/// Most neighbours that a `join` may list as connected: a seed's are the most there can be.
pub const MAX_CONNECTED: usize = MAX_SEED_PAIRS;

/// How long a peer that came back may speak to the neighbours it named while it is not known on which node they are. The node that
/// has one says so within milliseconds.
pub const CLAIM_STANDS: Duration = Duration::from_secs(5);

/// Messages to such neighbours, each of which goes to all nodes of the swarm: offers and candidates for the twelve that a viewer
/// has, if half of them want to negotiate anew in that moment.
pub const MAX_SEARCHING: u16 = 64;

/// Messages a connection may send at once: the offers and candidates of [`headwater_wire::limits::MAX_WANT`]
/// neighbours in one burst.
pub const MESSAGE_BURST: u32 = 512;

/// Messages a second that a connection may keep up for ever: far more than negotiation needs after the start.
pub const MESSAGES_PER_SECOND: u32 = 50;

/// A connection that has not joined by then is closed.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Members for which neighbours are sought on other nodes in one round: those who wait are many when a swarm begins.
pub const SEEKS_AT_ONCE: usize = 16;

/// After a round of seeking on other nodes, the next; doubled up to [`SEEK_AT_LAST`] while no other node has more than before.
pub const SEEK_AGAIN: Duration = Duration::from_secs(1);

/// The longest between two rounds.
pub const SEEK_AT_LAST: Duration = Duration::from_secs(16);

/// Nodes that are asked for one wish in a row; what is missing then waits for the next round.
pub const MAX_TRIED: usize = 3;

/// Nodes that are told of a seed that came.
pub const SEED_GREETS_NODES: usize = 16;

/// What a server may set. [`Config::new`] takes the constants of this module.
#[derive(Debug, Clone)]
pub struct Config {
    /// STUN and TURN servers for every welcome.
    pub ice_servers: Vec<IceServer>,
    /// Key of the `resume` secrets: random, or the same on every server that should know a peer again.
    pub resume_key: [u8; 32],
    /// See [`MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// See [`MAX_SWARMS`].
    pub max_swarms: usize,
    /// See [`MAX_SWARM_SIZE`].
    pub max_swarm_size: usize,
    /// See [`JOIN_TIMEOUT`].
    pub join_timeout: Duration,
    /// What this node is called among others; none if it is the only one.
    pub node: Option<NodeId>,
}

impl Config {
    /// The defaults, with this key for `resume` secrets.
    #[must_use]
    pub fn new(resume_key: [u8; 32]) -> Self {
        Self {
            ice_servers: Vec::new(),
            resume_key,
            max_connections: MAX_CONNECTIONS,
            max_swarms: MAX_SWARMS,
            max_swarm_size: MAX_SWARM_SIZE,
            join_timeout: JOIN_TIMEOUT,
            node: None,
        }
    }
}
