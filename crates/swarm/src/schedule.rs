//! What is wanted, in what order, and what is let go.
//!
//! Every segment that the player demands has a plan: chunks are asked of neighbours that hold them (`ask`), and at the
//! *rescue* moment, as late as the origin's measured speed allows, HTTP fetches what is still missing (`origin`).

use alloc::vec::Vec;

use headwater_wire::SegmentId;

use crate::engine::Engine;
use crate::map::SortedSet;
use crate::segment::Segment;
use crate::time::Span;

/// How many segments beyond the one last demanded are asked of peers: enough to keep several neighbours busy, few enough
/// that a change of rendition wastes little.
pub(crate) const AHEAD: u64 = 3;

/// A player with this much ahead is in no hurry: it fills its buffer so many times as fast as it plays. Loaded as fast as they
/// come, these segments would take uplinks and processors from those who begin to watch: on two cores, six viewers that joined
/// two seconds apart took 2.3 to 2.6 times as long to their first frame as over HTTP, and as long as that so.
const EASY: Span = Span::from_secs(10);
const EASY_RATE: u32 = 2;

impl Engine {
    pub(crate) fn schedule_downloads(&mut self) {
        self.expire_asks();
        let ahead = self.want_ahead();
        self.drop_unwanted(&ahead);
        let now = self.now;
        let prefetch = Span::from(self.config.prefetch);
        let full = self.timeline.buffered(now) > prefetch;
        let slack = |id: SegmentId| self.timeline.slack(now, id).unwrap_or(Span::ZERO);
        let wanted: SortedSet<(Span, SegmentId)> = self.active.iter().map(|id| (slack(id), id)).collect();
        for (slack, id) in wanted.iter() {
            if slack > EASY && !self.may_begin(id) {
                continue;
            }
            let Some(segment) = self.segments.get(&id) else { continue };
            let demanded = !segment.demands.is_empty();
            if segment.fetch.is_some() {
                self.watch_fetch(id);
                self.widen_fetch(id, slack);
            } else if demanded || self.is_candidate(id) {
                self.plan_http(id, slack);
            }
            self.seek_knowledge(id);
            // A player that fills minutes of buffer would keep its neighbours' uplinks from those that are about to run dry.
            if !full || slack <= prefetch {
                self.ask_peers(id, slack);
            } else {
                self.wake_at(now + slack.saturating_sub(prefetch));
            }
        }
        self.look_for_catalogue();
    }

    /// Whether a segment that is in no hurry has been begun, or may be now: then the next one may a while later.
    fn may_begin(&mut self, id: SegmentId) -> bool {
        let (now, at) = (self.now, self.next_easy);
        let has_begun = |segment: &Segment| segment.begun || segment.fetch.is_some() || !segment.asked.is_empty();
        // What the player waits for has its turn before what it will only come to.
        let waits = |id: SegmentId| {
            self.segments.get(&id).is_some_and(|segment| !segment.demands.is_empty() && !has_begun(segment))
        };
        let is_kept_back = !waits(id) && self.active.iter().any(waits);
        let Some(segment) = self.segments.get_mut(&id) else { return false };
        if has_begun(segment) {
            return true;
        }
        if is_kept_back {
            return false;
        }
        if at > now {
            self.wake_at(at);
            return false;
        }
        segment.begun = true;
        // Buffers of their own, as for sound, are filled side by side.
        let buffers = self.latest.len().max(1) as u32;
        self.next_easy = now + self.timeline.duration(id).unwrap_or_default() / (EASY_RATE * buffers);
        true
    }

    /// Makes segments active that the player will demand soon and that a neighbour holds: of a live stream also those that
    /// the player's own playlist does not list yet. Says which those may be.
    fn want_ahead(&mut self) -> SortedSet<SegmentId> {
        let now = self.now;
        let next = |last: &SegmentId| {
            let last = *last;
            (1..=AHEAD).map(move |step| SegmentId { track: last.track, seq: last.seq.saturating_add(step) })
        };
        let is_near =
            |id: &SegmentId| self.timeline.slack(now, *id).is_some_and(|slack| slack <= self.config.prefetch.into());
        let ahead: SortedSet<SegmentId> = self.latest.values().flat_map(next).filter(is_near).collect();
        for id in ahead.iter() {
            // A candidate takes its turn when the segment is there, not when its own player hears of it.
            let is_held =
                |engine: &Self| engine.ready().any(|(_, neighbour)| neighbour.gives() && neighbour.holds_any(id));
            if !self.segments.contains_key(&id) && (id.seq <= self.ceiling && is_held(self) || self.is_candidate(id)) {
                self.segment_mut(id);
                self.active.insert(id);
            }
        }
        ahead
    }

    /// Lets go of segments that nobody demands and the player will not come to.
    fn drop_unwanted(&mut self, ahead: &SortedSet<SegmentId>) {
        let is_wanted = |id: &SegmentId| {
            let segment = self.segments.get(id);
            ahead.contains(id) || segment.is_some_and(|segment| !segment.demands.is_empty() || segment.fetch.is_some())
        };
        let unwanted: Vec<SegmentId> = self.active.iter().filter(|id| !is_wanted(id)).collect();
        for id in unwanted {
            self.evict(id);
        }
    }
}
