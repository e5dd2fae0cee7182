//! When HTTP steps in, and who goes to the origin for the others.
//!
//! Nobody waits beyond the *rescue* moment, at which HTTP must start for what is missing to be in time. Before it, where no
//! neighbour has a segment, those that may be about to fetch it are ranked by hash, so that one goes to the origin at once
//! and the others wait for its announcement, each a little longer than the one before.

use alloc::vec::Vec;

use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{ChunkId, ChunkIndex, ChunkRange, Message, PeerId, SegmentId, SegmentLen};

use crate::election::rank;
use crate::engine::Engine;
use crate::neighbour::Neighbour;
use crate::segment::Segment;
use crate::time::{Now, Span};

/// What the rescue allows for besides the transfer itself: the player's own handling, and the noise of timers.
const RESCUE_MARGIN: Span = Span::from_millis(900);

/// … but no more than this part of the time there ever was: a newcomer has less than two seconds, of which its first
/// connections take one.
const RESCUE_SHARE: u32 = 4;

/// How many times the predicted transfer the rescue allows for.
const RESCUE_FACTOR: f64 = 1.6;

/// Time from one rank of an election to the next: a fetch announced by one neighbour reaches the others well within it.
const RANK_STEP: Span = Span::from_millis(150);

/// How long a candidate leaves the next stripe to those whose it is.
const STRIPE_STEP: Span = Span::from_millis(150);

/// What a fetch of another's is given beside what the origin takes.
const PATIENCE: Span = Span::from_millis(1500);

/// Ranks beyond this wait no longer.
const MAX_RANK: u32 = 6;

/// A live segment is fetched in stripes of at least this many chunks, by at most so many viewers at once: what one
/// brings is on its way to the others while the rest is still at the origin.
const STRIPE_CHUNKS: u32 = 4;
const MAX_STRIPES: u32 = 3;

/// Most fetches of one segment that are remembered and passed on: the stripes and some backups.
const MAX_CLAIMS: usize = 8;

/// How long before the rescue one viewer among neighbours fetches for the others what none of them holds, and the time from
/// one to the next in their order.
const DOUBT: Span = Span::from_millis(900);
const DOUBT_STEP: Span = Span::from_millis(120);

/// A neighbour has told what it holds and knows this long after it was met.
const SETTLED: Span = Span::from_millis(600);

/// Where a seed has brought segments within this, the candidates of an election leave the next one to it for so long: by
/// then those next to the seed have said that it has it.
const SEEDED: Span = Span::from_secs(10);
const SEED_FIRST: Span = Span::from_millis(1200);

/// How long a candidate waits for the catalogue entry, without which it could not pass anything on.
const ENTRY_WITHIN: Span = Span::from_millis(800);

/// Most segments of which it is remembered that somebody fetches them.
const MAX_UNDER_WAY: usize = 64;

/// A segment that is needed later than this, and that no neighbour has, is left alone for a moment: those who are ahead, or
/// neighbours to be met, may bring it. Short enough that half of a player's usual buffer is left.
const CALM: Span = Span::from_secs(15);
const CALM_WAIT: Span = Span::from_millis(1500);

/// After joining a swarm with others in it, how long segments that are not urgent wait for the first neighbour.
const JOIN_GRACE: Span = Span::from_secs(5);

/// How long what none of the neighbours has waits for others that were asked for because of that; until a little before the
/// rescue, for who comes then pushes what it has down the same line.
const SOUGHT_WITHIN: Span = Span::from_millis(3500);
const SOUGHT_MARGIN: Span = Span::from_millis(300);

/// How long after its start an engine waits for word of the swarm before it takes itself to be alone.
const SIGNAL_GRACE: Span = Span::from_secs(2);

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

/// What peers of the swarm have said to be fetching of a segment, and when there was last a sign of each.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    claims: Vec<(ChunkRange, Now)>,
    /// Said to come from a seed, and nobody says to fetch it.
    seeded: bool,
}

impl UnderWay {
    /// Whether somebody fetches `index`, of whom there was a sign after `since`.
    fn covers(&self, index: ChunkIndex, since: Now) -> bool {
        self.claims.iter().any(|(range, at)| *at > since && covers(*range, index))
    }

    /// When there was last a sign of anybody.
    fn last(&self) -> Option<Now> {
        self.claims.iter().map(|(_, at)| *at).max()
    }
}

fn covers(range: ChunkRange, index: ChunkIndex) -> bool {
    range.first <= index && index.0 < range.end()
}

/// What a fetch of a whole segment covers. Said as a range, it is not a viewer that fetches: a seed has it, or is about to.
const ALL_CHUNKS: ChunkRange = ChunkRange { first: ChunkIndex(0), count: headwater_wire::limits::MAX_CHUNKS };

impl Engine {
    pub(crate) fn plan_http(&mut self, id: SegmentId, slack: Span) {
        let now = self.now;
        let Some(segment) = self.segments.get(&id) else { return };
        // The last of it came while a request was under way that has come to nothing since.
        if segment.is_all_held() {
            return self.finish(id);
        }
        if let Some(at) = segment.retry_at().filter(|at| *at > now) {
            return self.wake_at(at);
        }
        let rescue = self.rescue_at(segment, slack);
        let missing = segment.missing_range();
        if segment.differs {
            return self.fetch(id, None);
        }
        self.speak_for_seed(id);
        if rescue <= now {
            self.stats.rescues += 1;
            return self.fetch(id, missing);
        }
        match self.outlook(id, rescue) {
            Plan::Wait => self.wake_at(rescue),
            Plan::WaitUntil(at) => self.wake_at(at.min(rescue)),
            Plan::Duty(chunks) => {
                self.stats.duties += 1;
                if !self.timeline.is_live(id.track) {
                    self.announcements.strange_at = Some(now);
                }
                self.fetch(id, chunks);
            }
            Plan::Alone => {
                self.stats.lone_fetches += 1;
                self.fetch(id, missing);
            }
        }
    }

    /// The moment at which HTTP must start for what is not here to come in time.
    fn rescue_at(&self, segment: &Segment, slack: Span) -> Now {
        let bytes = segment.missing_bytes().unwrap_or(u64::from(CHUNK_LEN) * 8);
        let had = slack + self.now.passed(segment.since.unwrap_or(self.now));
        let margin = RESCUE_MARGIN.min(had / RESCUE_SHARE);
        let reserve = self.origin.predict(bytes).scaled(RESCUE_FACTOR) + margin;
        self.now + slack.saturating_sub(reserve)
    }

    /// Gives a fetch of a part up for one of all that is missing, where the rest would be late otherwise.
    pub(crate) fn widen_fetch(&mut self, id: SegmentId, slack: Span) {
        let Some(segment) = self.segments.get(&id) else { return };
        if segment.fetch.is_none() || segment.demands.is_empty() || segment.differs || !segment.is_fetched_in_part() {
            return;
        }
        let rescue = self.rescue_at(segment, slack);
        if rescue > self.now {
            return self.wake_at(rescue);
        }
        self.stats.rescues += 1;
        self.abort_fetch(id);
        let missing = self.segments.get(&id).and_then(|segment| segment.missing_range());
        self.fetch(id, missing);
    }

    /// Whether this peer should fetch a segment that is not urgent.
    fn outlook(&self, id: SegmentId, rescue: Now) -> Plan {
        let Some(segment) = self.segments.get(&id) else { return Plan::Wait };
        if let Some(at) = self.settled_at()
            && at > self.now
        {
            return Plan::WaitUntil(at);
        }
        if self.timeline.is_live(id.track)
            && let Some(plan) = self.duty(id, segment)
        {
            return if plan == Plan::Wait { self.doubt(id, segment, rescue) } else { plan };
        }
        self.turn_among_neighbours(id, segment, rescue)
    }

    /// When the first neighbour will have told what it holds. `None` without neighbours.
    fn settled_at(&self) -> Option<Now> {
        self.ready().map(|(_, neighbour)| neighbour.connected + SETTLED).min()
    }

    /// Whether a neighbour holds the chunk.
    fn is_around(&self, chunk: ChunkId) -> bool {
        self.around.may_hold(chunk) && self.ready().any(|(_, neighbour)| neighbour.gives() && neighbour.holds(chunk))
    }

    /// How many of the neighbours that want this segment come before this peer in the order for it.
    fn before(&self, id: SegmentId) -> u32 {
        let own = rank(self.nonce, id);
        let is_before = |neighbour: &Neighbour| {
            let nonce = neighbour.hello.as_ref().map_or(0, |hello| hello.nonce);
            neighbour.is_near(id) && neighbour.gives() && !neighbour.is_seed() && rank(nonce, id) < own
        };
        self.ready().filter(|(_, neighbour)| is_before(neighbour)).count() as u32
    }

    /// Others are to fetch it, and in time nobody around has: shortly before everyone would have to go to the origin, one
    /// viewer of each neighbourhood does.
    fn doubt(&self, id: SegmentId, segment: &Segment, rescue: Now) -> Plan {
        if rescue - DOUBT > self.now {
            return Plan::WaitUntil(rescue - DOUBT);
        }
        let lonely = segment.missing().filter(|index| !self.is_around(ChunkId { segment: id, index: *index }));
        let (first, end) = lonely.fold((u32::MAX, 0), |(first, end), index| (first.min(index.0), end.max(index.0 + 1)));
        let known_of = self.ready().any(|(_, neighbour)| neighbour.holds_any(id));
        if first == u32::MAX && (segment.len.is_some() || known_of) {
            return Plan::Wait;
        }
        // Where somebody is at it, a little later: spreading takes its time.
        let lately = self.now - self.patience();
        let is_under_way = self.under_way.get(&id).and_then(UnderWay::last).is_some_and(|at| at > lately);
        let doubt = if is_under_way { DOUBT / 2 } else { DOUBT };
        let turn = rescue - doubt + DOUBT_STEP * self.before(id).min(MAX_RANK);
        if turn > self.now {
            return Plan::WaitUntil(turn);
        }
        let chunks = ChunkRange { first: ChunkIndex(first), count: end.saturating_sub(first) };
        Plan::Duty(segment.len.and(Some(chunks)))
    }

    /// What the election in the whole swarm says of a live segment. `None` where there was none.
    fn duty(&self, id: SegmentId, segment: &Segment) -> Option<Plan> {
        let (candidates, place) = self.candidates.turn(id, self.nonce);
        if candidates == 0 || self.ready().next().is_none() {
            return None;
        }
        // A seed that keeps up will have it in a moment; one that has stopped falls behind, and the election counts again.
        if self.ready().any(|(_, neighbour)| neighbour.is_reliable_seed() && neighbour.is_near(id)) {
            return Some(Plan::Wait);
        }
        let Some(place) = place else { return Some(Plan::Wait) };
        let count = segment.len.map_or(0, SegmentLen::chunk_count);
        // Chunks can be passed on one by one only where their hashes are known; else one goes for the whole segment.
        let stripes =
            if segment.hashes.is_empty() { 1 } else { (count / STRIPE_CHUNKS).clamp(1, MAX_STRIPES) as usize };
        let stripes = stripes.min(candidates);
        let lately = self.now - self.patience();
        let under_way = self.under_way.get(&id);
        let is_coming = |index: ChunkIndex| {
            segment.held.contains(index)
                || under_way.is_some_and(|under_way| under_way.covers(index, lately))
                || self.is_around(ChunkId { segment: id, index })
        };
        let per_stripe = count.div_ceil(stripes as u32);
        let open = |step: usize| {
            let first = ((place + step) % stripes) as u32 * per_stripe;
            let mut chunks = (first..count.min(first + per_stripe)).map(ChunkIndex).filter(|index| !is_coming(*index));
            let first = chunks.next()?;
            let last = chunks.next_back().unwrap_or(first);
            Some((step, ChunkRange { first, count: last.0 - first.0 + 1 }))
        };
        // Its own stripe, or one whose candidates have not come to it yet.
        let found = match count {
            0 if under_way.and_then(UnderWay::last).is_some_and(|at| at > lately) => None,
            0 => Some((0, None)),
            _ => (0..stripes).find_map(open).map(|(step, chunks)| (step, Some(chunks))),
        };
        let Some((step, chunks)) = found else { return Some(Plan::Wait) };
        let waits_for_entry = count == 0 && !self.is_open() && self.origin.has_catalogue;
        let is_seeded = self.seeded_at.is_some_and(|at| at + SEEDED > self.now);
        let turn = segment.since.max(segment.news).unwrap_or(self.now)
            + if is_seeded { SEED_FIRST } else { Span::ZERO }
            + RANK_STEP * ((place / stripes) as u32).min(MAX_RANK)
            + STRIPE_STEP * step as u32
            + if waits_for_entry { ENTRY_WITHIN } else { Span::ZERO };
        Some(match chunks {
            _ if turn > self.now => Plan::WaitUntil(turn),
            Some(chunks) if stripes > 1 => Plan::Duty(Some(chunks)),
            _ => Plan::Duty(segment.missing_range()),
        })
    }

    /// Whether it is this peer's turn among its neighbours, each of whom ranks itself the same way.
    fn turn_among_neighbours(&self, id: SegmentId, segment: &Segment, rescue: Now) -> Plan {
        let now = self.now;
        let since = segment.since.unwrap_or(now);
        let any_ready = self.ready().next().is_some();
        let holders = self.ready().filter(|(_, neighbour)| neighbour.gives() && neighbour.holds_any(id));
        let counts_until = holders.map(|(_, neighbour)| neighbour.counts_until()).max();
        if let Some(until) = counts_until.filter(|until| *until > now) {
            return Plan::WaitUntil(until);
        }
        if let Some(at) = self.under_way.get(&id).and_then(UnderWay::last)
            && at + self.patience() > now
        {
            return Plan::WaitUntil(at + self.patience());
        }
        let is_calm = any_ready && self.timeline.slack(now, id).is_some_and(|slack| slack > CALM);
        let turn = since + RANK_STEP * self.before(id).min(MAX_RANK) + if is_calm { CALM_WAIT } else { Span::ZERO };
        if turn > now {
            return Plan::WaitUntil(turn);
        }
        if any_ready {
            // Those who were asked for because none of the neighbours has anything may have it, and are not here yet.
            let met = self.announcements.sought_at.map(|at| (at + SOUGHT_WITHIN).min(rescue - SOUGHT_MARGIN));
            let met = met.filter(|at| *at > now);
            return met.map_or(Plan::Duty(segment.missing_range()), Plan::WaitUntil);
        }
        // A moment ago nothing was known of a swarm, or there are others in it: they may be met yet.
        let until = match self.swarm {
            None => self.began + SIGNAL_GRACE,
            Some((at, peers)) if peers > 1 => at + JOIN_GRACE,
            Some(_) => now,
        };
        if until > now { Plan::WaitUntil(until) } else { Plan::Alone }
    }

    /// How long after its announcement a fetch of another's should have brought something: where the fetcher's uplink is thin
    /// its first chunks take a while to come around, and whoever does not wait for them loads them again.
    fn patience(&self) -> Span {
        self.origin.predict(u64::from(CHUNK_LEN) * 8) * 2 + PATIENCE
    }

    /// Whoever is next to a seed that keeps up says for it that a live segment is on its way: few viewers of a large swarm are
    /// anywhere near one, and its election need send nobody to the origin.
    fn speak_for_seed(&mut self, id: SegmentId) {
        let speaks = self.timeline.is_live(id.track)
            && !self.under_way.contains_key(&id)
            && self.ready().any(|(_, neighbour)| neighbour.is_reliable_seed() && neighbour.is_near(id));
        if speaks && self.note_under_way(id, Some(ALL_CHUNKS), true) {
            self.tell_lacking(&Message::Fetching { segment: id, chunks: Some(ALL_CHUNKS) }, id, None);
        }
    }

    /// Somebody fetches these chunks from the origin, all of them where there is no range.
    pub(crate) fn on_fetching(&mut self, peer: PeerId, id: SegmentId, chunks: Option<ChunkRange>) {
        // Only what this viewer will come to is worth remembering, and passing on.
        let is_ahead = self.latest.values().any(|last| {
            let window = last.seq.0.saturating_sub(2)..=last.seq.0.saturating_add(MAX_UNDER_WAY as u64);
            last.track == id.track && window.contains(&id.seq.0)
        });
        // What is here those around can have from here: a newcomer's fetches of what everybody has would go round the swarm.
        let is_here = self.segments.get(&id).is_some_and(|segment| segment.shared);
        if is_ahead && !is_here && self.note_under_way(id, chunks, false) && self.timeline.is_live(id.track) {
            self.tell_lacking(&Message::Fetching { segment: id, chunks }, id, Some(peer));
        }
    }

    /// Notes a fetch, this peer's own or another's. Returns whether that is news: a claim of which there was no sign for long
    /// keeps no other from counting.
    pub(crate) fn note_under_way(&mut self, id: SegmentId, chunks: Option<ChunkRange>, own: bool) -> bool {
        let now = self.now;
        let lately = now - self.patience();
        if self.under_way.len() >= MAX_UNDER_WAY && !self.under_way.contains_key(&id) {
            let oldest = self.under_way.iter().map(|(id, under_way)| (under_way.last(), id)).min();
            if let Some((_, oldest)) = oldest {
                self.under_way.remove(&oldest);
            }
        }
        let range = chunks.unwrap_or(ALL_CHUNKS);
        let under_way = self.under_way.or_insert_with(id, UnderWay::default);
        under_way.claims.retain(|(_, at)| *at > lately);
        let seeded = chunks == Some(ALL_CHUNKS);
        under_way.seeded = seeded && (under_way.seeded || under_way.claims.is_empty());
        if own && under_way.claims.len() >= MAX_CLAIMS {
            under_way.claims.remove(0);
        }
        // What a seed is said to bring is anybody's word: who really fetches counts beside it.
        let counts = |other: ChunkRange| other != ALL_CHUNKS || range == ALL_CHUNKS;
        let covers = |other: ChunkRange| other.first <= range.first && range.end() <= other.end();
        let known = under_way.claims.iter().any(|(other, _)| counts(*other) && covers(*other));
        if known || under_way.claims.len() >= MAX_CLAIMS {
            return false;
        }
        under_way.claims.push((range, now));
        true
    }

    /// A fetch of this peer's has come to nothing.
    pub(crate) fn forget_claim(&mut self, id: SegmentId, chunks: Option<ChunkRange>) {
        if let Some(under_way) = self.under_way.get_mut(&id) {
            let range = chunks.unwrap_or(ALL_CHUNKS);
            under_way.claims.retain(|(claim, _)| *claim != range);
        }
    }

    /// A neighbour holds chunks of what somebody fetches: so the fetch goes on.
    pub(crate) fn note_progress(&mut self, id: SegmentId, chunks: &[ChunkRange]) {
        let Some(under_way) = self.under_way.get_mut(&id) else { return };
        for range in chunks {
            let of_it = under_way.claims.iter_mut().filter(|(claim, _)| covers(*claim, range.first));
            // Who fetches the least around it is who brought it.
            if let Some((_, at)) = of_it.min_by_key(|(claim, _)| claim.count) {
                *at = self.now;
                if under_way.seeded {
                    self.seeded_at = Some(self.now);
                }
            }
        }
    }
}
