//! One engine at a bench: what it is told and what it wants done, without a world around it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "not every test uses all of it, and a test may panic"
)]

use std::time::Duration;

use headwater_swarm::{
    Config, DataVerdict, DemandId, Engine, Input, Integrity, MediaKind, MediaTime, Now, Output, Playhead,
    PlaylistSegment, PlaylistUpdate, Verdict,
};
use headwater_wire::catalogue::BATCH_VERSION;
use headwater_wire::frame::encode_control;
use headwater_wire::limits::MAX_FRAME;
use headwater_wire::{
    BatchBody, ByteRange, ChunkHash, ChunkId, DataHeader, Entry, Frame, Hello, Message, PeerId, PublicKey, Role,
    RootHash, Scope, SegmentId, SegmentLen, SeqNo, SeqRange, Signature, SignedBatch, TrackId,
};

pub const TRACK: TrackId = TrackId(1);
pub const SCOPE: Scope = Scope::Swarm([3; 32]);
pub const CHUNKS: u32 = 4;

/// A viewer of a stream of two-second segments, the first of which are listed.
pub struct Bench {
    pub engine: Engine,
    pub now: Now,
    pub verdict: Verdict,
}

pub fn segment(seq: u64) -> SegmentId {
    SegmentId { track: TRACK, seq: SeqNo(seq) }
}

pub fn hashes(seq: u64) -> Vec<ChunkHash> {
    (0..CHUNKS).map(|index| ChunkHash::of(&[seq as u8, index as u8])).collect()
}

pub fn len() -> SegmentLen {
    SegmentLen::new(CHUNKS * 65_536).unwrap()
}

/// The publisher's word on a segment, without the hashes of its chunks.
pub fn batch(seq: u64) -> Message {
    let entry =
        Entry { seq: SeqNo(seq), len: len(), root: RootHash::of_chunks(len(), &hashes(seq)), hashes: Vec::new() };
    signed(entry)
}

/// A batch whose signature is whatever [`Bench::verdict`] says.
pub fn signed(entry: Entry) -> Message {
    let body = BatchBody { version: BATCH_VERSION, scope: SCOPE, track: TRACK, issued_ms: 1, entries: vec![entry] };
    let batch = SignedBatch::assemble(PublicKey([9; 32]), Signature([1; 64]), &body.signing_bytes().unwrap()).unwrap();
    Message::Catalogue(batch.as_bytes().to_vec())
}

impl Bench {
    /// Live: it plays at 12 s and has 4 s more; 0 to 9 are listed.
    pub fn new() -> Self {
        let mut bench = Self::of(true, 10);
        bench.play(12.0, 4.0);
        bench
    }

    /// On demand: a hundred seconds, of which it plays the first and has half a minute.
    pub fn on_demand() -> Self {
        let mut bench = Self::of(false, 50);
        bench.play(0.0, 30.0);
        bench
    }

    fn of(live: bool, count: u64) -> Self {
        let now = Now::from_micros(1_000_000);
        let engine = Engine::new(Config::viewer(Integrity::Signed(SCOPE)), 1, now);
        let mut bench = Self { engine, now, verdict: Verdict::Signed };
        let listed = |seq: u64| PlaylistSegment {
            seq: SeqNo(seq),
            start: MediaTime::from_secs(seq as f64 * 2.0),
            duration: Duration::from_secs(2),
        };
        let segments = (0..count).map(listed).collect();
        bench.input(Input::Playlist(PlaylistUpdate { track: TRACK, live, first: SeqNo(0), segments }));
        let (first_byte, transfer) = (Duration::from_millis(50), Duration::from_millis(100));
        bench.input(Input::OriginMeasured { first_byte, bytes: 1_000_000, transfer });
        bench
    }

    /// The player is at `position` and has `buffered` seconds more.
    pub fn play(&mut self, position: f64, buffered: f64) -> Vec<Output> {
        self.input(Input::Playhead(Playhead {
            position: MediaTime::from_secs(position),
            buffered_to: MediaTime::from_secs(position + buffered),
            rate_permille: 1000,
        }))
    }

    /// Hands an input in and gives back what the engine wants done; signatures are looked at on the way.
    pub fn input(&mut self, input: Input<'_>) -> Vec<Output> {
        self.engine.handle_input(self.now, input);
        let mut outputs = Vec::new();
        loop {
            match self.engine.poll_output() {
                Output::Timeout { .. } => return outputs,
                Output::VerifyBatch { verify, .. } => {
                    let verdict = self.verdict;
                    self.engine.handle_input(self.now, Input::BatchVerified { verify, verdict });
                }
                output => outputs.push(output),
            }
        }
    }

    pub fn say(&mut self, peer: u64, message: &Message) -> Vec<Output> {
        self.input(Input::Control { peer: PeerId(peer), frame: &encode_control(message) })
    }

    pub fn connect(&mut self, peer: u64) -> Vec<Output> {
        self.connect_as(peer, Role::Viewer)
    }

    pub fn connect_as(&mut self, peer: u64, role: Role) -> Vec<Output> {
        self.input(Input::PeerConnected { peer: PeerId(peer) });
        let hello = Hello {
            version: 1,
            role,
            max_frame: MAX_FRAME,
            uploads: true,
            nonce: peer,
            features: vec![],
            required: vec![],
        };
        self.say(peer, &Message::Hello(hello))
    }

    pub fn demand(&mut self, seq: u64) -> Vec<Output> {
        self.input(Input::Demand { demand: DemandId(seq), segment: segment(seq), kind: MediaKind::Main })
    }

    pub fn wait(&mut self, millis: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        for _ in 0..millis.div_ceil(10) {
            self.now = self.now + Duration::from_millis(10);
            outputs.extend(self.input(Input::Timeout));
        }
        outputs
    }

    /// A neighbour sends a whole chunk, right or not.
    pub fn send_chunk(&mut self, peer: u64, chunk: ChunkId, hash: ChunkHash) -> Vec<Output> {
        let header = DataHeader { chunk, offset: 0 };
        assert_eq!(self.engine.handle_data(self.now, PeerId(peer), &header, 65_536), DataVerdict::AppendLast);
        self.input(Input::ChunkReceived { peer: PeerId(peer), chunk, hash })
    }
}

pub fn fetches(outputs: &[Output]) -> Vec<Option<ByteRange>> {
    let range = |output: &Output| match output {
        Output::Fetch { range, .. } => Some(*range),
        _ => None,
    };
    outputs.iter().filter_map(range).collect()
}

pub fn messages(outputs: &[Output], to: u64) -> Vec<Message> {
    let message = |output: &Output| match output {
        Output::Send { peer, frame } if *peer == PeerId(to) => match Frame::parse(frame) {
            Ok(Frame::Control(message)) => Some(message),
            _ => None,
        },
        _ => None,
    };
    outputs.iter().filter_map(message).collect()
}

pub fn is_disconnect(output: &Output) -> bool {
    matches!(output, Output::Disconnect { .. })
}

pub fn whole(seq: u64) -> Message {
    Message::Have { track: TRACK, full: false, ranges: vec![SeqRange { first: SeqNo(seq), count: 1 }] }
}
