//! The peers of one WebTorrent swarm.

use std::collections::{BTreeMap, VecDeque};

use super::binary::Binary;
use super::reply::Figures;
use crate::cluster::NodeId;
use crate::io::ConnId;
use crate::rng::Rng;

/// One peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) id: Binary,
    pub(super) conn: ConnId,
    is_seeder: bool,
}

/// Everyone on one info hash.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    /// In no order, so that one is drawn in constant time.
    peers: Vec<Peer>,
    places: BTreeMap<Binary, usize>,
    seeders: usize,
    downloaded: u64,
    /// Nodes of peers that offered from there, for the answers; the latest last.
    offerers: VecDeque<(Binary, NodeId)>,
}

impl Swarm {
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn peer(&self, id: &Binary) -> Option<&Peer> {
        self.places.get(id).and_then(|&place| self.peers.get(place))
    }

    /// Remembers where a peer is that offered from another node.
    pub(super) fn remember_offerer(&mut self, id: Binary, node: NodeId) {
        /// Enough for the offers of a second in the busiest swarm; answers come within one.
        const MOST_REMEMBERED: usize = 4096;
        if self.offerers.len() >= MOST_REMEMBERED {
            self.offerers.pop_front();
        }
        self.offerers.push_back((id, node));
    }

    /// The node of a peer that offered from elsewhere.
    pub(super) fn node_of(&self, id: &Binary) -> Option<NodeId> {
        self.offerers.iter().rev().find(|(offerer, _)| offerer == id).map(|(_, node)| *node)
    }

    pub(super) fn figures(&self) -> Figures {
        let incomplete = self.peers.len().saturating_sub(self.seeders);
        Figures { complete: self.seeders, incomplete, downloaded: self.downloaded }
    }

    /// Adds a peer, or makes it the one of this connection; says whose it was until now.
    pub(super) fn put(&mut self, id: Binary, conn: ConnId, is_seeder: bool) -> Option<ConnId> {
        let place = *self.places.entry(id).or_insert(self.peers.len());
        let old = match self.peers.get_mut(place) {
            Some(peer) => {
                self.seeders -= usize::from(peer.is_seeder);
                peer.is_seeder = is_seeder;
                Some(std::mem::replace(&mut peer.conn, conn))
            }
            None => {
                self.peers.push(Peer { id, conn, is_seeder });
                None
            }
        };
        self.seeders += usize::from(is_seeder);
        old
    }

    /// Counts a peer as having all of it, once.
    pub(super) fn complete(&mut self, id: &Binary) {
        if let Some(peer) = self.places.get(id).and_then(|&place| self.peers.get_mut(place))
            && !peer.is_seeder
        {
            peer.is_seeder = true;
            self.seeders += 1;
            self.downloaded = self.downloaded.saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, id: &Binary) {
        let Some(place) = self.places.remove(id) else { return };
        let gone = self.peers.swap_remove(place);
        self.seeders -= usize::from(gone.is_seeder);
        if let Some(moved) = self.peers.get(place) {
            self.places.insert(moved.id, place);
        }
    }

    /// Calls `take` with up to `count` distinct peers other than `of`, by lot; returns how many there were.
    pub(super) fn draw(&self, of: &Binary, count: usize, rng: &mut Rng, mut take: impl FnMut(usize, &Peer)) -> usize {
        let own = self.places.get(of).copied();
        let others = self.peers.len() - usize::from(own.is_some());
        let count = count.min(others);
        if count == 0 {
            return 0;
        }
        // Floyd's way of drawing distinct numbers: as many draws as are wanted. The list is short, so it is searched.
        let mut drawn = [0_usize; Self::MOST_DRAWN];
        let count = count.min(Self::MOST_DRAWN);
        for nth in 0..count {
            let most = others - count + nth;
            let lot = rng.below(most + 1);
            let lot = if drawn[..nth].contains(&lot) { most } else { lot };
            drawn[nth] = lot;
            // The numbers leave the peer itself out.
            let place = lot + usize::from(own.is_some_and(|own| lot >= own));
            if let Some(peer) = self.peers.get(place) {
                take(nth, peer);
            }
        }
        count
    }

    /// Most that one call of [`Self::draw`] gives.
    pub(super) const MOST_DRAWN: usize = 128;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Binary {
        Binary([n; 20])
    }

    #[test]
    fn draws_are_distinct_and_leave_the_asker_out_and_reach_everyone() {
        let mut rng = Rng::new(3);
        let mut swarm = Swarm::default();
        for n in 0..10 {
            assert_eq!(swarm.put(id(n), ConnId(u64::from(n)), false), None);
        }
        let mut seen = [0_u32; 10];
        for _ in 0..2000 {
            let mut drawn = Vec::new();
            assert_eq!(swarm.draw(&id(4), 3, &mut rng, |_, peer| drawn.push(peer.id)), 3);
            for id in &drawn {
                seen[usize::from(id.0[0])] += 1;
            }
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), 3);
        }
        assert_eq!(seen[4], 0);
        // 6000 draws over nine peers.
        assert!(seen.iter().enumerate().all(|(n, count)| n == 4 || (500..850).contains(count)), "{seen:?}");
        assert_eq!(swarm.draw(&id(4), 100, &mut rng, |_, _| {}), 9);
        assert_eq!(swarm.draw(&id(99), 100, &mut rng, |_, _| {}), 10);
    }

    #[test]
    fn figures_follow_every_change() {
        let mut swarm = Swarm::default();
        swarm.put(id(1), ConnId(1), false);
        swarm.put(id(2), ConnId(2), true);
        swarm.complete(&id(1));
        swarm.complete(&id(1));
        assert_eq!(swarm.figures(), Figures { complete: 2, incomplete: 0, downloaded: 1 });
        assert_eq!(swarm.put(id(1), ConnId(3), false), Some(ConnId(1)));
        assert_eq!(swarm.figures(), Figures { complete: 1, incomplete: 1, downloaded: 1 });
        swarm.remove(&id(2));
        swarm.remove(&id(2));
        assert_eq!((swarm.figures().complete, swarm.len()), (0, 1));
        assert_eq!(swarm.peer(&id(1)).map(|peer| peer.conn), Some(ConnId(3)));
    }
}
