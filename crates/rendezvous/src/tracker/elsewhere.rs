//! The tracker's part in a cluster: offers for peers on other nodes, and the answers to them.

use std::collections::BTreeMap;

use super::core::Tracker;
use super::message::{Announce, Answer};
use super::reply;
use super::swarm::Swarm;
use crate::cluster::{Directory, Figures, NodeId, NodeMessage, Offered, SwarmHash, Told};
use crate::time::Now;

impl Tracker {
    /// Tells the other nodes what is here of a swarm.
    pub(super) fn tell_nodes(&self, info_hash: &super::Binary, now: Now, nodes: &mut Directory) {
        if !nodes.is_used() {
            return;
        }
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let own = self.swarms.get(info_hash).map(Swarm::figures).map(|figures| Figures {
            viewers: count(figures.incomplete),
            seeds: count(figures.complete),
            downloaded: figures.downloaded,
            ..Figures::default()
        });
        nodes.put(now, SwarmHash::of_info_hash(info_hash), own);
    }

    /// Hands the peers on other nodes their share of an announce's offers, as if all were drawn from one urn; returns how many
    /// of the `wanted` ones are for peers here. Those are the first ones.
    pub(super) fn share_offers(&mut self, wanted: usize, announce: &Announce<'_>, nodes: &mut Directory) -> usize {
        if !nodes.is_used() || wanted == 0 {
            return wanted;
        }
        let mut elsewhere: BTreeMap<NodeId, u64> = nodes
            .nodes_of(&SwarmHash::of_info_hash(&announce.info_hash))
            .map(|(node, figures)| (node, figures.members()))
            .collect();
        let swarm = self.swarms.get(&announce.info_hash);
        let mut here = swarm
            .map_or(0, |swarm| swarm.len().saturating_sub(usize::from(swarm.peer(&announce.peer_id).is_some())) as u64);
        let mut for_here = 0;
        let mut for_nodes: BTreeMap<NodeId, usize> = BTreeMap::new();
        for _ in 0..wanted {
            let left = here + elsewhere.values().sum::<u64>();
            let mut lot = self.rng.below(usize::try_from(left).unwrap_or(usize::MAX)) as u64;
            if left == 0 {
                break;
            }
            if lot < here {
                here -= 1;
                for_here += 1;
                continue;
            }
            lot -= here;
            for (node, members) in &mut elsewhere {
                if lot < *members {
                    *members -= 1;
                    *for_nodes.entry(*node).or_default() += 1;
                    break;
                }
                lot -= *members;
            }
        }
        let mut rest = announce.offers.iter().skip(for_here);
        for (node, count) in for_nodes {
            let offers: Vec<Offered> = rest
                .by_ref()
                .take(count)
                .map(|offer| Offered { id: offer.offer_id.to_owned(), offer: offer.offer.to_owned() })
                .collect();
            self.counts.offers += offers.len() as u64;
            let (info_hash, peer_id) = (announce.info_hash, announce.peer_id);
            nodes.tell(Told::Node(node), NodeMessage::Offers { info_hash, peer_id, offers });
        }
        for_here
    }

    /// Sends an answer to the node from which the offer came, if there was one.
    pub(super) fn answer_elsewhere(&mut self, answer: &Answer<'_>, nodes: &mut Directory) {
        let Answer { info_hash, peer_id, to_peer_id, offer_id, answer } = *answer;
        let Some(node) = self.swarms.get(&info_hash).and_then(|swarm| swarm.node_of(&to_peer_id)) else { return };
        self.counts.answers += 1;
        let (offer_id, answer) = (offer_id.to_owned(), answer.to_owned());
        nodes.tell(Told::Node(node), NodeMessage::Answer { info_hash, peer_id, to_peer_id, offer_id, answer });
    }

    /// Takes a message of another node. Drain [`Self::poll_output`] afterwards.
    pub fn handle_node(&mut self, from: NodeId, message: &NodeMessage) {
        self.clear();
        match message {
            NodeMessage::Offers { info_hash, peer_id, offers } => {
                let Some(swarm) = self.swarms.get_mut(info_hash) else { return };
                swarm.remember_offerer(*peer_id, from);
                let (texts, outputs) = (&mut self.texts, &mut self.outputs);
                swarm.draw(peer_id, offers.len(), &mut self.rng, |nth, peer| {
                    let Some(offer) = offers.get(nth) else { return };
                    reply::forwarded(texts, info_hash, peer_id, offer.id.get(), "offer", offer.offer.get());
                    outputs.push((peer.conn, texts.len()));
                });
            }
            NodeMessage::Answer { info_hash, peer_id, to_peer_id, offer_id, answer } => {
                let target = self.swarms.get(info_hash).and_then(|swarm| swarm.peer(to_peer_id)).map(|peer| peer.conn);
                if let Some(conn) = target {
                    reply::forwarded(&mut self.texts, info_hash, peer_id, offer_id.get(), "answer", answer.get());
                    self.outputs.push((conn, self.texts.len()));
                }
            }
            _ => {}
        }
    }
}
