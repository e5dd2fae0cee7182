//! The bridge: every method tells the engine one thing, then does what it says.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::bytes::{Bytes, copy_into};
use headwater_swarm::{
    BatchSource, Config, DataVerdict, DemandId, Engine, Event, FetchId, Input, Integrity, MediaKind, MediaTime, Now,
    Output, Playhead, PlaylistSegment, PlaylistUpdate, Verdict, VerifyId,
};
use headwater_wire::catalogue::split_file;
use headwater_wire::frame::DATA_HEADER_LEN;
use headwater_wire::limits::MAX_FRAME;
use headwater_wire::{DataHeader, Frame, PeerId, Scope, SegmentId, SegmentLen, SeqNo, SwarmName, TrackId};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::adopt::Adoption;
use crate::fetching::{Fetching, Whole};
use crate::hash::Scratch;
use crate::host::{Host, performance_now};
use crate::store::Store;

/// A peer said hello.
const EVENT_NEIGHBOUR: u32 = 0;
/// A seed said hello.
const EVENT_SEED: u32 = 1;
/// A peer was banned.
const EVENT_BANNED: u32 = 2;
/// The origin serves other bytes than the publisher signed.
const EVENT_ORIGIN_DIFFERS: u32 = 3;
/// No key of the page's signed the catalogue.
const EVENT_CATALOGUE_NOT_SIGNED: u32 = 4;

// What `Client::tell` is told, by the numbers that `www/player/src/client/told.ts` has for it too; what its three numbers
// mean, in their order.

/// The timer is due.
const TOLD_WAKE: u32 = 0;
/// The playhead moved: position and end of what is buffered in seconds, rate as the media element has it, 0 while paused.
const TOLD_PLAYHEAD: u32 = 1;
/// The player does not want a segment any more: the demand.
const TOLD_CANCEL: u32 = 2;
/// The player loaded a segment by itself: milliseconds to the first byte, bytes, milliseconds from there to the last.
const TOLD_MEASURED: u32 = 3;
/// The signalling server says how many peers the swarm has.
const TOLD_SWARM_SIZE: u32 = 4;
/// The head of a response came: the request, whether it is the range that was asked for, and the length of the whole
/// segment, 0 where that is not known.
const TOLD_FETCH_HEAD: u32 = 5;
/// A body ended: the request.
const TOLD_FETCH_DONE: u32 = 6;
/// A request failed: which, and the response's status, 0 where none came.
const TOLD_FETCH_FAILED: u32 = 7;
/// Whether a signature is the publisher's: which, and 1 where it is, 0 where it is not, anything else for another key's.
const TOLD_VERIFIED: u32 = 8;

/// What stands for a frame that no frame parser takes, so that the engine deals with its sender.
const UNREADABLE_FRAME: &[u8] = &[0xff];

/// The engine, its store, and the host that acts for them.
#[wasm_bindgen]
pub struct Client {
    engine: Engine,
    host: Host,
    store: Store,
    scratch: Scratch,
    /// Few: the engine bounds its requests.
    fetching: Vec<Fetching>,
    /// Few: the page bounds what it keeps.
    adoptions: VecDeque<Adoption>,
    /// The time that the host's timer is set to.
    timer: Option<Now>,
    /// Bytes that the engine counts as the origin's, and that the page counted before.
    adopted: u64,
}

/// Most bytes a second that a viewer's browser gives, whatever the page says: 20 Mbit/s.
const UPLOAD_CAP: u64 = 2_500_000;

#[wasm_bindgen]
impl Client {
    /// A client in the swarm of this name; nothing where none can have it. `signed` is false only where the publisher chose
    /// `integrity="open"`. `cap` is how many bytes a second this viewer gives at most, 0 for none at all; `memory` how many
    /// it keeps for others.
    #[must_use]
    pub fn create(host: Host, swarm: &str, signed: bool, cap: f64, memory: f64, seed: f64) -> Option<Client> {
        let swarm = SwarmName::new(swarm).ok()?;
        let integrity = if signed { Integrity::Signed(Scope::of_swarm(&swarm)) } else { Integrity::Open };
        // `as` saturates, and makes zero of NaN.
        let cap = (cap as u64).min(UPLOAD_CAP);
        let config = Config {
            uploads: cap > 0,
            upload_cap: Some(cap.max(1)),
            memory_budget: memory as u64,
            ..Config::viewer(integrity)
        };
        Some(Self {
            engine: Engine::new(config, seed as u64, now()),
            host,
            store: Store::default(),
            scratch: Scratch::new(),
            fetching: Vec::new(),
            adoptions: VecDeque::new(),
            timer: None,
            adopted: 0,
        })
    }

    /// Something that three numbers at most say: see `TOLD_*`. One method for all, as each costs every page some glue.
    pub fn tell(&mut self, what: u32, a: f64, b: f64, c: f64) {
        let fetch = FetchId(a as u64);
        let input = match what {
            TOLD_WAKE => {
                self.timer = None;
                Input::Timeout
            }
            TOLD_PLAYHEAD => Input::Playhead(Playhead {
                position: MediaTime::from_secs(a),
                buffered_to: MediaTime::from_secs(b),
                rate_permille: (c * 1000.0) as u32,
            }),
            TOLD_CANCEL => Input::DemandCancelled { demand: DemandId(a as u64) },
            TOLD_MEASURED => {
                let [first_byte, transfer] = [a, c].map(|ms| duration_of(ms / 1000.0));
                Input::OriginMeasured { first_byte, bytes: b as u64, transfer }
            }
            TOLD_SWARM_SIZE => Input::SwarmSize { peers: a as u32 },
            TOLD_FETCH_HEAD => {
                let Some(fetching) = self.fetching.iter_mut().find(|fetching| fetching.id == fetch) else {
                    return;
                };
                let ranged = fetching.head(b != 0.0, c as u32, &mut self.store);
                Input::FetchHead { fetch, ranged, total: fetching.total() }
            }
            TOLD_FETCH_DONE => {
                let Some(fetching) = self.forget_fetch(fetch) else {
                    return;
                };
                match fetching.finish(&mut self.store) {
                    Ok((last, total)) => {
                        if let Some(whole) = last {
                            self.fetched(fetch, whole);
                        }
                        Input::FetchDone { fetch, total }
                    }
                    Err(_) => Input::FetchFailed { fetch, status: None },
                }
            }
            TOLD_FETCH_FAILED => {
                if self.forget_fetch(fetch).is_none() {
                    return;
                }
                let status = b as u16;
                Input::FetchFailed { fetch, status: (status != 0).then_some(status) }
            }
            TOLD_VERIFIED => {
                let verdict = match b {
                    1.0 => Verdict::of(true),
                    0.0 => Verdict::of(false),
                    _ => Verdict::OtherKey,
                };
                Input::BatchVerified { verify: VerifyId(a as u64), verdict }
            }
            _ => return,
        };
        self.input(input);
    }

    /// A playlist was loaded or refreshed; `segments` holds sequence number, start and duration (seconds) of each new one.
    pub fn playlist(&mut self, track: u64, live: bool, first: f64, segments: &[f64]) {
        let segments = segments.as_chunks::<3>().0.iter().map(|[seq, start, duration]| PlaylistSegment {
            seq: SeqNo(*seq as u64),
            start: MediaTime::from_secs(*start),
            duration: duration_of(*duration),
        });
        let segments = segments.collect();
        let first = SeqNo(first as u64);
        self.input(Input::Playlist(PlaylistUpdate { track: TrackId(track), live, first, segments }));
    }

    /// The player wants a segment; answered by `deliver` or `fail`.
    pub fn demand(&mut self, demand: f64, track: u64, seq: f64, audio: bool) {
        let kind = if audio { MediaKind::Audio } else { MediaKind::Main };
        self.input(Input::Demand { demand: DemandId(demand as u64), segment: segment(track, seq), kind });
    }

    /// Bytes of a segment that are in the store, counted in whole chunks.
    #[must_use]
    pub fn progress(&self, track: u64, seq: f64) -> u32 {
        self.store.held_bytes(segment(track, seq))
    }

    /// Takes over a segment that the player loaded by itself. `adoptStep` does the work.
    pub fn adopt(&mut self, track: u64, seq: f64, bytes: Bytes) {
        self.adoptions.extend(Adoption::new(segment(track, seq), bytes));
    }

    /// Hashes a little of what was handed to `adopt`. Returns whether there is more to do.
    #[wasm_bindgen(js_name = adoptStep)]
    pub fn adopt_step(&mut self) -> bool {
        if let Some(adoption) = self.adoptions.front_mut()
            && adoption.step(&mut self.scratch)
            && let Some(Adoption { segment, len, bytes, hashes }) = self.adoptions.pop_front()
        {
            // What is whole already has been checked; this has not.
            let whole = self.store.len(segment).unwrap_or(len).bytes();
            if self.store.held_bytes(segment) < whole {
                let before = self.engine.stats().http_bytes;
                self.store.adopt(segment, len, bytes);
                self.input(Input::SegmentStored { segment, len, hashes });
                self.adopted += self.engine.stats().http_bytes - before;
            }
        }
        !self.adoptions.is_empty()
    }

    /// A data channel opened, or closed.
    pub fn connected(&mut self, peer: u64, open: bool) {
        let peer = PeerId(peer);
        if !open {
            self.store.drop_peer(peer);
        }
        self.input(if open { Input::PeerConnected { peer } } else { Input::PeerDisconnected { peer } });
    }

    /// A frame came.
    pub fn frame(&mut self, peer: u64, frame: &Bytes) {
        let peer = PeerId(peer);
        let len = frame.length();
        if len > MAX_FRAME {
            return self.input(Input::Control { peer, frame: UNREADABLE_FRAME });
        }
        let mut head = [0; DATA_HEADER_LEN];
        let head_len = DATA_HEADER_LEN as u32;
        copy_into(&mut head, &frame.subarray(0, len.min(head_len)));
        if !Frame::is_data(head[0]) {
            let mut whole = vec![0; len as usize];
            copy_into(&mut whole, frame);
            return self.input(Input::Control { peer, frame: &whole });
        }
        // A frame that is too short for a header is too short for a payload as well.
        match DataHeader::parse(&head, len as usize) {
            Ok(header) => self.data(peer, header, &frame.subarray(head_len, len)),
            Err(_) => self.input(Input::Control { peer, frame: UNREADABLE_FRAME }),
        }
    }

    /// The chunk that `sendChunk` was called with this header for has left, and the channel has room.
    #[wasm_bindgen(js_name = chunkSent)]
    pub fn chunk_sent(&mut self, peer: u64, header: &[u8]) {
        // The header with one byte of payload is a frame like any other.
        if let Some(header) = header.first_chunk()
            && let Ok(DataHeader { chunk, .. }) = DataHeader::parse(header, DATA_HEADER_LEN + 1)
        {
            self.input(Input::ChunkSent { peer: PeerId(peer), chunk });
        }
    }

    /// Bytes of a body came. Returns whether the request is still of use.
    #[wasm_bindgen(js_name = fetchBytes)]
    pub fn fetch_bytes(&mut self, fetch: f64, bytes: &Bytes) -> bool {
        let id = FetchId(fetch as u64);
        let len = bytes.length();
        let mut taken = 0;
        while taken < len {
            let Some(fetching) = self.fetching.iter_mut().find(|fetching| fetching.id == id) else {
                return false;
            };
            match fetching.take(&bytes.subarray(taken, len), &mut self.store, &mut self.scratch) {
                Ok((count, whole)) => {
                    taken += count;
                    if let Some(whole) = whole {
                        self.fetched(id, whole);
                    }
                }
                Err(_) => {
                    self.tell(TOLD_FETCH_FAILED, fetch, 0.0, 0.0);
                    return false;
                }
            }
        }
        true
    }

    /// The catalogue file, empty where there is none.
    pub fn catalogue(&mut self, file: &[u8]) {
        let batches = split_file(file);
        for bytes in batches.iter().flatten() {
            self.input(Input::Batch { source: BatchSource::Origin, bytes });
        }
        self.input(Input::CatalogueFetched { found: batches.is_ok() });
    }

    /// Bytes from HTTP (those of `adopt` not counted), seeds and viewers, uploaded, wasted, held; then neighbours and the seeds among them.
    #[must_use]
    pub fn stats(&self) -> Vec<f64> {
        let stats = self.engine.stats();
        vec![
            stats.http_bytes.saturating_sub(self.adopted) as f64,
            stats.seed_bytes as f64,
            stats.viewer_bytes as f64,
            stats.uploaded_bytes as f64,
            stats.wasted_bytes as f64,
            stats.held_bytes as f64,
            f64::from(stats.neighbours),
            f64::from(stats.seeds),
        ]
    }
}

impl Client {
    fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(now(), input);
        self.drain();
    }

    fn data(&mut self, peer: PeerId, header: DataHeader, payload: &Bytes) {
        let verdict = self.engine.handle_data(now(), peer, &header, payload.length());
        if verdict != DataVerdict::Ignore {
            self.store.append(peer, header.chunk, header.offset, payload);
        }
        if verdict == DataVerdict::AppendLast
            && let Some(chunk) = self.store.incoming(peer, header.chunk)
        {
            let hash = self.scratch.hash(&chunk);
            self.input(Input::ChunkReceived { peer, chunk: header.chunk, hash });
        } else {
            self.drain();
        }
    }

    fn fetched(&mut self, fetch: FetchId, whole: Whole) {
        let Whole { index, len, hash } = whole;
        self.input(Input::FetchChunk { fetch, index, len, hash });
    }

    fn forget_fetch(&mut self, fetch: FetchId) -> Option<Fetching> {
        let at = self.fetching.iter().position(|fetching| fetching.id == fetch)?;
        Some(self.fetching.swap_remove(at))
    }

    fn drain(&mut self) {
        loop {
            match self.engine.poll_output() {
                Output::Timeout { at } => {
                    if at != self.timer {
                        self.timer = at;
                        self.host.timer(at.map_or(f64::INFINITY, |at| millis(at) - performance_now()));
                    }
                    return;
                }
                output => self.act(output),
            }
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Timeout { .. } => {}
            Output::Send { peer, frame } => self.host.send(peer.0, &frame),
            Output::SendChunk { peer, chunk, offset, len, piece_len } => {
                self.send_chunk(peer, DataHeader { chunk, offset }, len, piece_len);
            }
            Output::Disconnect { peer, reason } => {
                self.store.drop_peer(peer);
                self.host.disconnect(peer.0, reason.is_ban());
            }
            Output::WantNeighbours { count } => self.host.want(u32::from(count)),
            Output::Fetch { fetch, segment, range } => {
                self.fetching.push(Fetching::new(fetch, segment, range));
                let (start, end) = range.map_or((0, 0), |range| (range.start, range.end));
                self.host.fetch(fetch.0 as f64, segment.track.0, segment.seq.0 as f64, start, end);
            }
            Output::AbortFetch { fetch } => {
                self.forget_fetch(fetch);
                self.host.abort(fetch.0 as f64);
            }
            Output::FetchCatalogue => self.host.fetch_catalogue(),
            Output::VerifyBatch { verify, batch } => {
                let signature = batch.signature().0.to_vec();
                self.host.verify(verify.0 as f64, batch.key_hint().to_vec(), signature, batch.signing_bytes());
            }
            Output::KeepChunk { peer, chunk, segment_len } => self.store.keep(peer, chunk, segment_len),
            Output::DropChunk { peer, chunk } => self.store.drop_chunk(peer, chunk),
            Output::Deliver { demand, segment, report } => {
                let demand = demand.0 as f64;
                match self.copy(segment, report.len) {
                    Some(bytes) => {
                        let (requested, first_byte) = (millis(report.requested), millis(report.first_byte));
                        self.host.deliver(demand, bytes, requested, first_byte, millis(report.complete));
                    }
                    None => self.host.fail(demand),
                }
            }
            Output::Fail { demand } => self.host.fail(demand.0 as f64),
            Output::Evict { segment } => self.store.evict(segment),
            Output::Event(event) => self.report(event),
        }
    }

    fn copy(&self, segment: SegmentId, len: SegmentLen) -> Option<Bytes> {
        self.store.copy(segment, len)
    }

    fn send_chunk(&self, peer: PeerId, header: DataHeader, len: u32, piece_len: u32) {
        // The engine sends only what the store has; a chunk that is not there after all is left to the peer's patience.
        if let Some(bytes) = self.store.part(&header, len) {
            let header = Bytes::copy_of(&header.encode());
            self.host.send_chunk(peer.0, header, bytes, piece_len);
        }
    }

    fn report(&self, event: Event) {
        let (kind, peer) = match event {
            Event::NeighbourReady { peer, seed: false } => (EVENT_NEIGHBOUR, peer.0),
            Event::NeighbourReady { peer, seed: true } => (EVENT_SEED, peer.0),
            Event::PeerBanned { peer, .. } => (EVENT_BANNED, peer.0),
            Event::OriginDiffers { .. } => (EVENT_ORIGIN_DIFFERS, 0),
            Event::CatalogueNotSigned => (EVENT_CATALOGUE_NOT_SIGNED, 0),
        };
        self.host.event(kind, peer);
    }
}

fn now() -> Now {
    // `as` saturates; the page's clock starts at 0 and never goes back.
    Now::from_micros((performance_now() * 1000.0) as u64)
}

fn millis(at: Now) -> f64 {
    at.as_micros() as f64 / 1000.0
}

fn segment(track: u64, seq: f64) -> SegmentId {
    SegmentId { track: TrackId(track), seq: SeqNo(seq as u64) }
}

fn duration_of(seconds: f64) -> Duration {
    // `as` saturates, and makes zero of NaN.
    Duration::from_micros((seconds * 1e6) as u64)
}
