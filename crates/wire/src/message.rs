//! Control messages between peers: postcard encodings of [`Message`].
//!
//! Numbers are postcard varints, enums their index, lists a length and the items. Variants are only ever appended.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::codec::{Wire, wire_enum, wire_struct};
use crate::geometry::{ChunkRange, SegmentLen};
use crate::hash::ChunkHash;
use crate::id::{SegmentId, SeqNo, TrackId};
use crate::limits::{MAX_BATCH_LEN, MAX_CANDIDATES, MAX_FEATURES, MAX_HASHES, MAX_RANGES, MAX_TEXT_LEN};

/// What a peer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Watches, and passes on what it watches.
    #[default]
    Viewer,
    /// A publisher's: has everything, wants nothing.
    Seed,
}

/// The first message on a channel, from each side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// What the sender is.
    pub role: Role,
    /// The largest frame the sender accepts, in bytes.
    pub max_frame: u32,
    /// Whether the sender gives anything to others; `false` where its link is paid for by the byte.
    pub uploads: bool,
    /// A random number of the sender's. Who fetches what from the origin is decided by hashing it, so that every
    /// neighbour comes to the same answer without asking.
    pub nonce: u64,
    /// Features the sender has beyond version 1.
    pub features: Vec<String>,
    /// Features without which the sender will not talk.
    pub required: Vec<String>,
}

/// Consecutive segments of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeqRange {
    /// The first.
    pub first: SeqNo,
    /// How many.
    pub count: u64,
}

impl SeqRange {
    /// The number after the last, cut at the largest there is.
    #[must_use]
    pub fn end(self) -> SeqNo {
        self.first.saturating_add(self.count)
    }

    /// Whether `seq` is in it.
    #[must_use]
    pub fn contains(self, seq: SeqNo) -> bool {
        self.first <= seq && seq < self.end()
    }
}

/// Why a peer will not send what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectReason {
    /// It does not hold the chunk (any more).
    NotHeld,
    /// Its upload queue is full.
    Busy,
    /// It gives nothing: its viewer's settings or link forbid it.
    NoUpload,
}

/// Why a peer ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ByeReason {
    /// The page closes, or the program ends.
    Leaving,
    /// The neighbour is replaced by a better one.
    Replaced,
    /// The other speaks a version, or requires a feature, that this one does not know.
    Incompatible,
    /// The other broke the protocol.
    ProtocolError,
    /// The other sent bytes that are not what the catalogue says.
    BadData,
    /// Too many connections.
    Full,
}

/// A control message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Who speaks; the first message, and only the first.
    Hello(Hello),
    /// Whole segments of a track that the sender holds: all of them where `full`, else these besides.
    Have {
        /// The track.
        track: TrackId,
        /// Whether the list replaces what was said of this track before.
        full: bool,
        /// Ascending ranges, at most [`MAX_RANGES`].
        ranges: Vec<SeqRange>,
    },
    /// Chunks the sender holds of a segment that it has not whole; these besides what was said before.
    HaveChunks {
        /// The segment.
        segment: SegmentId,
        /// Ascending ranges, at most [`MAX_RANGES`].
        chunks: Vec<ChunkRange>,
    },
    /// Segments that the sender holds no longer.
    Dropped {
        /// The track.
        track: TrackId,
        /// Ascending ranges, at most [`MAX_RANGES`].
        ranges: Vec<SeqRange>,
    },
    /// Chunks that the sender is fetching from the origin now, and will have soon.
    Fetching {
        /// The segment.
        segment: SegmentId,
        /// The chunks; `None` for all where the sender does not know the length yet.
        chunks: Option<ChunkRange>,
    },
    /// Asks for chunks. Each is answered with data or a `Reject`, unless cancelled.
    Request {
        /// The segment.
        segment: SegmentId,
        /// The chunks.
        chunks: ChunkRange,
        /// Milliseconds until the sender needs them.
        time_left_ms: u32,
    },
    /// Will not send these.
    Reject {
        /// The segment.
        segment: SegmentId,
        /// The chunks.
        chunks: ChunkRange,
        /// Why.
        reason: RejectReason,
    },
    /// Takes a request back. Pieces under way may still arrive.
    Cancel {
        /// The segment.
        segment: SegmentId,
        /// The chunks.
        chunks: ChunkRange,
    },
    /// Asks for signed catalogue entries.
    GetCatalogue {
        /// The track.
        track: TrackId,
        /// The segments.
        range: SeqRange,
    },
    /// A [`crate::SignedBatch`], as it was signed; asked for, or new.
    Catalogue(Vec<u8>),
    /// Asks for the chunk hashes of a segment.
    GetHashes {
        /// The segment.
        segment: SegmentId,
    },
    /// Chunk hashes of a segment, in messages of at most [`MAX_HASHES`].
    Hashes {
        /// The segment.
        segment: SegmentId,
        /// Its length, from which the number of all hashes follows.
        len: SegmentLen,
        /// The index of the first hash here.
        first: u32,
        /// The hashes.
        hashes: Vec<ChunkHash>,
    },
    /// Asks for a `Pong`.
    Ping {
        /// To be sent back.
        nonce: u32,
    },
    /// The answer to a `Ping`.
    Pong {
        /// As in the `Ping`.
        nonce: u32,
    },
    /// The sender is about to close the connection.
    Bye {
        /// Why.
        reason: ByeReason,
    },
    /// Those viewers of a live track, anywhere in the swarm, that may go to the origin in some stretch of it: passed on
    /// from neighbour to neighbour, so that everyone knows the same few.
    Candidates {
        /// The track.
        track: TrackId,
        /// The stretch: the sequence numbers from `epoch * 16` on, sixteen of them.
        epoch: u64,
        /// Their nonces, at most [`MAX_CANDIDATES`].
        nonces: Vec<u64>,
    },
}

wire_enum!(Role { 0 => Viewer, 1 => Seed });
wire_struct!(Hello { version, role, max_frame, uploads, nonce, features, required });
wire_struct!(SeqRange { first, count });
wire_enum!(RejectReason { 0 => NotHeld, 1 => Busy, 2 => NoUpload });
wire_enum!(ByeReason { 0 => Leaving, 1 => Replaced, 2 => Incompatible, 3 => ProtocolError, 4 => BadData, 5 => Full });
wire_enum!(Message {
    0 => Hello { 0: hello },
    1 => Have { track: track, full: full, ranges: ranges },
    2 => HaveChunks { segment: segment, chunks: chunks },
    3 => Dropped { track: track, ranges: ranges },
    4 => Fetching { segment: segment, chunks: chunks },
    5 => Request { segment: segment, chunks: chunks, time_left_ms: time },
    6 => Reject { segment: segment, chunks: chunks, reason: reason },
    7 => Cancel { segment: segment, chunks: chunks },
    8 => GetCatalogue { track: track, range: range },
    9 => Catalogue { 0: batch },
    10 => GetHashes { segment: segment },
    11 => Hashes { segment: segment, len: len, first: first, hashes: hashes },
    12 => Ping { nonce: nonce },
    13 => Pong { nonce: nonce },
    14 => Bye { reason: reason },
    15 => Candidates { track: track, epoch: epoch, nonces: nonces },
});

/// What is wrong with a control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It ends too early, has bytes left over, or is no known message.
    #[error("the control message is malformed")]
    Malformed,
    /// A list, a range or a number in it is beyond its bound.
    #[error("the control message has a value out of bounds")]
    OutOfBounds,
}

impl Message {
    /// Reads a message. The frame's own bound bounds what is allocated.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut rest = bytes;
        let message = Self::take(&mut rest).filter(|_| rest.is_empty()).ok_or(MessageError::Malformed)?;
        if message.is_in_bounds() { Ok(message) } else { Err(MessageError::OutOfBounds) }
    }

    /// Appends the message as it travels.
    pub fn encode_to(&self, bytes: &mut Vec<u8>) {
        self.put(bytes);
    }

    fn is_in_bounds(&self) -> bool {
        match self {
            Self::Hello(hello) => hello.is_in_bounds(),
            Self::Have { ranges, .. } | Self::Dropped { ranges, .. } => are_ascending(ranges),
            Self::HaveChunks { chunks, .. } => {
                let ascending = chunks.windows(2).all(|pair| pair[0].end() <= pair[1].first.0);
                chunks.len() <= MAX_RANGES && ascending && chunks.iter().all(|range| range.is_valid())
            }
            Self::Fetching { chunks, .. } => chunks.is_none_or(ChunkRange::is_valid),
            Self::Request { chunks, .. } | Self::Reject { chunks, .. } | Self::Cancel { chunks, .. } => {
                chunks.is_valid()
            }
            Self::GetCatalogue { range, .. } => range.count > 0,
            Self::Catalogue(batch) => batch.len() <= MAX_BATCH_LEN,
            Self::Hashes { len, first, hashes, .. } => {
                let count = hashes.len();
                let end = u32::try_from(count).ok().and_then(|count| first.checked_add(count));
                count > 0 && count <= MAX_HASHES && end.is_some_and(|end| end <= len.chunk_count())
            }
            Self::Candidates { nonces, .. } => !nonces.is_empty() && nonces.len() <= MAX_CANDIDATES,
            Self::GetHashes { .. } | Self::Ping { .. } | Self::Pong { .. } | Self::Bye { .. } => true,
        }
    }
}

impl Hello {
    fn is_in_bounds(&self) -> bool {
        let names = self.features.iter().chain(&self.required);
        self.features.len() <= MAX_FEATURES
            && self.required.len() <= MAX_FEATURES
            && self.max_frame >= crate::limits::MIN_MAX_FRAME
            && names.into_iter().all(|name| name.len() <= MAX_TEXT_LEN)
    }
}

fn are_ascending(ranges: &[SeqRange]) -> bool {
    let ascending = ranges.windows(2).all(|pair| pair[0].end() <= pair[1].first);
    ranges.len() <= MAX_RANGES && ascending && ranges.iter().all(|range| range.count > 0)
}
