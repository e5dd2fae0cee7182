//! How much may be under way to one peer: a window that follows the path.
//!
//! `webrtc` 0.21 takes seconds to recover from a burst of losses, so that the one thing that matters is never to fill
//! the narrowest queue of the path. The [`Pilot`] keeps what is under way at what the path carries in its shortest round
//! trip, and a little that stands in the queue to prove that the path is full (the idea of TCP Vegas). It grows by steps
//! that the smallest of queues takes, and spaces what it lets go, since a burst fills a queue as a large window does.
//!
//! No clock and no socket in here: the caller gives the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The smallest window: what a browser's receive buffer of 64 KiB takes at once; measured best on loopback.
const MIN_WINDOW: u64 = 48 * 1024;

/// The largest window: 100 Mbit/s over 80 ms.
const MAX_WINDOW: u64 = 1024 * 1024;

/// Below this round trip a path is local: nothing is spaced and pieces are as large as the peer takes them.
const LOCAL_ROUND_TRIP: Duration = Duration::from_millis(3);

/// Pieces on longer paths: a burst of one fits into the smallest of queues.
const PIECE_LEN: u64 = 8 * 1024;

/// How long the shortest round trip is believed; then the queue is let run empty for a round, to measure anew.
const BASE_BELIEVED: Duration = Duration::from_secs(10);

/// What spacing may lag behind and catch up with: timers are no finer than a millisecond or two.
const MAX_CREDIT: Duration = Duration::from_micros(1500);

/// No acknowledgement for this long, and for this many round trips, means that much was lost.
const STALLED: Duration = Duration::from_millis(200);
const STALLED_ROUND_TRIPS: u32 = 3;

/// Bytes that may stand in the path's queue: an eighth of the smallest queues.
const FEW_STANDING: f64 = 6e3;

/// Seconds that either end may be late by itself, without any queue.
const LATE_ENDS: f64 = 0.5e-3;

/// The share of the window that a round carries once the transport's own window is as large: after a step of growing the
/// round still shows the one before it.
const CAUGHT_UP: f64 = 0.6;

/// What the window grows by in a round while the path has shown no queue yet: when the first one shows, a round later, it
/// is no more than this twice, and fits the smallest.
const STEP: f64 = 16e3;

/// Rounds without any queue after which the window grows by whole steps again: the path has become faster.
const EMPTY_ROUNDS: u32 = 10;

/// Rounds whose rates are remembered.
const RATES: usize = 8;

/// Whether more may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// Yes.
    Now,
    /// Not before then.
    At(Instant),
    /// Not before something is acknowledged.
    AfterAck,
}

/// A piece under way.
#[derive(Debug, Clone, Copy)]
struct Mark {
    end: u64,
    sent: Instant,
}

/// One round: from when a piece was sent until it is acknowledged.
#[derive(Debug)]
struct Round {
    began: Instant,
    delivered: u64,
    /// It is over when this much is delivered.
    until: u64,
    round_trips: Vec<Duration>,
    /// The window, and nothing else, held the sender back.
    limited: bool,
}

/// What the window is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It grows by a step a round.
    Starting,
    /// It follows the queue.
    Following,
    /// Hardly anything is sent for a round, so that the one after it can be measured.
    Emptying,
    /// It is held small for a round to measure the path's shortest round trip; then this is the window again.
    Measuring(u64),
}

/// The window to one peer.
#[derive(Debug)]
pub(super) struct Pilot {
    window: u64,
    phase: Phase,
    base: Option<(Duration, Instant)>,
    sent: u64,
    delivered: u64,
    marks: VecDeque<Mark>,
    round: Round,
    last_rate: f64,
    /// Of the last rounds, each with the one before it.
    rates: VecDeque<f64>,
    empty_rounds: u32,
    /// What stood in the queue in the last round.
    standing: f64,
    due: Instant,
    progress: Instant,
}

impl Pilot {
    /// A window that knows nothing of its path yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window: MIN_WINDOW,
            phase: Phase::Starting,
            base: None,
            sent: 0,
            delivered: 0,
            marks: VecDeque::new(),
            round: Round::new(now, 0, 0),
            last_rate: 0.0,
            rates: VecDeque::new(),
            empty_rounds: 0,
            standing: 0.0,
            due: now,
            progress: now,
        }
    }

    /// The bytes that may be under way.
    #[cfg(test)]
    fn window(&self) -> u64 {
        self.window
    }

    fn under_way(&self) -> u64 {
        self.sent - self.delivered
    }

    /// Whether anything is not acknowledged yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.under_way() > 0
    }

    /// Whether there is room for more.
    pub(super) fn has_room(&self) -> bool {
        self.under_way() < self.window
    }

    fn is_local(&self) -> bool {
        self.base.is_none_or(|(base, _)| base < LOCAL_ROUND_TRIP)
    }

    /// How long the next piece should be, where the peer takes `most`.
    pub(super) fn piece_len(&self, most: u32) -> u32 {
        let is_local = self.is_local() && !matches!(self.phase, Phase::Measuring(_) | Phase::Emptying);
        if is_local { most } else { most.min(PIECE_LEN as u32) }
    }

    /// A round trip measured by other means.
    pub(super) fn note_round_trip(&mut self, now: Instant, round_trip: Duration) {
        if self.base.is_none_or(|(base, _)| round_trip < base) {
            self.base = Some((round_trip, now));
        }
    }

    /// Whether a piece may be sent.
    pub(super) fn permit(&mut self, now: Instant) -> Permit {
        // On long paths a piece must fit whole; on short ones it may be larger than the window.
        let fits = self.is_local() || self.under_way() == 0 || self.under_way() + PIECE_LEN <= self.window;
        if !self.has_room() || !fits {
            self.round.limited = true;
            return Permit::AfterAck;
        }
        if self.is_local() || now >= self.due { Permit::Now } else { Permit::At(self.due) }
    }

    /// A piece was handed to the transport.
    pub(super) fn on_sent(&mut self, now: Instant, len: u64) {
        if self.under_way() == 0 {
            // What was measured before a pause says nothing of the time after it.
            self.round = Round::new(now, self.delivered, self.sent + len);
            self.progress = now;
        }
        self.sent += len;
        self.marks.push_back(Mark { end: self.sent, sent: now });
        let Some((base, _)) = self.base.filter(|(base, _)| *base >= LOCAL_ROUND_TRIP) else { return };
        // As fast as the path carries: what stands in the queue is not to be sent twice as a burst.
        let carried = (self.window as f64 - self.standing).max(self.window as f64 / 2.0);
        let spacing = base.mul_f64(len as f64 / carried);
        let earliest = now.checked_sub(MAX_CREDIT).unwrap_or(now);
        self.due = self.due.max(earliest) + spacing;
    }

    /// The transport says how much is not acknowledged.
    pub(super) fn on_outstanding(&mut self, now: Instant, outstanding: u64) {
        let delivered = self.sent.saturating_sub(outstanding);
        if delivered <= self.delivered {
            return self.check_stall(now);
        }
        self.delivered = delivered;
        self.progress = now;
        while let Some(mark) = self.marks.front().filter(|mark| mark.end <= delivered) {
            let round_trip = now.saturating_duration_since(mark.sent);
            self.round.round_trips.push(round_trip);
            self.marks.pop_front();
        }
        if delivered >= self.round.until {
            self.end_round(now);
        }
    }

    /// Much was lost: the transport will be slow for a while, and more would only make it worse.
    fn check_stall(&mut self, now: Instant) {
        let base = self.base.map_or(Duration::ZERO, |(base, _)| base);
        let patience = STALLED.max(base * STALLED_ROUND_TRIPS);
        if self.is_waiting() && now.saturating_duration_since(self.progress) > patience {
            self.progress = now;
            self.phase = Phase::Following;
            self.window = (self.window * 7 / 10).max(MIN_WINDOW);
        }
    }

    fn end_round(&mut self, now: Instant) {
        let mut round = std::mem::replace(&mut self.round, Round::new(now, self.delivered, self.sent));
        let Some((shortest, usual)) = round.round_trips() else { return };
        let lasted = now.saturating_duration_since(round.began).as_secs_f64().max(1e-6);
        let rate = (self.delivered - round.delivered) as f64 / lasted;
        let growing = rate > self.last_rate * 1.25;
        self.rates.push_back(f64::midpoint(rate, self.last_rate));
        if self.rates.len() > RATES {
            self.rates.pop_front();
        }
        self.last_rate = rate;
        tracing::trace!(
            window = self.window,
            phase = ?self.phase,
            rate = rate as u64,
            shortest_us = shortest.as_micros() as u64,
            usual_us = usual.as_micros() as u64,
            base_us = self.base.map(|(base, _)| base.as_micros() as u64),
            limited = round.limited,
            "round"
        );
        if self.phase == Phase::Emptying {
            self.phase = Phase::Measuring(MIN_WINDOW);
            return;
        }
        if let Phase::Measuring(window) = self.phase {
            // Less what the piece itself takes on the narrowest link, since queues are told by what comes on top of it.
            // What was next to nothing says nothing of the narrowest link; such a path has to be learnt from the start.
            let was_local = self.is_local();
            let own = Duration::from_secs_f64(PIECE_LEN as f64 / rate.max(1.0)).min(shortest / 4);
            self.base = Some((if was_local { shortest } else { shortest - own }, now));
            self.phase = if was_local { Phase::Starting } else { Phase::Following };
            self.window = window;
            return;
        }
        let (base, measured) = self.base.unwrap_or((shortest, now));
        // Nearly as short as ever is as good as measured anew.
        let (base, measured) =
            if shortest <= base.mul_f64(1.02) { (shortest.min(base), now) } else { (base, measured) };
        self.base = Some((base, measured));
        if base < LOCAL_ROUND_TRIP {
            self.window = MIN_WINDOW;
            // The path may be another by now: with next to nothing under way it shows.
            if usual > LOCAL_ROUND_TRIP && now.saturating_duration_since(measured) > BASE_BELIEVED {
                self.phase = Phase::Emptying;
                self.window = PIECE_LEN;
            }
            return;
        }
        let standing = self.window as f64 * (1.0 - base.as_secs_f64() / usual.as_secs_f64().max(1e-6));
        self.standing = standing.clamp(0.0, self.window as f64);
        let few = PIECE_LEN as f64 + FEW_STANDING + rate * LATE_ENDS;
        let many = few + FEW_STANDING + rate * LATE_ENDS;
        if standing > many && !(growing && self.phase == Phase::Starting) {
            self.phase = Phase::Following;
            self.empty_rounds = 0;
            // Never below what was carried a moment ago: then it was the machine that was late, not the path.
            let proven = self.rates.iter().copied().fold(0.0, f64::max) * base.as_secs_f64();
            let less = self.window as f64 - (standing - f64::midpoint(few, many));
            self.set_window(less.max(proven.min(self.window as f64)));
        } else if standing < few && round.limited {
            self.grow(rate * usual.as_secs_f64());
        } else if standing >= few && !growing {
            self.phase = Phase::Following;
        }
        if self.phase == Phase::Following && now.saturating_duration_since(measured) > BASE_BELIEVED {
            self.phase = Phase::Measuring(self.window);
            self.window = (self.window * 3 / 4).max(MIN_WINDOW);
        }
    }

    /// A round that left no queue, and carried so much.
    fn grow(&mut self, carried: f64) {
        let window = self.window as f64;
        match self.phase {
            // While the transport's own window is the smaller one, it sends in bursts; it has to catch up first.
            Phase::Starting if carried < window * CAUGHT_UP => {}
            Phase::Starting => self.set_window(window + STEP),
            Phase::Following | Phase::Measuring(_) | Phase::Emptying => {
                self.empty_rounds += 1;
                if self.empty_rounds >= EMPTY_ROUNDS {
                    self.phase = Phase::Starting;
                }
                self.set_window(window + FEW_STANDING);
            }
        }
    }

    fn set_window(&mut self, window: f64) {
        // Positive and far below 2^53.
        self.window = (window.max(0.0) as u64).clamp(MIN_WINDOW, MAX_WINDOW);
    }
}

impl Round {
    fn new(now: Instant, delivered: u64, until: u64) -> Self {
        Self { began: now, delivered, until, round_trips: Vec::new(), limited: false }
    }

    /// The shortest round trip, and one that three in ten are shorter than: bursts leave the queue empty in between, and a busy machine
    /// makes some much longer.
    fn round_trips(&mut self) -> Option<(Duration, Duration)> {
        let place = self.round_trips.len() * 3 / 10;
        self.round_trips.sort_unstable();
        Some((*self.round_trips.first()?, *self.round_trips.get(place)?))
    }
}

#[cfg(test)]
mod tests;
