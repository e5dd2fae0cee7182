//! Sets that stay small: sequence numbers as ranges, chunks as bits.

use alloc::vec::Vec;

use headwater_wire::{ChunkIndex, ChunkRange, SeqNo, SeqRange};

use crate::map::SortedMap;

/// A set of sequence numbers, kept as ranges that neither touch nor overlap.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeqSet(SortedMap<u64, u64>);

impl SeqSet {
    pub(crate) fn contains(&self, seq: SeqNo) -> bool {
        self.0.last_up_to(&seq.0).is_some_and(|(_, end)| seq.0 < *end)
    }

    pub(crate) fn insert(&mut self, range: SeqRange) {
        let (mut start, mut end) = (range.first.0, range.end().0);
        if start >= end {
            return;
        }
        // Swallow every range that touches [start, end].
        while let Some((first, &last)) = self.0.last_up_to(&end) {
            if last < start {
                break;
            }
            self.0.remove(&first);
            start = start.min(first);
            end = end.max(last);
        }
        self.0.insert(start, end);
    }

    pub(crate) fn remove(&mut self, range: SeqRange) {
        let (start, end) = (range.first.0, range.end().0);
        if start >= end {
            return;
        }
        while let Some((first, &last)) = self.0.last_up_to(&(end - 1)) {
            if last <= start {
                break;
            }
            self.0.remove(&first);
            if last > end {
                self.0.insert(end, last);
            }
            if first < start {
                self.0.insert(first, start);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn range_count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn last(&self) -> Option<SeqNo> {
        self.0.last().map(|(_, end)| SeqNo(end - 1))
    }

    #[cfg(test)]
    fn iter(&self) -> impl Iterator<Item = SeqRange> {
        self.0.iter().map(|(start, end)| SeqRange { first: SeqNo(start), count: end - start })
    }
}

/// A set of chunks of one segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChunkSet {
    words: Vec<u64>,
    count: u32,
}

impl ChunkSet {
    pub(crate) fn contains(&self, index: ChunkIndex) -> bool {
        let (word, bit) = place(index);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Adds a chunk; `false` where it was there. The caller has checked the index against the segment.
    pub(crate) fn insert(&mut self, index: ChunkIndex) -> bool {
        let (word, bit) = place(index);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u32::from(new);
        new
    }

    pub(crate) fn insert_range(&mut self, range: ChunkRange) {
        for index in range.iter() {
            self.insert(index);
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = ChunkIndex> {
        self.words.iter().enumerate().flat_map(|(word, bits)| {
            let bits = *bits;
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| ChunkIndex(word as u32 * 64 + bit))
        })
    }

    /// Its chunks as ascending ranges.
    pub(crate) fn ranges(&self) -> Vec<ChunkRange> {
        let mut ranges: Vec<ChunkRange> = Vec::new();
        for index in self.iter() {
            match ranges.last_mut() {
                Some(last) if last.end() == index.0 => last.count += 1,
                _ => ranges.push(ChunkRange::one(index)),
            }
        }
        ranges
    }
}

fn place(index: ChunkIndex) -> (usize, u64) {
    ((index.0 / 64) as usize, 1 << (index.0 % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::prelude::rust_2024::*;

    use proptest::prelude::*;

    use super::*;

    fn range(first: u64, count: u64) -> SeqRange {
        SeqRange { first: SeqNo(first), count }
    }

    proptest! {
        #[test]
        fn a_seq_set_is_a_set(ops in prop::collection::vec((any::<bool>(), 0..40_u64, 0..10_u64), 0..60)) {
            let mut set = SeqSet::default();
            let mut model = BTreeSet::new();
            for (insert, first, count) in ops {
                if insert {
                    set.insert(range(first, count));
                    model.extend(first..first + count);
                } else {
                    set.remove(range(first, count));
                    model.retain(|seq| !(first..first + count).contains(seq));
                }
                for seq in 0..60 {
                    prop_assert_eq!(set.contains(SeqNo(seq)), model.contains(&seq));
                }
                prop_assert_eq!(set.last(), model.last().map(|seq| SeqNo(*seq)));
                let ranges: Vec<_> = set.iter().collect();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].first));
            }
        }

        #[test]
        fn a_chunk_set_is_a_set(indices in prop::collection::vec(0..200_u32, 0..50)) {
            let mut set = ChunkSet::default();
            let model: BTreeSet<u32> = indices.iter().copied().collect();
            for index in indices {
                set.insert(ChunkIndex(index));
            }
            prop_assert_eq!(set.len() as usize, model.len());
            prop_assert_eq!(set.iter().map(|i| i.0).collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
            let from_ranges: Vec<_> = set.ranges().into_iter().flat_map(|r| r.iter().collect::<Vec<_>>()).collect();
            prop_assert_eq!(from_ranges, set.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn ranges_at_the_end_of_all_numbers_do_not_overflow() {
        let mut set = SeqSet::default();
        set.insert(range(u64::MAX - 1, u64::MAX));
        assert!(set.contains(SeqNo(u64::MAX - 1)));
        set.remove(range(0, u64::MAX));
        assert_eq!(set.range_count(), 0);
    }
}
