//! How chunks that are not urgent leave for one neighbour: in parts, spaced so that what is under way is what the path carries
//! in its shortest round trip, and a little that stands in the narrowest queue to show that the path is full (as FAST TCP has it).
//!
//! Data channels fill that queue to the brim, then lose. What is measured is the round trip of a ping among the parts: the
//! channel is ordered, so that its answer also says that what the shell had handed to the channel before it has arrived. What is
//! urgent leaves at once and counts as under way: the rest yields to it.

use headwater_wire::frame::{encode_control, piece_len};
use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{ChunkId, ChunkRange, Message, RejectReason};

use crate::engine::Engine;
use crate::io::Output;
use crate::map::SortedMap;
use crate::neighbour::Sending;
use crate::time::{Now, Span};

/// What is due within this time leaves at once.
pub(crate) const PRESSING: Span = Span::from_secs(10);

/// The first window, which is what data channels begin with; and the smallest and the largest: 200 Mbit/s over 300 ms.
const FIRST_WINDOW: u32 = 14_000;
const LEAST_WINDOW: u32 = 6_000;
const MOST_WINDOW: u32 = 8_000_000;

/// Up to this window it grows by half a round trip while there is no sign of a queue, as data channels do themselves: a larger
/// window would only let them send in bursts. Beyond, by less: what is too much fits the smaller of queues.
const EASY_WINDOW: u32 = 64_000;
const EASILY: u32 = 2;
const CAREFULLY: u32 = 16;

/// What stands in the queue: so many bytes, and what leaves in so many microseconds. The first lets flows come to equal shares,
/// the second is what timers and the data channel are no finer than.
const STANDING: u64 = 4_000;
const STANDING_US: u64 = 1_500;

/// A part has so many packets and takes no longer than so many microseconds, beyond the first.
const PACKET: u32 = 1_160;
const PART_HEADER: u32 = 25;
const MOST_PACKETS: u32 = 14;
const PART_US: u64 = 2_000;

/// A chunk that takes longer to arrive comes in frames of at most so many bytes: who waits for it must see that it is coming.
const ONE_FRAME_US: u64 = 50_000;
const SLOW_FRAME: u32 = 32 * 1024 + PART_HEADER;

/// A path with a shorter round trip is local: chunks leave whole.
const LOCAL: Span = Span::from_millis(3);

/// What timers may be late by without slowing anything down.
const CREDIT: Span = Span::from_millis(2);

/// How long the shortest round trip is believed; then the queue is let run empty once to measure it anew.
const BELIEVED: Span = Span::from_secs(10);

/// The least time from one ping to the next, and the most of them under way.
const PING_EVERY: Span = Span::from_millis(5);
const MARKS: usize = 4;

/// A pause after which all that was sent has arrived.
const PAUSE: Span = Span::from_secs(1);

/// Round trips remembered: a queue lengthens each of them, a busy processor or a loss only some.
const RECENT: usize = 4;

/// Answers without a queue after which the path is taken for a faster one than it was.
const EMPTY: u8 = 60;

/// A ping under way: when it left, which is its number, and what was sent since the one before it.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    at: Now,
    before: u32,
}

/// What is known of the path to one neighbour.
#[derive(Debug)]
pub(crate) struct Flow {
    window: u32,
    /// Sent, and not known to have arrived.
    under_way: u32,
    /// Sent since the last ping.
    after: u32,
    /// The shortest round trip, zero before there is one; and when it was measured.
    base: Span,
    based: Now,
    recent: [Span; RECENT],
    /// Whether a queue was seen.
    full: bool,
    empty: u8,
    /// Pings under way.
    marks: [Mark; MARKS],
    count: usize,
    marked: Now,
    due: Now,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            window: FIRST_WINDOW,
            under_way: 0,
            after: 0,
            base: Span::ZERO,
            based: Now::default(),
            recent: [Span::from_secs(1); RECENT],
            full: false,
            empty: 0,
            marks: [Mark::default(); MARKS],
            count: 0,
            marked: Now::default(),
            due: Now::default(),
        }
    }
}

impl Flow {
    pub(crate) fn is_local(&self) -> bool {
        self.base > Span::ZERO && self.base < LOCAL
    }

    /// What leaves in so many microseconds.
    fn carried(&self, micros: u64) -> u64 {
        u64::from(self.window) * micros / self.shortest().as_micros().max(1)
    }

    /// The shortest of the last round trips.
    fn shortest(&self) -> Span {
        self.recent.iter().copied().min().unwrap_or_default()
    }

    fn max_frame(&self) -> u32 {
        // By the round trip of any ping: nothing of what is urgent measures the path further.
        let carried = u64::from(self.window) * ONE_FRAME_US / self.base.as_micros().max(1);
        let is_quick = self.base > Span::ZERO && carried >= u64::from(CHUNK_LEN);
        if is_quick { u32::MAX } else { SLOW_FRAME }
    }

    fn part(&self) -> u32 {
        let len = self.carried(PART_US).min(u64::from(self.window / 4)) as u32;
        PACKET * (len / PACKET).clamp(1, MOST_PACKETS) - PART_HEADER
    }

    /// Whether the queue is to run empty. A ping with nothing before it measures the path without one.
    fn is_stale(&self, now: Now) -> bool {
        now.passed(self.based) > BELIEVED
    }

    fn most(&self) -> u32 {
        self.window + self.window / 4
    }

    /// Whether a ping is to leave now.
    fn mark(&mut self, now: Now) -> bool {
        if self.count == 0 && now.passed(self.due) > PAUSE {
            (self.under_way, self.after) = (0, 0);
        }
        let is_due = (self.count == 0 || self.after >= (self.window / 4).max(2 * PACKET))
            && now.passed(self.marked) >= PING_EVERY;
        let Some(mark) = self.marks.get_mut(self.count).filter(|_| is_due) else { return false };
        *mark = Mark { at: now, before: self.after };
        self.count += 1;
        (self.marked, self.after) = (now, 0);
        true
    }

    /// When the next part may leave; `None` for not before an answer.
    fn next(&self, now: Now) -> Option<Now> {
        let is_measuring = self.count > 0 && self.marks[0].before == 0;
        let is_open = self.under_way < self.most() && (is_measuring || !self.is_stale(now));
        if is_open || self.under_way == 0 {
            Some(self.due)
        } else if self.count == 0 {
            Some(self.marked + PING_EVERY)
        } else {
            None
        }
    }

    /// So much is leaving.
    fn sent(&mut self, len: u32) {
        self.under_way = self.under_way.saturating_add(len);
        self.after = self.after.saturating_add(len);
    }

    /// Keeps the next part that is not urgent behind one of `len`.
    fn space(&mut self, now: Now, len: u32) {
        let spacing = Span::from_micros(u64::from(len) * self.shortest().as_micros() / u64::from(self.window));
        self.due = self.due.max(now - CREDIT) + spacing;
    }

    /// A round trip without anything else.
    pub(crate) fn note_round_trip(&mut self, now: Now, took: Span) {
        let took = took.max(Span::from_millis(1));
        if self.base == Span::ZERO || took < self.base {
            (self.base, self.based) = (took, now);
        }
    }

    /// A ping was answered. Says whether it was one of these, which are answered in turn.
    pub(crate) fn answered(&mut self, now: Now, nonce: u32) -> bool {
        let Mark { at, before } = self.marks[0];
        if self.count == 0 || at.as_micros() as u32 != nonce {
            return false;
        }
        self.marks.rotate_left(1);
        self.count -= 1;
        let took = now.passed(at).max(Span::from_millis(1));
        // A path that was not filled says nothing of what it carries.
        let limited = self.under_way > self.window - self.window / 4;
        self.under_way = self.under_way.saturating_sub(before);
        if before == 0 && self.is_stale(now) {
            self.base = took;
        }
        // Nearly as short as ever is as good as measured anew.
        if self.base == Span::ZERO || took <= self.base + self.base / 50 {
            self.based = now;
            self.base = if self.base == Span::ZERO { took } else { self.base.min(took) };
        }
        self.recent.rotate_right(1);
        self.recent[0] = took;
        let window = i64::from(self.window);
        let standing = |took: Span| self.carried(took.saturating_sub(self.base).as_micros()) as i64;
        let (lately, standing) = (standing(took), standing(self.shortest()));
        let allowed = (STANDING + self.carried(STANDING_US)) as i64;
        self.empty = if standing * 4 > allowed { 0 } else { self.empty.saturating_add(1) };
        self.full = standing > allowed || (self.full && self.empty < EMPTY);
        let grown = if self.full {
            (allowed - standing) * i64::from(before).min(window / 2) / (2 * window)
        } else if lately * 2 > allowed {
            0
        } else {
            i64::from(before.min(self.window) / if self.window < EASY_WINDOW { EASILY } else { CAREFULLY })
        };
        if grown < 0 || limited {
            self.window = ((window + grown).max(0) as u32).clamp(LEAST_WINDOW, MOST_WINDOW);
        }
        true
    }
}

impl Engine {
    /// Lets the parts of chunks leave that are due.
    pub(crate) fn send_parts(&mut self) {
        let now = self.now;
        self.parts_due = None;
        for (peer, neighbour) in self.neighbours.iter_mut() {
            let accepted = neighbour.max_frame();
            let flow = &mut neighbour.flow;
            // Of those that are urgent, then of the others, the one that was begun first.
            let next = |sendings: &SortedMap<ChunkId, Sending>| {
                let open = sendings.iter().filter(|(_, sending)| sending.sent < sending.len);
                open.min_by_key(|(_, sending)| (sending.presses > now, sending.since)).map(|(chunk, _)| chunk)
            };
            while let Some(chunk) = next(&neighbour.sending) {
                let Some(sending) = neighbour.sending.get_mut(&chunk) else { break };
                let mut len = sending.len - sending.sent;
                // Since it was begun it may have been evicted, or found to be not what was signed.
                let segment = self.segments.get(&chunk.segment).filter(|segment| !segment.differs);
                if !segment.is_some_and(|segment| segment.held.contains(chunk.index)) {
                    neighbour.sending.remove(&chunk);
                    self.allowance.give_back(len);
                    let (segment, chunks) = (chunk.segment, ChunkRange::one(chunk.index));
                    let message = Message::Reject { segment, chunks, reason: RejectReason::NotHeld };
                    self.outputs.push_back(Output::Send { peer, frame: encode_control(&message) });
                    continue;
                }
                if sending.presses > now {
                    if flow.mark(now) {
                        let nonce = now.as_micros() as u32;
                        self.outputs.push_back(Output::Send { peer, frame: encode_control(&Message::Ping { nonce }) });
                    }
                    let at = flow.next(now);
                    if at.is_none_or(|at| at > now) {
                        self.parts_due = [self.parts_due, at, Some(sending.presses)].into_iter().flatten().min();
                        break;
                    }
                    len = len.min(flow.part());
                    flow.space(now, len);
                }
                flow.sent(len);
                // A shell that paces by itself also sees to its frames.
                let most = if self.config.paces { accepted.min(flow.max_frame()) } else { accepted };
                let (offset, piece_len) = (sending.sent, piece_len(len, most));
                sending.sent += len;
                self.outputs.push_back(Output::SendChunk { peer, chunk, offset, len, piece_len });
            }
        }
    }
}
