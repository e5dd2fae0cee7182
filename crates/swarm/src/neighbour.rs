//! One neighbour: what it holds, what is under way in both directions, how fast it is.

use headwater_wire::limits::{CHUNK_LEN, MIN_MAX_FRAME};
use headwater_wire::{ChunkId, Hello, Role, SegmentId};

use crate::flow::Flow;
use crate::holdings::Holdings;
use crate::map::SortedMap;
use crate::time::{Now, Span};

/// A neighbour whose newest segment is further behind than this is not about to fetch the segment in question.
const CONTENDER_REACH: u64 = 3;

/// Most chunks a neighbour may have asked for and not got: a segment of 8 MiB.
pub(crate) const MAX_ASKS: usize = 128;

/// Most chunks remembered as not to be asked of a neighbour for a while.
const MAX_AVOIDED: usize = 256;

/// A neighbour may send a control message so often, which is fifty times what one sends in a busy swarm of a thousand; and so many
/// at once: a minute's worth of one that was asleep, or all it holds.
const MESSAGE_EVERY: Span = Span::from_millis(2);
const MESSAGE_BURST: u32 = 4000;

/// How long a neighbour that nobody can stand in for is left alone after a chunk was taken back from it; doubled each time that it
/// let an ask run out.
const ASK_AGAIN: Span = Span::from_millis(500);

/// A neighbour that let an ask run out and says nothing for so long may be gone: nobody counts on what it holds.
const QUIET: Span = Span::from_secs(3);

/// Chunks that are late within this time of each other are late together.
const ONCE_SLOW: Span = Span::from_millis(500);

/// Most segments remembered as asked about.
const MAX_QUESTIONED: usize = 64;

/// Chunks asked of a neighbour before anything is known of its speed.
const FIRST_WINDOW: u64 = 4 * CHUNK_LEN as u64;

/// Fewest and most bytes asked of a neighbour at once: two chunks keep the pipe from running dry between requests;
/// the most is a second at 32 Mbit/s.
const MIN_WINDOW: u64 = 2 * CHUNK_LEN as u64;
const MAX_WINDOW: u64 = 64 * CHUNK_LEN as u64;

/// What is assumed of a neighbour that has delivered nothing yet: 4 Mbit/s and 100 ms.
const FIRST_RATE: f64 = 500_000.0;
/// Nobody is taken for slower than this: everyone gets another chance.
const SLOWEST_RATE: f64 = 20_000.0;
const FIRST_ROUND_TRIP: Span = Span::from_millis(100);

/// A chunk asked of a neighbour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) at: Now,
    pub(crate) len: u32,
    pub(crate) received: u32,
    /// When it should be here.
    pub(crate) due: Now,
    pub(crate) expires: Now,
}

/// A chunk on its way out to a neighbour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sending {
    pub(crate) len: u32,
    pub(crate) since: Now,
    /// Nothing else was on its way to it.
    pub(crate) alone: bool,
    /// Bytes handed to the shell.
    pub(crate) sent: u32,
    /// From when on it is urgent.
    pub(crate) presses: Now,
}

/// One neighbour.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) connected: Now,
    pub(crate) hello: Option<Hello>,
    pub(crate) holdings: Holdings,
    /// What this peer asked of it.
    pub(crate) asked: SortedMap<ChunkId, Ask>,
    asked_bytes: u64,
    /// Others are to be asked before it until the time given; and where there are none, until then.
    avoided: SortedMap<ChunkId, Now>,
    alone: SortedMap<ChunkId, Now>,
    /// What it asked of this peer and is waiting to be sent, with its deadline.
    pub(crate) wants: SortedMap<ChunkId, Now>,
    /// What the shell is sending it now.
    pub(crate) sending: SortedMap<ChunkId, Sending>,
    /// How parts of it leave.
    pub(crate) flow: Flow,
    /// The shortest time that a chunk took to leave for it.
    quickest: Option<Span>,
    /// When catalogue entries or hashes of a segment were last asked of it.
    pub(crate) questions: SortedMap<SegmentId, Now>,
    /// When it last was slow; see [`Neighbour::was_slow`].
    slow_at: Now,
    /// When an ask last ran out.
    struck_at: Now,
    /// Asks that ran out in a row.
    pub(crate) strikes: u32,
    /// The ping that has not been answered.
    pub(crate) ping: Option<(u32, Now)>,
    /// When the last one was sent.
    pub(crate) pinged: Now,
    pub(crate) last_heard: Now,
    /// Control messages it may still send before it is a flood; see [`Neighbour::is_flooding`].
    credit: u32,
    credited: Now,
    rate: Option<f64>,
    round_trip: Option<Span>,
    last_arrival: Now,
}

impl Neighbour {
    pub(crate) fn new(now: Now) -> Self {
        Self {
            connected: now,
            hello: None,
            holdings: Holdings::default(),
            asked: SortedMap::default(),
            asked_bytes: 0,
            avoided: SortedMap::default(),
            alone: SortedMap::default(),
            wants: SortedMap::default(),
            sending: SortedMap::default(),
            flow: Flow::default(),
            quickest: None,
            questions: SortedMap::default(),
            slow_at: Now::default(),
            struck_at: Now::default(),
            strikes: 0,
            ping: None,
            pinged: now,
            last_heard: now,
            credit: MESSAGE_BURST,
            credited: now,
            rate: None,
            round_trip: None,
            last_arrival: now,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.hello.is_some()
    }

    pub(crate) fn is_seed(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.role == Role::Seed)
    }

    /// Whether it is a seed that does what seeds are for.
    pub(crate) fn is_reliable_seed(&self) -> bool {
        self.is_seed() && self.gives() && self.strikes == 0
    }

    pub(crate) fn gives(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.uploads)
    }

    /// Until when it is counted on for what it holds, where nothing more is heard of it.
    pub(crate) fn counts_until(&self) -> Now {
        if self.strikes == 0 { Now::NEVER } else { self.last_heard + QUIET }
    }

    pub(crate) fn max_frame(&self) -> u32 {
        self.hello.as_ref().map_or(MIN_MAX_FRAME, |hello| hello.max_frame)
    }

    /// Counts a control message that comes now. Says whether it is one too many.
    pub(crate) fn is_flooding(&mut self, now: Now) -> bool {
        let earned = now.passed(self.credited).over(MESSAGE_EVERY).min(MESSAGE_BURST);
        if earned > 0 {
            self.credit = (self.credit + earned).min(MESSAGE_BURST);
            self.credited = now;
        }
        self.credit = self.credit.saturating_sub(1);
        self.credit == 0
    }

    /// What came was asked for: it does not count.
    pub(crate) fn forgive(&mut self) {
        self.credit += 1;
    }

    // What it holds.

    pub(crate) fn holds(&self, chunk: ChunkId) -> bool {
        self.holdings.holds(chunk)
    }

    pub(crate) fn holds_any(&self, segment: SegmentId) -> bool {
        self.holdings.holds_any(segment)
    }

    /// Whether it is about to want `segment`, as this peer is.
    pub(crate) fn is_near(&self, segment: SegmentId) -> bool {
        self.holdings.furthest(segment.track).is_some_and(|seq| seq.0.saturating_add(CONTENDER_REACH) >= segment.seq.0)
    }

    // What is asked of it.

    pub(crate) fn ask(&mut self, chunk: ChunkId, ask: Ask) {
        if let Some(old) = self.asked.insert(chunk, ask) {
            self.asked_bytes -= u64::from(old.len);
        }
        self.asked_bytes += u64::from(ask.len);
    }

    pub(crate) fn unask(&mut self, chunk: ChunkId) -> Option<Ask> {
        let ask = self.asked.remove(&chunk)?;
        self.asked_bytes -= u64::from(ask.len);
        Some(ask)
    }

    /// It refused the chunk: it is not asked before `until`.
    pub(crate) fn avoid(&mut self, chunk: ChunkId, until: Now) {
        for map in [&mut self.avoided, &mut self.alone] {
            put(map, chunk, until, MAX_AVOIDED);
        }
    }

    /// The chunk was taken back from it: others go before it for `pause`. Where there are none it is asked again sooner, the
    /// later the more often in a row it let asks run out; but not where it had `begun` to send it, which it would do anew.
    pub(crate) fn rather_not(&mut self, now: Now, chunk: ChunkId, pause: Span, begun: bool) {
        self.avoid(chunk, now + pause);
        if !begun {
            self.alone.insert(chunk, now + (ASK_AGAIN * (1 << self.strikes.min(8))).min(pause));
        }
    }

    /// Whether others are to be asked for the chunk before it. If so, from when on it may be asked where there are none.
    pub(crate) fn avoids(&self, now: Now, chunk: ChunkId) -> Option<Now> {
        self.avoided.get(&chunk).filter(|until| **until > now)?;
        Some(self.alone.get(&chunk).copied().unwrap_or(now))
    }

    pub(crate) fn note_question(&mut self, segment: SegmentId, now: Now) {
        put(&mut self.questions, segment, now, MAX_QUESTIONED);
    }

    /// Whether another chunk may be asked of it now.
    pub(crate) fn has_room(&self) -> bool {
        let window = match self.rate {
            None => FIRST_WINDOW,
            Some(rate) => {
                let round_trip = self.round_trip() + Span::from_millis(100);
                ((rate * round_trip.as_secs_f64() * 1.5) as u64).clamp(MIN_WINDOW, MAX_WINDOW)
            }
        };
        // A neighbour that let asks run out is tried with one chunk at a time.
        let window = if self.strikes > 0 { u64::from(CHUNK_LEN) } else { window };
        self.asked_bytes < window
    }

    /// What it asked for and is not being sent, with its deadlines.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (ChunkId, Now)> {
        let waits = |(chunk, _): &(ChunkId, &Now)| !self.sending.contains_key(chunk);
        self.wants.iter().filter(waits).map(|(chunk, at)| (chunk, *at))
    }

    /// A chunk has left for it after `took`. Gives the shortest time that one takes, which is forgotten slowly.
    pub(crate) fn left_after(&mut self, took: Span) -> Span {
        let quickest = self.quickest.map_or(took, |old| took.min(old + old / 256));
        self.quickest = Some(quickest);
        quickest
    }

    /// How long a chunk may take to leave for it before something is wrong with the path.
    pub(crate) fn send_patience(&self) -> Span {
        self.quickest.map_or(Span::from_secs(1), |quickest| (quickest * 3).max(Span::from_millis(250)))
    }

    /// How long one more chunk of `len` bytes would take to come.
    pub(crate) fn predict(&self, len: u32) -> Span {
        let bytes = self.asked_bytes + u64::from(len);
        let transfer = Span::from_secs_f64(bytes as f64 / self.rate.unwrap_or(FIRST_RATE).max(1.0));
        self.round_trip() + transfer
    }

    pub(crate) fn round_trip(&self) -> Span {
        self.round_trip.unwrap_or(FIRST_ROUND_TRIP)
    }

    pub(crate) fn set_round_trip(&mut self, sample: Span) {
        let old = self.round_trip.unwrap_or(sample);
        self.round_trip = Some(old.scaled(0.75) + sample.scaled(0.25));
    }

    /// A chunk asked for at `asked` is complete.
    pub(crate) fn arrived(&mut self, now: Now, len: u32, asked: Now) {
        // While chunks queue up at the neighbour, the time since the last one is what this one took.
        let took = now.passed(self.last_arrival.max(asked)).max(Span::from_millis(1));
        let sample = f64::from(len) / took.as_secs_f64();
        self.rate = Some(self.rate.map_or(sample, |rate| rate * 0.8 + sample * 0.2));
        self.last_arrival = now;
        self.strikes = 0;
    }

    /// It did not begin to send a chunk when it should have: another was asked.
    pub(crate) fn was_slow(&mut self, now: Now) {
        // What was asked at once is late at once: that is one time.
        if now.passed(self.slow_at) < ONCE_SLOW {
            return;
        }
        self.slow_at = now;
        self.rate = Some((self.rate.unwrap_or(FIRST_RATE) * 0.8).max(SLOWEST_RATE));
    }

    /// What was asked of it at `asked` ran out.
    pub(crate) fn strike(&mut self, now: Now, asked: Now) {
        // What was under way when it first stood still runs out piece by piece: that is one time.
        if asked <= self.struck_at {
            return;
        }
        self.struck_at = now;
        self.strikes += 1;
        self.rate = Some(self.rate.unwrap_or(FIRST_RATE) / 2.0);
    }
}

/// Enters `at` into a map of `most` entries, from which the one with the earliest time goes where there is no room.
fn put<K: Ord + Copy>(map: &mut SortedMap<K, Now>, key: K, at: Now, most: usize) {
    if map.len() >= most
        && !map.contains_key(&key)
        && let Some((oldest, _)) = map.iter().min_by_key(|(_, at)| **at)
    {
        map.remove(&oldest);
    }
    map.insert(key, at);
}
