//! What is fetched from whom, and when.
//!
//! Every segment that the player demands has a plan: chunks are asked of neighbours that hold them, and at the *rescue*
//! moment, as late as the origin's measured speed allows, HTTP fetches what is still missing. Where no neighbour has the
//! segment, those that may be about to fetch it are ranked by hash, so that one goes to the origin at once and the others
//! wait for its announcement, each a little longer than the one before.

use std::time::Duration;

use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{ChunkHash, ChunkId, ChunkIndex, ChunkRange, Message, PeerId, RootHash, SegmentId, SegmentLen};

use crate::engine::Engine;
use crate::io::{DisconnectReason, FetchId, Output};
use crate::map::{SortedMap, SortedSet};
use crate::neighbour::Ask;
use crate::rng::mix;
use crate::segment::Fetch;
use crate::time::Now;

/// How many segments beyond the one last demanded are asked of peers: enough to keep several neighbours busy, few enough
/// that a change of rendition wastes little.
const AHEAD: usize = 3;

/// What the rescue allows for besides the transfer itself: the player's own handling, and the noise of timers.
const RESCUE_MARGIN: Duration = Duration::from_millis(900);

/// How many times the predicted transfer the rescue allows for.
const RESCUE_FACTOR: f64 = 1.6;

/// Assumed of the origin before the first response: 200 ms to the first byte, 4 Mbit/s.
const FIRST_TTFB: Duration = Duration::from_millis(200);
const FIRST_RATE: f64 = 500_000.0;

/// Time from one rank of an election to the next: a fetch announced by one neighbour reaches the others well within it.
const RANK_STEP: Duration = Duration::from_millis(300);

/// Ranks beyond this wait no longer.
const MAX_RANK: u32 = 6;

/// A neighbour whose newest segment is further behind than this is not about to fetch the segment in question.
const CONTENDER_REACH: u64 = 3;

/// After joining a swarm with others in it, how long segments that are not urgent wait for the first neighbour.
const JOIN_GRACE: Duration = Duration::from_secs(5);

/// How long a question for catalogue entries or hashes may go unanswered before another neighbour is asked.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);

/// The least time a neighbour has to deliver a chunk before somebody else is asked.
const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// Asks that may run out in a row before the neighbour is let go.
const MAX_STRIKES: u32 = 6;

/// An HTTP response that brings nothing for this long is given up.
const FETCH_STALL: Duration = Duration::from_secs(8);

/// Failed HTTP requests in a row after which the player's own loader may try.
const MAX_FAILURES: u32 = 4;

/// Between two looks at the catalogue file: while entries are missing, and where there was no file.
const CATALOGUE_EVERY: Duration = Duration::from_secs(2);
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
        let transfer = Duration::from_secs_f64(bytes as f64 / self.rate.unwrap_or(FIRST_RATE).max(1.0));
        self.ttfb.unwrap_or(FIRST_TTFB) + transfer
    }

    fn measured(&mut self, ttfb: Duration, bytes: u64, transfer: Duration) {
        self.ttfb = Some(self.ttfb.map_or(ttfb, |old| old.mul_f64(0.7) + ttfb.mul_f64(0.3)));
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

/// What a demanded segment that HTTP is not fetching may hope for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outlook {
    /// Neighbours hold some of it.
    Held,
    /// Somebody may have it by then.
    WaitUntil(Now),
    /// Nobody will bring it.
    None,
}

impl Engine {
    pub(crate) fn schedule_downloads(&mut self) {
        self.expire_asks();
        let ahead = self.want_ahead();
        self.drop_unwanted(&ahead);
        let now = self.now;
        let slack = |id: SegmentId| self.timeline.slack(now, id).unwrap_or(Duration::ZERO);
        let wanted: SortedSet<(Duration, SegmentId)> = self.active.iter().map(|id| (slack(id), id)).collect();
        for (slack, id) in wanted.iter() {
            let Some(segment) = self.segments.get(&id) else { continue };
            let demanded = !segment.demands.is_empty();
            if segment.fetch.is_some() {
                self.watch_fetch(id);
            } else if demanded {
                self.plan_http(id, slack);
            }
            self.seek_knowledge(id);
            self.ask_peers(id, slack);
        }
        self.look_for_catalogue();
    }

    /// Makes segments active that the player will demand soon and that a neighbour holds. Says which those are.
    fn want_ahead(&mut self) -> SortedSet<SegmentId> {
        let Some(position) = self.timeline.position(self.now) else { return SortedSet::default() };
        let until = position.after(self.config.prefetch);
        let next = |last: &SegmentId| {
            let from = SegmentId { track: last.track, seq: last.seq.saturating_add(1) };
            self.timeline.upcoming(from, until).take(AHEAD)
        };
        let ahead: SortedSet<SegmentId> = self.latest.values().flat_map(next).collect();
        for id in ahead.iter() {
            let new = !self.segments.contains_key(&id);
            if new && self.ready().any(|(_, neighbour)| neighbour.gives() && neighbour.holds_any(id)) {
                self.segment_mut(id);
                self.active.insert(id);
            }
        }
        ahead
    }

    /// Lets go of segments that nobody demands and the player will not come to.
    fn drop_unwanted(&mut self, ahead: &SortedSet<SegmentId>) {
        let is_wanted = |id: &SegmentId| {
            let segment = self.segments.get(id);
            ahead.contains(id) || segment.is_some_and(|segment| !segment.demands.is_empty() || segment.fetch.is_some())
        };
        let unwanted: Vec<SegmentId> = self.active.iter().filter(|id| !is_wanted(id)).collect();
        for id in unwanted {
            self.evict(id);
        }
    }

    // The origin.

    fn plan_http(&mut self, id: SegmentId, slack: Duration) {
        let now = self.now;
        let Some(segment) = self.segments.get(&id) else { return };
        if let Some(at) = segment.retry_at().filter(|at| *at > now) {
            return self.wake_at(at);
        }
        let bytes = segment.missing_bytes().unwrap_or(u64::from(CHUNK_LEN) * 8);
        let reserve = self.origin.predict(bytes).mul_f64(RESCUE_FACTOR) + RESCUE_MARGIN;
        let rescue = now + slack.saturating_sub(reserve);
        let wait = match self.outlook(id) {
            _ if rescue <= now || segment.differs => None,
            Outlook::Held => Some(rescue),
            Outlook::WaitUntil(at) => Some(at.min(rescue)).filter(|at| *at > now),
            Outlook::None => None,
        };
        match wait {
            Some(at) => self.wake_at(at),
            None => self.fetch(id),
        }
    }

    fn outlook(&self, id: SegmentId) -> Outlook {
        let now = self.now;
        let Some(segment) = self.segments.get(&id) else { return Outlook::None };
        let since = segment.since.unwrap_or(now);
        let mut rank = 0;
        let mut announced: Option<Now> = None;
        let mut any_ready = false;
        let own = election_rank(self.nonce, id);
        for (_, neighbour) in self.ready() {
            any_ready = true;
            if neighbour.gives() && neighbour.holds_any(id) {
                return Outlook::Held;
            }
            if neighbour.gives()
                && let Some(at) = neighbour.fetching_since(id)
            {
                announced = announced.max(Some(at));
            }
            let near =
                neighbour.furthest(id.track).is_some_and(|seq| seq.0.saturating_add(CONTENDER_REACH) >= id.seq.0);
            let nonce = neighbour.hello.as_ref().map_or(0, |hello| hello.nonce);
            if near && neighbour.gives() && !neighbour.is_seed() && election_rank(nonce, id) < own {
                rank += 1;
            }
            // A seed that is up to date will have it in a moment.
            if near && neighbour.is_seed() && self.timeline.is_live(id.track) {
                rank += 2;
            }
        }
        if let Some(at) = announced {
            let patience = self.origin.predict(u64::from(CHUNK_LEN) * 8) * 2 + Duration::from_millis(500);
            if at + patience > now {
                return Outlook::WaitUntil(at + patience);
            }
        }
        if rank > 0 {
            return Outlook::WaitUntil(since + RANK_STEP * rank.min(MAX_RANK));
        }
        let joining = self.swarm.filter(|(at, peers)| *peers > 1 && *at + JOIN_GRACE > now && !any_ready);
        joining.map_or(Outlook::None, |(at, _)| Outlook::WaitUntil(at + JOIN_GRACE))
    }

    /// Starts an HTTP request for what is missing of the segment.
    fn fetch(&mut self, id: SegmentId) {
        let now = self.now;
        let fetch = FetchId(self.next_id());
        let Some(segment) = self.segments.get_mut(&id) else { return };
        let chunks = segment.missing_range().filter(|_| !segment.differs);
        let range = segment.len.zip(chunks).map(|(len, chunks)| len.byte_range(chunks));
        segment.arrival.requested.get_or_insert(now);
        segment.fetch = Some(Fetch { id: fetch, range, started: now, head: None, last_progress: now, bytes: 0 });
        self.fetches.insert(fetch, id);
        self.cancel_fetched_asks(id);
        self.emit(Output::Fetch { fetch, segment: id, range });
        if self.config.uploads {
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

    fn watch_fetch(&mut self, id: SegmentId) {
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
                    self.emit(Output::Event(crate::io::Event::OriginDiffers { segment: id }));
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
        let held = self.outlook(id) == Outlook::Held;
        let Some(segment) = self.segments.get_mut(&id) else { return };
        let count = segment.failures.map_or(0, |(_, count)| count) + 1;
        segment.failures = Some((now, count));
        let hopeless = status.is_some_and(|status| (400..500).contains(&status) && status != 408 && status != 429);
        if held || (!hopeless && count < MAX_FAILURES) {
            return;
        }
        let demands = std::mem::take(&mut segment.demands);
        for demand in demands {
            self.demands.remove(&demand);
            self.emit(Output::Fail { demand });
        }
        self.evict(id);
    }

    // The neighbours.

    /// Asks for the catalogue entry and the chunk hashes, without which nothing of a neighbour's can be used.
    fn seek_knowledge(&mut self, id: SegmentId) {
        let now = self.now;
        let Some(segment) = self.segments.get(&id) else { return };
        if segment.differs || !segment.hashes.is_empty() || (segment.fetch.is_some_and(|fetch| fetch.range.is_none())) {
            return;
        }
        let entry = self.catalogue.get(id).is_some();
        let asked_lately =
            self.ready().filter_map(|(_, neighbour)| neighbour.questions.get(&id)).any(|at| *at + ANSWER_WITHIN > now);
        // An entry that came makes the question another one.
        if asked_lately && segment.entry_seen == entry {
            return self.wake_at(now + ANSWER_WITHIN);
        }
        // Whoever was asked longest ago, or never.
        let peer = self
            .ready()
            .filter(|(_, neighbour)| neighbour.gives() && neighbour.holds_any(id))
            .min_by_key(|(peer, neighbour)| (neighbour.questions.get(&id).copied(), neighbour.round_trip(), *peer))
            .map(|(peer, _)| peer);
        let Some(peer) = peer else { return };
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.note_question(id, now);
        }
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.entry_seen = entry;
        }
        if entry || self.is_open() {
            self.ask_for_hashes(peer, id);
        } else {
            self.ask_for_entry(peer, id, AHEAD as u64 * 4);
        }
        self.wake_at(now + ANSWER_WITHIN);
    }

    fn ask_peers(&mut self, id: SegmentId, slack: Duration) {
        let now = self.now;
        let Some(segment) = self.segments.get(&id) else { return };
        let Some(len) = segment.len.filter(|_| !segment.differs) else { return };
        if self.catalogue.get(id).is_none() {
            return;
        }
        let missing: Vec<ChunkIndex> = segment
            .missing()
            .filter(|index| !segment.asked.contains_key(index) && !segment.is_being_fetched(*index))
            .collect();
        if missing.is_empty() {
            return;
        }
        let mut asks: SortedMap<PeerId, SortedSet<ChunkIndex>> = SortedMap::default();
        for index in missing {
            let chunk = ChunkId { segment: id, index };
            let Some(chunk_len) = len.chunk_len(index) else { continue };
            let Some((peer, predicted)) = self.best_source(chunk, chunk_len, slack) else { continue };
            let Some(neighbour) = self.neighbours.get_mut(&peer) else { continue };
            let expires = now + (predicted * 4).max(ASK_PATIENCE);
            neighbour.ask(chunk, Ask { at: now, len: chunk_len, received: 0, expires });
            if let Some(segment) = self.segments.get_mut(&id) {
                segment.asked.insert(index, peer);
                segment.arrival.requested.get_or_insert(now);
            }
            asks.or_default(peer).insert(index);
            self.wake_at(expires);
        }
        let time_left_ms = u32::try_from(slack.as_millis()).unwrap_or(u32::MAX);
        for (peer, indices) in asks {
            for chunks in ranges_of(indices.iter()) {
                self.send(peer, &Message::Request { segment: id, chunks, time_left_ms });
            }
        }
    }

    /// The neighbour that would bring the chunk first. A viewer that is in time goes before a seed: the publisher pays
    /// for what seeds send.
    fn best_source(&mut self, chunk: ChunkId, len: u32, slack: Duration) -> Option<(PeerId, Duration)> {
        let now = self.now;
        let mut best: Option<(bool, Duration, PeerId)> = None;
        for (peer, neighbour) in self.neighbours.iter_mut() {
            let able = neighbour.is_ready() && neighbour.gives() && neighbour.has_room() && neighbour.holds(chunk);
            if !able || neighbour.avoids(now, chunk) {
                continue;
            }
            let predicted = neighbour.predict(len);
            let late = predicted > slack / 2;
            let candidate = (late || neighbour.is_seed(), predicted, peer);
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        }
        best.map(|(_, predicted, peer)| (peer, predicted))
    }

    fn expire_asks(&mut self) {
        let now = self.now;
        let mut expired: Vec<(PeerId, ChunkId)> = Vec::new();
        let mut next: Option<Now> = None;
        for (peer, neighbour) in &self.neighbours {
            for (chunk, ask) in &neighbour.asked {
                if ask.expires <= now && ask.received < ask.len {
                    expired.push((peer, chunk));
                } else {
                    next = Some(next.map_or(ask.expires, |next| next.min(ask.expires)));
                }
            }
        }
        if let Some(next) = next {
            self.wake_at(next);
        }
        let mut struck = Vec::new();
        for (peer, chunk) in expired {
            self.take_back(peer, chunk);
            let Some(neighbour) = self.neighbours.get_mut(&peer) else { continue };
            neighbour.avoid(chunk, now + Duration::from_secs(10));
            if !struck.contains(&peer) {
                neighbour.strike();
                struck.push(peer);
            }
        }
        for peer in struck {
            if self.neighbours.get(&peer).is_some_and(|neighbour| neighbour.strikes >= MAX_STRIKES) {
                self.disconnect(peer, DisconnectReason::Unresponsive);
            }
        }
    }

    /// Cancels what is asked of one peer.
    fn take_back(&mut self, peer: PeerId, chunk: ChunkId) {
        if let Some(segment) = self.segments.get_mut(&chunk.segment) {
            segment.asked.remove(&chunk.index);
        }
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        let Some(ask) = neighbour.unask(chunk) else { return };
        // What it is sending already cannot be told from the answer to a new ask: none for a while.
        neighbour.avoid(chunk, self.now + Duration::from_secs(5));
        self.stats.wasted_bytes += u64::from(ask.received);
        self.send(peer, &Message::Cancel { segment: chunk.segment, chunks: ChunkRange::one(chunk.index) });
        self.emit(Output::DropChunk { peer, chunk });
    }

    /// Cancels all that is asked of peers for a segment.
    pub(crate) fn cancel_asks(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get(&id) else { return };
        let asked: Vec<(ChunkIndex, PeerId)> = segment.asked.iter().map(|(index, peer)| (index, *peer)).collect();
        for (index, peer) in asked {
            self.take_back(peer, ChunkId { segment: id, index });
        }
    }

    /// Cancels what HTTP is bringing, but for chunks that are half here.
    fn cancel_fetched_asks(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get(&id) else { return };
        let asked: Vec<(ChunkIndex, PeerId)> = segment
            .asked
            .iter()
            .filter(|(index, _)| segment.is_being_fetched(*index))
            .map(|(index, peer)| (index, *peer))
            .collect();
        for (index, peer) in asked {
            let chunk = ChunkId { segment: id, index };
            let ask = self.neighbours.get(&peer).and_then(|neighbour| neighbour.asked.get(&chunk));
            if ask.is_none_or(|ask| ask.received * 2 < ask.len) {
                self.take_back(peer, chunk);
            }
        }
    }

    pub(crate) fn on_chunk_received(&mut self, peer: PeerId, chunk: ChunkId, hash: ChunkHash) {
        let now = self.now;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        let Some(ask) = neighbour.unask(chunk) else {
            return self.emit(Output::DropChunk { peer, chunk });
        };
        neighbour.arrived(now, ask.len, ask.at);
        let from_seed = neighbour.is_seed();
        if from_seed {
            self.stats.seed_bytes += u64::from(ask.len);
        } else {
            self.stats.viewer_bytes += u64::from(ask.len);
        }
        let Some(segment) = self.segments.get_mut(&chunk.segment).filter(|segment| !segment.differs) else {
            self.stats.wasted_bytes += u64::from(ask.len);
            return self.emit(Output::DropChunk { peer, chunk });
        };
        segment.asked.remove(&chunk.index);
        if segment.held.contains(chunk.index) || segment.unchecked.contains_key(&chunk.index) {
            self.stats.wasted_bytes += u64::from(ask.len);
            return self.emit(Output::DropChunk { peer, chunk });
        }
        if segment.hashes.is_empty() {
            segment.unchecked.insert(chunk.index, (peer, hash));
            return;
        }
        self.judge_chunk(peer, chunk, hash);
    }

    /// Keeps an incoming chunk whose hash is the right one; a wrong one costs its sender the connection.
    pub(crate) fn judge_chunk(&mut self, peer: PeerId, chunk: ChunkId, hash: ChunkHash) {
        let from_seed = self.neighbours.get(&peer).is_some_and(crate::neighbour::Neighbour::is_seed);
        let Some(segment) = self.segments.get_mut(&chunk.segment) else { return };
        let Some(segment_len) = segment.len else { return };
        let len = segment_len.chunk_len(chunk.index).unwrap_or(0);
        if segment.hashes.get(chunk.index.0 as usize) != Some(&hash) {
            self.stats.bad_chunks += 1;
            self.stats.wasted_bytes += u64::from(len);
            self.emit(Output::DropChunk { peer, chunk });
            return self.disconnect(peer, DisconnectReason::BadData);
        }
        segment.held.insert(chunk.index);
        if from_seed {
            segment.arrival.seed_bytes += len;
        } else {
            segment.arrival.viewer_bytes += len;
        }
        self.emit(Output::KeepChunk { peer, chunk, segment_len });
        self.announce_chunk(chunk);
        let Some(segment) = self.segments.get(&chunk.segment) else { return };
        if segment.is_all_held() {
            self.abort_fetch(chunk.segment);
            self.finish(chunk.segment);
        }
    }

    /// All chunks are held: nothing of the segment that did not come from the origin as a whole is without its hash here.
    fn finish(&mut self, id: SegmentId) {
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
            self.emit(Output::Event(crate::io::Event::OriginDiffers { segment: id }));
        }
        self.complete(id);
    }

    // The catalogue file.

    fn look_for_catalogue(&mut self) {
        let now = self.now;
        let needed = !self.is_open()
            && self.config.role == headwater_wire::Role::Viewer
            && !self.origin.catalogue_under_way
            && !self.neighbours.is_empty()
            && self.lacks_entries();
        if !needed {
            return;
        }
        match self.origin.catalogue_next.filter(|at| *at > now) {
            Some(at) => self.wake_at(at),
            None => {
                self.origin.catalogue_under_way = true;
                self.emit(Output::FetchCatalogue);
            }
        }
    }

    /// Whether a segment that is on its way, or the last one demanded, has no entry.
    fn lacks_entries(&self) -> bool {
        self.active.iter().chain(self.latest.values().copied()).any(|id| self.catalogue.get(id).is_none())
    }
}

/// The place of a peer in the election for one segment: everyone computes the same order.
fn election_rank(nonce: u64, id: SegmentId) -> u64 {
    mix(nonce ^ mix(id.track.0 ^ mix(id.seq.0)))
}

/// Ascending indices as ranges.
fn ranges_of(indices: impl Iterator<Item = ChunkIndex>) -> Vec<ChunkRange> {
    let mut ranges: Vec<ChunkRange> = Vec::new();
    for index in indices {
        match ranges.last_mut() {
            Some(last) if last.end() == index.0 => last.count += 1,
            _ => ranges.push(ChunkRange::one(index)),
        }
    }
    ranges
}
