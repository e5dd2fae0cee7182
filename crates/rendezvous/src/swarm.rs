//! The members of one swarm and their pairings. Keeps the books; whom to pair is decided in `pairing`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use headwater_wire::signal::StatsReport;
use headwater_wire::{PeerId, Role, SwarmName};

use crate::config::{MAX_LOST, MAX_SEED_PAIRS, MAX_VIEWER_PAIRS};
use crate::io::ConnId;
use crate::place::Place;

/// One peer while it is connected.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) conn: ConnId,
    pub(crate) role: Role,
    pub(crate) place: Place,
    /// Neighbours it asked for and has not been given.
    pub(crate) wants: u16,
    /// Whom it is paired with, and what they are.
    pub(crate) pairs: BTreeMap<PeerId, Role>,
    /// Whom it lost, latest last.
    pub(crate) lost: VecDeque<PeerId>,
    /// What it said it carried.
    pub(crate) stats: StatsReport,
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

    pub(crate) fn seed_pairs(&self) -> usize {
        self.pairs.values().filter(|role| **role == Role::Seed).count()
    }
}

/// Everyone on one piece of content.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) name: SwarmName,
    members: BTreeMap<PeerId, Member>,
    viewers: Vec<PeerId>,
    seeds: Vec<PeerId>,
    /// Those with an unfulfilled wish.
    waiting: BTreeSet<PeerId>,
}

impl Swarm {
    pub(crate) fn new(name: SwarmName) -> Self {
        Self { name, members: BTreeMap::new(), viewers: Vec::new(), seeds: Vec::new(), waiting: BTreeSet::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn member(&self, peer: PeerId) -> Option<&Member> {
        self.members.get(&peer)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The members of one role, in no particular but a repeatable order.
    pub(crate) fn of_role(&self, role: Role) -> &[PeerId] {
        match role {
            Role::Viewer => &self.viewers,
            Role::Seed => &self.seeds,
        }
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
            lost: VecDeque::new(),
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
        for other in member.pairs.keys() {
            if let Some(other) = self.members.get_mut(other) {
                other.pairs.remove(&peer);
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
    pub(crate) fn pair(&mut self, a: PeerId, b: PeerId) -> bool {
        if !self.may_pair(a, b) {
            return false;
        }
        for (one, other) in [(a, b), (b, a)] {
            let role = self.members.get(&other).map(|member| member.role);
            if let (Some(member), Some(role)) = (self.members.get_mut(&one), role) {
                member.pairs.insert(other, role);
            }
        }
        true
    }

    /// Ends a pairing that failed, and remembers on both sides that it did.
    pub(crate) fn lose(&mut self, a: PeerId, b: PeerId) {
        for (one, other) in [(a, b), (b, a)] {
            if let Some(member) = self.members.get_mut(&one)
                && member.pairs.remove(&other).is_some()
            {
                if member.lost.len() >= MAX_LOST {
                    member.lost.pop_front();
                }
                member.lost.push_back(other);
            }
        }
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

    pub(crate) fn set_stats(&mut self, peer: PeerId, stats: StatsReport) {
        if let Some(member) = self.members.get_mut(&peer) {
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
