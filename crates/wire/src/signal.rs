//! The native signalling protocol: JSON objects over a WebSocket at `/v1/signal`, one a text message.
//!
//! A peer sends [`ClientMessage`]s, the first a `join`; the server sends [`ServerMessage`]s. The server pairs peers and
//! passes session descriptions and candidates on unread. `docs/signalling.md` has it in prose.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{PeerId, SwarmName};
use crate::message::Role;

/// Version of the signalling protocol, sent in every `join`.
pub const SIGNAL_VERSION: u16 = 1;

/// From a peer to the server. Unknown fields are ignored, unknown types are an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Enters a swarm. The first message of a connection, and the only `join` on it.
    Join {
        /// [`SIGNAL_VERSION`].
        version: u16,
        /// The swarm to enter.
        swarm: SwarmName,
        /// Viewer or seed.
        #[serde(default)]
        role: Role,
        /// Proof that the publisher lets this peer in, where the server asks for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// How many neighbours it would like now, at most [`crate::limits::MAX_WANT`].
        #[serde(default)]
        want: u16,
        /// The `resume` of an earlier welcome: asks for the same peer id again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
        /// Neighbours to which a data channel is still open: not to be paired with again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        connected: Vec<PeerId>,
        /// As in `watching`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position_s: Option<u32>,
    },
    /// Where in content on demand the player is: the server then prefers neighbours that hold what comes next. Said after
    /// a jump, and now and then; never for a live stream, where everybody is at the same place.
    Watching {
        /// The playhead, in seconds of the content's own time.
        position_s: u32,
    },
    /// Asks for more neighbours, of whom the server chooses.
    Want {
        /// How many, at most [`crate::limits::MAX_WANT`].
        count: u16,
    },
    /// For another peer of the swarm that the server has paired this one with.
    Signal {
        /// The peer it is for.
        to: PeerId,
        /// What it is.
        data: SignalData,
    },
    /// The data channel to a neighbour closed or never opened: it does not count as one any more, and the server may
    /// pair the two again, though it prefers others.
    Lost {
        /// The neighbour.
        peer: PeerId,
    },
    /// What this peer carried since it joined; for the publisher's statistics.
    Stats {
        /// The counters.
        #[serde(flatten)]
        report: StatsReport,
    },
    /// Leaves the swarm; the server closes the connection.
    Leave,
}

/// Bytes a peer moved since it joined, by source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsReport {
    /// Segment bytes from the origin.
    #[serde(default)]
    pub http_bytes: u64,
    /// Segment bytes from seeds.
    #[serde(default)]
    pub seed_bytes: u64,
    /// Segment bytes from viewers.
    #[serde(default)]
    pub viewer_bytes: u64,
    /// Segment bytes sent to other peers.
    #[serde(default)]
    pub uploaded_bytes: u64,
    /// Data channels open now.
    #[serde(default)]
    pub neighbours: u32,
}

/// From the server to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The answer to `join`.
    Welcome {
        /// The name of this peer from now on.
        peer: PeerId,
        /// Hand this back in a later `join` to keep the name.
        resume: String,
        /// STUN and TURN servers, in the form of `RTCConfiguration.iceServers`.
        ice_servers: Vec<IceServer>,
        /// How many peers the swarm has now, this one included.
        swarm_size: u32,
    },
    /// Connect to this peer; it is told the same at the same time.
    Connect {
        /// The other peer.
        peer: PeerId,
        /// Whether this side makes the offer.
        offer: bool,
        /// What the other is.
        role: Role,
    },
    /// From another peer.
    Signal {
        /// The peer that sent it.
        from: PeerId,
        /// What it is.
        data: SignalData,
    },
    /// The peer that a `signal` was for is not here any more, or never was paired with this one.
    Gone {
        /// The peer.
        peer: PeerId,
    },
    /// This server is about to stop. Data channels stay; join again, elsewhere where `url` says so.
    Drain {
        /// Another server's WebSocket URL.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        /// Wait this long first, so that not everyone comes at once.
        after_ms: u32,
    },
    /// Something was wrong. The connection is closed after it where the code says so.
    Error {
        /// What kind of wrong.
        code: ErrorCode,
        /// What to do about it, for a person.
        message: String,
    },
}

/// What peers hand each other through the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SignalData {
    /// A session description that offers.
    Offer {
        /// SDP text.
        sdp: String,
    },
    /// A session description that answers.
    Answer {
        /// SDP text.
        sdp: String,
    },
    /// One trickled ICE candidate, as `RTCIceCandidateInit` has it. An empty `candidate` ends the list.
    Candidate {
        /// The candidate line, from `candidate:` on.
        candidate: String,
        /// Its media description's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sdp_mid: Option<String>,
        /// Its media description's index.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sdp_m_line_index: Option<u16>,
    },
}

/// A STUN or TURN server, in the form of `RTCIceServer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// `stun:` and `turn:` URLs.
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Why the server refused something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not JSON, not a known message, or a field of the wrong shape. Closes.
    BadMessage,
    /// A message larger than the limit. Closes.
    TooLarge,
    /// `version` is not one this server speaks. Closes.
    Version,
    /// The first message was not a `join`, or a second one came. Closes.
    NotJoined,
    /// The token is missing, expired or for another swarm. Closes.
    Unauthorised,
    /// A quota or rate limit is reached; try again later. Closes.
    RateLimited,
    /// The swarm or the server is full. Closes.
    Full,
    /// The server could not do it. Closes; join again.
    Internal,
}
