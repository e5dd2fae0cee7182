//! Where segments lie on the player's timeline, and where the player is: what deadlines are made of.

use headwater_wire::{SegmentId, SeqNo, TrackId};

use crate::io::{Playhead, PlaylistSegment, PlaylistUpdate};
use crate::map::{SegmentMap, SortedMap};
use crate::time::{MediaTime, Now, Span};

/// Most tracks whose playlists are remembered: far more renditions than any stream has.
const MAX_TRACKS: usize = 64;

/// Most segments remembered of all playlists: four days of two-second segments.
const MAX_SEGMENTS: usize = 200_000;

#[derive(Debug, Clone, Copy)]
struct Place {
    start: MediaTime,
    duration: Span,
}

/// All tracks' playlists and the playhead.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// Whether each track is live.
    tracks: SortedMap<TrackId, bool>,
    places: SegmentMap<Place>,
    playhead: Option<(Now, Playhead)>,
}

impl Timeline {
    pub(crate) fn update(&mut self, update: PlaylistUpdate) {
        let PlaylistUpdate { track, live, first, segments } = update;
        if !self.tracks.contains_key(&track) && self.tracks.len() >= MAX_TRACKS {
            return;
        }
        self.tracks.insert(track, live);
        // What lies before the window goes; all of it, where the numbering restarted far ahead.
        while let Some((seq, _)) = self.places.ends(track)
            && seq < first
        {
            self.places.remove(&SegmentId { track, seq });
        }
        for PlaylistSegment { seq, start, duration } in segments {
            if self.places.len() >= MAX_SEGMENTS {
                return;
            }
            self.places.insert(SegmentId { track, seq }, Place { start, duration: duration.into() });
        }
    }

    pub(crate) fn set_playhead(&mut self, now: Now, playhead: Playhead) {
        self.playhead = Some((now, playhead));
    }

    /// The position now, extrapolated from the last report.
    pub(crate) fn position(&self, now: Now) -> Option<MediaTime> {
        let (at, playhead) = self.playhead?;
        let played = now.passed(at).scaled(f64::from(playhead.rate_permille) / 1000.0);
        // The player cannot have shown more than it had.
        Some(playhead.position.later(played).min(playhead.buffered_to.max(playhead.position)))
    }

    /// The time until the player must have `segment`: zero where it waits for it already, `None` where nothing is known.
    /// A live segment that the own playlist does not list yet is taken to follow what it lists.
    pub(crate) fn slack(&self, now: Now, segment: SegmentId) -> Option<Span> {
        let start = self.place(segment).map(|place| place.start).or_else(|| self.expected_start(segment))?;
        let position = self.position(now)?;
        let (_, playhead) = self.playhead?;
        let ahead = start.beyond(position);
        // A paused player may be started at any moment: it is as urgent as one that plays.
        let rate = playhead.rate_permille.max(1000);
        Some(ahead.scaled(1000.0 / f64::from(rate)))
    }

    fn expected_start(&self, segment: SegmentId) -> Option<MediaTime> {
        let (_, last) = self.places.ends(segment.track).filter(|(_, last)| *last < segment.seq)?;
        let place = self.place(SegmentId { track: segment.track, seq: last })?;
        let between = u32::try_from(segment.seq.0 - last.0).ok()?;
        Some(place.start.later(place.duration * between))
    }

    /// Whether `segment` is listed and the player is not past its end.
    pub(crate) fn is_ahead(&self, now: Now, segment: SegmentId) -> bool {
        let Some((place, position)) = self.place(segment).zip(self.position(now)) else { return false };
        place.start.later(place.duration) >= position
    }

    /// How much the player has to play without a gap.
    pub(crate) fn buffered(&self, now: Now) -> Span {
        let Some((position, (_, playhead))) = self.position(now).zip(self.playhead) else { return Span::ZERO };
        playhead.buffered_to.beyond(position)
    }

    /// The last segment that the playlist of `track` lists.
    pub(crate) fn last(&self, track: TrackId) -> Option<SeqNo> {
        self.places.ends(track).map(|(_, last)| last)
    }

    /// How long a listed segment plays.
    pub(crate) fn duration(&self, segment: SegmentId) -> Option<Span> {
        self.place(segment).map(|place| place.duration)
    }

    /// Whether `track` is live.
    pub(crate) fn is_live(&self, track: TrackId) -> bool {
        self.tracks.get(&track).is_some_and(|live| *live)
    }

    fn place(&self, segment: SegmentId) -> Option<&Place> {
        self.places.get(&segment)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const TRACK: TrackId = TrackId(1);

    fn timeline(first: u64, count: u64) -> Timeline {
        let mut timeline = Timeline::default();
        timeline.update(update(first, first..first + count));
        timeline
    }

    fn update(first: u64, seqs: core::ops::Range<u64>) -> PlaylistUpdate {
        let segments = seqs
            .map(|seq| PlaylistSegment {
                seq: SeqNo(seq),
                start: MediaTime::from_secs(seq as f64 * 2.0),
                duration: Duration::from_secs(2),
            })
            .collect();
        PlaylistUpdate { track: TRACK, live: true, first: SeqNo(first), segments }
    }

    fn segment(seq: u64) -> SegmentId {
        SegmentId { track: TRACK, seq: SeqNo(seq) }
    }

    #[test]
    fn slack_shrinks_while_the_player_plays_and_stops_where_its_buffer_ends() {
        let mut timeline = timeline(0, 10);
        let at = Now::from_micros(5_000_000);
        let playhead = Playhead {
            position: MediaTime::from_secs(4.0),
            buffered_to: MediaTime::from_secs(6.0),
            rate_permille: 1000,
        };
        timeline.set_playhead(at, playhead);
        assert_eq!(timeline.slack(at, segment(5)), Some(Span::from_secs(6)));
        assert_eq!(timeline.slack(at + Duration::from_secs(1), segment(5)), Some(Span::from_secs(5)));
        assert_eq!(timeline.slack(at + Duration::from_secs(9), segment(5)), Some(Span::from_secs(4)));
        assert_eq!(timeline.slack(at, segment(1)), Some(Span::ZERO));
        // Not listed yet, and taken to follow.
        assert_eq!(timeline.slack(at, segment(12)), Some(Span::from_secs(20)));
        assert_eq!(timeline.slack(at, SegmentId { track: TrackId(9), seq: SeqNo(5) }), None);
    }

    #[test]
    fn a_numbering_that_restarts_forgets_the_old_one() {
        let mut timeline = timeline(100, 5);
        timeline.update(update(500, 500..503));
        assert!(timeline.place(segment(100)).is_none());
        assert!(timeline.place(segment(502)).is_some());
    }
}
