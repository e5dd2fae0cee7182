//! Virtual time and the calendar of what is to happen.
//!
//! Time is in microseconds. The calendar works in ticks of a millisecond: all that happens to one node within a tick is
//! handled in a row, in the order of its exact times, and what it causes happens in a later tick.

use std::collections::BTreeMap;

use crate::event::Event;

/// A moment or a span, in microseconds since the run began.
pub(crate) type Micros = u64;

/// The calendar's resolution. No message between two nodes takes less.
pub(crate) const TICK: Micros = 1_000;

pub(crate) const SECOND: Micros = 1_000_000;

/// Ticks kept in a ring: most of what happens is less than eight seconds ahead.
const RING: u64 = 8_192;

/// `seconds` in microseconds.
pub(crate) fn micros(seconds: f64) -> Micros {
    (seconds * 1e6) as Micros
}

/// How long `bytes` take at `rate` bytes a second.
pub(crate) fn transfer(bytes: u32, rate: f64) -> Micros {
    (f64::from(bytes) / rate * 1e6) as Micros
}

/// What is to happen, by tick.
#[derive(Debug)]
pub(crate) struct Calendar {
    ring: Vec<Vec<Event>>,
    far: BTreeMap<u64, Vec<Event>>,
    tick: u64,
}

impl Calendar {
    pub(crate) fn new() -> Self {
        Self { ring: (0..RING).map(|_| Vec::new()).collect(), far: BTreeMap::new(), tick: 0 }
    }

    /// Notes an event. One whose tick has come already happens in the next.
    pub(crate) fn push(&mut self, event: Event) {
        let tick = (event.at / TICK).max(self.tick + 1);
        if tick - self.tick < RING {
            self.ring[(tick % RING) as usize].push(event);
        } else {
            self.far.entry(tick).or_default().push(event);
        }
    }

    /// Goes to the next tick and fills `events` with what happens in it, in the order in which it is to be handled.
    pub(crate) fn advance(&mut self, events: &mut Vec<Event>) {
        self.tick += 1;
        events.clear();
        std::mem::swap(events, &mut self.ring[(self.tick % RING) as usize]);
        if let Some(far) = self.far.remove(&self.tick) {
            events.extend(far);
        }
        events.sort_unstable_by_key(Event::order);
    }
}
