//! What one node knows of the others: who lives, and how much of each swarm of interest they have.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::message::{Figures, NodeId, NodeMessage, SwarmHash, Told};
use crate::rng::Rng;
use crate::time::{Duration, Now};

/// How long a node that becomes interested in a swarm waits for what the others have of it. Bounded by a round trip in the
/// cluster, and paid by the first member on a node alone.
pub const LEARNING: Duration = Duration::from_millis(100);

/// Between two signs of life.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// A node that was not heard for so long is dead: what is held about it is dropped.
const DEAD_AFTER: Duration = Duration::from_secs(5);

/// Between two rounds of telling changed figures, while there are a few nodes; with many, each tells a swarm more rarely.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Nodes of one swarm from which on its figures are told more rarely, in proportion.
const FEW_NODES: u64 = 10;

/// Swarms told in one round after the bus came back: the queue to the bus is bounded, and others want to be in it too.
const GREETED_AT_ONCE: usize = 256;

/// Between two such rounds.
const GREET_EVERY: Duration = Duration::from_millis(100);

/// Every swarm is told again within so many seconds, whatever was lost.
const REFRESH_SECONDS: usize = 60;

/// How long a swarm stays of interest that was asked about and has no members here.
const LOOKED_AT: Duration = Duration::from_secs(10);

/// Most such swarms. Each costs a subscription, and anyone may ask: beyond it, only what is here is told.
const MAX_LOOKED_AT: usize = 1000;

/// Most other nodes that are known.
const MAX_NODES: usize = 1024;

/// What the directory wants done.
#[derive(Debug, Clone)]
pub enum DirectoryOutput {
    /// Take part in what is told about this swarm.
    Watch(SwarmHash),
    /// No more.
    Unwatch(SwarmHash),
    /// Tell others.
    Tell(Told, Box<NodeMessage>),
}

/// What came of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    /// A swarm has more members elsewhere than before.
    Grew(SwarmHash),
    /// A node is gone, and so are its members.
    Gone(NodeId),
}

#[derive(Debug, Default)]
struct Entry {
    own: Option<Figures>,
    told: Option<Figures>,
    tell_at: Now,
    others: BTreeMap<NodeId, Figures>,
    /// Of interest without members until then.
    looked_until: Option<Now>,
    /// When enough time has passed for the others to say what they have.
    learned_at: Now,
}

/// See the module. Without a bus it is empty, and everything is as on a single node.
#[derive(Debug, Default)]
pub struct Directory {
    own: Option<NodeId>,
    is_connected: bool,
    nodes: BTreeMap<NodeId, Now>,
    swarms: BTreeMap<SwarmHash, Entry>,
    looked: BTreeSet<(Now, SwarmHash)>,
    changed: BTreeSet<SwarmHash>,
    /// Swarms that the others are to be asked about since the bus came back.
    to_greet: BTreeSet<SwarmHash>,
    tick_at: Option<Now>,
    alive_at: Now,
    refreshed: Option<SwarmHash>,
    outputs: VecDeque<DirectoryOutput>,
}

impl Directory {
    /// Of this node; of none, it stays empty.
    #[must_use]
    pub fn new(own: Option<NodeId>) -> Self {
        Self { own, ..Self::default() }
    }

    /// Whether there may be other nodes.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.own.is_some()
    }

    /// The bus is there, or is not. While it is not, nothing is told; when it comes, everything is.
    pub fn set_connected(&mut self, now: Now, is_connected: bool) {
        self.is_connected = is_connected;
        if !is_connected {
            return;
        }
        self.alive_at = now;
        self.tick_at = Some(now);
        self.to_greet = self.swarms.keys().copied().collect();
    }

    /// Whether there are others to speak with.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// How many other nodes live.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether this node lives, as far as is known.
    #[must_use]
    pub fn lives(&self, node: NodeId) -> bool {
        self.is_connected && self.nodes.contains_key(&node)
    }

    /// What the other nodes have of a swarm.
    #[must_use]
    pub fn elsewhere(&self, swarm: &SwarmHash) -> Figures {
        let others = self.swarms.get(swarm).into_iter().flat_map(|entry| entry.others.values());
        others.fold(Figures::default(), Figures::plus)
    }

    /// The other nodes of a swarm with what they have of it.
    pub(crate) fn nodes_of(&self, swarm: &SwarmHash) -> impl Iterator<Item = (NodeId, &Figures)> {
        let entry = self.swarms.get(swarm).filter(|_| self.is_connected);
        entry.into_iter().flat_map(|entry| entry.others.iter().map(|(node, figures)| (*node, figures)))
    }

    /// Another node of a swarm by lot, in proportion to what `weight` sees in its figures.
    pub(crate) fn draw(
        &self,
        swarm: &SwarmHash,
        rng: &mut Rng,
        except: &[NodeId],
        weight: impl Fn(&Figures) -> u64,
    ) -> Option<NodeId> {
        let candidates = || self.nodes_of(swarm).filter(|(node, _)| !except.contains(node));
        let sum: u64 = candidates().map(|(_, figures)| weight(figures)).sum();
        let mut lot = rng.below(usize::try_from(sum).ok()?) as u64;
        for (node, figures) in candidates() {
            let weight = weight(figures);
            if lot < weight {
                return Some(node);
            }
            lot -= weight;
        }
        None
    }

    /// Makes a swarm of interest; until when it is worth waiting for what the others say, where it is.
    pub fn look(&mut self, now: Now, swarm: SwarmHash) -> Option<Now> {
        if !self.is_connected || self.nodes.is_empty() {
            return None;
        }
        if let Some(entry) = self.swarms.get_mut(&swarm) {
            if let Some(until) = entry.looked_until.filter(|_| entry.own.is_none()) {
                self.looked.remove(&(until, swarm));
                let until = now.plus(LOOKED_AT);
                entry.looked_until = Some(until);
                self.looked.insert((until, swarm));
            }
            return (entry.learned_at > now).then_some(entry.learned_at);
        }
        if self.looked.len() >= MAX_LOOKED_AT {
            return None;
        }
        let (until, learned_at) = (now.plus(LOOKED_AT), now.plus(LEARNING));
        self.looked.insert((until, swarm));
        self.swarms.insert(swarm, Entry { looked_until: Some(until), learned_at, ..Entry::default() });
        self.outputs.push_back(DirectoryOutput::Watch(swarm));
        self.tell_figures(Told::Swarm(swarm), swarm, Figures::default(), true);
        Some(learned_at)
    }

    /// What this node has of a swarm changed.
    pub(crate) fn put(&mut self, now: Now, swarm: SwarmHash, own: Option<Figures>) {
        let is_new = !self.swarms.contains_key(&swarm);
        match own {
            Some(own) => {
                let entry = self.swarms.entry(swarm).or_default();
                let before = entry.own.replace(own);
                if before == Some(own) {
                    return;
                }
                if before.is_none() {
                    if let Some(until) = entry.looked_until.take() {
                        self.looked.remove(&(until, swarm));
                    }
                    entry.told = Some(own);
                    entry.tell_at = now.plus(TELL_EVERY);
                    if is_new {
                        entry.learned_at = now.plus(LEARNING);
                        self.outputs.push_back(DirectoryOutput::Watch(swarm));
                    }
                    self.tell_figures(Told::Swarm(swarm), swarm, own, is_new);
                } else {
                    self.changed.insert(swarm);
                }
            }
            None => {
                let Some(entry) = self.swarms.remove(&swarm) else { return };
                self.changed.remove(&swarm);
                self.to_greet.remove(&swarm);
                if let Some(until) = entry.looked_until {
                    self.looked.remove(&(until, swarm));
                }
                self.tell_figures(Told::Swarm(swarm), swarm, Figures::default(), false);
                self.outputs.push_back(DirectoryOutput::Unwatch(swarm));
            }
        }
    }

    /// Another node said something of this kind, or anything at all.
    pub(crate) fn heard(&mut self, now: Now, from: NodeId, message: &NodeMessage) -> Change {
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&from) {
            return Change::Nothing;
        }
        if self.nodes.insert(from, now).is_none() {
            // It may have come later than the last sign of life of this one.
            self.tell(Told::Node(from), NodeMessage::Alive);
        }
        match *message {
            NodeMessage::Leaving => {
                self.forget(from);
                Change::Gone(from)
            }
            NodeMessage::Figures { swarm, figures, asks } => self.heard_figures(from, swarm, figures, asks),
            _ => Change::Nothing,
        }
    }

    fn heard_figures(&mut self, from: NodeId, swarm: SwarmHash, figures: Figures, asks: bool) -> Change {
        let Some(entry) = self.swarms.get_mut(&swarm) else { return Change::Nothing };
        let before = entry.others.get(&from).copied().unwrap_or_default();
        if figures.members() == 0 {
            entry.others.remove(&from);
        } else {
            entry.others.insert(from, figures);
        }
        if let Some(own) = entry.own.filter(|_| asks) {
            self.tell_figures(Told::Node(from), swarm, own, false);
        }
        let grew = figures.viewers > before.viewers || figures.seeds > before.seeds;
        if grew { Change::Grew(swarm) } else { Change::Nothing }
    }

    /// Tells that this node stops.
    pub fn leave(&mut self) {
        self.tell(Told::Everyone, NodeMessage::Leaving);
        self.is_connected = false;
    }

    /// When there is something to do without anything happening.
    pub(crate) const fn tick_at(&self) -> Option<Now> {
        self.tick_at
    }

    /// Does what is due; returns the nodes that are dead.
    pub(crate) fn tick(&mut self, now: Now) -> Vec<NodeId> {
        if self.tick_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let dead: Vec<NodeId> =
            self.nodes.iter().filter(|(_, heard)| now.since(**heard) > DEAD_AFTER).map(|(node, _)| *node).collect();
        for node in &dead {
            self.forget(*node);
        }
        self.look_away(now);
        for _ in 0..GREETED_AT_ONCE {
            let Some(swarm) = self.to_greet.pop_first() else { break };
            let own = self.swarms.get(&swarm).and_then(|entry| entry.own).unwrap_or_default();
            self.tell_figures(Told::Swarm(swarm), swarm, own, true);
        }
        if self.alive_at <= now {
            self.alive_at = now.plus(ALIVE_EVERY);
            self.tell(Told::Everyone, NodeMessage::Alive);
            self.tell_changed(now);
            self.refresh();
        }
        let greet_at = now.plus(GREET_EVERY);
        self.tick_at = Some(if self.to_greet.is_empty() { self.alive_at } else { greet_at.min(self.alive_at) });
        dead
    }

    fn look_away(&mut self, now: Now) {
        while let Some(&(until, swarm)) = self.looked.first()
            && until <= now
        {
            self.looked.pop_first();
            self.swarms.remove(&swarm);
            self.to_greet.remove(&swarm);
            self.outputs.push_back(DirectoryOutput::Unwatch(swarm));
        }
    }

    fn tell_changed(&mut self, now: Now) {
        for swarm in std::mem::take(&mut self.changed) {
            let Some(entry) = self.swarms.get_mut(&swarm) else { continue };
            let Some(own) = entry.own.filter(|own| entry.told != Some(*own)) else { continue };
            if entry.tell_at > now {
                self.changed.insert(swarm);
                continue;
            }
            let nodes = (entry.others.len() as u64 / FEW_NODES).max(1);
            entry.tell_at = now.plus(Duration(TELL_EVERY.0.saturating_mul(nodes)));
            entry.told = Some(own);
            self.tell_figures(Told::Swarm(swarm), swarm, own, false);
        }
    }

    /// Tells some swarms again, one after the other, so that what was lost is made good.
    fn refresh(&mut self) {
        let count = self.swarms.len().div_ceil(REFRESH_SECONDS);
        let start = self.refreshed.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let next: Vec<(SwarmHash, Option<Figures>)> = self
            .swarms
            .range((start, std::ops::Bound::Unbounded))
            .take(count)
            .map(|(swarm, entry)| (*swarm, entry.own))
            .collect();
        // From the beginning again, once through.
        self.refreshed = next.last().map(|(swarm, _)| *swarm);
        for (swarm, own) in next {
            if let Some(own) = own {
                self.tell_figures(Told::Swarm(swarm), swarm, own, true);
            }
        }
    }

    fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        for entry in self.swarms.values_mut() {
            entry.others.remove(&node);
        }
    }

    fn tell_figures(&mut self, to: Told, swarm: SwarmHash, figures: Figures, asks: bool) {
        self.tell(to, NodeMessage::Figures { swarm, figures, asks });
    }

    /// Hands a message to the bus, while there is one.
    pub(crate) fn tell(&mut self, to: Told, message: NodeMessage) {
        if self.is_connected {
            self.outputs.push_back(DirectoryOutput::Tell(to, Box::new(message)));
        }
    }

    /// The next thing to do for the bus.
    pub fn poll_output(&mut self) -> Option<DirectoryOutput> {
        self.outputs.pop_front()
    }
}
