//! The engine's surface and its state; the work is done in `gossip`, `schedule`, `duty`, `origin`, `ask` and `upload`.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use headwater_wire::{
    BatchBody, ChunkHash, ChunkId, ChunkIndex, DataHeader, Message, PeerId, Role, RootHash, Scope, SegmentId,
    SegmentLen, SeqNo, SignedBatch, TrackId,
};

use crate::catalogue::{Catalogue, Offered};
use crate::config::{Config, Integrity};
use crate::duty::UnderWay;
use crate::election::Candidates;
use crate::gossip::{Announcements, REACH};
use crate::holdings::Holdings;
use crate::io::{
    BatchSource, DataVerdict, DeliveryReport, DemandId, DisconnectReason, Event, FetchId, Input, MediaKind, Output,
    Stats, Verdict, VerifyId,
};
use crate::map::{SegmentMap, SortedMap, SortedSet};
use crate::neighbour::Neighbour;
use crate::origin::Origin;
use crate::rng::Rng;
use crate::segment::{Arrival, Segment};
use crate::spread::Spreading;
use crate::time::Now;
use crate::timeline::Timeline;
use crate::upload::{Allowance, Slots};

/// Most requests of a player at once; a player has a handful. Beyond, its own loader gets them.
const MAX_DEMANDS: usize = 64;

/// Segments that are looked at for eviction and spared, at each round: the others' turn comes.
const MAX_SPARED: u32 = 8;

/// One peer's part in a swarm.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    /// This peer's number in elections.
    pub(crate) nonce: u64,
    pub(crate) began: Now,
    pub(crate) now: Now,
    pub(crate) neighbours: SortedMap<PeerId, Neighbour>,
    /// What any neighbour ever said to hold: what nobody named needs no looking for.
    pub(crate) around: Holdings,
    pub(crate) segments: SegmentMap<Box<Segment>>,
    /// Segments that are demanded, wanted ahead or being fetched, and not complete.
    pub(crate) active: SortedSet<SegmentId>,
    pub(crate) timeline: Timeline,
    pub(crate) catalogue: Catalogue,
    pub(crate) demands: SortedMap<DemandId, SegmentId>,
    /// The segment last demanded for each of the player's buffers.
    pub(crate) latest: SortedMap<MediaKind, SegmentId>,
    pub(crate) fetches: SortedMap<FetchId, SegmentId>,
    pub(crate) origin: Origin,
    pub(crate) announcements: Announcements,
    pub(crate) candidates: Candidates,
    pub(crate) spreading: Spreading,
    /// Segments that somebody in the swarm is fetching from the origin.
    pub(crate) under_way: SegmentMap<UnderWay>,
    /// When it was last heard that a seed brings what is live.
    pub(crate) seeded_at: Option<Now>,
    pub(crate) allowance: Allowance,
    pub(crate) slots: Slots,
    /// The swarm's size as the signalling server said it, and when.
    pub(crate) swarm: Option<(Now, u32)>,
    /// Complete segments by their last use, the first to go first. A pair whose stamp is not the segment's any more is
    /// of an earlier use.
    held: VecDeque<(u64, SegmentId)>,
    held_count: usize,
    next_id: u64,
    pub(crate) outputs: VecDeque<Output>,
    /// No ask runs out before that.
    pub(crate) expiry: Now,
    /// Before that no segment is begun that is in no hurry.
    pub(crate) next_easy: Now,
    /// No neighbour ever said to hold a segment of a higher number.
    pub(crate) ceiling: SeqNo,
    /// When a part of a chunk may leave: nothing else is looked at then.
    pub(crate) parts_due: Option<Now>,
    /// Something happened that may change any plan.
    dirty: bool,
    /// Something happened that changes only what is sent next.
    pub(crate) sends: bool,
    wake: Option<Now>,
    pub(crate) stats: Stats,
}

impl Engine {
    /// An engine at time `now`; `seed` makes its choices its own, and the same again for the same seed.
    #[must_use]
    pub fn new(config: Config, seed: u64, now: Now) -> Self {
        let mut rng = Rng::new(seed);
        let nonce = rng.next_u64();
        let allowance = Allowance::new(now, config.upload_cap);
        Self {
            config,
            rng,
            nonce,
            began: now,
            now,
            neighbours: SortedMap::default(),
            around: Holdings::default(),
            segments: SegmentMap::default(),
            active: SortedSet::default(),
            timeline: Timeline::default(),
            catalogue: Catalogue::default(),
            demands: SortedMap::default(),
            latest: SortedMap::default(),
            fetches: SortedMap::default(),
            origin: Origin::default(),
            announcements: Announcements::new(now),
            candidates: Candidates::default(),
            spreading: Spreading::new(),
            under_way: SegmentMap::default(),
            seeded_at: None,
            allowance,
            slots: Slots::new(),
            swarm: None,
            held: VecDeque::new(),
            held_count: 0,
            next_id: 0,
            outputs: VecDeque::new(),
            expiry: Now::NEVER,
            next_easy: now,
            ceiling: SeqNo(0),
            parts_due: None,
            dirty: true,
            sends: false,
            wake: None,
            stats: Stats::default(),
        }
    }

    /// Takes in what happened. Drain [`Engine::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) {
        self.now = self.now.max(now);
        let was_dirty = self.dirty;
        self.dirty = true;
        match input {
            // Where parts of chunks alone are due, nothing else is looked at.
            Input::Timeout => self.dirty = was_dirty || self.parts_due.is_none_or(|due| due > self.now),
            Input::Playlist(update) => self.timeline.update(update),
            Input::Playhead(playhead) => self.timeline.set_playhead(self.now, playhead),
            Input::Demand { demand, segment, kind } => self.on_demand(demand, segment, kind),
            Input::DemandCancelled { demand } => self.on_demand_cancelled(demand),
            Input::SegmentStored { segment, len, hashes } => self.on_stored(segment, len, hashes),
            Input::OriginMeasured { first_byte, bytes, transfer } => {
                self.origin.measured(self.now, first_byte.into(), bytes, transfer.into());
            }
            Input::Batch { source, bytes } => match SignedBatch::parse(bytes) {
                Ok((batch, body)) => self.on_batch(source, batch, body),
                Err(_) => self.emit(Output::Event(Event::CatalogueNotSigned)),
            },
            Input::BatchVerified { verify, verdict } => self.on_batch_verified(verify, verdict),
            Input::CatalogueFetched { found } => self.origin.catalogue_fetched(self.now, found),
            Input::SwarmSize { peers } => self.swarm = Some((self.now, peers)),
            Input::PeerConnected { peer } => self.on_connected(peer),
            Input::PeerDisconnected { peer } => self.forget_peer(peer),
            Input::Control { peer, frame } => {
                // Nobody is to keep this peer planning by saying what changes no plan.
                if !self.on_control(peer, frame) {
                    self.dirty = was_dirty;
                }
            }
            Input::ChunkReceived { peer, chunk, hash } => self.on_chunk_received(peer, chunk, hash),
            Input::ChunkSent { peer, chunk } => {
                if self.on_chunk_sent(peer, chunk) {
                    self.sends = true;
                }
                self.dirty = was_dirty;
            }
            Input::FetchHead { fetch, ranged, total } => self.on_fetch_head(fetch, ranged, total),
            Input::FetchChunk { fetch, index, len, hash } => self.on_fetch_chunk(fetch, index, len, hash),
            Input::FetchDone { fetch, total } => self.on_fetch_done(fetch, total),
            Input::FetchFailed { fetch, status } => self.on_fetch_failed(fetch, status),
        }
    }

    /// Lets go of the catalogue entries that lie well behind `first`, a live track's first listed segment. For shells that run
    /// for days, as seeds do; a page is closed long before its entries weigh anything, and need not carry this. Gives the
    /// number before which nothing is kept: a batch of such entries would be forgotten at the next look.
    pub fn forget_entries_behind(&mut self, track: TrackId, first: SeqNo) -> SeqNo {
        self.catalogue.forget_behind(track, first)
    }

    /// The shell has lost a segment's bytes, or what it finds in their place is not what was signed: nobody is promised them
    /// any more.
    pub fn lose(&mut self, segment: SegmentId) {
        self.evict(segment);
    }

    /// Decides about the payload of a data frame, `payload_len` bytes after the header.
    pub fn handle_data(&mut self, now: Now, peer: PeerId, header: &DataHeader, payload_len: u32) -> DataVerdict {
        self.now = self.now.max(now);
        let now = self.now;
        let ask = self.neighbours.get_mut(&peer).and_then(|neighbour| {
            neighbour.last_heard = now;
            neighbour.asked.get_mut(&header.chunk)
        });
        // Cancelled, run out, or never asked for; a piece out of order belongs to an answer that was cancelled.
        let fits = ask.filter(|ask| ask.received == header.offset && ask.len - ask.received >= payload_len);
        let Some(ask) = fits else {
            self.stats.wasted_bytes += u64::from(payload_len);
            return DataVerdict::Ignore;
        };
        ask.received += payload_len;
        let last = ask.received == ask.len;
        if last { DataVerdict::AppendLast } else { DataVerdict::Append }
    }

    /// What to do next; until [`Output::Timeout`], call again.
    pub fn poll_output(&mut self) -> Output {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return output;
            }
            let sends = core::mem::take(&mut self.sends);
            if !self.dirty && self.wake.is_none_or(|wake| wake > self.now) {
                if sends {
                    self.schedule_uploads();
                }
                if sends || self.parts_due.is_some_and(|due| due <= self.now) {
                    self.send_parts();
                    continue;
                }
                return Output::Timeout { at: [self.wake, self.parts_due].into_iter().flatten().min() };
            }
            self.dirty = false;
            self.wake = None;
            self.keep_in_touch();
            self.stand();
            self.schedule_downloads();
            self.schedule_uploads();
            self.send_parts();
            self.spread();
            self.flush_announcements();
            self.stay_within_budget();
        }
    }

    /// Whether a neighbour that gives says to hold all of a segment.
    #[must_use]
    pub fn is_held_nearby(&self, id: SegmentId) -> bool {
        self.ready().any(|(_, neighbour)| neighbour.gives() && neighbour.holdings.holds_whole(id))
    }

    /// Bytes by source, and what is going on now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let ready = self.neighbours.values().filter(|neighbour| neighbour.is_ready());
        let (neighbours, seeds) =
            ready.fold((0, 0), |(all, seeds), neighbour| (all + 1, seeds + u32::from(neighbour.is_seed())));
        Stats { neighbours, seeds, ..self.stats }
    }

    // What the parts share.

    pub(crate) fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Sees to it that the engine is called again at `at`.
    pub(crate) fn wake_at(&mut self, at: Now) {
        // A time that has come already would make poll_output spin: what is due now was done in this very round.
        let at = at.max(self.now + core::time::Duration::from_millis(1));
        if at == Now::NEVER {
            return;
        }
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn is_open(&self) -> bool {
        self.config.integrity == Integrity::Open
    }

    /// The neighbours that have said hello.
    pub(crate) fn ready(&self) -> impl Iterator<Item = (PeerId, &Neighbour)> {
        self.neighbours.iter().filter(|(_, neighbour)| neighbour.is_ready())
    }

    // Demands and the store.

    fn on_demand(&mut self, demand: DemandId, id: SegmentId, kind: MediaKind) {
        if self.demands.len() >= MAX_DEMANDS {
            self.emit(Output::Fail { demand });
            return;
        }
        let before = self.latest.insert(kind, id);
        if before.is_some_and(|before| before.seq.0.abs_diff(id.seq.0) > REACH) {
            self.on_jump(id);
        }
        self.demands.insert(demand, id);
        let segment = self.segment_mut(id);
        segment.demands.push(demand);
        if segment.complete {
            self.deliver(id);
        } else {
            self.active.insert(id);
        }
    }

    fn on_demand_cancelled(&mut self, demand: DemandId) {
        let Some(id) = self.demands.remove(&demand) else { return };
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.demands.retain(|other| *other != demand);
        if segment.demands.is_empty() && !segment.complete {
            self.abort_fetch(id);
        }
    }

    fn on_stored(&mut self, id: SegmentId, len: SegmentLen, hashes: Vec<ChunkHash>) {
        if self.segments.get(&id).is_some_and(|segment| segment.complete) {
            return;
        }
        self.abort_fetch(id);
        self.cancel_asks(id);
        self.drop_unchecked(id);
        let segment = self.segment_mut(id);
        segment.arrival = Arrival::default();
        segment.len = Some(len);
        segment.hashes.clear();
        segment.http_hashes = hashes.into_iter().enumerate().map(|(i, hash)| (ChunkIndex(i as u32), hash)).collect();
        segment.held.insert_range(len.chunks());
        segment.differs = false;
        self.stats.http_bytes += u64::from(len.bytes());
        self.complete(id);
    }

    /// The segment's state, made where there is none.
    pub(crate) fn segment_mut(&mut self, id: SegmentId) -> &mut Segment {
        let now = self.now;
        let (rng, catalogue) = (&mut self.rng, &self.catalogue);
        self.segments.or_insert_with(id, || {
            let first_chunk = rng.below(headwater_wire::limits::MAX_CHUNKS);
            let len = catalogue.get(id).map(|known| known.len);
            let hashes = catalogue.hashes(id).unwrap_or_default();
            Box::new(Segment { len, hashes, since: Some(now), first_chunk, ..Segment::default() })
        })
    }

    /// All chunks of the segment are in the store: settles whether it may be shared, and hands it to the player.
    pub(crate) fn complete(&mut self, id: SegmentId) {
        let now = self.now;
        let open = self.is_open();
        let known = self.catalogue.get(id);
        let Some(segment) = self.segments.get_mut(&id) else { return };
        let Some(len) = segment.len else { return };
        segment.complete = true;
        segment.arrival.complete = Some(now);
        if segment.hashes.is_empty() {
            segment.hashes = core::mem::take(&mut segment.http_hashes).into_iter().map(|(_, hash)| hash).collect();
        }
        segment.http_hashes.clear();
        segment.hash_parts = None;
        let root = RootHash::of_chunks(len, &segment.hashes);
        if open && known.is_none() {
            self.catalogue.assume(id, len, root);
        }
        self.active.remove(&id);
        self.held_count += 1;
        self.stats.held_bytes += u64::from(len.bytes());
        self.touch(id);
        self.settle(id);
        self.deliver(id);
    }

    /// Holds a complete segment against the catalogue: what agrees is announced.
    pub(crate) fn settle(&mut self, id: SegmentId) {
        let Some(known) = self.catalogue.get(id) else { return };
        let Some(segment) = self.segments.get_mut(&id) else { return };
        let Some(len) = segment.len.filter(|_| segment.complete && !segment.shared && !segment.differs) else { return };
        if known.len == len && known.root == RootHash::of_chunks(len, &segment.hashes) {
            segment.shared = true;
            self.publish(id);
        } else {
            segment.differs = true;
            self.emit(Output::Event(Event::OriginDiffers { segment: id }));
        }
    }

    fn deliver(&mut self, id: SegmentId) {
        let now = self.now;
        let Some(segment) = self.segments.get_mut(&id) else { return };
        let Some(len) = segment.len else { return };
        let demands = core::mem::take(&mut segment.demands);
        let arrival = segment.arrival;
        let complete = arrival.complete.unwrap_or(now);
        let took = complete.passed(arrival.requested.unwrap_or(complete));
        let first_byte = complete - self.origin.pace(now, len.bytes(), took);
        let report = DeliveryReport {
            len,
            requested: first_byte - self.origin.latency(),
            first_byte,
            complete,
            http_bytes: arrival.http_bytes,
            seed_bytes: arrival.seed_bytes,
            viewer_bytes: arrival.viewer_bytes,
        };
        for demand in demands {
            self.demands.remove(&demand);
            self.emit(Output::Deliver { demand, segment: id, report });
        }
    }

    /// Marks a complete segment as just used.
    pub(crate) fn touch(&mut self, id: SegmentId) {
        let stamp = self.next_id();
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.stamp = stamp;
        self.held.push_back((stamp, id));
        if self.held.len() > 64 + 2 * self.held_count {
            let segments = &self.segments;
            self.held.retain(|(stamp, id)| segments.get(id).is_some_and(|segment| segment.stamp == *stamp));
        }
    }

    fn stay_within_budget(&mut self) {
        let mut spared = 0;
        while self.stats.held_bytes > self.config.memory_budget {
            let Some(&(stamp, id)) = self.held.front() else { return };
            if self.segments.get(&id).is_none_or(|segment| segment.stamp != stamp) {
                self.held.pop_front();
                continue;
            }
            let being_sent = self.neighbours.values().any(|n| n.sending.keys().any(|chunk| chunk.segment == id));
            // What the player has yet to play is worth more than what it has played, within reason.
            let over = self.stats.held_bytes / 2 > self.config.memory_budget;
            let needed = self.config.role == Role::Viewer && !over && self.timeline.is_ahead(self.now, id);
            if being_sent || needed {
                self.touch(id);
                spared += 1;
                if spared == MAX_SPARED {
                    return;
                }
                continue;
            }
            self.evict(id);
        }
    }

    /// Forgets a segment and frees its place in the store.
    pub(crate) fn evict(&mut self, id: SegmentId) {
        self.abort_fetch(id);
        self.cancel_asks(id);
        self.active.remove(&id);
        let Some(segment) = self.segments.remove(&id) else { return };
        if segment.complete {
            self.held_count -= 1;
            self.stats.held_bytes -= segment.len.map_or(0, |len| u64::from(len.bytes()));
        }
        for (index, (peer, _)) in segment.unchecked {
            self.emit(Output::DropChunk { peer, chunk: ChunkId { segment: id, index } });
        }
        self.emit(Output::Evict { segment: id });
        self.announce_dropped(id);
    }

    // The catalogue.

    pub(crate) fn on_batch(&mut self, source: BatchSource, batch: SignedBatch, body: BatchBody) {
        let Integrity::Signed(scope) = self.config.integrity else { return };
        match self.catalogue.offer(source, scope, batch, body) {
            Offered::Ignore => {}
            Offered::Verify(verify, batch) => self.emit(Output::VerifyBatch { verify, batch }),
            Offered::Accepted { segments, batch, scope } => self.on_entries(segments, batch, scope, None),
        }
    }

    fn on_batch_verified(&mut self, verify: VerifyId, verdict: Verdict) {
        match self.catalogue.verified(verify, verdict) {
            None => {}
            Some(Ok(verified)) => {
                let from = if let BatchSource::Peer(peer) = verified.source { Some(peer) } else { None };
                self.on_entries(verified.segments, verified.batch, verified.scope, from);
            }
            Some(Err(BatchSource::Peer(peer))) => self.disconnect(peer, DisconnectReason::BadData),
            Some(Err(_)) => self.emit(Output::Event(Event::CatalogueNotSigned)),
        }
    }

    fn on_entries(&mut self, segments: Vec<SegmentId>, batch: SignedBatch, scope: Scope, from: Option<PeerId>) {
        for id in &segments {
            self.settle(*id);
            let Some(known) = self.catalogue.get(*id) else { continue };
            let Some(segment) = self.segments.get_mut(id).filter(|segment| !segment.complete) else { continue };
            if segment.differs {
                continue;
            }
            if segment.len.is_some_and(|len| len != known.len) {
                self.distrust(*id);
                continue;
            }
            segment.len = Some(known.len);
            segment.news = Some(self.now);
            if segment.hashes.is_empty()
                && let Some(hashes) = self.catalogue.hashes(*id)
            {
                self.on_hashes_checked(*id, known.len, hashes);
            }
        }
        if scope != Scope::Any && !segments.is_empty() {
            // Nobody says to hold what it has no entry for.
            let lacks = |neighbour: &Neighbour| segments.iter().any(|id| !neighbour.holds_any(*id));
            self.tell_viewers_who(&Message::Catalogue(batch.as_bytes().to_vec()), from, lacks);
        }
    }

    /// The origin serves other bytes than the publisher signed. The origin is right for the player; peers get nothing of
    /// it, and nothing of theirs is mixed in.
    pub(crate) fn distrust(&mut self, id: SegmentId) {
        self.abort_fetch(id);
        self.cancel_asks(id);
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.differs = true;
        segment.len = None;
        segment.hashes.clear();
        segment.http_hashes.clear();
        segment.held.clear();
        self.drop_unchecked(id);
        self.emit(Output::Evict { segment: id });
        self.emit(Output::Event(Event::OriginDiffers { segment: id }));
    }

    pub(crate) fn drop_unchecked(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get_mut(&id) else { return };
        for (index, (peer, _)) in core::mem::take(&mut segment.unchecked) {
            self.outputs.push_back(Output::DropChunk { peer, chunk: ChunkId { segment: id, index } });
        }
    }
}
