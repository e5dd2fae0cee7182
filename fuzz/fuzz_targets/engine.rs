//! A viewer among neighbours that say and send whatever they like: it never panics, never keeps a wrong byte, speaks only to
//! who is there, and comes to rest after every input.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arbitrary::Arbitrary;
use headwater_swarm::{
    BatchSource, Config, DataVerdict, DemandId, Engine, FetchId, Input, Integrity, MediaKind, MediaTime, Now, Output,
    Playhead, PlaylistSegment, PlaylistUpdate, Verdict, VerifyId,
};
use headwater_wire::catalogue::BATCH_VERSION;
use headwater_wire::frame::encode_control;
use headwater_wire::limits::MIN_MAX_FRAME;
use headwater_wire::{
    BatchBody, ChunkHash, ChunkId, ChunkIndex, DataHeader, Entry, Frame, Hello, Message, PeerId, PublicKey, Role,
    RootHash, Scope, SegmentId, SegmentLen, SeqNo, SeqRange, Signature, SignedBatch, TrackId,
};
use libfuzzer_sys::fuzz_target;

const SEGMENTS: u64 = 8;
const CHUNKS: u32 = 3;
const TRACK: TrackId = TrackId(7);

#[derive(Debug, Arbitrary)]
enum Step {
    Wait {
        ms: u16,
    },
    Connect {
        peer: u8,
    },
    Gone {
        peer: u8,
    },
    /// A well-behaved neighbour comes, who holds everything.
    Meet {
        peer: u8,
        uploads: bool,
    },
    /// A control frame of any content.
    Say {
        peer: u8,
        frame: Vec<u8>,
    },
    /// A data frame of any chunk, with the right bytes or wrong ones.
    Data {
        peer: u8,
        seq: u8,
        chunk: u8,
        offset: u32,
        len: u32,
        good: bool,
    },
    /// The next chunk that was asked of anybody comes whole.
    Serve {
        good: bool,
    },
    Playhead {
        position_s: u8,
        buffered_s: u8,
    },
    Demand {
        seq: u8,
    },
    Cancel {
        demand: u8,
    },
    /// The origin answers its oldest request.
    Origin {
        ok: bool,
        good: bool,
    },
    /// The oldest signature that waits is checked.
    Verified {
        ok: bool,
    },
    Sent,
    Size {
        peers: u32,
    },
}

fn segment(seq: u8) -> SegmentId {
    SegmentId { track: TRACK, seq: SeqNo(u64::from(seq) % (SEGMENTS + 2)) }
}

fn len() -> SegmentLen {
    SegmentLen::new(CHUNKS * 65_536 - 100).expect("a length in bounds")
}

fn hash(segment: SegmentId, index: u32) -> ChunkHash {
    ChunkHash::of(&[segment.seq.0 as u8, index as u8])
}

struct World {
    engine: Engine,
    now: Now,
    connected: BTreeSet<PeerId>,
    /// What came of each chunk of each sender, as its hash.
    incoming: BTreeMap<(PeerId, ChunkId), ChunkHash>,
    asked: Vec<(PeerId, ChunkId)>,
    fetches: BTreeMap<FetchId, (SegmentId, u32)>,
    verifies: Vec<VerifyId>,
    sending: Vec<(PeerId, ChunkId)>,
    demands: BTreeMap<DemandId, SegmentId>,
}

impl World {
    fn new() -> Self {
        let config =
            Config { memory_budget: 600_000, max_neighbours: 4, ..Config::viewer(Integrity::Signed(Scope::Any)) };
        let now = Now::from_micros(0);
        let mut world = Self {
            engine: Engine::new(config, 1, now),
            now,
            connected: BTreeSet::new(),
            incoming: BTreeMap::new(),
            asked: Vec::new(),
            fetches: BTreeMap::new(),
            verifies: Vec::new(),
            sending: Vec::new(),
            demands: BTreeMap::new(),
        };
        let listed = |seq| PlaylistSegment {
            seq: SeqNo(seq),
            start: MediaTime::from_secs(seq as f64 * 2.0),
            duration: Duration::from_secs(2),
        };
        let segments = (0..SEGMENTS).map(listed).collect();
        world.input(Input::Playlist(PlaylistUpdate { track: TRACK, live: false, first: SeqNo(0), segments }));
        let entries = (0..SEGMENTS)
            .map(|seq| {
                let id = SegmentId { track: TRACK, seq: SeqNo(seq) };
                let hashes: Vec<ChunkHash> = (0..CHUNKS).map(|index| hash(id, index)).collect();
                Entry { seq: id.seq, len: len(), root: RootHash::of_chunks(len(), &hashes), hashes }
            })
            .collect();
        let body = BatchBody { version: BATCH_VERSION, scope: Scope::Any, track: TRACK, issued_ms: 1, entries };
        let bytes = body.signing_bytes().expect("a batch in bounds");
        let batch = SignedBatch::assemble(PublicKey([1; 32]), Signature([0; 64]), &bytes).expect("a batch in bounds");
        world.input(Input::Batch { source: BatchSource::Own, bytes: batch.as_bytes() });
        world
    }

    fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(self.now, input);
        for _ in 0..20_000 {
            if self.output() {
                return;
            }
        }
        panic!("the engine never came to rest");
    }

    /// Does what the engine says; true when it has no more to say.
    fn output(&mut self) -> bool {
        match self.engine.poll_output() {
            Output::Timeout { .. } => return true,
            Output::Send { peer, frame } => {
                assert!(self.connected.contains(&peer), "spoke to who is not there");
                assert!(frame.len() <= MIN_MAX_FRAME as usize);
                if let Ok(Frame::Control(Message::Request { segment, chunks, .. })) = Frame::parse(&frame) {
                    self.asked.extend(chunks.iter().map(|index| (peer, ChunkId { segment, index })));
                }
            }
            Output::SendChunk { peer, chunk, .. } => {
                assert!(self.connected.contains(&peer));
                self.sending.push((peer, chunk));
            }
            Output::Disconnect { peer, .. } => {
                assert!(self.connected.remove(&peer), "let go who is not there");
                self.forget(peer);
            }
            Output::Fetch { fetch, segment, range } => {
                self.fetches.insert(fetch, (segment, range.map_or(0, |range| range.start / 65_536)));
            }
            Output::AbortFetch { fetch } => {
                assert!(self.fetches.remove(&fetch).is_some(), "aborted what is not under way");
            }
            Output::VerifyBatch { verify, .. } => self.verifies.push(verify),
            Output::KeepChunk { peer, chunk, .. } => {
                let came = self.incoming.remove(&(peer, chunk));
                assert_eq!(came, Some(hash(chunk.segment, chunk.index.0)), "kept a wrong byte");
            }
            Output::DropChunk { peer, chunk } => {
                self.incoming.remove(&(peer, chunk));
            }
            Output::Deliver { demand, segment, .. } => assert_eq!(self.demands.remove(&demand), Some(segment)),
            Output::Fail { demand } => assert!(self.demands.remove(&demand).is_some()),
            Output::Evict { .. } | Output::WantNeighbours { .. } | Output::FetchCatalogue | Output::Event(_) => {}
        }
        false
    }

    fn forget(&mut self, peer: PeerId) {
        self.asked.retain(|(of, _)| *of != peer);
        self.sending.retain(|(to, _)| *to != peer);
        self.incoming.retain(|(of, _), _| *of != peer);
    }

    fn data(&mut self, peer: PeerId, chunk: ChunkId, offset: u32, len: u32, good: bool) {
        let came = if good { hash(chunk.segment, chunk.index.0) } else { ChunkHash::of(b"a lie") };
        match self.engine.handle_data(self.now, peer, &DataHeader { chunk, offset }, len) {
            DataVerdict::Ignore => {}
            DataVerdict::Append => {
                self.incoming.insert((peer, chunk), came);
            }
            DataVerdict::AppendLast => {
                self.incoming.insert((peer, chunk), came);
                self.input(Input::ChunkReceived { peer, chunk, hash: came });
            }
        }
    }

    fn origin(&mut self, ok: bool, good: bool) {
        let Some((fetch, (segment, from))) = self.fetches.pop_first() else { return };
        if !ok {
            self.input(Input::FetchFailed { fetch, status: Some(503) });
            return;
        }
        self.fetches.insert(fetch, (segment, from));
        self.input(Input::FetchHead { fetch, ranged: from > 0, total: Some(len()) });
        for index in from..CHUNKS {
            if !self.fetches.contains_key(&fetch) {
                return;
            }
            let Some(chunk_len) = len().chunk_len(ChunkIndex(index)) else { return };
            let came = if good { hash(segment, index) } else { ChunkHash::of(b"another version") };
            self.input(Input::FetchChunk { fetch, index: ChunkIndex(index), len: chunk_len, hash: came });
        }
        if self.fetches.remove(&fetch).is_some() {
            self.input(Input::FetchDone { fetch, total: len() });
        }
    }

    fn step(&mut self, number: usize, step: Step) {
        let peer = |peer: u8| PeerId(u64::from(peer % 6));
        match step {
            Step::Wait { ms } => {
                self.now = self.now + Duration::from_millis(ms.into());
                self.input(Input::Timeout);
            }
            Step::Connect { peer: name } => {
                self.connected.insert(peer(name));
                self.forget(peer(name));
                self.input(Input::PeerConnected { peer: peer(name) });
            }
            Step::Meet { peer: name, uploads } => {
                self.step(number, Step::Connect { peer: name });
                let (features, required) = (Vec::new(), Vec::new());
                let (role, max_frame, nonce) = (Role::Viewer, 65_536, u64::from(name));
                let hello = Hello { version: 1, role, max_frame, uploads, nonce, features, required };
                let ranges = vec![SeqRange { first: SeqNo(0), count: SEGMENTS }];
                for message in [Message::Hello(hello), Message::Have { track: TRACK, full: true, ranges }] {
                    self.step(number, Step::Say { peer: name, frame: encode_control(&message) });
                }
            }
            Step::Gone { peer: name } => {
                self.connected.remove(&peer(name));
                self.forget(peer(name));
                self.input(Input::PeerDisconnected { peer: peer(name) });
            }
            Step::Say { peer: name, frame } => {
                if self.connected.contains(&peer(name)) {
                    self.input(Input::Control { peer: peer(name), frame: &frame });
                }
            }
            Step::Data { peer: name, seq, chunk, offset, len, good } => {
                if self.connected.contains(&peer(name)) {
                    let chunk = ChunkId { segment: segment(seq), index: ChunkIndex(chunk.into()) };
                    self.data(peer(name), chunk, offset, len, good);
                }
            }
            Step::Serve { good } => {
                if let Some((of, chunk)) = self.asked.pop() {
                    let whole = len().chunk_len(chunk.index).unwrap_or(65_536);
                    self.data(of, chunk, 0, whole, good);
                }
            }
            Step::Playhead { position_s, buffered_s } => self.input(Input::Playhead(Playhead {
                position: MediaTime::from_secs(position_s.into()),
                buffered_to: MediaTime::from_secs((u16::from(position_s) + u16::from(buffered_s)).into()),
                rate_permille: 1000,
            })),
            Step::Demand { seq } => {
                let demand = DemandId(number as u64);
                self.demands.insert(demand, segment(seq));
                self.input(Input::Demand { demand, segment: segment(seq), kind: MediaKind::Main });
            }
            Step::Cancel { demand } => {
                let demand = DemandId(demand.into());
                self.demands.remove(&demand);
                self.input(Input::DemandCancelled { demand });
            }
            Step::Origin { ok, good } => self.origin(ok, good),
            Step::Verified { ok } => {
                if !self.verifies.is_empty() {
                    let verify = self.verifies.remove(0);
                    // What a stranger signs is never the publisher's: nothing but `Own` batches is true here.
                    let verdict = if ok { Verdict::OtherKey } else { Verdict::Forged };
                    self.input(Input::BatchVerified { verify, verdict });
                }
            }
            Step::Sent => {
                if !self.sending.is_empty() {
                    let (peer, chunk) = self.sending.remove(0);
                    self.input(Input::ChunkSent { peer, chunk });
                }
            }
            Step::Size { peers } => self.input(Input::SwarmSize { peers }),
        }
        assert!(self.engine.stats().neighbours <= 4);
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut world = World::new();
    for (number, step) in steps.into_iter().take(400).enumerate() {
        world.step(number, step);
    }
    // Whatever happened: once the origin answers, nobody waits for ever.
    for _ in 0..200 {
        if world.demands.is_empty() {
            return;
        }
        world.now = world.now + Duration::from_millis(500);
        world.input(Input::Timeout);
        while !world.fetches.is_empty() {
            world.origin(true, true);
        }
    }
    assert!(world.demands.is_empty(), "left a player waiting: {:?}", world.demands);
});
