//! Where in content on demand a viewer is, and so what it holds: who is ahead of whom can serve it.

use crate::time::{Duration, Now};

/// What two viewers may be apart and still be of use to each other soon: what players buffer ahead.
const REACH_S: u64 = 30;

/// What a viewer keeps behind it: the budget of an engine (128 MiB) is about this long at 3 Mbit/s.
const KEPT_S: u64 = 300;

/// A playhead this far from where it should have been by now was moved.
const DRIFT_S: u64 = 20;

/// The time for which a position is worth anything without a word.
const STALE: Duration = Duration::from_secs(120);

/// A stretch of content that a viewer has watched without a jump, in seconds of the content's own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watching {
    from: u64,
    /// Where it was when it last said so.
    at: u64,
    told: Now,
}

impl Watching {
    /// A viewer that says where it is, after what was known of it before.
    pub(crate) fn told(before: Option<Self>, now: Now, position_s: u32) -> Self {
        let at = u64::from(position_s);
        // One that pauses falls behind: what it watched it has still.
        let is_same = |old: &Self| at + DRIFT_S >= old.at && at <= old.position(now) + DRIFT_S;
        let from = before.filter(is_same).map_or(at, |old| old.from);
        Self { from, at, told: now }
    }

    fn position(&self, now: Now) -> u64 {
        self.at + now.since(self.told).as_secs()
    }

    /// Where it is by now, in seconds, where that was said lately.
    pub(crate) fn position_s(&self, now: Now) -> Option<u32> {
        u32::try_from(self.position(now)).ok().filter(|_| self.is_fresh(now))
    }

    /// Whether it was said lately.
    pub(crate) fn is_fresh(&self, now: Now) -> bool {
        now.since(self.told) < STALE
    }

    /// Whether this viewer holds, or is about to, what one at the position of `other` wants next.
    pub(crate) fn serves(&self, other: &Self, now: Now) -> bool {
        let (own, other) = (self.position(now), other.position(now));
        self.from <= other + REACH_S && other <= own + REACH_S && own <= other + KEPT_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at_s(seconds: u64) -> Now {
        Now(seconds * 1_000_000)
    }

    #[test]
    fn who_is_ahead_serves_who_is_behind_until_it_has_forgotten() {
        let first = Watching::told(None, at_s(0), 0);
        let ahead = Watching::told(Some(first), at_s(100), 100);
        let serves = |position| ahead.serves(&Watching::told(None, at_s(100), position), at_s(100));
        assert!(serves(0) && serves(60) && serves(100) && serves(130), "what it holds and is about to hold");
        assert!(!serves(140), "what lies ahead of it");
        let later = Watching::told(Some(ahead), at_s(400), 400);
        assert!(!later.serves(&Watching::told(None, at_s(400), 50), at_s(400)), "what it has let go of");
    }

    #[test]
    fn a_jump_forgets_what_was_watched_and_a_pause_does_not() {
        let first = Watching::told(None, at_s(0), 0);
        let paused = Watching::told(Some(first), at_s(90), 10);
        assert_eq!(paused.from, 0);
        let jumped = Watching::told(Some(paused), at_s(100), 300);
        assert_eq!(jumped.from, 300);
        let back = Watching::told(Some(jumped), at_s(110), 20);
        assert_eq!(back.from, 20);
    }

    #[test]
    fn positions_go_on_by_themselves_and_grow_stale() {
        let one = Watching::told(None, at_s(0), 0);
        let other = Watching::told(None, at_s(60), 45);
        assert!(one.serves(&other, at_s(60)), "one has gone on to 60");
        assert!(one.is_fresh(at_s(60)) && !one.is_fresh(at_s(120)));
    }
}
