//! No sequence of inputs, however absurd, makes the engine panic, spin, or break its word to the shell.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headwater_swarm::{
    BatchSource, Config, DataVerdict, DemandId, Engine, FetchId, Input, Integrity, MediaKind, MediaTime, Now, Output,
    Playhead, PlaylistSegment, PlaylistUpdate, Verdict, VerifyId,
};
use headwater_wire::catalogue::BATCH_VERSION;
use headwater_wire::frame::encode_control;
use headwater_wire::message::ByeReason;
use headwater_wire::{
    BatchBody, ChunkHash, ChunkId, ChunkIndex, ChunkRange, DataHeader, Entry, Frame, Hello, Message, PeerId, PublicKey,
    RejectReason, Role, RootHash, Scope, SegmentId, SegmentLen, SeqNo, SeqRange, Signature, SignedBatch, TrackId,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Wait(u32),
    Playlist {
        track: u64,
        first: u64,
        count: u64,
        live: bool,
    },
    Playhead {
        position: i64,
        buffered: i64,
        rate: u32,
    },
    Demand {
        segment: SegmentId,
    },
    CancelDemand(u64),
    Stored {
        segment: SegmentId,
        chunks: u32,
    },
    Connect(u64),
    Gone(u64),
    Say(u64, Message),
    Garbage(u64, Vec<u8>),
    Data {
        peer: u64,
        chunk: ChunkId,
        offset: u32,
        len: u32,
    },
    /// A peer answers one of the engine's requests.
    Serve {
        which: usize,
        good: bool,
        cut: bool,
    },
    /// Answers something the engine asked for: sent chunks, verifications, fetches.
    Answer {
        which: usize,
        good: bool,
        extra: u32,
    },
    CatalogueFetched(bool),
    /// The publisher signs a segment.
    Signed {
        segment: SegmentId,
        chunks: u32,
        issued_ms: u64,
    },
    SwarmSize(u32),
}

fn segment() -> impl Strategy<Value = SegmentId> {
    (0..2_u64, prop_oneof![20 => 0..12_u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)])
        .prop_map(|(track, seq)| SegmentId { track: TrackId(track), seq: SeqNo(seq) })
}

fn chunks() -> impl Strategy<Value = ChunkRange> {
    (0..5_u32, 1..5_u32).prop_map(|(first, count)| ChunkRange { first: ChunkIndex(first), count })
}

fn seq_ranges() -> impl Strategy<Value = Vec<SeqRange>> {
    prop_oneof![
        (0..10_u64, 1..6_u64).prop_map(|(first, count)| vec![SeqRange { first: SeqNo(first), count }]),
        Just(vec![SeqRange { first: SeqNo(0), count: u64::MAX }]),
        Just(Vec::new()),
    ]
}

/// Mostly the one size that a segment has; sometimes another, as after a mistake or a lie.
fn size(segment: SegmentId, other: u32) -> u32 {
    if other > 3 { other - 3 } else { (segment.seq.0 % 4) as u32 + 1 }
}

/// The length and hashes that every honest peer gives a segment of so many chunks.
fn truth(chunks: u32) -> (SegmentLen, Vec<ChunkHash>, RootHash) {
    let len = SegmentLen::new(chunks.clamp(1, 4) * 65_536 - 100).unwrap();
    let hashes: Vec<ChunkHash> = (0..len.chunk_count()).map(|i| ChunkHash::of(&[i as u8])).collect();
    let root = RootHash::of_chunks(len, &hashes);
    (len, hashes, root)
}

fn good_hello() -> Hello {
    Hello {
        version: 1,
        role: Role::Viewer,
        max_frame: 65_536,
        uploads: true,
        nonce: 5,
        features: vec![],
        required: vec![],
    }
}

fn message() -> impl Strategy<Value = Message> {
    let hello = (0..3_u16, any::<bool>(), any::<bool>(), any::<u64>()).prop_map(|(version, seed, uploads, nonce)| {
        Message::Hello(Hello {
            version,
            role: if seed { Role::Seed } else { Role::Viewer },
            max_frame: 16_384,
            uploads,
            nonce,
            features: vec![],
            required: vec![],
        })
    });
    let track = (0..2_u64).prop_map(TrackId);
    prop_oneof![
        1 => hello,
        3 => (track.clone(), any::<bool>(), seq_ranges())
            .prop_map(|(track, full, ranges)| Message::Have { track, full, ranges }),
        2 => (segment(), chunks()).prop_map(|(segment, range)| Message::HaveChunks { segment, chunks: vec![range] }),
        1 => (track.clone(), seq_ranges()).prop_map(|(track, ranges)| Message::Dropped { track, ranges }),
        1 => segment().prop_map(|segment| Message::Fetching { segment, chunks: None }),
        3 => (segment(), chunks(), 0..10_000_u32)
            .prop_map(|(segment, chunks, time_left_ms)| Message::Request { segment, chunks, time_left_ms }),
        1 => (segment(), chunks()).prop_map(|(segment, chunks)| Message::Cancel { segment, chunks }),
        1 => (segment(), chunks())
            .prop_map(|(segment, chunks)| Message::Reject { segment, chunks, reason: RejectReason::Busy }),
        1 => (track, 0..9_u64).prop_map(|(track, first)| Message::GetCatalogue {
            track,
            range: SeqRange { first: SeqNo(first), count: u64::MAX },
        }),
        1 => segment().prop_map(|segment| Message::GetHashes { segment }),
        6 => (segment(), 0..6_u32, prop::bool::weighted(0.9)).prop_map(|(segment, other, honest)| {
            let (len, mut hashes, _) = truth(size(segment, other));
            if !honest {
                hashes[0].0[0] ^= 1;
            }
            Message::Hashes { segment, len, first: 0, hashes }
        }),
        1 => any::<u32>().prop_map(|nonce| Message::Pong { nonce }),
        1 => Just(Message::Bye { reason: ByeReason::Leaving }),
        2 => (0..2_u64, 0..3_u64, prop::collection::vec(any::<u64>(), 1..17))
            .prop_map(|(track, epoch, nonces)| Message::Candidates { track: TrackId(track), epoch, nonces }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let peer = 0..4_u64;
    prop_oneof![
        4 => (0..300_000_u32).prop_map(Op::Wait),
        1 => (0..4_000_000_u32).prop_map(Op::Wait),
        2 => (0..2_u64, 0..5_u64, 0..10_u64, any::<bool>())
            .prop_map(|(track, first, count, live)| Op::Playlist { track, first, count, live }),
        2 => (-5..40_i64, -5..60_i64, prop_oneof![Just(0), Just(1000), Just(u32::MAX)])
            .prop_map(|(position, buffered, rate)| Op::Playhead { position, buffered, rate }),
        10 => segment().prop_map(|segment| Op::Demand { segment }),
        1 => (0..20_u64).prop_map(Op::CancelDemand),
        3 => (segment(), 0..6_u32).prop_map(|(segment, other)| Op::Stored { segment, chunks: size(segment, other) }),
        4 => peer.clone().prop_map(Op::Connect),
        4 => peer.clone().prop_map(|peer| Op::Say(peer, Message::Hello(good_hello()))),
        12 => (any::<usize>(), prop::bool::weighted(0.95), prop::bool::weighted(0.2))
            .prop_map(|(which, good, cut)| Op::Serve { which, good, cut }),
        1 => peer.clone().prop_map(Op::Gone),
        10 => (peer.clone(), message()).prop_map(|(peer, message)| Op::Say(peer, message)),
        1 => (peer.clone(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(peer, bytes)| Op::Garbage(peer, bytes)),
        6 => (peer, segment(), 0..5_u32, prop_oneof![Just(0_u32), 0..65_536_u32], 1..65_536_u32).prop_map(
            |(peer, segment, index, offset, len)| Op::Data {
                peer,
                chunk: ChunkId { segment, index: ChunkIndex(index) },
                offset,
                len,
            }
        ),
        10 => (any::<usize>(), prop::bool::weighted(0.8), any::<u32>())
            .prop_map(|(which, good, extra)| Op::Answer { which, good, extra }),
        1 => any::<bool>().prop_map(Op::CatalogueFetched),
        6 => (segment(), 0..6_u32, 0..5_u64).prop_map(|(segment, other, issued_ms)| Op::Signed {
            segment,
            chunks: size(segment, other),
            issued_ms
        }),
        1 => (0..5_u32).prop_map(Op::SwarmSize),
    ]
}

/// A shell that keeps the books the engine's contract speaks of.
#[derive(Default)]
struct Books {
    fetches: BTreeMap<FetchId, (SegmentId, u32)>,
    verifies: BTreeSet<VerifyId>,
    sending: Vec<(PeerId, ChunkId)>,
    /// How much of a chunk was sent.
    parts: BTreeMap<(PeerId, ChunkId), u32>,
    incoming: BTreeSet<(PeerId, ChunkId)>,
    /// What the engine asked of peers, in order.
    asked: Vec<(PeerId, ChunkId)>,
    demands: BTreeMap<DemandId, SegmentId>,
    /// What is in the store.
    held: BTreeMap<SegmentId, BTreeSet<u32>>,
    /// The hash of each chunk that a peer has sent.
    came: BTreeMap<(PeerId, ChunkId), ChunkHash>,
    /// Whether the publisher vouches for every byte.
    signed: bool,
    connected: BTreeSet<PeerId>,
}

impl Books {
    fn forget(&mut self, peer: PeerId) {
        self.sending.retain(|(to, _)| *to != peer);
        self.parts.retain(|(to, _), _| *to != peer);
        self.incoming.retain(|(from, _)| *from != peer);
        self.asked.retain(|(to, _)| *to != peer);
    }

    /// Nothing more is to come of these requests.
    fn answered(&mut self, peer: PeerId, segment: SegmentId, chunks: ChunkRange) {
        self.asked.retain(|(to, chunk)| {
            let named = chunk.segment == segment && (chunks.first.0..chunks.end()).contains(&chunk.index.0);
            *to != peer || !named
        });
    }

    fn drain(&mut self, engine: &mut Engine) -> Result<(), TestCaseError> {
        for _ in 0..10_000 {
            match engine.poll_output() {
                Output::Timeout { .. } => return Ok(()),
                Output::Send { peer, frame } => {
                    prop_assert!(frame.len() <= 16_384);
                    prop_assert!(self.connected.contains(&peer), "spoke to a peer that is not connected");
                    let Ok(Frame::Control(message)) = Frame::parse(&frame) else {
                        return Err(TestCaseError::fail("sent a frame that cannot be read"));
                    };
                    if let Message::Request { segment, chunks, .. } = message {
                        for index in chunks.iter() {
                            let ask = (peer, ChunkId { segment, index });
                            prop_assert!(!self.asked.contains(&ask), "asked the same peer twice at once");
                            let held = self.held.get(&segment).is_some_and(|held| held.contains(&index.0));
                            prop_assert!(!held, "asked for what it holds");
                            self.asked.push(ask);
                        }
                        let of_it = self.asked.iter().filter(|(to, _)| *to == peer).count();
                        prop_assert!(of_it <= 128, "asked more of a peer than it takes");
                    } else if let Message::Cancel { segment, chunks } = message {
                        self.answered(peer, segment, chunks);
                    }
                }
                Output::SendChunk { peer, chunk, offset, len, piece_len } => {
                    prop_assert!(self.connected.contains(&peer));
                    prop_assert!(len > 0 && piece_len > 0 && piece_len <= len);
                    let sent = self.parts.insert((peer, chunk), offset + len).unwrap_or(0);
                    // It begins anew where it was cancelled, or asked for once more.
                    prop_assert!(offset == 0 || offset == sent, "left a part of a chunk out");
                    self.sending.push((peer, chunk));
                }
                Output::Disconnect { peer, .. } => {
                    prop_assert!(self.connected.remove(&peer));
                    self.forget(peer);
                }
                Output::Fetch { fetch, segment, range } => {
                    prop_assert!(range.is_none_or(|range| range.start < range.end && range.start % 65_536 == 0));
                    let double = self.fetches.values().any(|(other, _)| *other == segment);
                    prop_assert!(!double, "fetched a segment twice at once");
                    self.fetches.insert(fetch, (segment, 0));
                }
                Output::AbortFetch { fetch } => {
                    prop_assert!(self.fetches.remove(&fetch).is_some(), "aborted a fetch that is not under way");
                }
                Output::VerifyBatch { verify, .. } => {
                    self.verifies.insert(verify);
                }
                Output::KeepChunk { peer, chunk, .. } => {
                    prop_assert!(self.incoming.remove(&(peer, chunk)), "kept a chunk that never came");
                    let right = ChunkHash::of(&[chunk.index.0 as u8]);
                    let is_right = self.came.get(&(peer, chunk)) == Some(&right);
                    prop_assert!(!self.signed || is_right, "kept a wrong byte");
                    self.held.entry(chunk.segment).or_default().insert(chunk.index.0);
                }
                Output::DropChunk { peer, chunk } => {
                    self.incoming.remove(&(peer, chunk));
                }
                Output::Deliver { demand, segment, report } => {
                    let held = self.held.get(&segment).map_or(0, BTreeSet::len);
                    prop_assert!(held as u32 >= report.len.chunk_count(), "delivered what is not there");
                    prop_assert_eq!(self.demands.remove(&demand), Some(segment));
                }
                Output::Fail { demand } => {
                    prop_assert!(self.demands.remove(&demand).is_some());
                }
                Output::Evict { segment } => {
                    self.held.remove(&segment);
                }
                Output::WantNeighbours { .. } | Output::FetchCatalogue | Output::Event(_) => {}
            }
        }
        Err(TestCaseError::fail("the engine never came to rest"))
    }
}

/// A player at the start of two known tracks, with three neighbours that hold all of them: what most runs begin with.
fn prelude() -> Vec<Op> {
    let mut ops = vec![Op::Playhead { position: 0, buffered: 4, rate: 1000 }];
    for track in 0..2 {
        ops.push(Op::Playlist { track, first: 0, count: 12, live: false });
        for seq in 0..12 {
            let segment = SegmentId { track: TrackId(track), seq: SeqNo(seq) };
            ops.push(Op::Signed { segment, chunks: size(segment, 0), issued_ms: 2 });
        }
    }
    for peer in 0..3 {
        ops.push(Op::Connect(peer));
        ops.push(Op::Say(peer, Message::Hello(good_hello())));
        for track in [TrackId(0), TrackId(1)] {
            let ranges = vec![SeqRange { first: SeqNo(0), count: 12 }];
            ops.push(Op::Say(peer, Message::Have { track, full: true, ranges }));
        }
    }
    ops
}

fn run(ops: Vec<Op>, open: bool) -> Result<(), TestCaseError> {
    let integrity = if open { Integrity::Open } else { Integrity::Signed(Scope::Any) };
    let config = Config { memory_budget: 500_000, max_neighbours: 3, ..Config::viewer(integrity) };
    let mut now = Now::from_micros(0);
    let mut engine = Engine::new(config, 1, now);
    let mut books = Books { signed: !open, ..Books::default() };
    for (i, op) in ops.into_iter().enumerate() {
        match op {
            Op::Wait(micros) => {
                now = now + Duration::from_micros(u64::from(micros));
                engine.handle_input(now, Input::Timeout);
            }
            Op::Playlist { track, first, count, live } => {
                let segments = (first..first + count)
                    .map(|seq| PlaylistSegment {
                        seq: SeqNo(seq),
                        start: MediaTime::from_secs(seq as f64 * 2.0),
                        duration: Duration::from_secs(2),
                    })
                    .collect();
                let update = PlaylistUpdate { track: TrackId(track), live, first: SeqNo(first), segments };
                engine.handle_input(now, Input::Playlist(update));
            }
            Op::Playhead { position, buffered, rate } => {
                let playhead = Playhead {
                    position: MediaTime::from_micros(position * 1_000_000),
                    buffered_to: MediaTime::from_micros(buffered * 1_000_000),
                    rate_permille: rate,
                };
                engine.handle_input(now, Input::Playhead(playhead));
            }
            Op::Demand { segment } => {
                let demand = DemandId(i as u64);
                books.demands.insert(demand, segment);
                engine.handle_input(now, Input::Demand { demand, segment, kind: MediaKind::Main });
            }
            Op::CancelDemand(number) => {
                books.demands.remove(&DemandId(number));
                engine.handle_input(now, Input::DemandCancelled { demand: DemandId(number) });
            }
            Op::Stored { segment, chunks } => {
                let (len, hashes, _) = truth(chunks);
                books.held.entry(segment).or_default().extend(0..len.chunk_count());
                engine.handle_input(now, Input::SegmentStored { segment, len, hashes });
            }
            Op::Connect(peer) => {
                books.connected.insert(PeerId(peer));
                books.forget(PeerId(peer));
                engine.handle_input(now, Input::PeerConnected { peer: PeerId(peer) });
            }
            Op::Gone(peer) => {
                books.connected.remove(&PeerId(peer));
                books.forget(PeerId(peer));
                engine.handle_input(now, Input::PeerDisconnected { peer: PeerId(peer) });
            }
            Op::Say(peer, message) => {
                if let Message::Reject { segment, chunks, .. } = &message {
                    books.answered(PeerId(peer), *segment, *chunks);
                }
                let frame = encode_control(&message);
                engine.handle_input(now, Input::Control { peer: PeerId(peer), frame: &frame });
            }
            Op::Garbage(peer, frame) => {
                engine.handle_input(now, Input::Control { peer: PeerId(peer), frame: &frame });
            }
            Op::Data { peer, chunk, offset, len } => {
                let header = DataHeader { chunk, offset };
                let peer = PeerId(peer);
                match engine.handle_data(now, peer, &header, len) {
                    DataVerdict::Ignore => {}
                    DataVerdict::Append => {
                        prop_assert!(books.connected.contains(&peer));
                        books.incoming.insert((peer, chunk));
                    }
                    DataVerdict::AppendLast => {
                        books.incoming.insert((peer, chunk));
                        // Half of all chunks are good.
                        let hash = ChunkHash::of(&[if offset.is_multiple_of(2) { chunk.index.0 as u8 } else { 99 }]);
                        books.came.insert((peer, chunk), hash);
                        engine.handle_input(now, Input::ChunkReceived { peer, chunk, hash });
                    }
                }
            }
            Op::Serve { which, good, cut } => {
                // The first as told, then a few that follow well.
                serve(&mut engine, &mut books, now, which, good, cut);
                for step in 0..which % 8 {
                    books.drain(&mut engine)?;
                    serve(&mut engine, &mut books, now, step, true, false);
                }
            }
            Op::Answer { which, good, extra } => answer(&mut engine, &mut books, now, which, good, extra),
            Op::CatalogueFetched(found) => {
                engine.handle_input(now, Input::Batch { source: BatchSource::Origin, bytes: b"nonsense" });
                engine.handle_input(now, Input::CatalogueFetched { found });
            }
            Op::Signed { segment, chunks, issued_ms } => {
                let (len, hashes, root) = truth(chunks);
                let hashes = if chunks == 2 { hashes } else { Vec::new() };
                let entries = vec![Entry { seq: segment.seq, len, root, hashes }];
                let body =
                    BatchBody { version: BATCH_VERSION, scope: Scope::Any, track: segment.track, issued_ms, entries };
                let bytes = body.signing_bytes().unwrap();
                let batch = SignedBatch::assemble(PublicKey([1; 32]), Signature([0; 64]), &bytes).unwrap();
                engine.handle_input(now, Input::Batch { source: BatchSource::Own, bytes: batch.as_bytes() });
            }
            Op::SwarmSize(peers) => engine.handle_input(now, Input::SwarmSize { peers }),
        }
        books.drain(&mut engine)?;
        let stats = engine.stats();
        prop_assert!(stats.neighbours <= 3);
    }
    // Whatever happened, a segment that is still demanded is delivered or handed back once the origin answers.
    for _ in 0..200 {
        now = now + Duration::from_secs(1);
        engine.handle_input(now, Input::Timeout);
        books.drain(&mut engine)?;
        let fetches: Vec<FetchId> = books.fetches.keys().copied().collect();
        for fetch in fetches {
            if books.fetches.remove(&fetch).is_some() {
                engine.handle_input(now, Input::FetchFailed { fetch, status: Some(404) });
                books.drain(&mut engine)?;
            }
        }
    }
    prop_assert!(books.demands.is_empty(), "left without a plan: {:?}", books.demands);
    Ok(())
}

/// The peer sends an asked chunk in two pieces, or the first of them only.
fn serve(engine: &mut Engine, books: &mut Books, now: Now, which: usize, good: bool, cut: bool) {
    if books.asked.is_empty() {
        return;
    }
    let (peer, chunk) = books.asked.remove(which % books.asked.len());
    let chunks = size(chunk.segment, 0);
    let (len, hashes, _) = truth(chunks);
    let Some(chunk_len) = len.chunk_len(chunk.index) else { return };
    let half = chunk_len / 2;
    for (offset, piece) in [(0, half), (half, chunk_len - half)] {
        match engine.handle_data(now, peer, &DataHeader { chunk, offset }, piece) {
            DataVerdict::Ignore => return,
            DataVerdict::Append => {
                books.incoming.insert((peer, chunk));
            }
            DataVerdict::AppendLast => {
                let mut hash = hashes[chunk.index.0 as usize];
                hash.0[0] ^= u8::from(!good);
                books.came.insert((peer, chunk), hash);
                return engine.handle_input(now, Input::ChunkReceived { peer, chunk, hash });
            }
        }
        if cut {
            return;
        }
    }
}

fn answer(engine: &mut Engine, books: &mut Books, now: Now, which: usize, good: bool, extra: u32) {
    match which % 3 {
        0 => {
            if !books.sending.is_empty() {
                let (peer, chunk) = books.sending.remove(0);
                engine.handle_input(now, Input::ChunkSent { peer, chunk });
            }
        }
        1 => {
            if let Some(verify) = books.verifies.pop_first() {
                engine.handle_input(now, Input::BatchVerified { verify, verdict: Verdict::of(good) });
            }
        }
        _ => {
            let Some((&fetch, _)) = books.fetches.iter().nth(which % books.fetches.len().max(1)) else { return };
            if !good {
                books.fetches.remove(&fetch);
                return engine
                    .handle_input(now, Input::FetchFailed { fetch, status: extra.is_multiple_of(2).then_some(503) });
            }
            let (len, hashes, _) = truth(size(books.fetches[&fetch].0, extra % 6));
            let step = &mut books.fetches.get_mut(&fetch).unwrap().1;
            *step += 1;
            let step = *step;
            if step == 1 {
                let total = (!extra.is_multiple_of(3)).then_some(len);
                engine.handle_input(now, Input::FetchHead { fetch, ranged: extra.is_multiple_of(7), total });
            } else if let Some(hash) = hashes.get(step as usize - 2) {
                let index = ChunkIndex(step - 2);
                let segment = books.fetches[&fetch].0;
                books.held.entry(segment).or_default().insert(index.0);
                engine.handle_input(now, Input::FetchChunk { fetch, index, len: 65_536, hash: *hash });
            } else {
                books.fetches.remove(&fetch);
                engine.handle_input(now, Input::FetchDone { fetch, total: len });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_survives_any_sequence_of_inputs(
        ops in prop::collection::vec(op(), 0..120),
        open: bool,
        cold in prop::bool::weighted(0.2),
    ) {
        let mut all = if cold { Vec::new() } else { prelude() };
        all.extend(ops);
        run(all, open)?;
    }
}
