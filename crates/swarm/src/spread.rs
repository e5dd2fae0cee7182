//! How a seed lets a new live segment into the swarm: each chunk to one viewer first, so that about one copy leaves it and
//! the viewers trade the rest; to everybody a little later, so that nobody depends on that one.

use alloc::vec::Vec;

use headwater_wire::{ChunkId, ChunkIndex, Message, PeerId, Role, SegmentId, SegmentLen};

use crate::engine::Engine;
use crate::map::SortedMap;
use crate::ranges::ChunkSet;
use crate::rng::mix;
use crate::time::{Now, Span};

/// With fewer viewers than this among its neighbours a seed tells everyone at once: there is nothing to trade.
const FEW: usize = 2;

/// How long the viewers have to trade before the seed tells everyone: a segment and a quarter, which leaves a player that is three
/// segments behind the time to get the rest from the seed; and no longer than this.
const HEAD_START: Span = Span::from_secs(3);

/// Those who were told of a chunk ask for it within this time. Who does not has left, is paused, or watches another rendition:
/// another is told.
const ASKED_WITHIN: Span = Span::from_millis(400);

/// A live segment that is being let in.
#[derive(Debug)]
pub(crate) struct LetIn {
    id: SegmentId,
    /// How often viewers were drawn for its chunks, and when to look whether they have asked.
    draws: usize,
    look_at: Now,
    /// When everyone is told.
    due: Now,
}

/// Live segments that are being let in.
pub(crate) type Spreading = Vec<LetIn>;

impl Engine {
    /// Announces a segment that has just become complete.
    pub(crate) fn publish(&mut self, id: SegmentId) {
        let lets_in = self.config.role == Role::Seed && self.config.uploads && self.timeline.is_live(id.track);
        if !lets_in || self.givers().count() < FEW {
            return self.announce_whole(id);
        }
        let duration = self.timeline.duration(id).unwrap_or(HEAD_START);
        let due = self.now + (duration * 5 / 4).min(HEAD_START);
        self.spreading.push(LetIn { id, draws: 0, look_at: self.now, due });
    }

    /// Viewers that pass on what they are given, and their nonces.
    fn givers(&self) -> impl Iterator<Item = (PeerId, u64)> {
        let givers = self.ready().filter(|(_, neighbour)| !neighbour.is_seed() && neighbour.gives());
        givers.map(|(peer, neighbour)| (peer, neighbour.hello.as_ref().map_or(0, |hello| hello.nonce)))
    }

    /// Tells of segments that are being let in what is due: to a few at first, to everyone in the end.
    pub(crate) fn spread(&mut self) {
        let now = self.now;
        let mut spreading = core::mem::take(&mut self.spreading);
        spreading.retain_mut(|let_in| {
            if let_in.due <= now {
                if self.segments.contains_key(&let_in.id) {
                    self.announce_whole(let_in.id);
                }
                return false;
            }
            if let_in.look_at <= now {
                self.draw(let_in.id, let_in.draws);
                let_in.draws += 1;
                let_in.look_at = now + ASKED_WITHIN;
            }
            self.wake_at(let_in.look_at.min(let_in.due));
            true
        });
        self.spreading = spreading;
    }

    /// Tells one viewer of each chunk that nobody has asked for: the first in an order of the chunk's own, then the second …
    fn draw(&mut self, id: SegmentId, draws: usize) {
        let Some(segment) = self.segments.get(&id) else { return };
        let count = segment.len.map_or(0, SegmentLen::chunk_count);
        let mut parts: SortedMap<PeerId, ChunkSet> = SortedMap::default();
        for index in (0..count).map(ChunkIndex) {
            let chunk = ChunkId { segment: id, index };
            let was_sent = segment.sent.get(index.0 as usize).is_some_and(|times| *times > 0);
            if was_sent || self.neighbours.values().any(|neighbour| neighbour.wants.contains_key(&chunk)) {
                continue;
            }
            let lot = |nonce: u64| mix(nonce ^ mix(id.track.0 ^ mix(id.seq.0 ^ mix(u64::from(index.0)))));
            let drawn: SortedMap<u64, PeerId> = self.givers().map(|(peer, nonce)| (lot(nonce), peer)).collect();
            if let Some(peer) = drawn.values().nth(draws % drawn.len().max(1)) {
                parts.or_default(*peer).insert(index);
            }
        }
        for (peer, chunks) in parts {
            self.send(peer, &Message::HaveChunks { segment: id, chunks: chunks.ranges() });
        }
    }

    pub(crate) fn is_spreading(&self, id: SegmentId) -> bool {
        self.spreading.iter().any(|let_in| let_in.id == id)
    }
}
