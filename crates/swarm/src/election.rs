//! Who goes to the origin for a live segment, of everyone in the swarm.
//!
//! An election among neighbours alone sends one in every dozen viewers to the origin. So viewers of a live track pass the
//! sixteen smallest `mix(nonce, stretch)` of all of them around, as sketches that count distinct elements do: after a few
//! rounds everyone knows the same sixteen, whatever the size of the swarm, without a server, in each part of a swarm that
//! fell apart. They are drawn anew for every stretch of sixteen segments, so that those who left do not stay, and the
//! candidates of one stretch serve in the next, when everyone has heard of them. The order among them is drawn for each
//! segment.

use alloc::vec::Vec;

use headwater_wire::limits::MAX_CANDIDATES;
use headwater_wire::{Message, PeerId, Role, SegmentId, TrackId};

use crate::engine::Engine;
use crate::io::MediaKind;
use crate::map::SortedMap;
use crate::rng::mix;
use crate::time::{Now, Span};

/// Segments of one stretch.
const STRETCH: u64 = 16;

/// Stretches further from the live edge than this are neither kept nor passed on.
const MAX_APART: u64 = 2;

/// How long news of candidates are gathered.
const GATHER: Span = Span::from_secs(1);

/// Most candidates of one stretch that are gathered to be told at once.
const MAX_NEWS: usize = 4 * MAX_CANDIDATES;

/// Most stretches remembered, of all tracks together.
const MAX_LISTS: usize = 16;

type Key = (TrackId, u64);

/// The candidates known.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// Nonces by their hash, for each track and stretch.
    lists: SortedMap<Key, SortedMap<u64, u64>>,
    /// What is not passed on yet, and when it is to be.
    news: SortedMap<Key, Vec<u64>>,
    due: Option<Now>,
}

impl Candidates {
    /// Notes a candidate. Keeps the smallest; says nothing where that changes nothing.
    fn note(&mut self, key: Key, nonce: u64) {
        if !self.lists.contains_key(&key) && self.lists.len() >= MAX_LISTS {
            // The oldest stretch goes; one that is older still is not worth remembering.
            let oldest = self.lists.iter().map(|(key, _)| key).min_by_key(|(_, epoch)| *epoch);
            match oldest {
                Some(oldest) if oldest.1 < key.1 => self.lists.remove(&oldest),
                _ => return,
            };
        }
        let list = self.lists.or_default(key);
        if list.insert(place(nonce, key), nonce).is_some() {
            return;
        }
        if list.len() > MAX_CANDIDATES && list.pop_last().is_some_and(|(_, dropped)| dropped == nonce) {
            return;
        }
        let news = self.news.or_default(key);
        if news.len() < MAX_NEWS {
            news.push(nonce);
        }
    }

    /// How many candidates there are for a segment, and how many of them go before `nonce`: `None` where it is not one.
    pub(crate) fn turn(&self, id: SegmentId, nonce: u64) -> (usize, Option<usize>) {
        let epoch = id.seq.0 / STRETCH;
        let settled = epoch.checked_sub(1).and_then(|before| self.lists.get(&(id.track, before)));
        let Some(list) = settled.or_else(|| self.lists.get(&(id.track, epoch))) else { return (0, None) };
        let own = rank(nonce, id);
        let before = || list.values().filter(|other| rank(**other, id) < own).count();
        (list.len(), list.values().any(|other| *other == nonce).then(before))
    }

    fn messages(map: &SortedMap<Key, Vec<u64>>) -> Vec<Message> {
        let mut messages = Vec::new();
        for ((track, epoch), nonces) in map {
            for part in nonces.chunks(MAX_CANDIDATES) {
                messages.push(Message::Candidates { track, epoch, nonces: part.to_vec() });
            }
        }
        messages
    }
}

/// Where a nonce is in the list of a stretch.
fn place(nonce: u64, (_, epoch): Key) -> u64 {
    mix(nonce ^ mix(epoch))
}

/// The place of a peer in the order for one segment: everyone computes the same.
pub(crate) fn rank(nonce: u64, id: SegmentId) -> u64 {
    mix(nonce ^ mix(id.track.0 ^ mix(id.seq.0)))
}

impl Engine {
    /// Stands for election in the stretch that the player is in.
    pub(crate) fn stand(&mut self) {
        if !self.config.uploads || self.config.role == Role::Seed {
            return;
        }
        let latest = [MediaKind::Main, MediaKind::Audio].map(|kind| self.latest.get(&kind).copied());
        for id in latest.into_iter().flatten() {
            if self.timeline.is_live(id.track) {
                self.candidates.note((id.track, id.seq.0 / STRETCH), self.nonce);
            }
        }
    }

    /// Whether this peer is a candidate for a live segment that is known to be there.
    pub(crate) fn is_candidate(&self, id: SegmentId) -> bool {
        self.timeline.is_live(id.track)
            && self.catalogue.get(id).is_some()
            && self.candidates.turn(id, self.nonce).1.is_some()
    }

    pub(crate) fn on_candidates(&mut self, track: TrackId, epoch: u64, nonces: &[u64]) {
        // Of another track, or a time far from the live edge, they are of no use to anyone here.
        let edge = self.timeline.last(track).map(|last| last.0 / STRETCH);
        if edge.is_none_or(|edge| edge.abs_diff(epoch) > MAX_APART) || !self.timeline.is_live(track) {
            return;
        }
        for nonce in nonces {
            self.candidates.note((track, epoch), *nonce);
        }
    }

    /// Passes on candidates that were not known before. They serve in the next stretch: there is time to gather them, and
    /// what was news may have been outdone by then.
    pub(crate) fn flush_candidates(&mut self) {
        if self.candidates.news.is_empty() {
            return;
        }
        let due = *self.candidates.due.get_or_insert(self.now + GATHER);
        if due > self.now {
            return self.wake_at(due);
        }
        self.candidates.due = None;
        let mut news = core::mem::take(&mut self.candidates.news);
        let lists = &self.candidates.lists;
        news.retain(|key, nonces| {
            nonces.retain(|nonce| lists.get(key).is_some_and(|list| list.contains_key(&place(*nonce, *key))));
            !nonces.is_empty()
        });
        self.tell_viewers(&Candidates::messages(&news));
    }

    /// Tells a new neighbour all candidates known.
    pub(crate) fn tell_candidates(&mut self, peer: PeerId) {
        let lists = self.candidates.lists.iter();
        let all = lists.map(|(key, list)| (key, list.values().copied().collect())).collect();
        for message in Candidates::messages(&all) {
            self.send(peer, &message);
        }
    }
}
