//! Time as the caller supplies it. `core::time::Instant` panics in the browser, and a simulator has its own.

use core::ops::{Add, Sub};
use core::time::Duration;

/// A moment: microseconds since a start of the caller's choice. Never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Now(u64);

impl Now {
    /// The moment `micros` microseconds after the start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time since `earlier`, or zero where that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Now {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }
}

impl Sub<Duration> for Now {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

/// A place on the player's media timeline, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The place `micros` microseconds from the timeline's zero.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The place `seconds` from the timeline's zero, as players count it.
    #[must_use]
    pub fn from_secs(seconds: f64) -> Self {
        // `as` saturates, and makes zero of NaN.
        Self((seconds * 1e6) as i64)
    }

    /// Microseconds from the timeline's zero.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// How far this is ahead of `other`; zero where it is behind.
    #[must_use]
    pub const fn ahead_of(self, other: Self) -> Duration {
        let ahead = self.0.saturating_sub(other.0);
        if ahead <= 0 { Duration::ZERO } else { Duration::from_micros(ahead.unsigned_abs()) }
    }

    /// The place `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(micros(duration)).unwrap_or(i64::MAX)))
    }
}

/// By hand, because what `Duration` has for it is 128 bits wide, which weighs in the browser.
fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}

/// A duration of `seconds`, to the microsecond. Saturates, where `Duration::from_secs_f64` panics, and makes zero of NaN.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_micros((seconds * 1e6) as u64)
}

/// `duration` times `factor`, likewise.
pub(crate) fn scaled(duration: Duration, factor: f64) -> Duration {
    seconds(duration.as_secs_f64() * factor)
}
