//! The path's engines, hosts, channels and queues, on virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use headwater_swarm::{
    Config, DataVerdict, DemandId, Engine, Input, Integrity, MediaKind, MediaTime, Now, Output, Playhead,
    PlaylistSegment, PlaylistUpdate,
};
use headwater_wire::{ChunkHash, ChunkId, ChunkIndex, DataHeader, PeerId, SegmentId, SegmentLen, SeqNo, TrackId};

use headwater_wire::geometry::SegmentLenError;

use super::sctp::{HEADERS, Packet, Payload, Receiver, Sack, Sender};
use super::{Outcome, Path};
use crate::clock::{Micros, SECOND, micros, transfer};
use crate::rng::Rng;

/// The sender's own line, before the bottleneck: bytes a second.
const LINE: f64 = 125e6;

/// What the browser's shell lets wait in the data channel, and when it says that a chunk has left: www/player's link.ts.
const MAX_BUFFERED: u32 = 64 * 1024;
const LEFT: u32 = 16 * 1024;

const TRACK: TrackId = TrackId(1);
const FIRST: u64 = 50;

/// How long a segment plays, and how much is left to play, where there is time and where there is none.
const SEGMENT: Duration = Duration::from_millis(500);
const CALM: Micros = 20 * SECOND;
const HASTE: Micros = 2 * SECOND;

const TICK: Micros = 100_000;

/// How long until two that have let each other go are connected again, and until a player asks again for what failed.
const AGAIN: Micros = SECOND;

#[derive(Debug)]
enum Load {
    Data(Packet),
    Sack(Sack),
}

#[derive(Debug)]
enum What {
    Begin,
    /// A connection opens.
    Connect,
    Demand,
    /// The data channel has room again.
    Low,
    Wake,
    Tick,
    /// At the near end of the bottleneck, over the connection of the number given.
    Enter(u32, Load),
    Arrive(u32, Load),
    Timeout,
    AckDue,
}

/// A node is the sender (even) or the receiver (odd) of a flow.
#[derive(Debug)]
struct Event {
    at: Micros,
    number: u64,
    node: usize,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A chunk that waits for the data channel, as in link.ts.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    chunk: ChunkId,
    at: u32,
    end: u32,
    piece: u32,
}

struct Node {
    engine: Engine,
    out: Sender,
    into: Receiver,
    chunks: VecDeque<Leaving>,
    wake: Option<Micros>,
    /// The time-out of the data channel that was set last.
    timer: Option<Micros>,
    line_free: Micros,
    /// The number of its connection.
    connection: u32,
    /// Of a receiver: the segment that its player waits for.
    next: u64,
    calm: Micros,
}

/// The bottleneck in one direction.
#[derive(Debug, Default)]
struct Queue {
    free: Micros,
}

pub(super) struct World {
    path: Path,
    rate: f64,
    segment_len: SegmentLen,
    segments: u64,
    now: Micros,
    number: u64,
    events: BinaryHeap<Reverse<Event>>,
    nodes: Vec<Node>,
    queues: [Queue; 2],
    rng: Rng,
    received: Vec<u64>,
    queued: Vec<u32>,
    dropped: u64,
    let_go: u32,
}

fn segment(seq: u64) -> SegmentId {
    SegmentId { track: TRACK, seq: SeqNo(seq) }
}

fn hash(chunk: ChunkId) -> ChunkHash {
    ChunkHash::of(&(chunk.segment.seq.0 << 20 | u64::from(chunk.index.0)).to_le_bytes())
}

impl World {
    pub(super) fn new(path: &Path) -> Result<Self, SegmentLenError> {
        let rate = path.mbps * 125_000.0;
        // A second of the link, as far as segments are that long.
        let len = (rate as u32).clamp(256 * 1024, 8 << 20);
        let segment_len = SegmentLen::new(len)?;
        let segments = (rate * path.to_s / f64::from(len)) as u64 + 20;
        let mut world = Self {
            path: path.clone(),
            rate,
            segment_len,
            segments,
            now: 0,
            number: 0,
            events: BinaryHeap::new(),
            nodes: Vec::new(),
            queues: Default::default(),
            rng: Rng::new(7),
            received: vec![0; path.flows.len()],
            queued: Vec::new(),
            dropped: 0,
            let_go: 0,
        };
        for (flow, settings) in path.flows.iter().enumerate() {
            for node in [2 * flow, 2 * flow + 1] {
                let calm = if settings.urgent { HASTE } else { CALM };
                world.nodes.push(world.node(node, calm));
                world.post(micros(settings.from_s), node, What::Begin);
            }
        }
        Ok(world)
    }

    fn node(&self, node: usize, calm: Micros) -> Node {
        let config = Config { memory_budget: u64::MAX, ..Config::viewer(Integrity::Open) };
        Node {
            engine: Engine::new(config, node as u64 + 1, Now::default()),
            out: Sender::new(),
            into: Receiver::default(),
            chunks: VecDeque::new(),
            wake: None,
            timer: None,
            line_free: 0,
            connection: 0,
            next: FIRST,
            calm,
        }
    }

    fn post(&mut self, at: Micros, node: usize, what: What) {
        self.number += 1;
        self.events.push(Reverse(Event { at: at.max(self.now), number: self.number, node, what }));
    }

    pub(super) fn run(mut self) -> Outcome {
        let end = micros(self.path.to_s);
        while let Some(Reverse(event)) = self.events.pop() {
            if event.at > end {
                break;
            }
            self.now = event.at;
            let node = event.node;
            match event.what {
                What::Begin => self.begin(node),
                What::Wake => {
                    if self.nodes[node].wake.take_if(|at| *at <= event.at).is_some() {
                        self.input(node, Input::Timeout);
                    }
                }
                What::Tick => self.tick(node),
                What::Connect => self.input(node, Input::PeerConnected { peer: PeerId(node as u64 ^ 1) }),
                What::Demand => self.demand(node),
                What::Low => {
                    self.pump(node);
                }
                What::Enter(connection, load) => self.enter(node, connection, load),
                What::Arrive(connection, load) => {
                    if connection == self.nodes[node].connection {
                        self.arrive(node, load);
                    }
                }
                What::Timeout => {
                    if self.nodes[node].out.expires.is_some_and(|at| at <= self.now) {
                        self.nodes[node].out.expire(self.now);
                        self.transmit(node, Vec::new());
                    }
                }
                What::AckDue => {
                    if self.nodes[node].into.due.is_some_and(|at| at <= self.now) {
                        self.acknowledge(node);
                    }
                }
            }
            self.settle(node);
        }
        self.outcome()
    }

    fn outcome(mut self) -> Outcome {
        let span = self.path.to_s - self.path.from_s;
        let shares = self.received.iter().map(|bytes| *bytes as f64 / (self.rate * span)).collect();
        self.queued.sort_unstable();
        let at = |share: f64| {
            let place = (self.queued.len() as f64 * share) as usize;
            self.queued.get(place).map_or(0.0, |queued| f64::from(*queued) / 1000.0)
        };
        Outcome { shares, queued_ms: at(0.5), queued_p95_ms: at(0.95), dropped: self.dropped, let_go: self.let_go }
    }

    fn is_measured(&self) -> bool {
        self.now >= micros(self.path.from_s)
    }

    // Engines and their hosts.

    fn begin(&mut self, node: usize) {
        let listed = |seq: u64| PlaylistSegment {
            seq: SeqNo(seq),
            start: MediaTime::from_micros((seq * SEGMENT.as_micros() as u64) as i64),
            duration: SEGMENT,
        };
        let end = FIRST + self.segments;
        let segments = (FIRST..end).map(listed).collect();
        self.input(node, Input::Playlist(PlaylistUpdate { track: TRACK, live: false, first: SeqNo(FIRST), segments }));
        // An origin that is quick and that nobody needs.
        let (first_byte, transfer) = (Duration::from_millis(10), Duration::from_millis(20));
        self.input(node, Input::OriginMeasured { first_byte, bytes: 10_000_000, transfer });
        if node.is_multiple_of(2) {
            for seq in FIRST..end {
                let chunks = self.segment_len.chunk_count();
                let hashes = (0..chunks).map(|i| hash(ChunkId { segment: segment(seq), index: ChunkIndex(i) }));
                let hashes = hashes.collect();
                self.input(node, Input::SegmentStored { segment: segment(seq), len: self.segment_len, hashes });
            }
        }
        self.input(node, Input::PeerConnected { peer: PeerId(node as u64 ^ 1) });
        if node % 2 == 1 {
            self.demand(node);
            self.tick(node);
        }
    }

    fn demand(&mut self, node: usize) {
        let seq = self.nodes[node].next;
        self.tell_playhead(node);
        let (demand, segment) = (DemandId(seq), segment(seq));
        self.input(node, Input::Demand { demand, segment, kind: MediaKind::Main });
    }

    /// The player has always as much left to play.
    fn tell_playhead(&mut self, node: usize) {
        let Node { next, calm, .. } = self.nodes[node];
        let end = next * SEGMENT.as_micros() as u64;
        let playhead = Playhead {
            position: MediaTime::from_micros(end as i64 - calm as i64),
            buffered_to: MediaTime::from_micros(end as i64),
            rate_permille: 1000,
        };
        self.input(node, Input::Playhead(playhead));
    }

    fn tick(&mut self, node: usize) {
        self.tell_playhead(node);
        self.post(self.now + TICK, node, What::Tick);
    }

    fn input(&mut self, node: usize, input: Input<'_>) {
        self.nodes[node].engine.handle_input(Now::from_micros(self.now), input);
    }

    /// Does what the engine says, and lets the data channel send.
    fn settle(&mut self, node: usize) {
        loop {
            let mut is_more = false;
            loop {
                match self.nodes[node].engine.poll_output() {
                    Output::Timeout { at } => {
                        let at = at.map(Now::as_micros);
                        if at != self.nodes[node].wake {
                            self.nodes[node].wake = at;
                            if let Some(at) = at {
                                self.post(at, node, What::Wake);
                            }
                        }
                        break;
                    }
                    Output::Send { frame, .. } => self.push(node, Payload::Control(frame)),
                    Output::SendChunk { chunk, offset, len, piece_len, .. } => {
                        let leaving = Leaving { chunk, at: offset, end: offset + len, piece: piece_len };
                        self.nodes[node].chunks.push_back(leaving);
                        is_more = true;
                    }
                    Output::Fetch { fetch, .. } => self.input(node, Input::FetchFailed { fetch, status: None }),
                    Output::Deliver { .. } => {
                        self.nodes[node].next += 1;
                        self.demand(node);
                    }
                    // The player's own loader has nobody to ask.
                    Output::Fail { .. } => self.post(self.now + AGAIN, node, What::Demand),
                    Output::Disconnect { .. } => self.let_go(node),
                    _ => {}
                }
            }
            if !is_more || !self.pump(node) {
                break;
            }
        }
    }

    /// The engine has let its neighbour go. Both find each other anew.
    fn let_go(&mut self, node: usize) {
        self.let_go += 1;
        let other = node ^ 1;
        for end in [node, other] {
            let place = &mut self.nodes[end];
            place.connection += 1;
            (place.out, place.into) = (Sender::new(), Receiver::default());
            place.chunks.clear();
            self.post(self.now + AGAIN, end, What::Connect);
        }
        self.input(other, Input::PeerDisconnected { peer: PeerId(node as u64) });
    }

    /// Says whether the engine was told of anything.
    fn pump(&mut self, node: usize) -> bool {
        let mut told = false;
        while let Some(leaving) = self.nodes[node].chunks.front().copied() {
            let waiting = self.nodes[node].out.buffered();
            if leaving.at < leaving.end {
                if waiting > MAX_BUFFERED {
                    break;
                }
                let len = leaving.piece.min(leaving.end - leaving.at);
                let header = DataHeader { chunk: leaving.chunk, offset: leaving.at };
                if let Some(leaving) = self.nodes[node].chunks.front_mut() {
                    leaving.at += len;
                }
                self.push(node, Payload::Data { header, len });
            } else {
                if waiting > LEFT {
                    break;
                }
                let chunk = leaving.chunk;
                self.nodes[node].chunks.pop_front();
                let peer = PeerId(node as u64 ^ 1);
                self.input(node, Input::ChunkSent { peer, chunk });
                told = true;
            }
        }
        told
    }

    /// Hands the data channel a message.
    fn push(&mut self, node: usize, payload: Payload) {
        self.nodes[node].out.push(payload);
        self.transmit(node, Vec::new());
    }

    /// Lets leave what the data channel lets leave now, after `packets`.
    fn transmit(&mut self, node: usize, mut packets: Vec<Packet>) {
        let place = &mut self.nodes[node];
        let before = place.out.buffered();
        place.out.send(self.now, &mut packets);
        // The shell is told once that the buffer has become short.
        let is_low = before > LEFT && place.out.buffered() <= LEFT;
        let timer = place.out.expires.filter(|at| place.timer.replace(*at) != Some(*at));
        if let Some(at) = timer {
            self.post(at, node, What::Timeout);
        }
        for packet in packets {
            self.leave(node, Load::Data(packet));
        }
        if is_low {
            self.post(self.now, node, What::Low);
        }
    }

    // The way.

    fn leave(&mut self, node: usize, load: Load) {
        let begin = self.nodes[node].line_free.max(self.now);
        let free = begin + transfer(weight(&load), LINE);
        self.nodes[node].line_free = free;
        let connection = self.nodes[node].connection;
        self.post(free, node, What::Enter(connection, load));
    }

    fn enter(&mut self, node: usize, connection: u32, load: Load) {
        if self.rng.chance(self.path.loss) {
            return;
        }
        let queue = &mut self.queues[node % 2];
        let waits = queue.free.saturating_sub(self.now);
        let weight = weight(&load);
        let standing = waits as f64 / SECOND as f64 * self.rate;
        let is_data = node.is_multiple_of(2);
        if standing + f64::from(weight) > f64::from(self.path.queue) {
            self.dropped += u64::from(is_data);
            return;
        }
        queue.free = queue.free.max(self.now) + transfer(weight, self.rate);
        let at = queue.free + micros(self.path.rtt_ms / 2000.0);
        if is_data && self.is_measured() {
            self.queued.push(waits as u32);
        }
        self.post(at, node ^ 1, What::Arrive(connection, load));
    }

    fn arrive(&mut self, node: usize, load: Load) {
        let packet = match load {
            Load::Sack(sack) => {
                let mut again = Vec::new();
                self.nodes[node].out.on_sack(self.now, &sack, &mut again);
                return self.transmit(node, again);
            }
            Load::Data(packet) => packet,
        };
        let (messages, at_once) = self.nodes[node].into.receive(self.now, packet);
        if at_once {
            self.acknowledge(node);
        } else if let Some(at) = self.nodes[node].into.due {
            self.post(at, node, What::AckDue);
        }
        let peer = PeerId(node as u64 ^ 1);
        for message in messages {
            match &*message {
                Payload::Control(frame) => self.input(node, Input::Control { peer, frame }),
                Payload::Data { header, len } => {
                    let now = Now::from_micros(self.now);
                    let verdict = self.nodes[node].engine.handle_data(now, peer, header, *len);
                    if self.is_measured() && verdict != DataVerdict::Ignore {
                        self.received[node / 2] += u64::from(*len);
                    }
                    if verdict == DataVerdict::AppendLast {
                        let (chunk, hash) = (header.chunk, hash(header.chunk));
                        self.input(node, Input::ChunkReceived { peer, chunk, hash });
                    }
                }
            }
        }
    }

    fn acknowledge(&mut self, node: usize) {
        let sack = self.nodes[node].into.sack();
        self.leave(node, Load::Sack(sack));
    }
}

fn weight(load: &Load) -> u32 {
    match load {
        Load::Data(packet) => packet.len + HEADERS,
        Load::Sack(sack) => sack.weight(),
    }
}
