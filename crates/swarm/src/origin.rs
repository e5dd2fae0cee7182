//! The origin: when HTTP steps in, and what comes of it.
//!
//! Where no neighbour has a segment, those that may be about to fetch it are ranked by hash, so that one goes to the
//! origin at once and the others wait for its announcement, each a little longer than the one before.

use alloc::vec::Vec;
use core::time::Duration;

use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{
    ChunkHash, ChunkId, ChunkIndex, ChunkRange, Message, PeerId, Role, RootHash, SegmentId, SegmentLen,
};

use crate::election::rank;
use crate::engine::Engine;
use crate::io::{Event, FetchId, Output};
use crate::neighbour::Neighbour;
use crate::ranges::ChunkSet;
use crate::segment::{Fetch, Segment};
use crate::time::{Now, scaled, seconds};

/// What the rescue allows for besides the transfer itself: the player's own handling, and the noise of timers.
const RESCUE_MARGIN: Duration = Duration::from_millis(900);

/// How many times the predicted transfer the rescue allows for.
const RESCUE_FACTOR: f64 = 1.6;

/// Assumed of the origin before anything was measured: 200 ms to the first byte, 4 Mbit/s.
const FIRST_TTFB: Duration = Duration::from_millis(200);
const FIRST_RATE: f64 = 500_000.0;

/// Time from one rank of an election to the next: a fetch announced by one neighbour reaches the others well within it.
const RANK_STEP: Duration = Duration::from_millis(300);

/// Ranks beyond this wait no longer.
const MAX_RANK: u32 = 6;

/// A neighbour whose newest segment is further behind than this is not about to fetch the segment in question.
const CONTENDER_REACH: u64 = 3;

/// A live segment is fetched in stripes of at least this many chunks, by at most so many viewers at once: what one
/// brings is on its way to the others while the rest is still at the origin.
const STRIPE_CHUNKS: u32 = 4;
const MAX_STRIPES: u32 = 3;

/// Most segments of which it is remembered that somebody fetches them.
const MAX_UNDER_WAY: usize = 64;

/// After joining a swarm with others in it, how long segments that are not urgent wait for the first neighbour.
const JOIN_GRACE: Duration = Duration::from_secs(5);

/// An HTTP response that brings nothing for this long is given up.
const FETCH_STALL: Duration = Duration::from_secs(8);

/// Failed HTTP requests in a row after which the player's own loader may try.
const MAX_FAILURES: u32 = 4;

/// How many candidates look for a new live segment in the catalogue file at once, and how long the others wait to hear
/// of it before they look too.
const CATALOGUE_READERS: usize = 4;
const CATALOGUE_HEARSAY: Duration = Duration::from_millis(1500);

/// Between two looks at the catalogue file: while entries are missing, and where there was no file.
const CATALOGUE_EVERY: Duration = Duration::from_millis(500);
const CATALOGUE_ABSENT: Duration = Duration::from_secs(60);

/// What is known of the origin.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    ttfb: Option<Duration>,
    rate: Option<f64>,
    catalogue_under_way: bool,
    catalogue_next: Option<Now>,
}

impl Origin {
    /// How long `bytes` would take from the origin.
    fn predict(&self, bytes: u64) -> Duration {
        let transfer = seconds(bytes as f64 / self.rate.unwrap_or(FIRST_RATE).max(1.0));
        self.ttfb.unwrap_or(FIRST_TTFB) + transfer
    }

    pub(crate) fn measured(&mut self, ttfb: Duration, bytes: u64, transfer: Duration) {
        self.ttfb = Some(self.ttfb.map_or(ttfb, |old| scaled(old, 0.7) + scaled(ttfb, 0.3)));
        // Short transfers measure the timer, not the line.
        if bytes >= u64::from(CHUNK_LEN) {
            let sample = bytes as f64 / transfer.max(Duration::from_millis(1)).as_secs_f64();
            self.rate = Some(self.rate.map_or(sample, |old| old * 0.7 + sample * 0.3));
        }
    }

    pub(crate) fn catalogue_fetched(&mut self, now: Now, found: bool) {
        self.catalogue_under_way = false;
        self.catalogue_next = Some(now + if found { CATALOGUE_EVERY } else { CATALOGUE_ABSENT });
    }
}

/// What to do about the origin for a segment that is not urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Neighbours hold some of it, or will: nothing, before the rescue.
    Wait,
    /// Somebody may have it by then.
    WaitUntil(Now),
    /// Fetch these chunks for everyone, all that are missing where there is no range.
    Duty(Option<ChunkRange>),
    /// Fetch it: there is nobody else.
    Alone,
}

/// What somebody in the swarm has said to be fetching of a segment.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    at: Now,
    all: bool,
    chunks: ChunkSet,
}

impl Engine {
    pub(crate) fn plan_http(&mut self, id: SegmentId, slack: Duration) {
        let now = self.now;
        let Some(segment) = self.segments.get(&id) else { return };
        if let Some(at) = segment.retry_at().filter(|at| *at > now) {
            return self.wake_at(at);
        }
        let bytes = segment.missing_bytes().unwrap_or(u64::from(CHUNK_LEN) * 8);
        let reserve = scaled(self.origin.predict(bytes), RESCUE_FACTOR) + RESCUE_MARGIN;
        let rescue = now + slack.saturating_sub(reserve);
        let missing = segment.missing_range();
        if segment.differs {
            return self.fetch(id, None);
        }
        if rescue <= now {
            self.stats.rescues += 1;
            return self.fetch(id, missing);
        }
        match self.outlook(id) {
            Plan::Wait => self.wake_at(rescue),
            Plan::WaitUntil(at) => self.wake_at(at.min(rescue)),
            Plan::Duty(chunks) => {
                self.stats.duties += 1;
                self.fetch(id, chunks);
            }
            Plan::Alone => {
                self.stats.lone_fetches += 1;
                self.fetch(id, missing);
            }
        }
    }

    /// Whether this peer should fetch a segment that is not urgent.
    fn outlook(&self, id: SegmentId) -> Plan {
        let Some(segment) = self.segments.get(&id) else { return Plan::Wait };
        if self.timeline.is_live(id.track)
            && let Some(plan) = self.duty(id, segment)
        {
            return plan;
        }
        self.turn_among_neighbours(id, segment)
    }

    /// What the election in the whole swarm says of a live segment. `None` where there was none.
    fn duty(&self, id: SegmentId, segment: &Segment) -> Option<Plan> {
        let order = self.candidates.order(id);
        if order.is_empty() || self.ready().next().is_none() {
            return None;
        }
        // A seed that keeps up will have it in a moment; one that has stopped falls behind, and the election counts again.
        let is_near = |neighbour: &Neighbour| {
            neighbour.furthest(id.track).is_some_and(|seq| seq.0.saturating_add(CONTENDER_REACH) >= id.seq.0)
        };
        if self.ready().any(|(_, neighbour)| neighbour.is_seed() && is_near(neighbour)) {
            return Some(Plan::Wait);
        }
        let Some(place) = order.iter().position(|nonce| *nonce == self.nonce) else { return Some(Plan::Wait) };
        let count = segment.len.map_or(0, SegmentLen::chunk_count);
        // Chunks can be passed on one by one only where their hashes are known; else one goes for the whole segment.
        let stripes =
            if segment.hashes.is_empty() { 1 } else { (count / STRIPE_CHUNKS).clamp(1, MAX_STRIPES) as usize };
        let stripes = stripes.min(order.len());
        let (stripe, backup) = ((place % stripes) as u32, (place / stripes) as u32);
        let per_stripe = count.div_ceil(stripes as u32);
        let first = stripe * per_stripe;
        let chunks = ChunkRange { first: ChunkIndex(first), count: per_stripe.min(count.saturating_sub(first)) };
        let under_way = self.under_way.get(&id).filter(|under_way| under_way.at + self.patience() > self.now);
        let is_coming = |index: ChunkIndex| {
            let chunk = ChunkId { segment: id, index };
            segment.held.contains(index)
                || under_way.is_some_and(|under_way| under_way.all || under_way.chunks.contains(index))
                || self.ready().any(|(_, neighbour)| neighbour.gives() && neighbour.holds(chunk))
        };
        let whole = stripes == 1;
        let coming = if count == 0 { under_way.is_some() } else { chunks.iter().all(is_coming) };
        let turn = segment.since.unwrap_or(self.now) + RANK_STEP * backup;
        Some(match (coming, whole) {
            (true, _) => Plan::Wait,
            (false, _) if turn > self.now => Plan::WaitUntil(turn),
            (false, true) => Plan::Duty(segment.missing_range()),
            (false, false) => Plan::Duty(Some(chunks)),
        })
    }

    /// Whether it is this peer's turn among its neighbours, each of whom ranks itself the same way.
    fn turn_among_neighbours(&self, id: SegmentId, segment: &Segment) -> Plan {
        let now = self.now;
        let since = segment.since.unwrap_or(now);
        let mut before = 0;
        let mut any_ready = false;
        let own = rank(self.nonce, id);
        for (_, neighbour) in self.ready() {
            any_ready = true;
            if neighbour.gives() && neighbour.holds_any(id) {
                return Plan::Wait;
            }
            let near =
                neighbour.furthest(id.track).is_some_and(|seq| seq.0.saturating_add(CONTENDER_REACH) >= id.seq.0);
            let nonce = neighbour.hello.as_ref().map_or(0, |hello| hello.nonce);
            if near && neighbour.gives() && !neighbour.is_seed() && rank(nonce, id) < own {
                before += 1;
            }
        }
        if let Some(under_way) = self.under_way.get(&id)
            && under_way.at + self.patience() > now
        {
            return Plan::WaitUntil(under_way.at + self.patience());
        }
        let turn = since + RANK_STEP * before.min(MAX_RANK);
        if turn > now {
            return Plan::WaitUntil(turn);
        }
        if any_ready {
            return Plan::Duty(segment.missing_range());
        }
        let joining = self.swarm.filter(|(at, peers)| *peers > 1 && *at + JOIN_GRACE > now);
        joining.map_or(Plan::Alone, |(at, _)| Plan::WaitUntil(at + JOIN_GRACE))
    }

    /// How long after its announcement a fetch of another's should have brought something.
    fn patience(&self) -> Duration {
        self.origin.predict(u64::from(CHUNK_LEN) * 8) * 2 + Duration::from_millis(500)
    }

    /// Somebody fetches these chunks from the origin, all of them where there is no range.
    pub(crate) fn on_fetching(&mut self, peer: PeerId, id: SegmentId, chunks: Option<ChunkRange>) {
        if self.note_under_way(id, chunks) && self.timeline.is_live(id.track) {
            self.tell_viewers(&[Message::Fetching { segment: id, chunks }], Some(peer));
        }
    }

    /// Returns whether that is news.
    fn note_under_way(&mut self, id: SegmentId, chunks: Option<ChunkRange>) -> bool {
        let now = self.now;
        if self.under_way.len() >= MAX_UNDER_WAY && !self.under_way.contains_key(&id) {
            let oldest = self.under_way.iter().map(|(id, under_way)| (under_way.at, id)).min();
            if let Some((_, oldest)) = oldest {
                self.under_way.remove(&oldest);
            }
        }
        let under_way = self.under_way.or_insert_with(id, || UnderWay { at: now, ..UnderWay::default() });
        let news = match chunks {
            _ if under_way.all => false,
            None => {
                under_way.all = true;
                true
            }
            Some(range) => {
                let before = under_way.chunks.len();
                under_way.chunks.insert_range(range);
                under_way.chunks.len() > before
            }
        };
        if news {
            under_way.at = now;
        }
        news
    }

    /// Starts an HTTP request for some chunks of the segment, or all of it.
    fn fetch(&mut self, id: SegmentId, chunks: Option<ChunkRange>) {
        let now = self.now;
        let fetch = FetchId(self.next_id());
        let Some(segment) = self.segments.get_mut(&id) else { return };
        let chunks = chunks.filter(|_| !segment.differs);
        let range = segment.len.zip(chunks).map(|(len, chunks)| len.byte_range(chunks));
        segment.arrival.requested.get_or_insert(now);
        segment.fetch = Some(Fetch { id: fetch, range, started: now, head: None, last_progress: now, bytes: 0 });
        self.fetches.insert(fetch, id);
        self.cancel_fetched_asks(id);
        self.emit(Output::Fetch { fetch, segment: id, range });
        if self.note_under_way(id, chunks) && self.config.uploads {
            self.tell_viewers(&[Message::Fetching { segment: id, chunks }], None);
        }
        self.wake_at(now + FETCH_STALL);
    }

    pub(crate) fn fetches_under_way(&self) -> Vec<(SegmentId, Option<ChunkRange>)> {
        self.fetches.values().map(|id| (*id, None)).collect()
    }

    pub(crate) fn abort_fetch(&mut self, id: SegmentId) {
        let Some(fetch) = self.segments.get_mut(&id).and_then(|segment| segment.fetch.take()) else { return };
        self.fetches.remove(&fetch.id);
        self.emit(Output::AbortFetch { fetch: fetch.id });
    }

    pub(crate) fn watch_fetch(&mut self, id: SegmentId) {
        let Some(fetch) = self.segments.get(&id).and_then(|segment| segment.fetch) else { return };
        let at = fetch.last_progress + FETCH_STALL;
        if at > self.now {
            return self.wake_at(at);
        }
        self.abort_fetch(id);
        self.on_origin_failed(id, None);
    }

    /// The request that `fetch` names, its progress noted. `None` where it was given up.
    fn progress(&mut self, fetch: FetchId) -> Option<SegmentId> {
        let id = *self.fetches.get(&fetch)?;
        let now = self.now;
        if let Some(under_way) = self.segments.get_mut(&id).and_then(|segment| segment.fetch.as_mut()) {
            under_way.last_progress = now;
        }
        Some(id)
    }

    pub(crate) fn on_fetch_head(&mut self, fetch: FetchId, ranged: bool, total: Option<SegmentLen>) {
        let now = self.now;
        let Some(id) = self.progress(fetch) else { return };
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.arrival.first_byte.get_or_insert(now);
        if let Some(under_way) = &mut segment.fetch {
            under_way.head = Some(now);
            if !ranged {
                under_way.range = None;
            }
        }
        match (segment.len, total) {
            (Some(len), Some(total)) if len != total => {
                if ranged || !segment.held.is_empty() {
                    self.distrust(id);
                } else {
                    // Nothing was mixed yet: this very response is the origin's own edition.
                    segment.differs = true;
                    segment.len = Some(total);
                    segment.hashes.clear();
                    self.drop_unchecked(id);
                    self.cancel_asks(id);
                    self.emit(Output::Event(Event::OriginDiffers { segment: id }));
                }
            }
            (None, Some(total)) => segment.len = Some(total),
            _ => {}
        }
        self.cancel_fetched_asks(id);
    }

    pub(crate) fn on_fetch_chunk(&mut self, fetch: FetchId, index: ChunkIndex, len: u32, hash: ChunkHash) {
        self.stats.http_bytes += u64::from(len);
        let Some(id) = self.progress(fetch) else {
            self.stats.wasted_bytes += u64::from(len);
            return;
        };
        let Some(segment) = self.segments.get_mut(&id) else { return };
        if let Some(under_way) = &mut segment.fetch {
            under_way.bytes += u64::from(len);
        }
        if index.0 >= headwater_wire::limits::MAX_CHUNKS {
            return;
        }
        match segment.hashes.get(index.0 as usize) {
            Some(expected) if *expected != hash => return self.distrust(id),
            Some(_) => {}
            None if !segment.hashes.is_empty() => return self.distrust(id),
            None => {
                segment.http_hashes.insert(index, hash);
            }
        }
        let checked = !segment.hashes.is_empty();
        if !segment.held.insert(index) {
            self.stats.wasted_bytes += u64::from(len);
            return;
        }
        segment.arrival.http_bytes += len;
        let unchecked = segment.unchecked.remove(&index);
        let chunk = ChunkId { segment: id, index };
        if let Some((peer, _)) = unchecked {
            self.stats.wasted_bytes += u64::from(len);
            self.emit(Output::DropChunk { peer, chunk });
        }
        if checked {
            self.announce_chunk(chunk);
        }
    }

    pub(crate) fn on_fetch_done(&mut self, fetch: FetchId, total: SegmentLen) {
        let now = self.now;
        let Some(id) = self.fetches.remove(&fetch) else { return };
        let Some(segment) = self.segments.get_mut(&id) else { return };
        let Some(under_way) = segment.fetch.take() else { return };
        segment.failures = None;
        let head = under_way.head.unwrap_or(now);
        self.origin.measured(head.since(under_way.started), under_way.bytes, now.since(head));
        match segment.len {
            Some(len) if len != total => return self.distrust(id),
            Some(_) => {}
            None => segment.len = Some(total),
        }
        if segment.is_all_held() {
            self.cancel_asks(id);
            self.finish(id);
        }
    }

    pub(crate) fn on_fetch_failed(&mut self, fetch: FetchId, status: Option<u16>) {
        let Some(id) = self.fetches.remove(&fetch) else { return };
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.fetch = None;
        }
        self.on_origin_failed(id, status);
    }

    /// Decides between another try, the neighbours, and the player's own loader.
    fn on_origin_failed(&mut self, id: SegmentId, status: Option<u16>) {
        let now = self.now;
        let held = self.ready().any(|(_, neighbour)| neighbour.gives() && neighbour.holds_any(id));
        let Some(segment) = self.segments.get_mut(&id) else { return };
        let count = segment.failures.map_or(0, |(_, count)| count) + 1;
        segment.failures = Some((now, count));
        let hopeless = status.is_some_and(|status| (400..500).contains(&status) && status != 408 && status != 429);
        if held || (!hopeless && count < MAX_FAILURES) {
            return;
        }
        let demands = core::mem::take(&mut segment.demands);
        for demand in demands {
            self.demands.remove(&demand);
            self.emit(Output::Fail { demand });
        }
        self.evict(id);
    }

    /// All chunks are held: nothing of the segment that did not come from the origin as a whole is without its hash here.
    pub(crate) fn finish(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get_mut(&id) else { return };
        let Some(len) = segment.len else { return };
        let whole = segment.http_hashes.len() == len.chunk_count() as usize;
        let root = whole.then(|| {
            let hashes: Vec<ChunkHash> = segment.http_hashes.values().copied().collect();
            RootHash::of_chunks(len, &hashes)
        });
        let known = self.catalogue.get(id);
        if let (Some(root), Some(known)) = (root, known)
            && (known.root != root || known.len != len)
            && let Some(segment) = self.segments.get_mut(&id)
            && !segment.differs
        {
            segment.differs = true;
            self.emit(Output::Event(Event::OriginDiffers { segment: id }));
        }
        self.complete(id);
    }

    pub(crate) fn look_for_catalogue(&mut self) {
        let now = self.now;
        if self.is_open()
            || self.config.role == Role::Seed
            || self.origin.catalogue_under_way
            || self.neighbours.is_empty()
        {
            return;
        }
        // Of a live stream a few look, and the others hear it from them.
        let lacking: Option<Now> = self
            .active
            .iter()
            .chain(self.latest.values().copied())
            .filter(|id| self.catalogue.get(*id).is_none())
            .map(|id| {
                let since = self.segments.get(&id).and_then(|segment| segment.since).unwrap_or(now);
                let order = if self.timeline.is_live(id.track) { self.candidates.order(id) } else { Vec::new() };
                let place = order.iter().position(|nonce| *nonce == self.nonce);
                let looks_first = order.is_empty() || place.is_some_and(|place| place < CATALOGUE_READERS);
                if looks_first { since } else { since + CATALOGUE_HEARSAY }
            })
            .min();
        let Some(due) = lacking.map(|due| due.max(self.origin.catalogue_next.unwrap_or(due))) else { return };
        if due > now {
            return self.wake_at(due);
        }
        self.origin.catalogue_under_way = true;
        self.emit(Output::FetchCatalogue);
    }
}
