//! What happens, to whom. Small, because millions of them are under way.

use headwater_wire::signal::{ClientMessage, ServerMessage};
use headwater_wire::{ChunkId, ChunkIndex, SegmentId, SeqNo};

use crate::clock::Micros;
use crate::content::Content;

/// A peer, by its place in the population; after the last one come the origin and the signalling server.
pub(crate) type NodeIndex = u32;

/// One segment, small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentRef {
    pub(crate) seq: u32,
    pub(crate) track: u8,
}

/// One chunk, small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkRef {
    pub(crate) segment: SegmentRef,
    pub(crate) index: u16,
}

impl SegmentRef {
    pub(crate) fn id(self) -> SegmentId {
        SegmentId { track: Content::track_id(self.track), seq: SeqNo(u64::from(self.seq)) }
    }

    pub(crate) fn of(id: SegmentId) -> Self {
        Self { seq: id.seq.0 as u32, track: Content::track_index(id.track) }
    }
}

impl ChunkRef {
    pub(crate) fn id(self) -> ChunkId {
        ChunkId { segment: self.segment.id(), index: ChunkIndex(u32::from(self.index)) }
    }

    pub(crate) fn of(id: ChunkId) -> Self {
        Self { segment: SegmentRef::of(id.segment), index: id.index.0 as u16 }
    }
}

/// Something that happens at a time to a node.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) at: Micros,
    pub(crate) to: NodeIndex,
    pub(crate) from: NodeIndex,
    /// Counts what `from` caused: with it, the order of events never depends on how the work is divided.
    pub(crate) number: u32,
    pub(crate) what: What,
}

impl Event {
    pub(crate) fn order(&self) -> (NodeIndex, Micros, NodeIndex, u32) {
        (self.to, self.at, self.from, self.number)
    }
}

/// What an HTTP request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Bytes of a segment, from a chunk's start to a chunk's end.
    Segment { segment: SegmentRef, start: u32, end: u32, by: Requester },
    /// The catalogue file.
    Catalogue,
}

/// On whose behalf a segment is fetched: what the origin's bytes are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requester {
    /// A viewer's player, before its engine runs or where that gave up.
    Player,
    /// A viewer's engine.
    Engine,
    /// A seed.
    Seed,
}

/// What happens.
#[derive(Debug)]
pub(crate) enum What {
    // To a peer, by its own doing.
    Join,
    Leave,
    /// The engine begins, some time after the first frame.
    Boot,
    /// The engine's timeout.
    Wake,
    PlayerTick,
    Seek,
    /// A playlist came, as it was when so many segments were published.
    Playlist {
        published: u32,
    },
    /// A playlist did not come.
    PlaylistFailed,
    /// The player tries again what failed.
    Retry,
    /// A seed looks for new segments.
    SeedPoll,
    /// A seed fetches a segment once more.
    Mirror {
        segment: SegmentRef,
    },
    /// The uplink may have room again.
    Pump,
    Verified {
        verify: u64,
    },
    /// Offer and answer have been exchanged: the connection can be tried.
    LinkTry {
        other: NodeIndex,
    },
    /// Where there is no connection by now, there will be none.
    LinkDeadline {
        other: NodeIndex,
    },

    // Between peers.
    LinkSyn {
        link: u32,
    },
    LinkAck {
        link: u32,
    },
    LinkGone {
        link: u32,
    },
    Frame {
        link: u32,
        exited: bool,
        frame: Vec<u8>,
    },
    Piece {
        link: u32,
        exited: bool,
        marked: bool,
        chunk: ChunkRef,
        offset: u32,
        len: u32,
    },
    /// `len` bytes came through; `marked`: after standing in a long queue.
    Ack {
        link: u32,
        len: u32,
        marked: bool,
    },

    // Between peers and the origin.
    HttpRequest {
        request: u32,
        resource: Resource,
    },
    HttpAbort {
        request: u32,
    },
    HttpHead {
        request: u32,
        status: u16,
        published: u32,
    },
    HttpPiece {
        request: u32,
        exited: bool,
        marked: bool,
        start: u32,
        len: u32,
        last: bool,
    },
    HttpAck {
        request: u32,
        marked: bool,
    },

    // Between peers and the signalling server.
    ToServer(Box<ClientMessage>),
    Hangup,
    FromServer(Box<ServerMessage>),
}
