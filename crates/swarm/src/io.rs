//! What goes into the engine and what comes out: its whole contract with a shell.
//!
//! A shell (browser, seed, simulator) owns sockets, clocks, bytes and cryptography. It tells the engine what happened
//! with [`Input`]s and does what the [`Output`]s say. Bytes stay with the shell, in a *store* (segments, at their place)
//! and in *incoming* buffers (one a chunk and sender); the engine speaks of them by name.

use alloc::vec::Vec;
use core::time::Duration;

use headwater_wire::{
    ByteRange, ChunkHash, ChunkId, ChunkIndex, PeerId, SegmentId, SegmentLen, SeqNo, SignedBatch, TrackId,
};

use crate::time::{MediaTime, Now};

/// The player's request for one segment; chosen by the shell, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DemandId(pub u64);

/// One HTTP request for (a part of) a segment; chosen by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// One signature to be verified; chosen by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifyId(pub u64);

/// Which of a player's buffers a segment is for. The engine works ahead on the track last demanded of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaKind {
    /// Video, or video and audio together.
    Main,
    /// Audio alone.
    Audio,
    /// Subtitles.
    Text,
}

/// What a playlist says of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaylistSegment {
    /// Its number.
    pub seq: SeqNo,
    /// Where it begins on the player's timeline.
    pub start: MediaTime,
    /// How long it plays.
    pub duration: Duration,
}

/// What is new in a playlist. Shells hand over only what they have not handed over before, so that a long playlist costs
/// nothing at each refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaylistUpdate {
    /// The track.
    pub track: TrackId,
    /// Whether more segments will come.
    pub live: bool,
    /// The first segment still listed; older ones are forgotten.
    pub first: SeqNo,
    /// Segments not handed over before, ascending; a segment given again replaces what was said of it.
    pub segments: Vec<PlaylistSegment>,
}

/// Where the player is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Playhead {
    /// The position shown now.
    pub position: MediaTime,
    /// Up to where media is buffered without a gap from `position` on.
    pub buffered_to: MediaTime,
    /// Playback rate in thousandths: 1000 is normal speed; 0 while paused by the viewer. Waiting for data is not a pause.
    pub rate_permille: u32,
}

/// What came of the verification of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A key of the publisher signed it.
    Signed,
    /// It claims to be of a key that is known, and that key did not sign it.
    Forged,
    /// No key that begins with its hint is known: an honest peer may know more keys, as while they are changed.
    OtherKey,
}

impl Verdict {
    /// The verdict where a key with the batch's hint is known, and whether it signed.
    #[must_use]
    pub const fn of(valid: bool) -> Self {
        if valid { Self::Signed } else { Self::Forged }
    }
}

/// From whom a catalogue batch came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSource {
    /// A peer. Its signature is checked, and a false one costs the peer its connection.
    Peer(PeerId),
    /// The file beside the playlist. Its signature is checked.
    Origin,
    /// Signed by this very process: not checked.
    Own,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Nothing but time went by; hand this in when the last [`Output::Timeout`] is due.
    Timeout,

    /// A playlist was loaded or refreshed.
    Playlist(PlaylistUpdate),
    /// The playhead moved. Hand this in at least once a second while a player is there, and at once on seeks.
    Playhead(Playhead),
    /// The player wants a segment; answered by [`Output::Deliver`] or [`Output::Fail`].
    Demand {
        /// Names the request from now on.
        demand: DemandId,
        /// The segment.
        segment: SegmentId,
        /// Which buffer it is for.
        kind: MediaKind,
    },
    /// The player does not want it any more.
    DemandCancelled {
        /// The request.
        demand: DemandId,
    },
    /// A whole segment came into the store by the shell's own doing, from the origin or a folder (seeds do this).
    SegmentStored {
        /// The segment.
        segment: SegmentId,
        /// Its length.
        len: SegmentLen,
        /// The hashes of all of its chunks.
        hashes: Vec<ChunkHash>,
    },

    /// The player's own loader, or the shell's, loaded a segment from the origin without the engine: how quick it was.
    OriginMeasured {
        /// From the request to the first byte.
        first_byte: Duration,
        /// Bytes of the body.
        bytes: u64,
        /// From the first byte to the last.
        transfer: Duration,
    },

    /// A batch of the catalogue came over HTTP or was signed here. (Those from peers come in control frames.)
    Batch {
        /// [`BatchSource::Origin`] or [`BatchSource::Own`].
        source: BatchSource,
        /// The encoded batch.
        bytes: &'a [u8],
    },
    /// The answer to [`Output::VerifyBatch`].
    BatchVerified {
        /// Which.
        verify: VerifyId,
        /// What came of it.
        verdict: Verdict,
    },
    /// [`Output::FetchCatalogue`] ended; its batches, if any, were handed in before.
    CatalogueFetched {
        /// Whether there was a catalogue file.
        found: bool,
    },

    /// The signalling server said how many peers the swarm has, this one included.
    SwarmSize {
        /// How many.
        peers: u32,
    },
    /// A data channel opened. The engine says hello.
    PeerConnected {
        /// Who is at the other end.
        peer: PeerId,
    },
    /// A data channel closed, whoever closed it. Its incoming buffers can go.
    PeerDisconnected {
        /// Who was at the other end.
        peer: PeerId,
    },
    /// A control frame (first byte not 1) came. Data frames go to [`crate::Engine::handle_data`].
    Control {
        /// From whom.
        peer: PeerId,
        /// The whole frame.
        frame: &'a [u8],
    },
    /// An incoming chunk is complete ([`DataVerdict::AppendLast`]) and hashed.
    ChunkReceived {
        /// From whom.
        peer: PeerId,
        /// The chunk.
        chunk: ChunkId,
        /// The hash of what came.
        hash: ChunkHash,
    },
    /// What a [`Output::SendChunk`] was about has left for the transport, which has room for more. (Nothing is said of it
    /// where the peer disconnected.)
    ChunkSent {
        /// To whom.
        peer: PeerId,
        /// The chunk.
        chunk: ChunkId,
    },

    /// The head of an HTTP response came.
    FetchHead {
        /// The request.
        fetch: FetchId,
        /// Whether the body is the range that was asked for (206). Otherwise it is the whole segment.
        ranged: bool,
        /// The length of the whole segment, where the response says it.
        total: Option<SegmentLen>,
    },
    /// A chunk of an HTTP body is complete; its bytes are in the store.
    FetchChunk {
        /// The request.
        fetch: FetchId,
        /// The chunk.
        index: ChunkIndex,
        /// The length of the chunk.
        len: u32,
        /// Its hash.
        hash: ChunkHash,
    },
    /// An HTTP body has ended as it should; all its chunks were handed in before.
    FetchDone {
        /// The request.
        fetch: FetchId,
        /// The length of the whole segment.
        total: SegmentLen,
    },
    /// An HTTP request failed, or its body ended early or is no segment (empty, too large).
    FetchFailed {
        /// The request.
        fetch: FetchId,
        /// The status of the response, if one came.
        status: Option<u16>,
    },
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Nothing more for now: hand in [`Input::Timeout`] at this time, if nothing else happens before.
    Timeout {
        /// When; `None` for never.
        at: Option<Now>,
    },

    /// Send a control frame.
    Send {
        /// To whom.
        peer: PeerId,
        /// The frame.
        frame: Vec<u8>,
    },
    /// Send a chunk from the store, or a part of one, in data frames; report [`Input::ChunkSent`].
    SendChunk {
        /// To whom.
        peer: PeerId,
        /// The chunk.
        chunk: ChunkId,
        /// Where in the chunk.
        offset: u32,
        /// How much: never more than is left of the chunk.
        len: u32,
        /// The bytes of payload to put into each frame (the last one gets the rest).
        piece_len: u32,
    },
    /// Close the connection. [`Input::PeerDisconnected`] need not follow.
    Disconnect {
        /// Whose.
        peer: PeerId,
        /// Why.
        reason: DisconnectReason,
    },
    /// Ask the signalling server for more neighbours.
    WantNeighbours {
        /// How many.
        count: u16,
    },

    /// Fetch a segment from the origin, the bytes of `range` alone where there is one. Put the bytes into the store as
    /// they arrive; chunks of the segment that are there already stay valid.
    Fetch {
        /// Names the request.
        fetch: FetchId,
        /// The segment.
        segment: SegmentId,
        /// Bytes of it; starts at a chunk's start and ends at a chunk's end.
        range: Option<ByteRange>,
    },
    /// Give an HTTP request up. Nothing more is to be said of it.
    AbortFetch {
        /// The request.
        fetch: FetchId,
    },
    /// Fetch the catalogue file beside the playlist, hand in its batches and [`Input::CatalogueFetched`].
    FetchCatalogue,
    /// Verify a signature with the publisher's keys; answer with [`Input::BatchVerified`].
    VerifyBatch {
        /// Names the question.
        verify: VerifyId,
        /// What to verify.
        batch: SignedBatch,
    },

    /// The incoming chunk is good: move it to its place in the store.
    KeepChunk {
        /// From whom it came.
        peer: PeerId,
        /// The chunk.
        chunk: ChunkId,
        /// The length of its whole segment.
        segment_len: SegmentLen,
    },
    /// The incoming chunk is not needed, or bad: forget it.
    DropChunk {
        /// From whom it came.
        peer: PeerId,
        /// The chunk.
        chunk: ChunkId,
    },
    /// Hand the whole segment from the store to the player.
    Deliver {
        /// The player's request.
        demand: DemandId,
        /// The segment.
        segment: SegmentId,
        /// How it came.
        report: DeliveryReport,
    },
    /// The segment cannot be had here: let the player's own loader try.
    Fail {
        /// The player's request.
        demand: DemandId,
    },
    /// Free the segment's place in the store.
    Evict {
        /// The segment.
        segment: SegmentId,
    },
    /// Something that an operator may want to know.
    Event(Event),
}

/// How a delivered segment came, and what a player's bandwidth estimate is told so that it stays honest: the times are those
/// that the origin, as it was measured, would have needed, whoever brought the bytes. Where that is long ago, or was never,
/// they tend to those of the bytes' own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The length of the segment.
    pub len: SegmentLen,
    /// When it would have been asked for.
    pub requested: Now,
    /// When the first byte would have come.
    pub first_byte: Now,
    /// When the last byte came.
    pub complete: Now,
    /// Bytes of it that came from the origin.
    pub http_bytes: u32,
    /// Bytes of it that came from seeds.
    pub seed_bytes: u32,
    /// Bytes of it that came from viewers.
    pub viewer_bytes: u32,
}

/// Why the engine closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// It sent what the catalogue does not say, or a catalogue that the publisher did not sign. Do not connect again.
    BadData,
    /// It broke the protocol. Do not connect again.
    ProtocolError,
    /// It speaks a version or requires a feature that this engine does not know.
    Incompatible,
    /// It did not answer for too long.
    Unresponsive,
    /// It said goodbye.
    Left,
    /// There are too many connections.
    Full,
}

impl DisconnectReason {
    /// Whether the shell should refuse this peer from now on.
    #[must_use]
    pub const fn is_ban(self) -> bool {
        matches!(self, Self::BadData | Self::ProtocolError)
    }
}

/// What an operator may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A peer said hello in a way this engine understands.
    NeighbourReady {
        /// Who.
        peer: PeerId,
        /// Whether it is a seed.
        seed: bool,
    },
    /// A peer was banned.
    PeerBanned {
        /// Who.
        peer: PeerId,
        /// For what.
        reason: DisconnectReason,
    },
    /// The origin serves other bytes than the publisher signed; they are played, and not shared.
    OriginDiffers {
        /// The segment.
        segment: SegmentId,
    },
    /// The catalogue file holds a batch that no key of the publisher signed: is the key right?
    CatalogueNotSigned,
}

/// What to do with the payload of a data frame; see [`crate::Engine::handle_data`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataVerdict {
    /// Append it to the incoming chunk of this peer (begin one where there is none).
    Append,
    /// The same, and the chunk is complete: hash it and hand in [`Input::ChunkReceived`].
    AppendLast,
    /// Throw it away.
    Ignore,
}

/// Bytes by source since the engine began, and what is going on now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segment bytes from the origin.
    pub http_bytes: u64,
    /// Segment bytes from seeds.
    pub seed_bytes: u64,
    /// Segment bytes from viewers.
    pub viewer_bytes: u64,
    /// Segment bytes sent to peers.
    pub uploaded_bytes: u64,
    /// Segment bytes that came and were of no use: twice, too late, or bad.
    pub wasted_bytes: u64,
    /// Bytes held in the store now.
    pub held_bytes: u64,
    /// HTTP requests because a segment would have been late otherwise: the player waits, or peers were too slow.
    pub rescues: u64,
    /// HTTP requests because this peer was elected to fetch a segment for the others.
    pub duties: u64,
    /// HTTP requests because nobody else was there to ask.
    pub lone_fetches: u64,
    /// Chunks that did not have the hash that the catalogue says.
    pub bad_chunks: u64,
    /// Neighbours that have said hello.
    pub neighbours: u32,
    /// Those of them that are seeds.
    pub seeds: u32,
}
