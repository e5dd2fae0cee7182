//! Waiting longer after every failure, and never in step with others.

use std::time::Duration;

/// Doubles from a first delay up to a longest one; each wait is a random part, at least half, of that.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// A back-off that has seen no failure yet.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// How long to wait now, after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (self.next * 2).min(self.longest);
        jitter(delay / 2, delay)
    }

    /// All is well again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A random duration between the two.
#[must_use]
pub fn jitter(least: Duration, most: Duration) -> Duration {
    // Without randomness everybody waits equally long, which is worse but no error.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    least + most.saturating_sub(least).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_a_bound_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for most in [100, 200, 350, 350] {
            let delay = backoff.next_delay();
            assert!(delay <= Duration::from_millis(most) && delay >= Duration::from_millis(most / 2), "{delay:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
