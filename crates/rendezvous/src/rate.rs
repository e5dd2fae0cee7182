//! A token bucket: how much one connection may send.

use crate::config::{MESSAGE_BURST, MESSAGES_PER_SECOND};
use crate::time::Now;

/// Allows bursts of [`MESSAGE_BURST`] and [`MESSAGES_PER_SECOND`] in the long run. The shell holds one a connection
/// and asks it for every frame, also those that the core never sees.
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// Millionths of a message left.
    level: u64,
    at: Now,
}

const MILLION: u64 = 1_000_000;
const FULL: u64 = MESSAGE_BURST as u64 * MILLION;

impl RateLimit {
    /// A full bucket.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self { level: FULL, at: now }
    }

    /// Whether one more message is within the limit; counts it if so.
    pub fn allow(&mut self, now: Now) -> bool {
        // A message a second is a millionth of a message a microsecond.
        let refill = now.since(self.at).0.saturating_mul(u64::from(MESSAGES_PER_SECOND));
        self.at = self.at.max(now);
        self.level = self.level.saturating_add(refill).min(FULL);
        match self.level.checked_sub(MILLION) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn a_burst_passes_then_only_the_steady_rate() {
        let mut limit = RateLimit::new(Now(5));
        let passed = (0..MESSAGE_BURST * 2).filter(|_| limit.allow(Now(5))).count();
        assert_eq!(passed, MESSAGE_BURST as usize);
        let later = Now(5).plus(Duration::from_secs(2));
        let passed = (0..MESSAGE_BURST).filter(|_| limit.allow(later)).count();
        assert_eq!(passed, 2 * MESSAGES_PER_SECOND as usize);
    }

    #[test]
    fn a_clock_that_jumps_back_gives_nothing() {
        let mut limit = RateLimit::new(Now(MILLION));
        while limit.allow(Now(MILLION)) {}
        assert!(!limit.allow(Now(0)));
        assert!(!limit.allow(Now(MILLION)));
        assert!(limit.allow(Now(u64::MAX)));
    }
}
