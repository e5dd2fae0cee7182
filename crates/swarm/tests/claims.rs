//! What a lying or foolish neighbour cannot do: keep a viewer waiting, have honest peers banned, or keep a swarm busy.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use headwater_swarm::{
    Config, DataVerdict, DemandId, DisconnectReason, Engine, Event, Input, Integrity, MediaKind, MediaTime, Now,
    Output, Playhead, PlaylistSegment, PlaylistUpdate, Verdict,
};
use headwater_wire::catalogue::BATCH_VERSION;
use headwater_wire::frame::encode_control;
use headwater_wire::{
    BatchBody, ByteRange, ChunkHash, ChunkId, ChunkIndex, ChunkRange, DataHeader, Entry, Frame, Hello, Message, PeerId,
    PublicKey, Role, RootHash, Scope, SegmentId, SegmentLen, SeqNo, SeqRange, Signature, SignedBatch, TrackId,
};

const TRACK: TrackId = TrackId(1);
const SCOPE: Scope = Scope::Swarm([3; 32]);
const CHUNKS: u32 = 4;

/// A viewer of a live stream of two-second segments, 0 to 9 of which are listed; it plays at 12 s and has 4 s more.
struct Bench {
    engine: Engine,
    now: Now,
    verdict: Verdict,
}

fn segment(seq: u64) -> SegmentId {
    SegmentId { track: TRACK, seq: SeqNo(seq) }
}

fn hashes(seq: u64) -> Vec<ChunkHash> {
    (0..CHUNKS).map(|index| ChunkHash::of(&[seq as u8, index as u8])).collect()
}

fn len() -> SegmentLen {
    SegmentLen::new(CHUNKS * 65_536).unwrap()
}

/// The publisher's word on a segment, without the hashes of its chunks.
fn batch(seq: u64) -> Message {
    let entry =
        Entry { seq: SeqNo(seq), len: len(), root: RootHash::of_chunks(len(), &hashes(seq)), hashes: Vec::new() };
    signed(entry)
}

/// A batch whose signature is whatever [`Bench::verdict`] says.
fn signed(entry: Entry) -> Message {
    let body = BatchBody { version: BATCH_VERSION, scope: SCOPE, track: TRACK, issued_ms: 1, entries: vec![entry] };
    let batch = SignedBatch::assemble(PublicKey([9; 32]), Signature([1; 64]), &body.signing_bytes().unwrap()).unwrap();
    Message::Catalogue(batch.as_bytes().to_vec())
}

impl Bench {
    fn new() -> Self {
        let now = Now::from_micros(1_000_000);
        let engine = Engine::new(Config::viewer(Integrity::Signed(SCOPE)), 1, now);
        let mut bench = Self { engine, now, verdict: Verdict::Signed };
        let listed = |seq: u64| PlaylistSegment {
            seq: SeqNo(seq),
            start: MediaTime::from_secs(seq as f64 * 2.0),
            duration: Duration::from_secs(2),
        };
        let segments = (0..10).map(listed).collect();
        bench.input(Input::Playlist(PlaylistUpdate { track: TRACK, live: true, first: SeqNo(0), segments }));
        let (first_byte, transfer) = (Duration::from_millis(50), Duration::from_millis(100));
        bench.input(Input::OriginMeasured { first_byte, bytes: 1_000_000, transfer });
        bench.play_at(12.0);
        bench
    }

    fn play_at(&mut self, position: f64) -> Vec<Output> {
        self.input(Input::Playhead(Playhead {
            position: MediaTime::from_secs(position),
            buffered_to: MediaTime::from_secs(position + 4.0),
            rate_permille: 1000,
        }))
    }

    /// Hands an input in and gives back what the engine wants done; signatures are looked at on the way.
    fn input(&mut self, input: Input<'_>) -> Vec<Output> {
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

    fn say(&mut self, peer: u64, message: &Message) -> Vec<Output> {
        self.input(Input::Control { peer: PeerId(peer), frame: &encode_control(message) })
    }

    fn connect(&mut self, peer: u64) -> Vec<Output> {
        self.input(Input::PeerConnected { peer: PeerId(peer) });
        let hello = Hello {
            version: 1,
            role: Role::Viewer,
            max_frame: 65_536,
            uploads: true,
            nonce: peer,
            features: vec![],
            required: vec![],
        };
        self.say(peer, &Message::Hello(hello))
    }

    fn demand(&mut self, seq: u64) -> Vec<Output> {
        self.input(Input::Demand { demand: DemandId(seq), segment: segment(seq), kind: MediaKind::Main })
    }

    fn wait(&mut self, millis: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        for _ in 0..millis.div_ceil(10) {
            self.now = self.now + Duration::from_millis(10);
            outputs.extend(self.input(Input::Timeout));
        }
        outputs
    }

    /// A neighbour sends a whole chunk, right or not.
    fn send_chunk(&mut self, peer: u64, chunk: ChunkId, hash: ChunkHash) -> Vec<Output> {
        let header = DataHeader { chunk, offset: 0 };
        assert_eq!(self.engine.handle_data(self.now, PeerId(peer), &header, 65_536), DataVerdict::AppendLast);
        self.input(Input::ChunkReceived { peer: PeerId(peer), chunk, hash })
    }
}

fn fetches(outputs: &[Output]) -> Vec<Option<ByteRange>> {
    let range = |output: &Output| match output {
        Output::Fetch { range, .. } => Some(*range),
        _ => None,
    };
    outputs.iter().filter_map(range).collect()
}

fn messages(outputs: &[Output], to: u64) -> Vec<Message> {
    let message = |output: &Output| match output {
        Output::Send { peer, frame } if *peer == PeerId(to) => match Frame::parse(frame) {
            Ok(Frame::Control(message)) => Some(message),
            _ => None,
        },
        _ => None,
    };
    outputs.iter().filter_map(message).collect()
}

fn is_disconnect(output: &Output) -> bool {
    matches!(output, Output::Disconnect { .. })
}

fn whole(seq: u64) -> Message {
    Message::Have { track: TRACK, full: false, ranges: vec![SeqRange { first: SeqNo(seq), count: 1 }] }
}

#[test]
fn chunks_that_nobody_can_check_do_not_keep_the_rescue_away() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.say(1, &whole(8));
    bench.demand(8);
    let mut asked = bench.say(1, &batch(8));
    asked.extend(bench.wait(700));
    let requested: Vec<Message> =
        messages(&asked, 1).into_iter().filter(|message| matches!(message, Message::Request { .. })).collect();
    assert!(!requested.is_empty(), "the neighbour was not asked: {asked:?}");
    // It sends all chunks but one and keeps their hashes for itself.
    for index in (1..CHUNKS).map(ChunkIndex) {
        bench.send_chunk(1, ChunkId { segment: segment(8), index }, ChunkHash::of(b"nonsense"));
    }
    // The player is at 12 s, the segment begins at 16 s: the rescue is a good second before.
    let outputs = bench.wait(3_200);
    assert_eq!(fetches(&outputs), [None], "one request for all of it, although chunks wait to be checked");
}

#[test]
fn a_fetch_of_a_stripe_grows_when_the_rest_would_be_late() {
    let mut bench = Bench::new();
    bench.connect(1);
    assert_eq!(fetches(&bench.demand(8)), []);
    let entry = Entry {
        seq: SeqNo(8),
        len: SegmentLen::new(12 * 65_536).unwrap(),
        root: RootHash::of_chunks(SegmentLen::new(12 * 65_536).unwrap(), &[ChunkHash::of(b"x"); 12]),
        hashes: vec![ChunkHash::of(b"x"); 12],
    };
    bench.say(1, &Message::Candidates { track: TRACK, epoch: 0, nonces: vec![1, 2, 3, 4, 5] });
    bench.say(1, &signed(entry));
    // Others say that they fetch two thirds of it, and never bring them; nor does the origin bring the last third.
    let rest = ChunkRange { first: ChunkIndex(0), count: 8 };
    bench.say(1, &Message::Fetching { segment: segment(8), chunks: Some(rest) });
    let outputs = bench.wait(3_200);
    assert_eq!(fetches(&outputs), [Some(ByteRange { start: 8 * 65_536, end: 12 * 65_536 }), None]);
}

#[test]
fn a_batch_of_a_key_that_is_not_known_costs_nobody_the_connection() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.verdict = Verdict::OtherKey;
    let outputs = bench.say(1, &batch(8));
    assert!(!outputs.iter().any(is_disconnect), "{outputs:?}");
    bench.verdict = Verdict::Forged;
    let outputs = bench.say(1, &batch(8));
    let banned = Output::Event(Event::PeerBanned { peer: PeerId(1), reason: DisconnectReason::BadData });
    assert!(outputs.contains(&banned), "{outputs:?}");
}

#[test]
fn hashes_that_were_not_asked_for_are_not_believed() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.connect(2);
    bench.say(1, &batch(8));
    bench.demand(8);
    // Neighbour 2 was asked nothing. Its wrong hashes would cost it the connection if they were looked at.
    let lie = Message::Hashes { segment: segment(8), len: len(), first: 0, hashes: vec![ChunkHash::of(b"lie"); 4] };
    assert!(!bench.say(2, &lie).iter().any(is_disconnect));
    bench.say(1, &whole(8));
    let told = Message::Hashes { segment: segment(8), len: len(), first: 0, hashes: hashes(8) };
    let outputs = bench.say(1, &told);
    assert!(!outputs.iter().any(is_disconnect), "{outputs:?}");
}

#[test]
fn claims_far_from_the_player_are_not_passed_on() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.connect(2);
    bench.demand(8);
    let near = bench.say(1, &Message::Fetching { segment: segment(9), chunks: None });
    assert_eq!(messages(&near, 2), [Message::Fetching { segment: segment(9), chunks: None }]);
    let again = bench.say(1, &Message::Fetching { segment: segment(9), chunks: None });
    assert_eq!(messages(&again, 2), [], "what is known is not told twice");
    for seq in (1_000..1_200).chain(1 << 40..(1 << 40) + 200) {
        let far = bench.say(1, &Message::Fetching { segment: segment(seq), chunks: None });
        assert_eq!(messages(&far, 2), []);
    }
    let stripes = (0..100).map(|i| ChunkRange { first: ChunkIndex(100 - i), count: 1 });
    let told: usize = stripes
        .map(|chunks| {
            let outputs = bench.say(1, &Message::Fetching { segment: segment(8), chunks: Some(chunks) });
            messages(&outputs, 2).len()
        })
        .sum();
    assert!(told <= 8, "{told} of 100 claims about one segment were passed on");
}

#[test]
fn candidates_of_other_times_are_not_passed_on() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.connect(2);
    bench.demand(8);
    bench.wait(1_500);
    for epoch in 100..200 {
        bench.say(1, &Message::Candidates { track: TRACK, epoch, nonces: (0..16).collect() });
        bench.say(1, &Message::Candidates { track: TrackId(epoch), epoch: 0, nonces: (0..16).collect() });
    }
    let told = messages(&bench.wait(2_000), 2);
    assert!(!told.iter().any(|message| matches!(message, Message::Candidates { .. })), "{told:?}");
    bench.say(1, &Message::Candidates { track: TRACK, epoch: 1, nonces: vec![77] });
    let told = messages(&bench.wait(2_000), 2);
    assert!(told.contains(&Message::Candidates { track: TRACK, epoch: 1, nonces: vec![77] }), "{told:?}");
}

#[test]
fn a_neighbour_that_never_stops_talking_is_let_go() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.connect(2);
    let pong = Message::Pong { nonce: 1 };
    let said = (0..10_000).take_while(|_| !bench.say(1, &pong).iter().any(is_disconnect)).count();
    assert!((1_000..10_000).contains(&said), "let go after {said}");
    // Who talks as busy peers do stays.
    for _ in 0..300 {
        bench.now = bench.now + Duration::from_millis(10);
        assert!(!bench.say(2, &pong).iter().any(is_disconnect));
    }
}

#[test]
fn a_newcomer_is_told_which_part_of_a_segment_is_being_fetched() {
    let mut bench = Bench::new();
    bench.connect(1);
    // A neighbour holds the first two chunks: at the rescue the rest is fetched.
    let half = ChunkRange { first: ChunkIndex(0), count: 2 };
    bench.say(1, &Message::HaveChunks { segment: segment(8), chunks: vec![half] });
    bench.demand(8);
    bench.say(1, &batch(8));
    let told = Message::Hashes { segment: segment(8), len: len(), first: 0, hashes: hashes(8) };
    bench.say(1, &told);
    for index in [0, 1].map(ChunkIndex) {
        bench.send_chunk(1, ChunkId { segment: segment(8), index }, hashes(8)[index.0 as usize]);
    }
    let outputs = bench.wait(3_000);
    assert_eq!(fetches(&outputs), [Some(ByteRange { start: 2 * 65_536, end: 4 * 65_536 })]);
    let told = messages(&bench.connect(5), 5);
    let rest = ChunkRange { first: ChunkIndex(2), count: 2 };
    assert!(told.contains(&Message::Fetching { segment: segment(8), chunks: Some(rest) }), "{told:?}");
}
