//! A small world on virtual time: viewers and seeds that run the engine, links between them, one origin.
//!
//! Everything is deterministic. Segments are real bytes, hashed for real; only the publisher's signature is a stand-in.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses its part of the world"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use headwater_swarm::{
    BatchSource, Config, DataVerdict, DemandId, DisconnectReason, Engine, Event, FetchId, Input, Integrity, MediaKind,
    MediaTime, Now, Output, Playhead, PlaylistSegment, PlaylistUpdate, Verdict,
};
use headwater_wire::catalogue::BATCH_VERSION;
use headwater_wire::frame::DATA_HEADER_LEN;
use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{
    BatchBody, ChunkHash, ChunkId, ChunkIndex, DataHeader, Entry, Frame, PeerId, PublicKey, RootHash, Scope, SegmentId,
    SegmentLen, SeqNo, Signature, SignedBatch, SwarmName, TrackId,
};

pub const TRACK: TrackId = TrackId(7);
pub const SEGMENT: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(100);

/// What the world is like.
#[derive(Debug, Clone)]
pub struct Setting {
    pub segment_len: u32,
    pub segments: u64,
    /// `Some`: segments appear one every two seconds; the playlist lists this many of them.
    pub live_window: Option<u64>,
    pub latency: Duration,
    /// Bytes a second that each peer can send.
    pub uplink: f64,
    pub origin_ttfb: Duration,
    /// Bytes a second of each HTTP response.
    pub origin_rate: f64,
    pub integrity: Integrity,
    /// Whether the catalogue file lies beside the playlist.
    pub catalogue_file: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            segment_len: 300_000,
            segments: 30,
            live_window: None,
            latency: Duration::from_millis(20),
            uplink: 2_000_000.0,
            origin_ttfb: Duration::from_millis(50),
            origin_rate: 2_000_000.0,
            integrity: Integrity::Signed(scope()),
            catalogue_file: true,
        }
    }
}

pub fn scope() -> Scope {
    Scope::of_swarm(&SwarmName::new("key/video.m3u8").unwrap())
}

/// The bytes that the origin serves for a segment.
pub fn segment_bytes(id: SegmentId, len: u32) -> Vec<u8> {
    let mut state = id.seq.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ id.track.0;
    let mut bytes = Vec::with_capacity(len as usize);
    while bytes.len() < len as usize {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len as usize);
    bytes
}

fn sign(body: &BatchBody) -> SignedBatch {
    let bytes = body.signing_bytes().unwrap();
    SignedBatch::assemble(PublicKey([1; 32]), stand_in(&bytes), &bytes).unwrap()
}

fn stand_in(bytes: &[u8]) -> Signature {
    let half = ChunkHash::of(bytes).0;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&half);
    Signature(signature)
}

/// The publisher's batch for some segments.
pub fn batch(setting: &Setting, seqs: impl Iterator<Item = u64>) -> SignedBatch {
    let live = setting.live_window.is_some();
    let entries = seqs
        .map(|seq| {
            let id = SegmentId { track: TRACK, seq: SeqNo(seq) };
            Entry::of_segment(SeqNo(seq), &segment_bytes(id, setting.segment_len), live).unwrap()
        })
        .collect();
    sign(&BatchBody { version: BATCH_VERSION, scope: scope(), track: TRACK, issued_ms: 1, entries })
}

#[derive(Debug)]
enum Happening {
    Join(usize),
    Wake(usize, u64),
    Tick(usize),
    Frame {
        from: PeerId,
        to: PeerId,
        link: u64,
        frame: Vec<u8>,
    },
    Sent {
        from: usize,
        to: PeerId,
        link: u64,
        chunk: ChunkId,
    },
    HttpHead(usize, FetchId),
    HttpChunk(usize, FetchId, ChunkIndex),
    HttpDone(usize, FetchId),
    CatalogueHere(usize),
    Verified(usize, headwater_swarm::VerifyId, bool),
    Publish(u64),
    Link(usize, usize),
    /// So many bytes reach a line that several nodes share.
    AtLine(usize, usize, Box<Happening>),
    Call(usize),
}

/// A viewer's player: plays what is buffered, demands the next segment while less than 30 s are.
#[derive(Debug, Clone)]
pub struct Player {
    pub position: f64,
    pub next: u64,
    pub buffered_to: f64,
    pub started: Option<Now>,
    pub waiting: Option<Now>,
    pub stalls: u32,
    pub stall_time: Duration,
    pub demand: Option<DemandId>,
    pub demanded_at: Now,
    pub delivered: u64,
    pub failed: u64,
    pub ended: bool,
    pub buffer_goal: f64,
    first_played: bool,
}

pub struct Node {
    pub id: PeerId,
    pub engine: Engine,
    pub seed: bool,
    pub store: BTreeMap<SegmentId, Vec<u8>>,
    incoming: BTreeMap<(PeerId, ChunkId), Vec<u8>>,
    pub player: Option<Player>,
    pub alive: bool,
    uplink_free: Now,
    /// Bytes a second that it can send.
    pub uplink: f64,
    /// Which of [`World::lines`] all that comes from outside has to pass.
    pub line: Option<usize>,
    wake_number: u64,
    known_to: Option<u64>,
    fetches: BTreeMap<FetchId, (SegmentId, u32, u32)>,
    /// Flips a bit in every chunk it sends.
    pub hostile: bool,
    pub disconnects: Vec<(PeerId, DisconnectReason)>,
    pub events: Vec<Event>,
    pub joined: Now,
}

type Call = Box<dyn FnOnce(&mut World)>;

pub struct World {
    pub setting: Setting,
    pub now: Now,
    pub nodes: Vec<Node>,
    queue: BinaryHeap<Reverse<(Now, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    order: u64,
    links: BTreeMap<(PeerId, PeerId), u64>,
    next_link: u64,
    pub origin_bytes: u64,
    pub origin_requests: Vec<(usize, SegmentId)>,
    /// While true, the origin answers 503.
    pub origin_down: bool,
    /// The origin serves other bytes than were signed.
    pub origin_differs: bool,
    /// Lines that several nodes share: bytes a second, and when each is free.
    pub lines: Vec<(f64, Now)>,
    /// So many viewers more die in the moment in which they have told their neighbours that they fetch a segment.
    pub claimants_to_die: u32,
    published: u64,
    calls: BTreeMap<usize, Call>,
}

impl World {
    pub fn new(setting: Setting) -> Self {
        let mut world = Self {
            setting,
            now: Now::from_micros(1_000_000),
            nodes: Vec::new(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            order: 0,
            links: BTreeMap::new(),
            next_link: 0,
            origin_bytes: 0,
            origin_requests: Vec::new(),
            origin_down: false,
            origin_differs: false,
            lines: Vec::new(),
            claimants_to_die: 0,
            published: 0,
            calls: BTreeMap::new(),
        };
        match world.setting.live_window {
            None => world.published = world.setting.segments,
            Some(window) => {
                world.published = window;
                world.at(SEGMENT, Happening::Publish(window + 1));
            }
        }
        world
    }

    fn at(&mut self, after: Duration, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((self.now + after, self.order)));
        self.happenings.insert(self.order, happening);
    }

    /// Does something to the world later.
    pub fn later(&mut self, after: Duration, call: impl FnOnce(&mut World) + 'static) {
        let number = self.calls.len() + self.order as usize;
        self.calls.insert(number, Box::new(call));
        self.at(after, Happening::Call(number));
    }

    pub fn add_viewer(&mut self, joins_after: Duration) -> usize {
        self.add_viewer_with(joins_after, Config::viewer(self.setting.integrity))
    }

    pub fn add_viewer_with(&mut self, joins_after: Duration, config: Config) -> usize {
        let player = Player {
            position: 0.0,
            next: 0,
            buffered_to: 0.0,
            started: None,
            waiting: None,
            stalls: 0,
            stall_time: Duration::ZERO,
            demand: None,
            demanded_at: self.now,
            delivered: 0,
            failed: 0,
            ended: false,
            buffer_goal: 30.0,
            first_played: false,
        };
        self.add(joins_after, config, Some(player))
    }

    /// A seed that has (or gets, live) everything.
    pub fn add_seed(&mut self, joins_after: Duration) -> usize {
        self.add(joins_after, Config::seed(self.setting.integrity), None)
    }

    fn add(&mut self, joins_after: Duration, config: Config, player: Option<Player>) -> usize {
        let index = self.nodes.len();
        let id = PeerId(0x1000 + index as u64);
        let engine = Engine::new(config, 42 + index as u64, self.now);
        self.nodes.push(Node {
            id,
            engine,
            seed: player.is_none(),
            store: BTreeMap::new(),
            incoming: BTreeMap::new(),
            player,
            alive: false,
            uplink_free: self.now,
            uplink: self.setting.uplink,
            line: None,
            wake_number: 0,
            known_to: None,
            fetches: BTreeMap::new(),
            hostile: false,
            disconnects: Vec::new(),
            events: Vec::new(),
            joined: self.now + joins_after,
        });
        self.at(joins_after, Happening::Join(index));
        index
    }

    /// Takes a node away without a word.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].alive = false;
        let id = self.nodes[index].id;
        let others: Vec<PeerId> =
            self.links.keys().filter(|(from, _)| *from == id).map(|(_, to)| *to).collect::<Vec<_>>();
        for other in others {
            self.unlink(id, other);
            // Data channels notice after a while.
            let survivor = self.index_of(other);
            self.later(Duration::from_secs(5), move |world| {
                world.input(survivor, Input::PeerDisconnected { peer: id });
            });
        }
    }

    pub fn run_until(&mut self, until: Duration) {
        let end = Now::from_micros(1_000_000) + until;
        while let Some(Reverse((at, number))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = at;
            let Some(happening) = self.happenings.remove(&number) else { continue };
            self.happen(happening);
        }
        self.now = end;
    }

    /// Runs until every player that is alive has played to the end.
    pub fn run_to_the_end(&mut self) {
        let limit = SEGMENT * (self.setting.segments as u32) * 3 + Duration::from_secs(60);
        let mut until = self.now.since(Now::from_micros(1_000_000));
        while until < limit {
            until += Duration::from_secs(1);
            self.run_until(until);
            if self.players().all(|player| player.ended) {
                return;
            }
        }
        panic!("players did not come to the end: {:?}", self.players().collect::<Vec<_>>());
    }

    pub fn players(&self) -> impl Iterator<Item = &Player> {
        self.nodes.iter().filter(|node| node.alive).filter_map(|node| node.player.as_ref())
    }

    /// The share of all segment bytes that came over data channels.
    pub fn offload(&self) -> f64 {
        let (mut http, mut peers) = (0, 0);
        for node in self.nodes.iter().filter(|node| !node.seed) {
            let stats = node.engine.stats();
            http += stats.http_bytes;
            peers += stats.seed_bytes + stats.viewer_bytes;
        }
        peers as f64 / (http + peers) as f64
    }

    fn index_of(&self, id: PeerId) -> usize {
        (id.0 - 0x1000) as usize
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Join(index) => self.join(index),
            Happening::Wake(index, number) => {
                if self.nodes[index].wake_number == number {
                    self.input(index, Input::Timeout);
                }
            }
            Happening::Tick(index) => self.tick(index),
            Happening::Frame { from, to, link, frame } => {
                if self.links.get(&(from, to)) == Some(&link) {
                    self.receive(from, to, &frame);
                }
            }
            Happening::Sent { from, to, link, chunk } => {
                if self.links.get(&(self.nodes[from].id, to)) == Some(&link) {
                    self.input(from, Input::ChunkSent { peer: to, chunk });
                }
            }
            Happening::HttpHead(index, fetch) => self.http_head(index, fetch),
            Happening::HttpChunk(index, fetch, chunk) => self.http_chunk(index, fetch, chunk),
            Happening::HttpDone(index, fetch) => {
                if self.nodes[index].fetches.remove(&fetch).is_some() {
                    let total = SegmentLen::new(self.setting.segment_len).unwrap();
                    self.input(index, Input::FetchDone { fetch, total });
                }
            }
            Happening::CatalogueHere(index) => {
                let found = self.setting.catalogue_file;
                if found {
                    let first = self.first_listed();
                    let batch = batch(&self.setting, first..self.published);
                    self.input(index, Input::Batch { source: BatchSource::Origin, bytes: batch.as_bytes() });
                }
                self.input(index, Input::CatalogueFetched { found });
            }
            Happening::Verified(index, verify, valid) => {
                self.input(index, Input::BatchVerified { verify, verdict: Verdict::of(valid) })
            }
            Happening::Publish(count) => {
                self.published = count;
                for index in 0..self.nodes.len() {
                    if self.nodes[index].alive {
                        self.tell_playlist(index);
                    }
                }
                if count < self.setting.segments {
                    self.at(SEGMENT, Happening::Publish(count + 1));
                }
            }
            Happening::Link(a, b) => self.link(a, b),
            Happening::AtLine(line, bytes, then) => {
                // What was given up meanwhile does not come any more.
                if let Happening::HttpChunk(index, fetch, _) = *then
                    && !self.nodes[index].fetches.contains_key(&fetch)
                {
                    return;
                }
                let now = self.now;
                let (rate, free) = &mut self.lines[line];
                *free = now.max(*free) + Duration::from_secs_f64(bytes as f64 / *rate);
                let after = free.since(now);
                self.at(after, *then);
            }
            Happening::Call(number) => {
                if let Some(call) = self.calls.remove(&number) {
                    call(self);
                }
            }
        }
    }

    fn first_listed(&self) -> u64 {
        self.setting.live_window.map_or(0, |window| self.published.saturating_sub(window))
    }

    fn join(&mut self, index: usize) {
        self.nodes[index].alive = true;
        self.nodes[index].joined = self.now;
        self.tell_playlist(index);
        let others: Vec<usize> = (0..self.nodes.len()).filter(|i| *i != index && self.nodes[*i].alive).collect();
        let peers = others.len() as u32 + 1;
        self.input(index, Input::SwarmSize { peers });
        for other in others {
            self.at(Duration::from_millis(400), Happening::Link(index, other));
        }
        if let Some(window) = self.setting.live_window {
            let published = self.published;
            if let Some(player) = &mut self.nodes[index].player {
                player.next = published.saturating_sub(3).max(published.saturating_sub(window));
                player.position = player.next as f64 * SEGMENT.as_secs_f64();
                player.buffered_to = player.position;
            }
        }
        if self.nodes[index].player.is_some() {
            self.tick(index);
        }
    }

    fn tell_playlist(&mut self, index: usize) {
        let first = self.first_listed();
        let from = self.nodes[index].known_to.unwrap_or(first);
        let segments: Vec<PlaylistSegment> = (from..self.published)
            .map(|seq| PlaylistSegment {
                seq: SeqNo(seq),
                start: MediaTime::from_secs(seq as f64 * SEGMENT.as_secs_f64()),
                duration: SEGMENT,
            })
            .collect();
        self.nodes[index].known_to = Some(self.published);
        let live = self.setting.live_window.is_some();
        let new = segments.clone();
        self.input(index, Input::Playlist(PlaylistUpdate { track: TRACK, live, first: SeqNo(first), segments }));
        if self.nodes[index].seed {
            for segment in new {
                self.seed_segment(index, segment.seq.0);
            }
        }
    }

    fn seed_segment(&mut self, index: usize, seq: u64) {
        let id = SegmentId { track: TRACK, seq: SeqNo(seq) };
        let bytes = segment_bytes(id, self.setting.segment_len);
        let (len, hashes, _) = RootHash::of_segment(&bytes).unwrap();
        self.nodes[index].store.insert(id, bytes);
        let batch = batch(&self.setting, std::iter::once(seq));
        self.input(index, Input::Batch { source: BatchSource::Own, bytes: batch.as_bytes() });
        self.input(index, Input::SegmentStored { segment: id, len, hashes });
    }

    pub fn link(&mut self, a: usize, b: usize) {
        if !self.nodes[a].alive || !self.nodes[b].alive {
            return;
        }
        let (a_id, b_id) = (self.nodes[a].id, self.nodes[b].id);
        self.next_link += 1;
        self.links.insert((a_id, b_id), self.next_link);
        self.links.insert((b_id, a_id), self.next_link);
        self.input(a, Input::PeerConnected { peer: b_id });
        self.input(b, Input::PeerConnected { peer: a_id });
    }

    fn unlink(&mut self, a: PeerId, b: PeerId) {
        self.links.remove(&(a, b));
        self.links.remove(&(b, a));
    }

    fn send(&mut self, from: usize, to: PeerId, frame: Vec<u8>) -> Option<(Now, u64)> {
        let from_id = self.nodes[from].id;
        let link = *self.links.get(&(from_id, to))?;
        let start = self.nodes[from].uplink_free.max(self.now);
        let left = start + Duration::from_secs_f64(frame.len() as f64 / self.nodes[from].uplink);
        self.nodes[from].uplink_free = left;
        let arrives = left + self.setting.latency;
        let at_home = self.nodes[from].line;
        let line = self.nodes[self.index_of(to)].line.filter(|line| at_home != Some(*line));
        let bytes = frame.len();
        self.through(line, arrives.since(self.now), bytes, Happening::Frame { from: from_id, to, link, frame });
        Some((left, link))
    }

    /// Lets something happen when so many bytes, which are there `after` that time, have passed the line as well.
    fn through(&mut self, line: Option<usize>, after: Duration, bytes: usize, happening: Happening) {
        match line {
            Some(line) => self.at(after, Happening::AtLine(line, bytes, Box::new(happening))),
            None => self.at(after, happening),
        }
    }

    fn receive(&mut self, from: PeerId, to: PeerId, frame: &[u8]) {
        let index = self.index_of(to);
        if !self.nodes[index].alive {
            return;
        }
        if !Frame::is_data(frame[0]) {
            return self.input(index, Input::Control { peer: from, frame });
        }
        let header = DataHeader::parse(frame.first_chunk::<DATA_HEADER_LEN>().unwrap(), frame.len()).unwrap();
        let payload = &frame[DATA_HEADER_LEN..];
        let node = &mut self.nodes[index];
        let verdict = node.engine.handle_data(self.now, from, &header, payload.len() as u32);
        if verdict != DataVerdict::Ignore {
            node.incoming.entry((from, header.chunk)).or_default().extend_from_slice(payload);
        }
        if verdict == DataVerdict::AppendLast {
            let hash = ChunkHash::of(&node.incoming[&(from, header.chunk)]);
            self.input(index, Input::ChunkReceived { peer: from, chunk: header.chunk, hash });
        }
    }

    pub fn input(&mut self, index: usize, input: Input<'_>) {
        if !self.nodes[index].alive {
            return;
        }
        self.nodes[index].engine.handle_input(self.now, input);
        self.drain(index);
    }

    fn drain(&mut self, index: usize) {
        for _ in 0..100_000 {
            match self.nodes[index].engine.poll_output() {
                Output::Timeout { at } => {
                    self.nodes[index].wake_number += 1;
                    let number = self.nodes[index].wake_number;
                    if let Some(at) = at {
                        self.at(at.since(self.now), Happening::Wake(index, number));
                    }
                    return;
                }
                output => self.obey(index, output),
            }
        }
        panic!("the engine never came to rest");
    }

    fn obey(&mut self, index: usize, output: Output) {
        match output {
            Output::Timeout { .. } | Output::WantNeighbours { .. } => {}
            Output::Send { peer, frame } => {
                assert!(frame.len() <= 16 * 1024, "a control frame must fit every stack");
                self.send(index, peer, frame);
            }
            Output::SendChunk { peer, chunk, offset, len, piece_len } => {
                self.send_chunk(index, peer, DataHeader { chunk, offset }, len, piece_len);
            }
            Output::Disconnect { peer, reason } => {
                let id = self.nodes[index].id;
                self.nodes[index].disconnects.push((peer, reason));
                self.nodes[index].incoming.retain(|(from, _), _| *from != peer);
                self.unlink(id, peer);
                let other = self.index_of(peer);
                self.later(self.setting.latency, move |world| {
                    world.nodes[other].incoming.retain(|(from, _), _| *from != id);
                    world.input(other, Input::PeerDisconnected { peer: id });
                });
            }
            Output::Fetch { fetch, segment, range } => {
                let range = range.map_or((0, self.setting.segment_len), |range| (range.start, range.end));
                assert_eq!(range.0 % CHUNK_LEN, 0);
                assert!(segment.seq.0 < self.published, "asked for {segment} before it was published");
                self.nodes[index].fetches.insert(fetch, (segment, range.0, range.1));
                self.origin_requests.push((index, segment));
                self.at(self.setting.origin_ttfb, Happening::HttpHead(index, fetch));
                if self.claimants_to_die > 0 {
                    self.claimants_to_die -= 1;
                    // What it said is on its way.
                    self.later(self.setting.latency / 2, move |world| world.nodes[index].alive = false);
                }
            }
            Output::AbortFetch { fetch } => {
                self.nodes[index].fetches.remove(&fetch);
            }
            Output::FetchCatalogue => self.at(self.setting.origin_ttfb, Happening::CatalogueHere(index)),
            Output::VerifyBatch { verify, batch } => {
                let valid = batch.signature() == stand_in(&batch.signing_bytes());
                self.at(Duration::from_millis(1), Happening::Verified(index, verify, valid));
            }
            Output::KeepChunk { peer, chunk, segment_len } => {
                let bytes = self.nodes[index].incoming.remove(&(peer, chunk)).expect("the chunk that is to be kept");
                self.put(index, chunk.segment, segment_len.bytes(), chunk.index.0 * CHUNK_LEN, &bytes);
            }
            Output::DropChunk { peer, chunk } => {
                self.nodes[index].incoming.remove(&(peer, chunk));
            }
            Output::Deliver { demand, segment, report } => {
                let sum = report.http_bytes + report.seed_bytes + report.viewer_bytes;
                assert!(sum == report.len.bytes() || sum == 0, "{report:?}");
                assert!(report.requested <= report.first_byte && report.first_byte <= report.complete, "{report:?}");
                self.delivered(index, demand, segment);
            }
            Output::Fail { demand } => {
                let player = self.nodes[index].player.as_mut().unwrap();
                assert_eq!(player.demand, Some(demand));
                player.demand = None;
                player.failed += 1;
            }
            Output::Evict { segment } => {
                self.nodes[index].store.remove(&segment);
            }
            Output::Event(event) => self.nodes[index].events.push(event),
        }
    }

    fn send_chunk(&mut self, index: usize, peer: PeerId, part: DataHeader, len: u32, piece_len: u32) {
        let chunk = part.chunk;
        let at = (chunk.index.0 * CHUNK_LEN + part.offset) as usize;
        let mut bytes = self.nodes[index].store[&chunk.segment][at..at + len as usize].to_vec();
        if self.nodes[index].hostile {
            bytes[len as usize / 2] ^= 1;
        }
        let mut sent = None;
        for (i, piece) in bytes.chunks(piece_len as usize).enumerate() {
            let header = DataHeader { chunk, offset: part.offset + i as u32 * piece_len };
            sent = self.send(index, peer, [&header.encode()[..], piece].concat());
        }
        if let Some((left, link)) = sent {
            self.at(left.since(self.now), Happening::Sent { from: index, to: peer, link, chunk });
        }
    }

    fn put(&mut self, index: usize, segment: SegmentId, len: u32, at: u32, bytes: &[u8]) {
        let place = self.nodes[index].store.entry(segment).or_insert_with(|| vec![0; len as usize]);
        place[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    // The origin.

    fn origin_segment(&self, segment: SegmentId) -> Vec<u8> {
        let mut bytes = segment_bytes(segment, self.setting.segment_len);
        if self.origin_differs {
            bytes[0] ^= 0xff;
        }
        bytes
    }

    fn http_head(&mut self, index: usize, fetch: FetchId) {
        let Some(&(_, start, end)) = self.nodes[index].fetches.get(&fetch) else { return };
        if self.origin_down {
            self.nodes[index].fetches.remove(&fetch);
            return self.input(index, Input::FetchFailed { fetch, status: Some(503) });
        }
        let total = SegmentLen::new(self.setting.segment_len).unwrap();
        let ranged = (start, end) != (0, total.bytes());
        let line = self.nodes[index].line;
        let mut at = start;
        while at < end {
            let chunk = ChunkIndex(at / CHUNK_LEN);
            at = (at + CHUNK_LEN).min(end);
            let after = Duration::from_secs_f64(f64::from(at - start) / self.setting.origin_rate);
            let bytes = (at - chunk.0 * CHUNK_LEN) as usize;
            self.through(line, after, bytes, Happening::HttpChunk(index, fetch, chunk));
            if at == end {
                self.through(line, after, 0, Happening::HttpDone(index, fetch));
            }
        }
        self.input(index, Input::FetchHead { fetch, ranged, total: Some(total) });
    }

    fn http_chunk(&mut self, index: usize, fetch: FetchId, chunk: ChunkIndex) {
        let Some(&(segment, ..)) = self.nodes[index].fetches.get(&fetch) else { return };
        let bytes = self.origin_segment(segment);
        let start = chunk.0 * CHUNK_LEN;
        let end = (start + CHUNK_LEN).min(self.setting.segment_len);
        let bytes = &bytes[start as usize..end as usize];
        self.origin_bytes += bytes.len() as u64;
        self.put(index, segment, self.setting.segment_len, start, bytes);
        let hash = ChunkHash::of(bytes);
        self.input(index, Input::FetchChunk { fetch, index: chunk, len: end - start, hash });
    }

    // The player.

    fn delivered(&mut self, index: usize, demand: DemandId, segment: SegmentId) {
        let expected = self.origin_segment(segment);
        assert!(self.nodes[index].store[&segment] == expected, "node {index} was handed wrong bytes of {segment}");
        let player = self.nodes[index].player.as_mut().unwrap();
        assert_eq!(player.demand, Some(demand));
        player.demand = None;
        player.delivered += 1;
        player.buffered_to = (segment.seq.0 + 1) as f64 * SEGMENT.as_secs_f64();
        player.next = segment.seq.0 + 1;
    }

    fn tick(&mut self, index: usize) {
        if !self.nodes[index].alive {
            return;
        }
        let now = self.now;
        let published = self.published;
        let end = self.setting.segments;
        let Some(player) = &mut self.nodes[index].player else { return };
        if player.position + 0.001 < player.buffered_to {
            if let Some(since) = player.waiting.take() {
                if player.first_played {
                    player.stalls += 1;
                    player.stall_time += now.since(since);
                } else {
                    player.started = Some(now);
                }
            }
            player.first_played = true;
            player.started.get_or_insert(now);
            player.position = (player.position + TICK.as_secs_f64()).min(player.buffered_to);
        } else if player.next >= end {
            player.ended = true;
        } else {
            player.waiting.get_or_insert(now);
        }
        let wants = player.demand.is_none()
            && player.next < published
            && player.buffered_to - player.position < player.buffer_goal;
        let playhead = Playhead {
            position: MediaTime::from_secs(player.position),
            buffered_to: MediaTime::from_secs(player.buffered_to),
            rate_permille: 1000,
        };
        let demand = wants.then(|| {
            let demand = DemandId(player.next + 1_000 * (player.failed + 1));
            player.demand = Some(demand);
            player.demanded_at = now;
            (demand, SegmentId { track: TRACK, seq: SeqNo(player.next) })
        });
        self.input(index, Input::Playhead(playhead));
        if let Some((demand, segment)) = demand {
            self.input(index, Input::Demand { demand, segment, kind: MediaKind::Main });
        }
        self.at(TICK, Happening::Tick(index));
    }

    /// How often the stream's bytes left the origin for viewers.
    pub fn copies(&self) -> f64 {
        self.origin_bytes as f64 / (u64::from(self.setting.segment_len) * self.setting.segments) as f64
    }
}
