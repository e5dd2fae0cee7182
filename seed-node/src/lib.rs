//! The native peer: pulls a stream from its origin, signs it, and serves it to the swarm.
//!
//! placeholder

pub mod transport;
