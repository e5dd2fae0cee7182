//! What one input costs an engine that lists and holds a hundred segments, and one with a hundred thousand. Prints JSON:
//! for each kind of input the median nanoseconds of both. `cargo xtask bench engine` holds their ratio against its bar.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program of measurements, for a person or for xtask")]

use std::time::{Duration, Instant};

use headwater_swarm::{Config, DemandId, Engine, Input, Integrity, MediaKind, MediaTime, Now, Output, Playhead};
use headwater_swarm::{PlaylistSegment, PlaylistUpdate};
use headwater_wire::frame::encode_control;
use headwater_wire::{ChunkHash, ChunkId, ChunkIndex, ChunkRange, Hello, Message, PeerId, Role};
use headwater_wire::{SegmentId, SegmentLen, SeqNo, SeqRange, TrackId};

const TRACK: TrackId = TrackId(1);
const SIZES: [u64; 2] = [100, 100_000];
const NEIGHBOURS: u64 = 8;

/// Inputs of one kind in one measurement; the median over [`ROUNDS`] of them counts.
const INPUTS: u64 = 50;
const ROUNDS: u64 = 41;

/// A viewer that has loaded `listed` segments of a stream, as have its neighbours, and goes on with what follows.
struct Viewer {
    engine: Engine,
    now: Now,
    listed: u64,
    /// Chunks given to neighbours, and segments to the player: what shows that the work was done.
    sent: u64,
    delivered: u64,
}

fn segment(seq: u64) -> SegmentId {
    SegmentId { track: TRACK, seq: SeqNo(seq) }
}

fn whole(first: u64, count: u64) -> Message {
    Message::Have { track: TRACK, full: false, ranges: vec![SeqRange { first: SeqNo(first), count }] }
}

impl Viewer {
    fn new(listed: u64) -> Self {
        let config = Config { memory_budget: u64::MAX, ..Config::viewer(Integrity::Open) };
        let mut viewer = Self {
            engine: Engine::new(config, 1, Now::from_micros(0)),
            now: Now::from_micros(0),
            listed: 0,
            sent: 0,
            delivered: 0,
        };
        viewer.list(listed);
        for seq in 0..listed {
            viewer.store(seq);
        }
        for peer in 0..NEIGHBOURS {
            viewer.greet(peer);
            viewer.say(peer, &whole(0, listed));
        }
        viewer.play();
        viewer
    }

    /// The player has loaded a segment by itself.
    fn store(&mut self, seq: u64) {
        let (len, hashes) = (SegmentLen::new(1000).unwrap(), vec![ChunkHash::of(&seq.to_le_bytes())]);
        self.input(Input::SegmentStored { segment: segment(seq), len, hashes });
    }

    /// A neighbour comes and says hello.
    fn greet(&mut self, peer: u64) {
        self.input(Input::PeerConnected { peer: PeerId(peer) });
        let (role, nonce, none) = (Role::Viewer, peer, Vec::new);
        let hello =
            Hello { version: 1, role, max_frame: 65_536, uploads: true, nonce, features: none(), required: none() };
        self.say(peer, &Message::Hello(hello));
    }

    fn list(&mut self, count: u64) {
        let listed = |seq: u64| PlaylistSegment {
            seq: SeqNo(seq),
            start: MediaTime::from_secs(seq as f64 * 2.0),
            duration: Duration::from_secs(2),
        };
        let segments = (self.listed..self.listed + count).map(listed).collect();
        self.listed += count;
        self.input(Input::Playlist(PlaylistUpdate { track: TRACK, live: true, first: SeqNo(0), segments }));
    }

    fn play(&mut self) {
        let end = self.listed as f64 * 2.0;
        let (position, buffered_to) = (MediaTime::from_secs(end - 20.0), MediaTime::from_secs(end));
        self.input(Input::Playhead(Playhead { position, buffered_to, rate_permille: 1000 }));
    }

    fn say(&mut self, peer: u64, message: &Message) {
        self.input(Input::Control { peer: PeerId(peer), frame: &encode_control(message) });
    }

    fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(self.now, input);
        loop {
            match self.engine.poll_output() {
                Output::Timeout { .. } => return,
                Output::SendChunk { .. } => self.sent += 1,
                Output::Deliver { .. } => self.delivered += 1,
                _ => {}
            }
        }
    }

    /// A millisecond goes by: so little that no neighbour falls silent in the meantime.
    fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        self.input(Input::Timeout);
    }

    /// One of the last fifty segments: what viewers of a stream ask for, and what processors have at hand.
    fn recent(&self, n: u64) -> SegmentId {
        segment(self.listed - 1 - n % 50)
    }

    /// All that a neighbour asks and is given.
    fn give(&mut self, n: u64) {
        let (peer, id) = (n % NEIGHBOURS, self.recent(n));
        let chunks = ChunkRange::one(ChunkIndex(0));
        self.say(peer, &Message::Request { segment: id, chunks, time_left_ms: 5000 });
        let chunk = ChunkId { segment: id, index: ChunkIndex(0) };
        self.input(Input::ChunkSent { peer: PeerId(peer), chunk });
    }

    /// A segment that is held.
    fn replay(&mut self, n: u64) {
        self.input(Input::Demand { demand: DemandId(n), segment: self.recent(n), kind: MediaKind::Audio });
    }

    /// The playlist grows by one, which the player loads by itself and neighbours announce.
    fn grow(&mut self) {
        self.list(1);
        let seq = self.listed - 1;
        self.store(seq);
        self.say(seq % NEIGHBOURS, &whole(seq, 1));
    }

    /// A neighbour comes, and is told what is held.
    fn meet(&mut self) {
        self.greet(NEIGHBOURS);
        self.input(Input::PeerDisconnected { peer: PeerId(NEIGHBOURS) });
    }
}

type Kind = (&'static str, fn(&mut Viewer, u64));

const KINDS: [Kind; 5] = [
    ("a moment goes by", |viewer, _| viewer.tick()),
    ("the playhead moves", |viewer, _| viewer.play()),
    ("a neighbour asks and is given", Viewer::give),
    ("the player asks for what is held", Viewer::replay),
    ("the stream goes on by a segment", |viewer, _| viewer.grow()),
];

/// Without a bar: all that is held is looked through to tell a newcomer of it, once for each neighbour.
const MEETING: Kind = ("a neighbour comes", |viewer, _| viewer.meet());

fn main() {
    let mut viewers = SIZES.map(Viewer::new);
    let mut rows = Vec::new();
    for (name, act) in KINDS.into_iter().chain([MEETING]) {
        let has_bar = name != MEETING.0;
        let inputs = if has_bar { INPUTS } else { 1 };
        // In turns, so that what else the machine does meets both.
        let mut taken: [Vec<u64>; 2] = Default::default();
        for round in 0..ROUNDS {
            for (viewer, taken) in viewers.iter_mut().zip(&mut taken) {
                let began = Instant::now();
                for n in 0..inputs {
                    act(viewer, round * inputs + n);
                }
                taken.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX) / inputs);
                viewer.tick();
            }
        }
        let [few, many] = taken.map(|mut taken| {
            taken.sort_unstable();
            taken[taken.len() / 2]
        });
        rows.push(format!("{{\"name\":\"{name}\",\"has_bar\":{has_bar},\"few_ns\":{few},\"many_ns\":{many}}}"));
    }
    for viewer in &viewers {
        let all = INPUTS * ROUNDS;
        assert!(
            (viewer.sent, viewer.delivered) == (all, all),
            "sent {}, delivered {} of {all}",
            viewer.sent,
            viewer.delivered
        );
    }
    println!("[{}]", rows.join(","));
}
