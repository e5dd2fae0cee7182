//! The origin: HTTP requests and what comes of them. When there is to be one is decided in `duty`.

use alloc::vec::Vec;

use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{ChunkHash, ChunkId, ChunkIndex, ChunkRange, Message, Role, RootHash, SegmentId, SegmentLen};

use crate::engine::Engine;
use crate::io::{Event, FetchId, Output};
use crate::segment::Fetch;
use crate::time::{Now, Span};

/// Assumed of the origin before anything was measured: 200 ms to the first byte, 4 Mbit/s.
const FIRST_TTFB: Span = Span::from_millis(200);
const FIRST_RATE: f64 = 500_000.0;

/// Transfers shorter than this measure the timer, or a cache.
const MIN_TRANSFER: Span = Span::from_millis(20);

/// How much what was carried before still counts after a load of the usual size, in what players are told of the line.
const REMEMBERED: f64 = 0.7;

/// A measurement of the origin stands for so long. From then on, the less it says the older it is, the more the neighbours' own
/// pace counts: a viewer that needs no origin any more must not stay at what it once carried.
const STANDS_S: f64 = 60.0;

/// An HTTP response that brings nothing for this long is given up.
const FETCH_STALL: Span = Span::from_secs(8);

/// Failed HTTP requests in a row after which the player's own loader may try.
const MAX_FAILURES: u32 = 4;

/// From one candidate to the next that looks for a new live segment in the catalogue file, and how long the other viewers wait
/// to hear of it before they look too.
const CATALOGUE_STEP: Span = Span::from_millis(100);
const CATALOGUE_HEARSAY: Span = Span::from_millis(1500);

/// Between two looks at the catalogue file: while entries are missing, and where there was no file.
const CATALOGUE_EVERY: Span = Span::from_millis(500);
const CATALOGUE_ABSENT: Span = Span::from_secs(60);

/// What is known of the origin.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    ttfb: Option<Span>,
    rate: Option<f64>,
    /// Bytes that it carried and the seconds which that took, small ones too: a player on a thin line knows no others.
    carried: (f64, f64),
    measured_at: Now,
    catalogue_under_way: bool,
    /// Whether the last look at the catalogue file found one.
    pub(crate) has_catalogue: bool,
    catalogue_next: Option<Now>,
}

impl Origin {
    /// How long `bytes` would take from the origin.
    pub(crate) fn predict(&self, bytes: u64) -> Span {
        let transfer = Span::from_secs_f64(bytes as f64 / self.rate.unwrap_or(FIRST_RATE).max(1.0));
        self.ttfb.unwrap_or(FIRST_TTFB) + transfer
    }

    /// How long a player is told that `len` took, which was here after `took`: what the origin would have taken. Else players
    /// would choose a rendition by how fast neighbours are, which the origin may not carry when they are gone, or be talked
    /// down by neighbours whose segments were in no hurry.
    pub(crate) fn pace(&self, now: Now, len: u32, took: Span) -> Span {
        let (bytes, seconds) = self.carried;
        if bytes == 0.0 {
            return took;
        }
        let told = f64::from(len) * seconds / bytes;
        let age = (now.passed(self.measured_at).as_secs_f64() / STANDS_S).max(1.0);
        Span::from_secs_f64(took.as_secs_f64().max(told / age).min(told))
    }

    /// How long it lets wait for a first byte, as measured.
    pub(crate) fn latency(&self) -> Span {
        self.ttfb.unwrap_or(Span::ZERO)
    }

    pub(crate) fn measured(&mut self, now: Now, ttfb: Span, bytes: u64, transfer: Span) {
        // What comes at once comes from a cache, and says nothing of the line.
        if bytes < u64::from(CHUNK_LEN) || ttfb + transfer >= MIN_TRANSFER {
            let (before, took) = self.carried;
            let bytes = bytes as f64;
            // A load says as much as it is large beside those before it: a chunk that was fetched to be in time says little.
            let usual = before * (1.0 - REMEMBERED);
            let weight = if bytes < usual { bytes / usual } else { 1.0 };
            let kept = 1.0 - (1.0 - REMEMBERED) * weight;
            self.carried = (before * kept + bytes, took * kept + transfer.as_secs_f64());
            if weight > 0.5 {
                self.measured_at = now;
            }
        }
        self.ttfb = Some(self.ttfb.map_or(ttfb, |old| old.scaled(0.7) + ttfb.scaled(0.3)));
        // Short transfers measure the timer, not the line.
        if bytes >= u64::from(CHUNK_LEN) {
            let sample = bytes as f64 / transfer.max(MIN_TRANSFER).as_secs_f64();
            // A slow one counts at once; a quick one may have come from a cache.
            self.rate = Some(match self.rate {
                None => sample,
                Some(old) if sample < old => (old + sample) / 2.0,
                Some(old) => old * 0.7 + sample.min(old * 4.0) * 0.3,
            });
        }
    }

    pub(crate) fn catalogue_fetched(&mut self, now: Now, found: bool) {
        self.catalogue_under_way = false;
        self.has_catalogue = found;
        self.catalogue_next = Some(now + if found { CATALOGUE_EVERY } else { CATALOGUE_ABSENT });
    }
}

impl Engine {
    /// Starts an HTTP request for some chunks of the segment, or all of it.
    pub(crate) fn fetch(&mut self, id: SegmentId, chunks: Option<ChunkRange>) {
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
        self.note_under_way(id, chunks, true);
        if self.config.uploads {
            // A seed that has no room for a whole stream pulls what comes next.
            self.tell(&Message::Fetching { segment: id, chunks }, None, |neighbour| {
                neighbour.is_seed() || !neighbour.holdings.holds_whole(id)
            });
        }
        self.wake_at(now + FETCH_STALL);
    }

    pub(crate) fn fetches_under_way(&self) -> Vec<(SegmentId, Option<ChunkRange>)> {
        let chunks = |id: &SegmentId| self.segments.get(id).and_then(|segment| segment.fetched_chunks());
        self.fetches.values().map(|id| (*id, chunks(id))).collect()
    }

    pub(crate) fn abort_fetch(&mut self, id: SegmentId) {
        let Some(fetch) = self.segments.get_mut(&id).and_then(|segment| segment.fetch.take()) else { return };
        self.fetches.remove(&fetch.id);
        self.forget_claim(id, fetch.chunks());
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
        segment.news = Some(now);
        let head = under_way.head.unwrap_or(now);
        self.origin.measured(now, head.passed(under_way.started), under_way.bytes, now.passed(head));
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
        if let Some(failed) = self.segments.get_mut(&id).and_then(|segment| segment.fetch.take()) {
            self.forget_claim(id, failed.chunks());
        }
        self.on_origin_failed(id, status);
    }

    /// Decides between another try, the neighbours, and the player's own loader.
    fn on_origin_failed(&mut self, id: SegmentId, status: Option<u16>) {
        let now = self.now;
        let held = self.ready().any(|(_, neighbour)| neighbour.gives() && neighbour.holds_any(id));
        let Some(segment) = self.segments.get_mut(&id) else { return };
        if segment.is_all_held() {
            return self.finish(id);
        }
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
                let is_live = self.timeline.is_live(id.track);
                let (count, place) = if is_live { self.candidates.turn(id, self.nonce) } else { (0, None) };
                match place {
                    _ if count == 0 => since,
                    Some(place) => since + CATALOGUE_STEP * place as u32,
                    None => since + CATALOGUE_HEARSAY,
                }
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

#[cfg(test)]
mod tests {
    use super::{Now, Origin, Span};

    const MINUTE: Span = Span::from_secs(60);

    /// An origin of 20 kB/s.
    fn slow() -> Origin {
        let mut origin = Origin::default();
        for _ in 0..3 {
            origin.measured(Now::default(), Span::from_millis(50), 20_000, Span::from_secs(1));
        }
        origin
    }

    #[test]
    fn the_pace_of_neighbours_is_not_what_a_player_is_told() {
        for took in [Span::from_millis(5), Span::from_secs(9)] {
            let told = slow().pace(Now::default() + MINUTE, 40_000, took).as_secs_f64();
            assert!((told - 2.0).abs() < 1e-3, "{told}");
        }
        assert_eq!(slow().latency(), Span::from_millis(50));
    }

    #[test]
    fn neighbours_that_are_faster_count_more_the_longer_the_origin_was_not_asked() {
        let told = |minutes: u32, took| slow().pace(Now::default() + MINUTE * minutes, 40_000, took).as_secs_f64();
        assert!((told(4, Span::from_millis(5)) - 0.5).abs() < 1e-3);
        assert!((told(4, Span::from_secs(1)) - 1.0).abs() < 1e-3);
        assert!((told(4, Span::from_secs(9)) - 2.0).abs() < 1e-3, "slower ones never");
    }

    #[test]
    fn a_slower_origin_is_believed_sooner_than_a_quicker_one() {
        let told = |transfer| {
            let mut origin = slow();
            origin.measured(Now::default(), Span::ZERO, 20_000, transfer);
            origin.pace(Now::default(), 20_000, Span::ZERO).as_secs_f64()
        };
        assert!(told(Span::from_secs(4)) > 2.0);
        assert!(told(Span::from_millis(250)) > 0.6);
    }

    #[test]
    fn small_loads_and_caches_say_little_of_the_line() {
        let mut origin = Origin::default();
        for _ in 0..3 {
            origin.measured(Now::default(), Span::from_millis(50), 1_000_000, Span::from_millis(400));
        }
        // Chunks that were fetched to be in time, each of which took as long as its window had to grow.
        for _ in 0..10 {
            origin.measured(Now::default() + MINUTE * 3, Span::from_millis(50), 65_536, Span::from_millis(160));
        }
        let told = origin.pace(Now::default() + MINUTE, 1_000_000, Span::ZERO).as_secs_f64();
        assert!((0.4..1.2).contains(&told), "{told}");
        let relaxed = origin.pace(Now::default() + MINUTE * 4, 1_000_000, Span::ZERO).as_secs_f64();
        assert!((relaxed - told / 4.0).abs() < 1e-3, "the chunks do not make the old measurement new");
        origin.measured(Now::default(), Span::from_millis(1), 1_000_000, Span::from_millis(3));
        let cached = origin.pace(Now::default() + MINUTE, 1_000_000, Span::ZERO).as_secs_f64();
        assert!((cached - told).abs() < 1e-3, "{cached}");
    }

    #[test]
    fn without_a_measurement_the_bytes_own_way_counts() {
        let took = Span::from_millis(70);
        assert_eq!(Origin::default().pace(Now::default(), 40_000, took), took);
        assert_eq!(Origin::default().latency(), Span::ZERO);
    }
}
