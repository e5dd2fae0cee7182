//! What somebody says to hold: one neighbour, or any of them.

use headwater_wire::{ChunkId, ChunkRange, SegmentId, SeqNo, SeqRange, TrackId};

use crate::map::SortedMap;
use crate::ranges::{ChunkSet, SeqSet};

/// Most tracks that holdings are remembered of.
const MAX_TRACKS: usize = 64;

/// Most gaps in what is held of a track. Beyond, what is said is not remembered: it is of little use.
const MAX_HELD_RANGES: usize = 1024;

/// Most segments held in part at once, of one track.
const MAX_PARTIAL: usize = 64;

/// What is held of one track.
#[derive(Debug, Default)]
struct Holding {
    whole: SeqSet,
    partial: SortedMap<SeqNo, ChunkSet>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    tracks: SortedMap<TrackId, Holding>,
    /// What was said of segments up to this one may be forgotten, of any track.
    forgotten: Option<SeqNo>,
}

impl Holdings {
    /// The holding of `track`, to be written to; `None` beyond [`MAX_TRACKS`].
    fn track(&mut self, track: TrackId) -> Option<&mut Holding> {
        if !self.tracks.contains_key(&track) && self.tracks.len() >= MAX_TRACKS {
            self.forget(SeqNo(u64::MAX));
            return None;
        }
        Some(self.tracks.or_default(track))
    }

    fn forget(&mut self, seq: SeqNo) {
        self.forgotten = self.forgotten.max(Some(seq));
    }

    /// Whole segments; with `full`, all there is of the track.
    pub(crate) fn learn_whole(&mut self, track: TrackId, full: bool, ranges: &[SeqRange]) {
        let Some(holding) = self.track(track) else { return };
        if full {
            holding.whole.clear();
            holding.partial.clear();
        }
        for range in ranges {
            if holding.whole.range_count() >= MAX_HELD_RANGES {
                return self.forget(SeqNo(u64::MAX));
            }
            holding.whole.insert(*range);
            holding.partial.retain(|seq, _| !range.contains(*seq));
        }
    }

    /// Chunks of a segment.
    pub(crate) fn learn_chunks(&mut self, segment: SegmentId, chunks: &[ChunkRange]) {
        let Some(holding) = self.track(segment.track) else { return };
        if holding.whole.contains(segment.seq) {
            return;
        }
        let held = holding.partial.or_default(segment.seq);
        for range in chunks {
            held.insert_range(*range);
        }
        // The oldest numbers are the least wanted.
        if holding.partial.len() > MAX_PARTIAL
            && let Some((oldest, _)) = holding.partial.pop_first()
        {
            self.forget(oldest);
        }
    }

    /// Segments that are not held any more.
    pub(crate) fn learn_dropped(&mut self, track: TrackId, ranges: &[SeqRange]) {
        let Some(holding) = self.tracks.get_mut(&track) else { return };
        for range in ranges {
            if holding.whole.range_count() < MAX_HELD_RANGES {
                holding.whole.remove(*range);
            }
            holding.partial.retain(|seq, _| !range.contains(*seq));
        }
    }

    pub(crate) fn holds(&self, chunk: ChunkId) -> bool {
        let Some(holding) = self.tracks.get(&chunk.segment.track) else { return false };
        let seq = chunk.segment.seq;
        holding.whole.contains(seq) || holding.partial.get(&seq).is_some_and(|held| held.contains(chunk.index))
    }

    /// Whether the chunk is held, or was said to be and that is forgotten.
    pub(crate) fn may_hold(&self, chunk: ChunkId) -> bool {
        self.forgotten.is_some_and(|seq| chunk.segment.seq <= seq) || self.holds(chunk)
    }

    pub(crate) fn holds_any(&self, segment: SegmentId) -> bool {
        let Some(holding) = self.tracks.get(&segment.track) else { return false };
        holding.whole.contains(segment.seq) || holding.partial.contains_key(&segment.seq)
    }

    pub(crate) fn holds_whole(&self, segment: SegmentId) -> bool {
        self.tracks.get(&segment.track).is_some_and(|holding| holding.whole.contains(segment.seq))
    }

    /// The last segment of `track` that is held, in part or whole.
    pub(crate) fn furthest(&self, track: TrackId) -> Option<SeqNo> {
        let holding = self.tracks.get(&track)?;
        let partial = holding.partial.last().map(|(seq, _)| seq);
        holding.whole.last().max(partial)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use headwater_wire::ChunkIndex;

    use super::*;

    const TRACK: TrackId = TrackId(1);

    fn chunk(seq: u64) -> ChunkId {
        ChunkId { segment: SegmentId { track: TRACK, seq: SeqNo(seq) }, index: ChunkIndex(0) }
    }

    #[test]
    fn what_was_forgotten_may_be_held() {
        let mut all = Holdings::default();
        let first = [ChunkRange::one(ChunkIndex(0))];
        all.learn_chunks(chunk(7).segment, &first);
        assert!(!all.may_hold(chunk(8)));
        for seq in 1000..1000 + MAX_PARTIAL as u64 {
            all.learn_chunks(chunk(seq).segment, &first);
        }
        assert!(!all.holds(chunk(7)) && all.may_hold(chunk(7)), "pushed out by what is far ahead");
        assert!(!all.may_hold(chunk(8)));
        for track in 2..2 + MAX_TRACKS as u64 {
            all.learn_whole(TrackId(track), false, &[SeqRange { first: SeqNo(0), count: 1 }]);
        }
        assert!(all.may_hold(chunk(8)), "of one track nothing is known");
    }
}
