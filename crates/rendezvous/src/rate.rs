//! A token bucket: how much one connection, address or token may do.

use crate::config::{MESSAGE_BURST, MESSAGES_PER_SECOND};
use crate::time::Now;

/// How much may be done at once and how much in the long run, in whatever is counted: messages, bytes, offers, joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// A second, for ever.
    pub per_second: u32,
}

impl Rate {
    /// What a connection may send in messages unless the server is told otherwise.
    pub const MESSAGES: Self = Self { burst: MESSAGE_BURST, per_second: MESSAGES_PER_SECOND };
}

/// Holds something to a [`Rate`]. For messages, the shell holds one a connection and asks it for every frame, also those
/// that the core never sees.
#[derive(Debug, Clone)]
pub struct RateLimit {
    rate: Rate,
    /// Millionths left.
    level: u64,
    at: Now,
}

const MILLION: u64 = 1_000_000;

impl RateLimit {
    /// A full bucket.
    #[must_use]
    pub fn new(now: Now, rate: Rate) -> Self {
        Self { rate, level: u64::from(rate.burst) * MILLION, at: now }
    }

    /// Whether one more is within the limit; counts it if so.
    pub fn allow(&mut self, now: Now) -> bool {
        self.allow_many(now, 1)
    }

    /// Whether so many more are within the limit; counts them if so. More than the burst never are.
    pub fn allow_many(&mut self, now: Now, count: usize) -> bool {
        self.refill(now);
        match self.level.checked_sub((count as u64).saturating_mul(MILLION)) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }

    /// Counts as many as are within the limit, up to `count`, and says how many those are.
    pub fn allow_some(&mut self, now: Now, count: usize) -> usize {
        self.refill(now);
        let left = usize::try_from(self.level / MILLION).unwrap_or(usize::MAX);
        let allowed = count.min(left);
        self.level -= allowed as u64 * MILLION;
        allowed
    }

    /// Whether nothing was done for so long that a new bucket would be the same.
    pub fn is_full(&mut self, now: Now) -> bool {
        self.refill(now);
        self.level == u64::from(self.rate.burst) * MILLION
    }

    fn refill(&mut self, now: Now) {
        // One a second is a millionth of one a microsecond.
        let refill = now.since(self.at).0.saturating_mul(u64::from(self.rate.per_second));
        self.at = self.at.max(now);
        self.level = self.level.saturating_add(refill).min(u64::from(self.rate.burst) * MILLION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn a_burst_passes_then_only_the_steady_rate() {
        let mut limit = RateLimit::new(Now(5), Rate::MESSAGES);
        let passed = (0..MESSAGE_BURST * 2).filter(|_| limit.allow(Now(5))).count();
        assert_eq!(passed, MESSAGE_BURST as usize);
        let later = Now(5).plus(Duration::from_secs(2));
        let passed = (0..MESSAGE_BURST).filter(|_| limit.allow(later)).count();
        assert_eq!(passed, 2 * MESSAGES_PER_SECOND as usize);
    }

    #[test]
    fn a_clock_that_jumps_back_gives_nothing() {
        let mut limit = RateLimit::new(Now(MILLION), Rate::MESSAGES);
        while limit.allow(Now(MILLION)) {}
        assert!(!limit.allow(Now(0)));
        assert!(!limit.allow(Now(MILLION)));
        assert!(limit.allow(Now(u64::MAX)));
    }

    #[test]
    fn many_at_once_count_each_and_more_than_the_burst_never_pass() {
        let mut limit = RateLimit::new(Now(0), Rate { burst: 10, per_second: 1 });
        assert!(!limit.allow_many(Now(0), 11));
        assert!(limit.allow_many(Now(0), 10));
        assert!(!limit.is_full(Now(9 * MILLION)) && limit.is_full(Now(10 * MILLION)));
    }

    #[test]
    fn of_many_as_many_pass_as_there_is_room_for() {
        let mut limit = RateLimit::new(Now(0), Rate { burst: 10, per_second: 1 });
        assert_eq!((limit.allow_some(Now(0), 7), limit.allow_some(Now(0), 7), limit.allow_some(Now(0), 7)), (7, 3, 0));
        assert_eq!(limit.allow_some(Now(2 * MILLION), 7), 2);
    }
}
