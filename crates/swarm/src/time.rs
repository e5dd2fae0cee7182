//! Time as the caller supplies it. `core::time::Instant` panics in the browser, and a simulator has its own.

use core::ops::{Add, Div, Mul, Sub};
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

impl Now {
    /// What does not come.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The time since `earlier`, as the engine counts it.
    pub(crate) const fn passed(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// A time span in microseconds: inside the engine in place of [`Duration`], whose two numbers and checks weigh in the
/// browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Span(u64);

impl Span {
    pub(crate) const ZERO: Self = Self(0);

    pub(crate) const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000)
    }

    pub(crate) const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000)
    }

    /// Saturates, where `Duration::from_secs_f64` panics, and makes zero of NaN.
    pub(crate) fn from_secs_f64(secs: f64) -> Self {
        Self((secs * 1e6) as u64)
    }

    pub(crate) fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    pub(crate) const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    pub(crate) const fn as_micros(self) -> u64 {
        self.0
    }

    pub(crate) const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// How many times `step` is in it; saturates.
    pub(crate) fn over(self, step: Self) -> u32 {
        u32::try_from(self.0 / step.0.max(1)).unwrap_or(u32::MAX)
    }

    pub(crate) fn scaled(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor) as u64)
    }

    pub(crate) const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(micros(duration))
    }
}

impl Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Mul<u32> for Span {
    type Output = Self;

    fn mul(self, factor: u32) -> Self {
        Self(self.0.saturating_mul(u64::from(factor)))
    }
}

impl Div<u32> for Span {
    type Output = Self;

    fn div(self, by: u32) -> Self {
        Self(self.0 / u64::from(by.max(1)))
    }
}

impl Add<Span> for Now {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Now {
    type Output = Self;

    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
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
        self.later(duration.into())
    }

    pub(crate) fn later(self, span: Span) -> Self {
        Self(self.0.saturating_add_unsigned(span.0))
    }

    /// How far this place lies after `other`; zero where it does not.
    pub(crate) const fn beyond(self, other: Self) -> Span {
        let ahead = self.0.saturating_sub(other.0);
        Span(if ahead <= 0 { 0 } else { ahead.unsigned_abs() })
    }
}

/// By hand, because what `Duration` has for it is 128 bits wide, which weighs in the browser.
fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}
