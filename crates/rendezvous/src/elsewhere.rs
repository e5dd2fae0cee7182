//! The core's part in a cluster: neighbours on other nodes are sought, found and kept books of.
//!
//! Whoever seeks has the last word: the other node only keeps a place, and tells nobody until it is accepted. So two nodes that
//! find each other's members at the same moment do not both wait for an offer: the lower node's seeking stands.

use std::collections::BTreeMap;

use headwater_wire::signal::{ServerMessage, SignalData};
use headwater_wire::{PeerId, Role};

use crate::cluster::{Change, Directory, Figures, NodeId, NodeMessage, SwarmHash, Told};
use crate::config::{
    MAX_CONNECTED, MAX_TRIED, SEED_GREETING, SEED_GREETS_NODES, SEEK_AGAIN, SEEK_AT_LAST, SEEKS_AT_ONCE,
};
use crate::io::Output;
use crate::pairing::{self, Chance, Stranger};
use crate::rendezvous::{Rendezvous, SwarmKey, check_signal};
use crate::swarm::Member;
use crate::time::{Duration, Now};
use crate::watching::Watching;

impl Rendezvous {
    /// What is known of the other nodes.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The same, for the caller that carries messages between nodes, and for the tracker that shares it.
    pub const fn directory_mut(&mut self) -> &mut Directory {
        &mut self.directory
    }

    /// A swarm is to be told of at the end of this input.
    pub(crate) fn has_changed(&mut self, key: SwarmKey) {
        if self.config.node.is_some() {
            self.changed.insert(key);
        }
    }

    pub(crate) fn tell_of_changes(&mut self, now: Now) {
        while let Some(key) = self.changed.pop_first() {
            if let Some(swarm) = self.swarms.get(&key) {
                self.directory.put(now, swarm.hash, Some(swarm.figures()));
            }
        }
    }

    /// The last member of a swarm is gone.
    pub(crate) fn emptied(&mut self, key: SwarmKey) {
        self.changed.remove(&key);
        let Some(swarm) = self.swarms.remove(&key) else { return };
        if let Some(at) = swarm.seek_at {
            self.seeks.remove(&(at, key));
        }
        if self.config.node.is_some() {
            self.directory.put(Now(0), swarm.hash, None);
        }
    }

    /// Does what is due: looks who lives, and seeks again.
    pub(crate) fn tick(&mut self, now: Now) {
        for node in self.directory.tick(now) {
            self.node_gone(node);
        }
        while let Some(&(at, key)) = self.seeks.first()
            && at <= now
        {
            self.seeks.pop_first();
            let Some(swarm) = self.swarms.get_mut(&key) else { continue };
            swarm.seek_at = None;
            swarm.seek_again = Duration(swarm.seek_again.0.saturating_mul(2)).min(SEEK_AT_LAST);
            self.seek_for_waiting(now, key);
            self.seek_later(now, key);
        }
    }

    /// Seeks for some of those who wait.
    fn seek_for_waiting(&mut self, now: Now, key: SwarmKey) {
        let start = PeerId(self.rng.next_u64());
        let Some(swarm) = self.swarms.get(&key) else { return };
        let waiting: Vec<PeerId> = swarm.waiting_from(start).take(SEEKS_AT_ONCE).collect();
        for peer in waiting {
            self.seek(now, key, peer, Vec::new());
        }
    }

    /// Comes back to those who wait, where there is somebody elsewhere.
    pub(crate) fn seek_later(&mut self, now: Now, key: SwarmKey) {
        let Some(swarm) = self.swarms.get_mut(&key) else { return };
        if swarm.seek_at.is_none() && swarm.is_waiting() && self.directory.nodes_of(&swarm.hash).next().is_some() {
            let at = now.plus(swarm.seek_again);
            swarm.seek_at = Some(at);
            self.seeks.insert((at, key));
        }
    }

    /// Asks another node for what a member still wants.
    pub(crate) fn seek(&mut self, now: Now, key: SwarmKey, peer: PeerId, tried: Vec<NodeId>) {
        let Some(swarm) = self.swarms.get(&key) else { return };
        let Some(member) = swarm.member(peer) else { return };
        let count = usize::from(member.wants).min(member.room());
        if count == 0 || tried.len() >= MAX_TRIED {
            return;
        }
        let seeds = pairing::seeds_missing(member);
        let (hash, rng) = (swarm.hash, &mut self.rng);
        let mut node = None;
        if seeds > 0 {
            node = self.directory.draw(&hash, rng, &tried, |figures| figures.seeds.into());
        }
        let node = node.or_else(|| self.directory.draw(&hash, rng, &tried, |figures| figures.viewers.into()));
        let Some(node) = node else { return };
        let (count, seeds) = (to_u16(count), to_u16(seeds));
        let (role, place) = (member.role, member.place);
        let position_s = member.watching.and_then(|watching| watching.position_s(now));
        let message = NodeMessage::Seek { swarm: hash, peer, role, place, position_s, count, seeds, tried };
        self.directory.tell(Told::Node(node), message);
    }

    /// A member came, while there are others elsewhere: whoever is connected to it there should know where it is, a seed is
    /// shown around, and what could not be met here is sought there.
    pub(crate) fn came(&mut self, now: Now, key: SwarmKey, peer: PeerId, came_back: bool, connected: &[PeerId]) {
        let Some(swarm) = self.swarms.get_mut(&key) else { return };
        let Some(member) = swarm.member(peer) else { return };
        let (hash, role, place) = (swarm.hash, member.role, member.place);
        let connected: Vec<PeerId> =
            connected.iter().copied().filter(|neighbour| swarm.member(*neighbour).is_none()).collect();
        swarm.claim(now, peer, &connected);
        if came_back {
            let message = NodeMessage::Claim { swarm: hash, peer, role, connected };
            self.directory.tell(Told::Swarm(hash), message);
        }
        if role == Role::Seed {
            let with_viewers = |(node, figures): (NodeId, &Figures)| (figures.viewers > 0).then_some(node);
            let nodes: Vec<NodeId> =
                self.directory.nodes_of(&hash).filter_map(with_viewers).take(SEED_GREETS_NODES).collect();
            let count = to_u16((SEED_GREETING / nodes.len().max(1)).max(1));
            for node in nodes {
                let tried = Vec::new();
                let (position_s, seeds) = (None, 0);
                let message = NodeMessage::Seek { swarm: hash, peer, role, place, position_s, count, seeds, tried };
                self.directory.tell(Told::Node(node), message);
            }
        } else {
            self.seek(now, key, peer, Vec::new());
        }
        self.seek_later(now, key);
    }

    /// A member is gone: its neighbours on other nodes have a place free.
    pub(crate) fn left(&mut self, swarm: SwarmHash, peer: PeerId, member: &Member) {
        let mut by_node: BTreeMap<NodeId, Vec<PeerId>> = BTreeMap::new();
        for (other, pair) in &member.pairs {
            if let Some(node) = pair.node {
                by_node.entry(node).or_default().push(*other);
            }
        }
        for (node, others) in by_node {
            self.directory.tell(Told::Node(node), NodeMessage::Unpaired { swarm, peer, others, lost: false });
        }
    }

    fn node_gone(&mut self, node: NodeId) {
        for swarm in self.swarms.values_mut() {
            swarm.forget_node(node);
        }
    }

    /// Another node said something.
    pub(crate) fn heard(&mut self, now: Now, from: NodeId, message: NodeMessage) {
        if self.config.node.is_none_or(|own| own == from) {
            return;
        }
        let change = self.directory.heard(now, from, &message);
        match change {
            Change::Nothing => {}
            Change::Gone(node) => self.node_gone(node),
            Change::Grew(hash) => {
                if let Some(&key) = self.hashes.get(&hash) {
                    self.swarms.get_mut(&key).into_iter().for_each(|swarm| swarm.seek_again = SEEK_AGAIN);
                    self.seek_for_waiting(now, key);
                    self.seek_later(now, key);
                }
            }
        }
        match message {
            NodeMessage::Seek { swarm, peer, role, place, position_s, count, seeds, tried } => {
                let watching = position_s.map(|position_s| Watching::told(None, now, position_s));
                let stranger = Stranger { peer, role, place, watching, node: from };
                self.sought(now, swarm, &stranger, count, seeds, tried);
            }
            NodeMessage::Found { swarm, peer, found, count, tried } => {
                self.found(now, from, swarm, peer, found, count, tried);
            }
            NodeMessage::Accept { swarm, peer, role, others } => self.accepted(from, swarm, peer, role, &others),
            NodeMessage::Claim { swarm, peer, role, connected } => {
                self.claimed_elsewhere(now, from, swarm, peer, role, connected);
            }
            NodeMessage::Claimed { swarm, peer, found } => {
                if let Some(swarm) = self.hashes.get(&swarm).and_then(|key| self.swarms.get_mut(key)) {
                    for (other, role) in found.into_iter().take(MAX_CONNECTED) {
                        if swarm.claims(now, peer, other) {
                            swarm.pair_elsewhere(now, peer, other, role, from);
                        }
                    }
                }
            }
            NodeMessage::Signal { swarm, from: sender, to, data, is_searching } => {
                self.signalled(from, swarm, sender, to, data, is_searching);
            }
            NodeMessage::Unpaired { swarm, peer, others, lost } => {
                if let Some(swarm) = self.hashes.get(&swarm).and_then(|key| self.swarms.get_mut(key)) {
                    for other in others.into_iter().take(MAX_CONNECTED) {
                        swarm.unpair_elsewhere(now, other, peer, from, lost);
                    }
                }
            }
            NodeMessage::Gone { swarm, peer, to } => {
                if let Some(swarm) = self.hashes.get(&swarm).and_then(|key| self.swarms.get_mut(key)) {
                    swarm.unpair_elsewhere(now, to, peer, from, false);
                    if let Some(member) = swarm.member(to) {
                        let message = ServerMessage::Gone { peer };
                        self.outputs.push_back(Output::Send { conn: member.conn, message });
                    }
                }
            }
            // These are the directory's and the tracker's.
            NodeMessage::Alive
            | NodeMessage::Leaving
            | NodeMessage::Figures { .. }
            | NodeMessage::Offers { .. }
            | NodeMessage::Answer { .. } => {}
        }
    }

    /// A member of another node seeks neighbours here.
    fn sought(
        &mut self,
        now: Now,
        hash: SwarmHash,
        stranger: &Stranger,
        count: u16,
        seeds: u16,
        mut tried: Vec<NodeId>,
    ) {
        let mut found = Vec::new();
        if let Some(swarm) = self.hashes.get(&hash).and_then(|key| self.swarms.get_mut(key)) {
            let count = usize::from(count.min(headwater_wire::limits::MAX_WANT));
            let mut chance = Chance { costs: &self.costs, rng: &mut self.rng, now };
            found = pairing::on_seek(swarm, now, stranger, count, seeds.into(), &mut chance);
        }
        tried.truncate(MAX_TRIED);
        tried.extend(self.config.node);
        let message = NodeMessage::Found { swarm: hash, peer: stranger.peer, found, count, tried };
        self.directory.tell(Told::Node(stranger.node), message);
    }

    /// Another node keeps these places for a member that sought.
    #[allow(clippy::too_many_arguments, reason = "the fields of one message")]
    fn found(
        &mut self,
        now: Now,
        from: NodeId,
        hash: SwarmHash,
        peer: PeerId,
        found: Vec<(PeerId, Role)>,
        count: u16,
        tried: Vec<NodeId>,
    ) {
        let own = self.config.node;
        let none = Vec::new;
        let (mut accepted, mut refused) = (none(), none());
        let mut role = Role::Viewer;
        let key = self.hashes.get(&hash).copied();
        let is_enough = found.len() >= usize::from(count);
        if let Some(swarm) = key.and_then(|key| self.swarms.get_mut(&key)) {
            for (other, other_role) in found.iter().copied().take(headwater_wire::limits::MAX_WANT.into()) {
                // Both sought at once: the lower node has the last word, and the place that is kept here is for it.
                match swarm.pair_at(peer, other, from) {
                    Some(pair) if pair.is_kept && own.is_none_or(|own| own < from) => {
                        swarm.unpair_elsewhere(now, peer, other, from, false);
                    }
                    Some(_) => continue,
                    None => {}
                }
                if !swarm.pair_elsewhere(now, peer, other, other_role, from) {
                    refused.push(other);
                    continue;
                }
                swarm.fulfil_one(peer);
                accepted.push(other);
                if let Some(member) = swarm.member(peer) {
                    role = member.role;
                    // A seed never has to offer.
                    let message = ServerMessage::Connect { peer: other, offer: role == Role::Viewer, role: other_role };
                    self.counts.introductions += 1;
                    self.outputs.push_back(Output::Send { conn: member.conn, message });
                }
            }
        } else {
            refused = found.iter().map(|(other, _)| *other).collect();
        }
        if !accepted.is_empty() {
            self.directory.tell(Told::Node(from), NodeMessage::Accept { swarm: hash, peer, role, others: accepted });
        }
        if !refused.is_empty() {
            let message = NodeMessage::Unpaired { swarm: hash, peer, others: refused, lost: false };
            self.directory.tell(Told::Node(from), message);
        }
        let Some(key) = key else { return };
        self.settle(now, key, peer);
        if !is_enough && role == Role::Viewer {
            self.seek(now, key, peer, tried);
        }
        self.seek_later(now, key);
    }

    /// What other nodes could not give is looked for here once more: a part of the wish was left open for them.
    fn settle(&mut self, now: Now, key: SwarmKey, peer: PeerId) {
        let Some(swarm) = self.swarms.get_mut(&key) else { return };
        let Some(wants) = swarm.member(peer).map(|member| member.wants).filter(|wants| *wants > 0) else { return };
        let mut chance = Chance { costs: &self.costs, rng: &mut self.rng, now };
        let made = pairing::on_want(swarm, peer, wants, &mut chance);
        self.tell(key, &made);
    }

    /// The places kept here are taken.
    fn accepted(&mut self, from: NodeId, hash: SwarmHash, peer: PeerId, role: Role, others: &[PeerId]) {
        let Some(swarm) = self.hashes.get(&hash).and_then(|key| self.swarms.get_mut(key)) else { return };
        for other in others.iter().take(headwater_wire::limits::MAX_WANT.into()) {
            match swarm.pair_at(*other, peer, from) {
                Some(pair) if pair.is_kept => pair.is_kept = false,
                _ => continue,
            }
            if let Some(member) = swarm.member(*other) {
                let message = ServerMessage::Connect { peer, offer: role == Role::Seed, role };
                self.outputs.push_back(Output::Send { conn: member.conn, message });
            }
        }
    }

    /// A member is on another node now, and says who is connected to it.
    fn claimed_elsewhere(
        &mut self,
        now: Now,
        from: NodeId,
        hash: SwarmHash,
        peer: PeerId,
        role: Role,
        connected: Vec<PeerId>,
    ) {
        let Some(&key) = self.hashes.get(&hash) else { return };
        let old = self.swarms.get(&key).and_then(|swarm| swarm.member(peer)).map(|member| member.conn);
        if let Some(old) = old {
            self.close(old);
        }
        let Some(swarm) = self.swarms.get_mut(&key) else { return };
        let mut found = Vec::new();
        for neighbour in connected.into_iter().take(MAX_CONNECTED) {
            let node = swarm.member(neighbour).and_then(|own| own.pairs.get(&peer)).and_then(|pair| pair.node);
            if let Some(node) = node {
                swarm.unpair_elsewhere(now, neighbour, peer, node, false);
            }
            if swarm.pair_elsewhere(now, neighbour, peer, role, from)
                && let Some(member) = swarm.member(neighbour)
            {
                found.push((neighbour, member.role));
            }
        }
        if !found.is_empty() {
            self.directory.tell(Told::Node(from), NodeMessage::Claimed { swarm: hash, peer, found });
        }
    }

    /// A signal of a member of another node for one that is here.
    fn signalled(
        &mut self,
        node: NodeId,
        hash: SwarmHash,
        from: PeerId,
        to: PeerId,
        data: SignalData,
        is_searching: bool,
    ) {
        let swarm = self.hashes.get(&hash).and_then(|key| self.swarms.get_mut(key));
        if is_searching && swarm.as_ref().is_none_or(|swarm| swarm.member(to).is_none()) {
            return;
        }
        let conn = swarm.and_then(|swarm| {
            let is_paired = swarm.pair_at(to, from, node).is_some_and(|pair| !pair.is_kept);
            swarm.member(to).filter(|_| is_paired).map(|member| member.conn)
        });
        match conn {
            Some(conn) if check_signal(&data).is_ok() => {
                self.outputs.push_back(Output::Send { conn, message: ServerMessage::Signal { from, data } });
            }
            Some(_) => {}
            None => self.directory.tell(Told::Node(node), NodeMessage::Gone { swarm: hash, peer: to, to: from }),
        }
    }
}

fn to_u16(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}
