//! The native peer: pulls a stream from its origin, signs it, and serves it to the swarm; or watches one.
//!
//! - [`origin`]: playlists, and pulling every segment of a stream once.
//! - [`key`] and [`sign`]: the publisher's key pair, signed batches, and the catalogue file beside a playlist.
//! - [`node`]: the shell around `headwater_swarm`'s engine: one task that owns the engine, the [`store`] and all
//!   connections, and does what the engine says.
//! - [`transport`]: data channels, behind a trait. [`signalling`]: the client of the signalling server.
//! - [`serve`]: the same content over HTTP.
//! - [`settings`] and [`operation`]: what an operator says to a seed, and sees of it.
//! - [`seed`] and [`viewer`]: the two uses of a node. [`http`], [`cache`], [`backoff`] and [`progress`]: what all of
//!   them need.
//!
//! A program that watches:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use headwater_seed::http::Http;
//! use headwater_seed::key::parse_public;
//! use headwater_seed::viewer::{Viewer, ViewerConfig};
//! use headwater_wire::SwarmName;
//!
//! # async fn watch() -> Result<(), Box<dyn std::error::Error>> {
//! let key = "the 43 characters of the embed code";
//! let source: url::Url = "https://cdn.example.org/film/index.m3u8".parse()?;
//! let config = ViewerConfig {
//!     swarm: SwarmName::derive(source.as_str(), Some(key))?,
//!     source,
//!     signal: "wss://signal.example.org/v1/signal".parse()?,
//!     token: None,
//!     key: Some(parse_public(key)?),
//!     patience: Duration::from_secs(10),
//! };
//! let (viewer, _events) = Viewer::join(Http::new()?, config).await?;
//! let track = &viewer.tracks()[0];
//! for listed in &track.media.segments {
//!     // From peers where they have it, else from the origin; checked against the catalogue before it is here.
//!     let segment = viewer.segment(track.id, listed.seq).await?;
//!     println!("{} bytes, {} from the origin", segment.bytes.len(), segment.report.http_bytes);
//! }
//! viewer.leave().await;
//! # Ok(())
//! # }
//! ```
//!
//! A program that seeds makes a [`origin::Source`] and a [`seed::SeedConfig`], and keeps the [`seed::Seed`].
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
pub mod progress;
pub mod seed;
pub mod serve;
pub mod settings;
pub mod sign;
pub mod signalling;
pub mod store;
pub mod transport;
pub mod viewer;
