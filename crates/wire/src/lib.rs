//! Everything that two Headwater programs must agree on, and nothing else.
//!
//! - [`id`]: the names of things: peers, swarms, tracks, segments, chunks.
//! - [`geometry`]: how a segment is cut into chunks of 64 KiB.
//! - [`hash`]: chunk hashes and the root hash that binds them to a segment.
//! - [`catalogue`]: the publisher's signed list of segments, as it travels and as it lies beside a playlist.
//! - [`message`] and [`frame`]: what peers say to each other over a data channel.
//! - [`signal`]: what peers and the signalling server say to each other over a WebSocket.
//! - [`limits`]: every bound of the protocol, with its reason.
//!
//! The crate decodes bytes from strangers: no function here panics on any input, and every length is checked before
//! anything is allocated for it. It knows no clock, no socket and no policy; `docs/protocol.md` is its prose.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(any(test, target_family = "wasm"))]
mod blake3;
pub mod catalogue;
mod codec;
pub mod frame;
pub mod geometry;
pub mod hash;
pub mod id;
pub mod limits;
pub mod message;
pub mod signal;

pub use catalogue::{BatchBody, CatalogueError, Entry, PublicKey, Scope, Signature, SignedBatch};
pub use frame::{DataHeader, Frame, FrameError};
pub use geometry::{ByteRange, ChunkIndex, ChunkRange, SegmentLen};
pub use hash::{ChunkHash, RootHash};
pub use id::{ChunkId, PeerId, SegmentId, SeqNo, SwarmName, TrackId};
pub use message::{Hello, Message, RejectReason, Role, SeqRange};

/// Version of the peer protocol that this crate speaks, sent in [`message::Hello`].
pub const PROTOCOL_VERSION: u16 = 1;
