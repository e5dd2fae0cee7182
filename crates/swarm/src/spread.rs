//! How a seed lets a new live segment into the swarm: each chunk to one viewer first, so that about one copy leaves it and
//! the viewers trade the rest; to everybody a little later, so that nobody depends on that one.

use alloc::vec::Vec;

use headwater_wire::{ChunkIndex, Message, PeerId, Role, SegmentId, SegmentLen};

use crate::engine::Engine;
use crate::map::SortedMap;
use crate::ranges::ChunkSet;
use crate::rng::mix;
use crate::time::{Now, Span};

/// With fewer viewers than this among its neighbours a seed tells everyone at once: there is nothing to trade.
const FEW: usize = 2;

/// How long the viewers have to trade before the seed tells everyone.
const HEAD_START: Span = Span::from_millis(2500);

/// Live segments that are being let in, and when everyone is told.
pub(crate) type Spreading = Vec<(Now, SegmentId)>;

impl Engine {
    /// Announces a segment that has just become complete.
    pub(crate) fn publish(&mut self, id: SegmentId) {
        let seed = self.config.role == Role::Seed && self.timeline.is_live(id.track);
        let viewers: Vec<(PeerId, u64)> = self
            .ready()
            .filter(|(_, neighbour)| seed && !neighbour.is_seed() && neighbour.gives())
            .map(|(peer, neighbour)| (peer, neighbour.hello.as_ref().map_or(0, |hello| hello.nonce)))
            .collect();
        let count = self.segments.get(&id).and_then(|segment| segment.len).map_or(0, SegmentLen::chunk_count);
        if viewers.len() < FEW || !self.config.uploads {
            return self.announce_whole(id);
        }
        let mut parts: SortedMap<PeerId, ChunkSet> = SortedMap::default();
        for index in (0..count).map(ChunkIndex) {
            let lot = |nonce: u64| mix(nonce ^ mix(id.track.0 ^ mix(id.seq.0 ^ mix(u64::from(index.0)))));
            if let Some((peer, _)) = viewers.iter().min_by_key(|(_, nonce)| lot(*nonce)) {
                parts.or_default(*peer).insert(index);
            }
        }
        for (peer, chunks) in parts {
            self.send(peer, &Message::HaveChunks { segment: id, chunks: chunks.ranges() });
        }
        self.spreading.push((self.now + HEAD_START, id));
    }

    /// Tells everyone of segments that have been let in long enough.
    pub(crate) fn finish_spreading(&mut self) {
        let now = self.now;
        let due: Vec<SegmentId> = self.spreading.iter().filter(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        self.spreading.retain(|(at, _)| *at > now);
        for id in due {
            if self.segments.contains_key(&id) {
                self.announce_whole(id);
            }
        }
        if let Some(next) = self.spreading.iter().map(|(at, _)| *at).min() {
            self.wake_at(next);
        }
    }

    pub(crate) fn is_spreading(&self, id: SegmentId) -> bool {
        self.spreading.iter().any(|(_, other)| *other == id)
    }
}
