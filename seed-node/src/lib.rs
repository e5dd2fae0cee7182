//! The native peer: pulls a stream from its origin, signs it, and serves it to the swarm; or watches one.
//!
//! - [`origin`]: playlists, and pulling every segment of a stream once.
//! - [`key`] and [`sign`]: the publisher's key pair, signed batches, and the catalogue file beside a playlist.
//! - [`node`]: the shell around `headwater_swarm`'s engine: one task that owns the engine, the [`store`] and all
//!   connections, and does what the engine says.
//! - [`transport`]: data channels, behind a trait. [`signalling`]: the client of the signalling server.
//! - [`serve`]: the same content over HTTP.
//! - [`settings`] and [`operation`]: what an operator says to a seed, and sees of it.
//! - [`seed`] and [`viewer`]: the two uses of a node. [`http`], [`cache`] and [`backoff`]: what all of
//!   them need.
//!
//! What to fetch, ask, send or refuse is decided in the engine and nowhere here. A node never waits for a peer: what a
//! connection cannot take in time costs that connection.

pub mod backoff;
pub mod cache;
pub mod http;
pub mod key;
pub mod node;
pub mod operation;
pub mod origin;
pub mod seed;
pub mod serve;
pub mod settings;
pub mod sign;
pub mod signalling;
pub mod store;
pub mod transport;
pub mod viewer;
