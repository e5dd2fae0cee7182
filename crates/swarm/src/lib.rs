//! The peer engine: who has what, what to ask of whom, when HTTP steps in, what to pass on.
//!
//! Sans-IO, in the manner of quinn-proto and str0m. A shell tells the [`Engine`] what happened with
//! [`Engine::handle_input`] (and [`Engine::handle_data`] for the payloads of data frames), then calls
//! [`Engine::poll_output`] and does what it says until it says [`Output::Timeout`]. The engine never sleeps, reads a
//! clock, rolls its own dice or holds a media byte, so that a browser tab, a seed and a simulator of ten thousand viewers
//! run the very same code.
//!
//! ```text
//!            player, playlists                    data channels
//!                   │ Demand, Playhead                 │ Control, handle_data, ChunkReceived
//!                   ▼                                  ▼
//!   timeline ──▶ schedule ◀── segments (chunk states) ◀── neighbours (who holds what, how fast)
//!                   │                                  │
//!            Fetch, Deliver                     Send, SendChunk, Disconnect
//! ```

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod ask;
mod catalogue;
pub mod config;
mod duty;
mod election;
mod engine;
mod flow;
mod gossip;
mod holdings;
pub mod io;
mod map;
mod neighbour;
mod origin;
mod ranges;
mod rng;
mod schedule;
mod segment;
mod spread;
pub mod time;
mod timeline;
mod upload;

pub use config::{Config, Integrity};
pub use engine::Engine;
pub use io::{
    BatchSource, DataVerdict, DeliveryReport, DemandId, DisconnectReason, Event, FetchId, Input, MediaKind, Output,
    Playhead, PlaylistSegment, PlaylistUpdate, Stats, Verdict, VerifyId,
};
pub use time::{MediaTime, Now};
