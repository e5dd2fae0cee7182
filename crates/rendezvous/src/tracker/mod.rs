//! The WebTorrent tracker protocol: what a tracker does with announces, offers, answers and scrapes.
//!
//! [`Tracker`] is sans-IO like the rest of the crate, and stands beside [`crate::Rendezvous`]: the same connections may
//! speak either protocol, and their swarms never meet. It keeps who is in which swarm, hands each offer of an announce
//! to another peer of the swarm, and answers to the peer they are for. It never looks into an offer or an answer.
//!
//! Messages go in as the JSON they came as and come out as the JSON to send: offers are most of the bytes, and they are
//! copied once from the one to the other.
//!
//! # Invariants
//!
//! - A peer belongs to the connection that announced it last. One connection has at most one peer a swarm.
//! - Nobody gets an offer of its own, nor two offers of one announce.
//! - Every error says its `action`: a client drops a socket whose errors do not, and stays away for minutes.
//! - No input panics, and everything held is bounded, see [`TrackerConfig`].

mod binary;
mod config;
mod core;
mod elsewhere;
mod message;
mod reply;
mod swarm;

pub use self::binary::{Binary, NotBinary};
pub use self::config::TrackerConfig;
pub use self::core::{Beside, Tracker, TrackerCounts, TrackerOutput};
pub use self::message::{Intent, Message, Unserved};
