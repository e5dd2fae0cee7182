//! The members of one swarm and their pairings. Keeps the books; whom to pair is decided in `pairing`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use headwater_wire::signal::StatsReport;
use headwater_wire::{PeerId, Role, SwarmName};

use crate::cluster::{Figures, NodeId, SwarmHash};
use crate::config::{
    CLAIM_STANDS, CONNECTS_WITHIN, HARD_MISSES, MAX_LOST, MAX_SEARCHING, MAX_SEED_PAIRS, MAX_VIEWER_PAIRS, SEEK_AGAIN,
};
use crate::io::ConnId;
use crate::place::Place;
use crate::sums::Sums;
use crate::time::{Duration, Now};
use crate::watching::Watching;

/// The other side of a pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) role: Role,
    /// Its node, where that is another.
    pub(crate) node: Option<NodeId>,
    /// A place that is kept for it; neither side has been told.
    pub(crate) is_kept: bool,
    since: Now,
}

impl Pair {
    /// Whether it is as old as no connection is that came to nothing.
    fn lasts(&self, now: Now) -> bool {
        !self.is_kept && now.since(self.since) >= CONNECTS_WITHIN
    }
}

/// Neighbours that other nodes may have, while it is not known which.
#[derive(Debug)]
struct Claim {
    peers: Vec<PeerId>,
    until: Now,
    /// Messages that may still go to all nodes.
    searches: u16,
}

/// One peer while it is connected.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) conn: ConnId,
    pub(crate) role: Role,
    pub(crate) place: Place,
    /// Neighbours it asked for and has not been given.
    pub(crate) wants: u16,
    /// Whom it is paired with, and what they are.
    pub(crate) pairs: BTreeMap<PeerId, Pair>,
    /// Whom it said to be connected to when it came, and who was not here. Other nodes may have them.
    claimed: Option<Box<Claim>>,
    /// Whom it lost, latest last.
    pub(crate) lost: VecDeque<PeerId>,
    /// Pairings that came to nothing, and those that lasted and are over.
    misses: u32,
    met: u32,
    /// Where in content on demand it said it is.
    pub(crate) watching: Option<Watching>,
    /// What it said it carried.
    stats: StatsReport,
    /// Its index in `viewers` or `seeds`.
    index: usize,
}

impl Member {
    /// How many more pairings it may have.
    pub(crate) fn room(&self) -> usize {
        let most = match self.role {
            Role::Viewer => MAX_VIEWER_PAIRS,
            Role::Seed => MAX_SEED_PAIRS,
        };
        most.saturating_sub(self.pairs.len())
    }

    /// Whether it has taken much from others and given back little. One that has not taken much yet is none.
    pub(crate) fn is_taker(&self) -> bool {
        /// Below this, nothing can be said: a minute of video at 1 Mbit/s.
        const ENOUGH: u64 = 8 << 20;
        let taken = self.stats.seed_bytes.saturating_add(self.stats.viewer_bytes);
        taken > ENOUGH && self.stats.uploaded_bytes < taken / 4
    }

    /// Whether most of its connections come to nothing, as they do behind some address translators.
    pub(crate) fn is_hard_to_reach(&self, now: Now) -> bool {
        self.misses >= HARD_MISSES && self.misses > self.met.saturating_add(self.lasting(now))
    }

    fn lasting(&self, now: Now) -> u32 {
        u32::try_from(self.pairs.values().filter(|pair| pair.lasts(now)).count()).unwrap_or(u32::MAX)
    }

    /// Counts a pairing that is over.
    fn remember(&mut self, now: Now, pair: Pair, is_lost: bool) {
        if pair.lasts(now) {
            self.met = self.met.saturating_add(1);
        } else if is_lost {
            self.misses = self.misses.saturating_add(1);
        }
    }

    fn remember_lost(&mut self, other: PeerId) {
        if self.lost.len() >= MAX_LOST {
            self.lost.pop_front();
        }
        self.lost.push_back(other);
    }

    pub(crate) fn seed_pairs(&self) -> usize {
        self.pairs.values().filter(|pair| pair.role == Role::Seed).count()
    }
}

/// Everyone on one piece of content.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) name: SwarmName,
    pub(crate) hash: SwarmHash,
    /// When those who wait are sought neighbours for on other nodes again.
    pub(crate) seek_at: Option<Now>,
    pub(crate) seek_again: Duration,
    /// Places kept for peers of other nodes, with the member that keeps it, oldest first.
    kept: VecDeque<(Now, PeerId, PeerId)>,
    carried: Sums,
    members: BTreeMap<PeerId, Member>,
    viewers: Vec<PeerId>,
    seeds: Vec<PeerId>,
    /// Those with an unfulfilled wish.
    waiting: BTreeSet<PeerId>,
}

impl Swarm {
    pub(crate) fn new(name: SwarmName) -> Self {
        Self {
            hash: SwarmHash::of_name(&name),
            name,
            seek_at: None,
            seek_again: SEEK_AGAIN,
            kept: VecDeque::new(),
            carried: Sums::default(),
            members: BTreeMap::new(),
            viewers: Vec::new(),
            seeds: Vec::new(),
            waiting: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn member(&self, peer: PeerId) -> Option<&Member> {
        self.members.get(&peer)
    }

    /// How much of it is here.
    pub(crate) fn figures(&self) -> Figures {
        let count = |list: &Vec<PeerId>| u32::try_from(list.len()).unwrap_or(u32::MAX);
        Figures {
            viewers: count(&self.viewers),
            seeds: count(&self.seeds),
            downloaded: 0,
            carried: self.carried.report(),
        }
    }

    /// The members of one role, in no particular but a repeatable order.
    pub(crate) fn of_role(&self, role: Role) -> &[PeerId] {
        match role {
            Role::Viewer => &self.viewers,
            Role::Seed => &self.seeds,
        }
    }

    /// Whether anybody has an unfulfilled wish.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Those with an unfulfilled wish, from `start` on and around.
    pub(crate) fn waiting_from(&self, start: PeerId) -> impl Iterator<Item = PeerId> + '_ {
        self.waiting.range(start..).chain(self.waiting.range(..start)).copied()
    }

    /// Adds a member. False, and nothing happens, where the name is taken.
    pub(crate) fn insert(&mut self, peer: PeerId, conn: ConnId, role: Role, at: Place) -> bool {
        if self.members.contains_key(&peer) {
            return false;
        }
        let list = self.list_mut(role);
        let index = list.len();
        list.push(peer);
        let member = Member {
            conn,
            role,
            place: at,
            wants: 0,
            pairs: BTreeMap::new(),
            claimed: None,
            lost: VecDeque::new(),
            misses: 0,
            met: 0,
            watching: None,
            stats: StatsReport::default(),
            index,
        };
        self.members.insert(peer, member);
        true
    }

    /// Takes a member out, with its pairings.
    pub(crate) fn remove(&mut self, peer: PeerId) -> Option<Member> {
        let member = self.members.remove(&peer)?;
        self.waiting.remove(&peer);
        self.carried.subtract(&member.stats);
        for other in member.pairs.keys() {
            if let Some(other) = self.members.get_mut(other)
                && other.pairs.remove(&peer).is_some()
            {
                // Nobody said that it came to nothing.
                other.met = other.met.saturating_add(1);
            }
        }
        let list = self.list_mut(member.role);
        list.swap_remove(member.index);
        if let Some(moved) = list.get(member.index).copied()
            && let Some(moved) = self.members.get_mut(&moved)
        {
            moved.index = member.index;
        }
        Some(member)
    }

    /// Whether these two may be paired: two members that are not yet, with room on both sides, not both seeds (a seed
    /// has everything and wants nothing).
    pub(crate) fn may_pair(&self, a: PeerId, b: PeerId) -> bool {
        let (Some(first), Some(second)) = (self.members.get(&a), self.members.get(&b)) else { return false };
        a != b
            && !(first.role == Role::Seed && second.role == Role::Seed)
            && !first.pairs.contains_key(&b)
            && first.room() > 0
            && second.room() > 0
    }

    /// Pairs two members where that is allowed; says whether it did.
    pub(crate) fn pair(&mut self, now: Now, a: PeerId, b: PeerId) -> bool {
        if !self.may_pair(a, b) {
            return false;
        }
        for (one, other) in [(a, b), (b, a)] {
            let role = self.members.get(&other).map(|member| member.role);
            if let (Some(member), Some(role)) = (self.members.get_mut(&one), role) {
                member.pairs.insert(other, Pair { role, node: None, is_kept: false, since: now });
            }
        }
        true
    }

    /// Pairs two members that say that they are connected, also where one of them was on another node until now.
    pub(crate) fn pair_again(&mut self, now: Now, came: PeerId, neighbour: PeerId) {
        if let Some(member) = self.members.get_mut(&neighbour)
            && member.pairs.get(&came).is_some_and(|pair| pair.node.is_some())
        {
            member.pairs.remove(&came);
        }
        self.pair(now, came, neighbour);
    }

    /// Remembers for a while whom a member is connected to that is not here.
    pub(crate) fn claim(&mut self, now: Now, peer: PeerId, elsewhere: &[PeerId]) {
        if let Some(member) = self.members.get_mut(&peer).filter(|_| !elsewhere.is_empty()) {
            let (until, searches) = (now.plus(CLAIM_STANDS), MAX_SEARCHING);
            member.claimed = Some(Box::new(Claim { peers: elsewhere.to_vec(), until, searches }));
        }
    }

    /// Whether a member claims to be connected to this peer.
    pub(crate) fn claims(&mut self, now: Now, own: PeerId, other: PeerId) -> bool {
        self.claim_of(now, own, other).is_some()
    }

    /// Whether a member may send one more message to this peer wherever it is; counts it if so.
    pub(crate) fn may_search(&mut self, now: Now, own: PeerId, other: PeerId) -> bool {
        let Some(claim) = self.claim_of(now, own, other) else { return false };
        let left = claim.searches.checked_sub(1);
        claim.searches = left.unwrap_or(0);
        left.is_some()
    }

    fn claim_of(&mut self, now: Now, own: PeerId, other: PeerId) -> Option<&mut Claim> {
        let member = self.members.get_mut(&own)?;
        if member.claimed.as_ref().is_some_and(|claim| claim.until <= now) {
            member.claimed = None;
        }
        member.claimed.as_deref_mut().filter(|claim| claim.peers.contains(&other))
    }

    /// Whether a member may be paired with this peer of another node.
    pub(crate) fn may_pair_elsewhere(&self, own: PeerId, other: PeerId, role: Role) -> bool {
        self.members.get(&own).is_some_and(|member| {
            (member.role != Role::Seed || role != Role::Seed)
                && !member.pairs.contains_key(&other)
                && member.room() > 0
                && !self.members.contains_key(&other)
        })
    }

    /// Pairs a member with a peer of another node where that is allowed; says whether it did.
    pub(crate) fn pair_elsewhere(&mut self, now: Now, own: PeerId, other: PeerId, role: Role, node: NodeId) -> bool {
        let may = self.may_pair_elsewhere(own, other, role);
        if let Some(member) = self.members.get_mut(&own).filter(|_| may) {
            member.pairs.insert(other, Pair { role, node: Some(node), is_kept: false, since: now });
            if let Some(claim) = &mut member.claimed {
                claim.peers.retain(|claimed| *claimed != other);
            }
        }
        may
    }

    /// Keeps a place for a peer of another node. Places that nobody took by `now` are free again.
    pub(crate) fn keep_place(&mut self, now: Now, own: PeerId, other: PeerId, role: Role, node: NodeId) {
        /// Longer than any answer takes: whoever sought has asked elsewhere by then.
        const KEPT_FOR: Duration = Duration::from_secs(10);
        while let Some(&(until, own, other)) = self.kept.front()
            && until <= now
        {
            self.kept.pop_front();
            if let Some(member) = self.members.get_mut(&own)
                && member.pairs.get(&other).is_some_and(|pair| pair.is_kept)
            {
                member.pairs.remove(&other);
            }
        }
        if let Some(member) = self.members.get_mut(&own) {
            member.pairs.insert(other, Pair { role, node: Some(node), is_kept: true, since: now });
            self.kept.push_back((now.plus(KEPT_FOR), own, other));
        }
    }

    /// The pairing of a member with a peer of this node.
    pub(crate) fn pair_at(&mut self, own: PeerId, other: PeerId, node: NodeId) -> Option<&mut Pair> {
        let pair = self.members.get_mut(&own)?.pairs.get_mut(&other)?;
        (pair.node == Some(node)).then_some(pair)
    }

    /// Ends the pairing of a member with a peer of another node, which may have failed.
    pub(crate) fn unpair_elsewhere(&mut self, now: Now, own: PeerId, other: PeerId, node: NodeId, lost: bool) {
        if self.pair_at(own, other, node).is_none() {
            return;
        }
        if let Some(member) = self.members.get_mut(&own) {
            if let Some(pair) = member.pairs.remove(&other) {
                member.remember(now, pair, lost);
            }
            if lost {
                member.remember_lost(other);
            }
        }
    }

    /// Ends all pairings with peers of a node.
    pub(crate) fn forget_node(&mut self, node: NodeId) {
        for member in self.members.values_mut() {
            member.pairs.retain(|_, pair| pair.node != Some(node));
        }
    }

    /// Ends a pairing that failed, and remembers on both sides that it did.
    pub(crate) fn lose(&mut self, now: Now, a: PeerId, b: PeerId) {
        for (one, other) in [(a, b), (b, a)] {
            if let Some(member) = self.members.get_mut(&one)
                && let Some(pair) = member.pairs.remove(&other)
            {
                member.remember(now, pair, true);
                member.remember_lost(other);
            }
        }
    }

    /// Whether a member has met one whose connections mostly come to nothing: others like that can reach it too.
    pub(crate) fn is_easy_to_reach(&self, peer: PeerId, now: Now) -> bool {
        self.members.get(&peer).is_some_and(|member| {
            let mut met = member.pairs.iter().filter(|(_, pair)| pair.lasts(now)).map(|(other, _)| other);
            met.any(|other| self.members.get(other).is_some_and(|other| other.is_hard_to_reach(now)))
        })
    }

    /// Sets how many neighbours a member still waits for.
    pub(crate) fn set_wants(&mut self, peer: PeerId, wants: u16) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        member.wants = wants;
        if wants > 0 {
            self.waiting.insert(peer);
        } else {
            self.waiting.remove(&peer);
        }
    }

    /// Counts one neighbour as given.
    pub(crate) fn fulfil_one(&mut self, peer: PeerId) {
        let wants = self.members.get(&peer).map_or(0, |member| member.wants);
        self.set_wants(peer, wants.saturating_sub(1));
    }

    /// Remembers where in content on demand a member is.
    pub(crate) fn set_position(&mut self, now: Now, peer: PeerId, position_s: u32) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.watching = Some(Watching::told(member.watching, now, position_s));
        }
    }

    pub(crate) fn set_stats(&mut self, peer: PeerId, stats: StatsReport) {
        if let Some(member) = self.members.get_mut(&peer) {
            self.carried.subtract(&member.stats);
            self.carried.add(&stats);
            member.stats = stats;
        }
    }

    fn list_mut(&mut self, role: Role) -> &mut Vec<PeerId> {
        match role {
            Role::Viewer => &mut self.viewers,
            Role::Seed => &mut self.seeds,
        }
    }
}
