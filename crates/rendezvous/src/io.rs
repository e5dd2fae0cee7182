//! What goes into the core and what comes out of it.

use headwater_wire::PeerId;
use headwater_wire::signal::{ClientMessage, ServerMessage};

use crate::cluster::{NodeId, NodeMessage};
use crate::place::Place;
use crate::quota::Grant;
use crate::time::Now;

/// A connection of the shell, by a number that it never uses twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A connection was accepted.
    Opened {
        /// Its number.
        conn: ConnId,
        /// The name it gets unless it resumes an older one: unpredictable, so it comes from the shell.
        fresh: PeerId,
    },
    /// The shell has checked the token of a connection that is about to join: its limits hold from then on.
    Granted {
        /// Whose it is.
        conn: ConnId,
        /// What it allows.
        grant: Grant,
    },
    /// Where a connection comes from. Without it, nothing is known of that.
    Located {
        /// Which one.
        conn: ConnId,
        /// Where it is.
        place: Place,
    },
    /// A connection sent a message. The shell has parsed it and kept it within the rate limit.
    Message {
        /// Who sent it.
        conn: ConnId,
        /// What it sent.
        message: ClientMessage,
    },
    /// A connection is gone, or the shell has given it up. Unknown ones are ignored.
    Closed {
        /// Which one.
        conn: ConnId,
    },
    /// Another node said something.
    Node {
        /// Which one.
        from: NodeId,
        /// What it said.
        message: Box<NodeMessage>,
    },
    /// The other nodes can be reached, or cannot.
    Bus {
        /// Whether they can.
        is_connected: bool,
    },
    /// The time of the last [`Output::Timeout`] has come.
    Timeout,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a message.
    Send {
        /// To whom.
        conn: ConnId,
        /// What.
        message: ServerMessage,
    },
    /// Close a connection once what was sent before is out. The core has forgotten it.
    Close {
        /// Which one.
        conn: ConnId,
    },
    /// Nothing else to do now: wait for input, or until then where there is one.
    Timeout(Option<Timeout>),
}

/// When to come back with [`Input::Timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout {
    /// The moment.
    pub at: Now,
    /// What is due then.
    pub reason: TimeoutReason,
}

/// What a timeout is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutReason {
    /// A connection that has not joined is to be closed.
    Join,
    /// Neighbours are to be sought on other nodes again.
    Seek,
    /// The other nodes are to be told that this one lives, and what changed.
    Nodes,
}
