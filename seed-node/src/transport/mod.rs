//! Data channels to other peers, behind a small trait. [`DataChannels`] is one that carries them with the `webrtc` crate (`rtc`)
//! or, in builds with the feature `str0m`, with the crate of that name.
//!
//! A [`Transport`] starts one task a connection. The node talks to it through the bounded channels of a [`Link`], and
//! hears from it through one bounded channel of [`LinkReport`]s. A link that is dropped closes its connection, after what
//! was handed to it has left.

mod connection;
mod cutter;
mod mux;
mod pilot;
mod rtc;
mod stack;
#[cfg(feature = "str0m")]
mod str0m;

pub use mux::MuxOptions;
pub use stack::{DataChannels, Stack, UnknownStack};

use bytes::{Bytes, BytesMut};
use headwater_wire::signal::{IceServer, SignalData};
use headwater_wire::{ChunkId, PeerId};
use tokio::sync::mpsc;

/// Control frames waiting for one peer. A peer that lets this many pile up does not read any more.
pub const CONTROL_QUEUE: usize = 1024;

/// Chunks waiting for one peer; the engine keeps a few open at most, so that this is never full.
pub const CHUNK_QUEUE: usize = 64;

/// Session descriptions and candidates waiting to be taken in by one connection.
pub const SIGNAL_QUEUE: usize = 64;

/// Reports of all connections waiting for the node: frames of 64 KiB at most, hence at most 16 MiB. A full queue holds
/// the senders back, through SCTP's receive window.
pub const REPORT_QUEUE: usize = 256;

/// One connection, ever: a peer that connects again gets another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What a new connection needs to know.
#[derive(Debug, Clone)]
pub struct LinkRequest {
    /// Its number.
    pub link: LinkId,
    /// Who is at the other end.
    pub peer: PeerId,
    /// Whether this side makes the offer.
    pub offer: bool,
    /// STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
}

/// A chunk to be sent in data frames.
#[derive(Debug, Clone)]
pub struct OutgoingChunk {
    /// Its name, for the header of each frame.
    pub chunk: ChunkId,
    /// Its bytes.
    pub bytes: Bytes,
    /// How many of them go into each frame.
    pub piece_len: u32,
}

/// The node's end of a connection.
#[derive(Debug)]
pub struct Link {
    /// Its number.
    pub id: LinkId,
    /// Takes what the other side said through the signalling server.
    pub signals: mpsc::Sender<SignalData>,
    /// Takes control frames, which overtake chunks.
    pub control: mpsc::Sender<Vec<u8>>,
    /// Takes chunks.
    pub chunks: mpsc::Sender<OutgoingChunk>,
}

/// What a connection tells the node.
#[derive(Debug)]
pub struct LinkReport {
    /// Which connection.
    pub link: LinkId,
    /// Who is at the other end.
    pub peer: PeerId,
    /// What happened.
    pub event: LinkEvent,
}

/// What happened to a connection.
#[derive(Debug)]
pub enum LinkEvent {
    /// For the other side, through the signalling server.
    Signal(SignalData),
    /// The data channel is open.
    Open,
    /// A frame came.
    Frame(BytesMut),
    /// The transport accepted the last piece of a chunk and has room for more.
    ChunkSent(ChunkId),
    /// The connection is gone; nothing more comes from it.
    Closed,
}

/// Opens data channels.
pub trait Transport: Send + Sync + 'static {
    /// Starts a connection. It lives until it fails or its [`Link`] is dropped.
    fn connect(&self, request: LinkRequest, reports: mpsc::Sender<LinkReport>) -> Link;
}
