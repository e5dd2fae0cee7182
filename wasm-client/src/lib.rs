//! The engine in the browser: [`Client`] is what the page's TypeScript holds, [`host::Host`] what it gives.
//!
//! Three parties, and who owns what:
//!
//! ```text
//!   www/player (TypeScript)            this crate (WASM)                 headwater-swarm
//!   RTCPeerConnection, WebSocket, ──▶  Client: translates, hashes,  ──▶  Engine: decides
//!   fetch, timers, WebCrypto      ◀──  keeps the chunk store        ◀──
//! ```
//!
//! Sockets and their listeners live in TypeScript, so that no Rust closure is ever handed to the browser and none can
//! leak. Media bytes live in JavaScript's memory, in `store::Store`: they enter WASM's only to be hashed, 64 KiB at a
//! time, so that WASM's memory, which never shrinks, stays small. No policy lives here.
//!
//! Calls go one way at a time: while a method of [`Client`] runs, the host must not call another one. It queues.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod adopt;
mod bytes;
mod client;
mod fetching;
mod hash;
mod host;
mod store;

pub use bytes::Bytes;
pub use client::Client;
pub use host::Host;

use headwater_wire::TrackId;
use wasm_bindgen::prelude::wasm_bindgen;

/// Smaller than the allocator that Rust brings, and as quick for the little that is allocated here.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

/// What panics traps. The standard library's handler would bring all of its formatting along, to print what no browser
/// shows; the page sees the trap, and plays on over HTTP.
#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// The id of the track whose media playlist is at `name`, in the stream opened at `source`, both absolute URLs; where
/// `source` is empty, `name` is its key: a DASH representation has no playlist of its own.
#[wasm_bindgen(js_name = trackOf)]
#[must_use]
pub fn track_of(source: &str, name: &str) -> u64 {
    if source.is_empty() { TrackId::of_key(name).0 } else { TrackId::of_playlist(source, name).0 }
}
