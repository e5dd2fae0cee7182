//! Sorted maps and sets for a program that is downloaded: one vector each, searched by halves.
//!
//! What the engine keeps is small, with the exception of what it keeps of segments: those lie in blocks, so that no
//! insertion moves much. `BTreeMap` costs about ten kilobytes of WASM for every pair of types; this costs less than one.

use alloc::vec;
use alloc::vec::Vec;
use core::slice;

use headwater_wire::{SegmentId, SeqNo, TrackId};

/// A map in key order.
#[derive(Debug, Clone)]
pub(crate) struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord + Copy, V> SortedMap<K, V> {
    /// Where `key` is, or where it would be.
    fn place(&self, key: &K) -> Result<usize, usize> {
        let (mut from, mut to) = (0, self.0.len());
        // Most of what is looked for is the newest.
        if let Some((last, _)) = self.0.last()
            && last < key
        {
            return Err(to);
        }
        while from < to {
            let middle = from + (to - from) / 2;
            match self.0[middle].0.cmp(key) {
                core::cmp::Ordering::Less => from = middle + 1,
                core::cmp::Ordering::Equal => return Ok(middle),
                core::cmp::Ordering::Greater => to = middle,
            }
        }
        Err(from)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.place(key).is_ok()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let at = self.place(key).ok()?;
        Some(&self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.place(key).ok()?;
        Some(&mut self.0[at].1)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(at) => Some(core::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// The value of `key`, made where there is none.
    pub(crate) fn or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = match self.place(&key) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (key, make()));
                at
            }
        };
        &mut self.0[at].1
    }

    pub(crate) fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.or_insert_with(key, V::default)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.place(key).ok()?;
        Some(self.0.remove(at).1)
    }

    pub(crate) fn pop_first(&mut self) -> Option<(K, V)> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    pub(crate) fn pop_last(&mut self) -> Option<(K, V)> {
        self.0.pop()
    }

    pub(crate) fn first(&self) -> Option<(K, &V)> {
        self.0.first().map(|(key, value)| (*key, value))
    }

    pub(crate) fn last(&self) -> Option<(K, &V)> {
        self.0.last().map(|(key, value)| (*key, value))
    }

    /// The last pair whose key is at most `key`.
    pub(crate) fn last_up_to(&self, key: &K) -> Option<(K, &V)> {
        let at = match self.place(key) {
            Ok(at) => at,
            Err(at) => at.checked_sub(1)?,
        };
        let (key, value) = &self.0[at];
        Some((*key, value))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (*key, value))
    }

    /// The pairs from `key` on.
    pub(crate) fn from(&self, key: K) -> impl Iterator<Item = (K, &V)> {
        let at = self.place(&key).unwrap_or_else(|at| at);
        (at..self.0.len()).map(|at| (self.0[at].0, &self.0[at].1))
    }

    /// The pair in the place given: what a search has found need not be searched for again.
    pub(crate) fn at(&self, place: usize) -> Option<(K, &V)> {
        self.0.get(place).map(|(key, value)| (*key, value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = K> {
        self.0.iter().map(|(key, _)| *key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

type Pair<'a, K, V, R> = fn(&'a (K, V)) -> R;

impl<'a, K: Ord + Copy, V> IntoIterator for &'a SortedMap<K, V> {
    type Item = (K, &'a V);
    type IntoIter = core::iter::Map<slice::Iter<'a, (K, V)>, Pair<'a, K, V, (K, &'a V)>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(key, value)| (*key, value))
    }
}

impl<K: Ord + Copy, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Ord + Copy, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut map = Self::default();
        for (key, value) in pairs {
            map.insert(key, value);
        }
        map
    }
}

/// A set in order.
#[derive(Debug, Clone)]
pub(crate) struct SortedSet<K>(SortedMap<K, ()>);

impl<K> Default for SortedSet<K> {
    fn default() -> Self {
        Self(SortedMap::default())
    }
}

impl<K: Ord + Copy> SortedSet<K> {
    /// Adds a member; `false` where it was one.
    pub(crate) fn insert(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }

    pub(crate) fn remove(&mut self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = K> {
        self.0.keys()
    }
}

impl<K: Ord + Copy> FromIterator<K> for SortedSet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key, ())).collect())
    }
}

/// How many consecutive numbers lie in one block of a [`SegmentMap`].
const BLOCK: u64 = 64;

/// A map of segments, in blocks of consecutive numbers: what it costs to add or remove one grows with the number of
/// blocks, which is small for whatever a day of video has.
#[derive(Debug)]
pub(crate) struct SegmentMap<V> {
    blocks: SortedMap<(TrackId, u64), SortedMap<SeqNo, V>>,
    len: usize,
}

impl<V> Default for SegmentMap<V> {
    fn default() -> Self {
        Self { blocks: SortedMap::default(), len: 0 }
    }
}

fn block(id: SegmentId) -> (TrackId, u64) {
    (id.track, id.seq.0 / BLOCK)
}

impl<V> SegmentMap<V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains_key(&self, id: &SegmentId) -> bool {
        self.get(id).is_some()
    }

    pub(crate) fn get(&self, id: &SegmentId) -> Option<&V> {
        self.blocks.get(&block(*id))?.get(&id.seq)
    }

    pub(crate) fn get_mut(&mut self, id: &SegmentId) -> Option<&mut V> {
        self.blocks.get_mut(&block(*id))?.get_mut(&id.seq)
    }

    pub(crate) fn insert(&mut self, id: SegmentId, value: V) {
        let new = self.blocks.or_default(block(id)).insert(id.seq, value).is_none();
        self.len += usize::from(new);
    }

    /// The value of `id`, made where there is none.
    pub(crate) fn or_insert_with(&mut self, id: SegmentId, make: impl FnOnce() -> V) -> &mut V {
        let len = &mut self.len;
        self.blocks.or_default(block(id)).or_insert_with(id.seq, || {
            *len += 1;
            make()
        })
    }

    pub(crate) fn remove(&mut self, id: &SegmentId) -> Option<V> {
        let key = block(*id);
        let seqs = self.blocks.get_mut(&key)?;
        let value = seqs.remove(&id.seq)?;
        if seqs.is_empty() {
            self.blocks.remove(&key);
        }
        self.len -= 1;
        Some(value)
    }

    /// The first and the last segment of a track.
    pub(crate) fn ends(&self, track: TrackId) -> Option<(SeqNo, SeqNo)> {
        let (_, last) = self.blocks.last_up_to(&(track, u64::MAX)).filter(|((of, _), _)| *of == track)?;
        let (_, first) = self.blocks.from((track, 0)).next()?;
        Some((first.first()?.0, last.last()?.0))
    }

    /// The first segment of the track that has the most blocks.
    pub(crate) fn first_of_longest(&self) -> Option<SegmentId> {
        let mut counts: SortedMap<TrackId, u32> = SortedMap::default();
        for (track, _) in self.blocks.keys() {
            *counts.or_default(track) += 1;
        }
        let (track, _) = counts.iter().max_by_key(|(_, count)| **count)?;
        Some(SegmentId { track, seq: self.ends(track)?.0 })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SegmentId, &V)> {
        let blocks = self.blocks.iter();
        blocks.flat_map(|((track, _), seqs)| seqs.iter().map(move |(seq, value)| (SegmentId { track, seq }, value)))
    }

    /// The segments of one track from `id` on.
    pub(crate) fn from(&self, id: SegmentId) -> impl Iterator<Item = (SegmentId, &V)> {
        let track = id.track;
        let blocks = self.blocks.from(block(id)).take_while(move |((of, _), _)| *of == track);
        let seqs = blocks.flat_map(move |(_, seqs)| seqs.from(id.seq));
        seqs.map(move |(seq, value)| (SegmentId { track, seq }, value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::prelude::rust_2024::*;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn segments_of_a_track_come_in_order_and_no_others() {
        let mut map = SegmentMap::default();
        let id = |track, seq| SegmentId { track: TrackId(track), seq: SeqNo(seq) };
        for seq in [500, 3, 64, 63, 1_000_000, 65] {
            map.insert(id(2, seq), seq);
            map.insert(id(1, seq), 0);
            map.insert(id(3, seq), 0);
        }
        assert_eq!(map.len(), 18);
        let from = |seq| map.from(id(2, seq)).map(|(_, value)| *value).collect::<Vec<_>>();
        assert_eq!(from(0), [3, 63, 64, 65, 500, 1_000_000]);
        assert_eq!(from(64), [64, 65, 500, 1_000_000]);
        assert_eq!(map.ends(TrackId(2)), Some((SeqNo(3), SeqNo(1_000_000))));
        assert_eq!(map.ends(TrackId(9)), None);
        assert_eq!(map.iter().count(), 18);
        assert_eq!(map.remove(&id(2, 64)), Some(64));
        assert_eq!(map.remove(&id(2, 64)), None);
        assert_eq!(map.len(), 17);
    }

    proptest! {
        #[test]
        fn a_sorted_map_is_a_map(ops in prop::collection::vec((0..5_u8, 0..20_u32), 0..100)) {
            let mut map = SortedMap::default();
            let mut model = BTreeMap::new();
            for (value, (op, key)) in ops.into_iter().enumerate() {
                match op {
                    0 | 1 => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                    2 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    3 => prop_assert_eq!(map.pop_first(), model.pop_first()),
                    _ => prop_assert_eq!(*map.or_insert_with(key, || value), *model.entry(key).or_insert(value)),
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
                prop_assert_eq!(map.last_up_to(&key).map(|p| p.0), model.range(..=key).next_back().map(|p| *p.0));
                let after: Vec<u32> = map.from(key).map(|(key, _)| key).collect();
                prop_assert_eq!(after, model.range(key..).map(|(key, _)| *key).collect::<Vec<_>>());
                prop_assert_eq!(map.iter().map(|p| p.0).collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>());
            }
        }
    }
}
