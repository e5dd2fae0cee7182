//! The signalling core: who is in which swarm, and who is told to connect to whom.
//!
//! [`Rendezvous`] is sans-IO. It opens no socket, reads no clock and draws no randomness of its own: the caller hands
//! in every event with the time it happened ([`Rendezvous::handle_input`]), then takes what is to be done until there
//! is only a [`Output::Timeout`] left ([`Rendezvous::poll_output`]). Given the same seed and the same inputs it does
//! the same things, in the server as in the simulator.
//!
//! # The model
//!
//! A *connection* is a socket of the shell. It becomes a *member* of one *swarm* by its first message, a `join`, and
//! stays it until it closes. Two members are *paired* once both were told to connect to each other, or once one said
//! at its join that they are connected already; only paired members may signal each other. A pairing ends when either
//! leaves or says that the other is lost. Data channels outlive all of this: whoever comes back with the `resume` of
//! its welcome has its old name, and the neighbours it lists are paired with it again.
//!
//! # Who meets whom
//!
//! Whoever asks gets up to two seeds first, then viewers, taken from a sample of the swarm ([`config::SAMPLE`]), so that
//! a join costs the same in a swarm of ten as in one of ten thousand. Those with room come before those with enough
//! neighbours, then near ones before far ones ([`Place`], [`CostMap`]), then those that give before those that only take,
//! then those with the fewest pairings, and by lot among equals. One in four is chosen among the far ones, or a swarm would
//! fall apart into towns. A wish that the swarm cannot fulfil yet is kept and met by those who come later. The side
//! that asked makes the offer.
//!
//! # Several nodes
//!
//! Members of one swarm may be on several nodes, see [`cluster`]. A member whose wish cannot be met here, or should in part be met
//! far away, has it sought on another node, which keeps places, and both sides are told once they are taken. To a client
//! nothing of this shows.
//!
//! # Invariants
//!
//! - A `Connect` always comes in twos, one for each side, with exactly one offerer; never to oneself; never between
//!   two members that are paired.
//! - Everything held is bounded, see [`config`].
//! - No input panics.

mod address;
mod allow;
pub mod cluster;
pub mod config;
mod elsewhere;
mod io;
mod pairing;
mod place;
mod quota;
mod rate;
mod rendezvous;
mod resume;
mod rng;
mod sums;
mod swarm;
mod time;
pub mod tracker;
mod watching;

pub use address::{AddressLimits, Addresses, Line};
pub use allow::AllowList;
pub use config::Config;
pub use io::{ConnId, Input, Output, Timeout, TimeoutReason};
pub use place::{CostMap, Country, Pid, Place};
pub use quota::{Grant, QuotaError, Quotas, TokenId};
pub use rate::{Rate, RateLimit};
pub use rendezvous::{Counts, Rendezvous, SwarmReport};
pub use time::{Duration, Now};
