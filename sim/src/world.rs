//! The run: peers divided over shards, each with its calendar, in step tick by tick.
//!
//! Nothing takes less than a tick from one node to another, so that within a tick shards need nothing of each other,
//! and the outcome does not depend on how many there are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};

use crate::clock::{Calendar, Micros, TICK, micros};
use crate::content::Content;
use crate::event::{Event, NodeIndex, What};
use crate::origin::Origin;
use crate::peer::Peer;
use crate::policies::Policy;
use crate::population::Population;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::stats::{Counters, OriginCount, PeerRecord};

/// What all shards read.
pub(crate) struct Shared {
    pub(crate) scenario: Scenario,
    pub(crate) content: Content,
    pub(crate) population: Population,
    pub(crate) policy: Policy,
    pub(crate) end: Micros,
    shards: u32,
}

impl Shared {
    pub(crate) fn new(scenario: &Scenario, policy: Policy, shards: u32) -> Self {
        Self {
            scenario: scenario.clone(),
            content: Content::new(scenario),
            population: Population::new(scenario),
            policy,
            end: micros(scenario.duration_s),
            shards: shards.max(1),
        }
    }

    /// The shard that a node belongs to; the origin and the signalling server are in the first.
    fn shard_of(&self, node: NodeIndex) -> usize {
        if node >= self.population.len() { 0 } else { (node % self.shards) as usize }
    }
}

/// What a node may use while it handles an event.
pub(crate) struct Desk<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) stats: &'a mut Counters,
    /// The end of the present tick.
    pub(crate) now: Micros,
    calendar: &'a mut Calendar,
    outbox: &'a mut [Vec<Event>],
    own: usize,
}

impl Desk<'_> {
    pub(crate) fn post(&mut self, event: Event) {
        let shard = self.shared.shard_of(event.to);
        if shard == self.own {
            self.calendar.push(event);
        } else {
            self.outbox[shard].push(event);
        }
    }
}

/// A part of the world.
struct Shard {
    own: usize,
    calendar: Calendar,
    outbox: Vec<Vec<Event>>,
    peers: Vec<Option<Box<Peer>>>,
    records: Vec<PeerRecord>,
    counters: Counters,
    origin: Option<Origin>,
    server: Option<Server>,
    /// Of the present tick.
    events: Vec<Event>,
}

impl Shard {
    fn new(own: usize, shared: &Shared) -> Self {
        let count = shared.population.len().div_ceil(shared.shards);
        let mut calendar = Calendar::new();
        for (index, session) in (0..).zip(&shared.population.sessions) {
            if shared.shard_of(index) == own && session.join < shared.end {
                calendar.push(Event { at: session.join, to: index, from: index, number: 0, what: What::Join });
            }
        }
        Self {
            own,
            calendar,
            outbox: (0..shared.shards).map(|_| Vec::new()).collect(),
            peers: (0..count).map(|_| None).collect(),
            records: Vec::new(),
            counters: Counters::new(shared),
            origin: (own == 0).then(|| Origin::new(shared)),
            server: (own == 0).then(|| Server::new(shared.scenario.seed)),
            events: Vec::new(),
        }
    }

    fn tick(&mut self, now: Micros, shared: &Shared) {
        let mut events = std::mem::take(&mut self.events);
        self.calendar.advance(&mut events);
        self.counters.events += events.len() as u64;
        let mut desk = Desk {
            shared,
            stats: &mut self.counters,
            now,
            calendar: &mut self.calendar,
            outbox: &mut self.outbox,
            own: self.own,
        };
        let mut rest = events.drain(..).peekable();
        while let Some(node) = rest.peek().map(|event| event.to) {
            let mine = std::iter::from_fn(|| rest.next_if(|event| event.to == node));
            if node >= shared.population.len() {
                for event in mine {
                    if node == shared.population.origin() {
                        if let Some(origin) = &mut self.origin {
                            origin.handle(event, &mut desk);
                        }
                    } else if let Some(server) = &mut self.server {
                        server.handle(event, &mut desk);
                    }
                }
                continue;
            }
            let place = &mut self.peers[(node / shared.shards) as usize];
            let mut mine = mine.peekable();
            if place.is_none() {
                // A peer comes with its first event and does not come again; what is still under way to one that has
                // left is lost.
                let comes = mine.peek().is_some_and(|event| matches!(event.what, What::Join));
                if !comes {
                    mine.for_each(drop);
                    continue;
                }
                *place = Some(Box::new(Peer::new(node, &desk)));
            }
            let Some(peer) = place else { continue };
            if !peer.handle(&mut mine, &mut desk) {
                mine.for_each(drop);
                self.records.extend(place.take().map(|peer| peer.record.clone()));
            }
        }
        drop(rest);
        self.events = events;
    }

    fn finish(mut self, shared: &Shared) -> Outcome {
        let mut desk = Desk {
            shared,
            stats: &mut self.counters,
            now: shared.end,
            calendar: &mut self.calendar,
            outbox: &mut self.outbox,
            own: self.own,
        };
        for peer in self.peers.iter_mut().flatten() {
            peer.close_record(&mut desk);
            self.records.push(peer.record.clone());
        }
        Outcome {
            records: self.records,
            counters: self.counters,
            origin: self.origin.map(|origin| origin.count),
            signalling_messages: self.server.map_or(0, |server| server.messages),
        }
    }
}

/// What came of a run.
pub(crate) struct Outcome {
    /// By the peers' places in the population.
    pub(crate) records: Vec<PeerRecord>,
    pub(crate) counters: Counters,
    pub(crate) origin: Option<OriginCount>,
    pub(crate) signalling_messages: u64,
}

impl Outcome {
    fn merge(mut self, other: Self) -> Self {
        self.records.extend(other.records);
        self.counters.merge(&other.counters);
        self.origin = self.origin.or(other.origin);
        self.signalling_messages += other.signalling_messages;
        self
    }
}

/// Runs the world to its end; `progress` is told the time now and then.
pub(crate) fn run(shared: &Shared, progress: &(dyn Fn(Micros) + Sync)) -> Option<Outcome> {
    let ticks = shared.end / TICK;
    let shards: Vec<Shard> = (0..shared.shards as usize).map(|own| Shard::new(own, shared)).collect();
    let outcomes = if shared.shards == 1 {
        shards.into_iter().map(|shard| run_alone(shard, ticks, shared, progress)).collect()
    } else {
        run_together(shards, ticks, shared, progress)
    };
    let mut outcome = outcomes.into_iter().reduce(Outcome::merge)?;
    outcome.records.sort_unstable_by_key(|record| record.index);
    Some(outcome)
}

fn run_alone(mut shard: Shard, ticks: u64, shared: &Shared, progress: &(dyn Fn(Micros) + Sync)) -> Outcome {
    for tick in 1..=ticks {
        shard.tick((tick + 1) * TICK, shared);
        if tick % 1_000 == 0 {
            progress(tick * TICK);
        }
    }
    shard.finish(shared)
}

/// A mailbox for each pair of shards.
type Mail = Vec<Vec<Mutex<Vec<Event>>>>;

fn run_together(shards: Vec<Shard>, ticks: u64, shared: &Shared, progress: &(dyn Fn(Micros) + Sync)) -> Vec<Outcome> {
    let count = shards.len();
    let mail: Mail = (0..count).map(|_| (0..count).map(|_| Mutex::new(Vec::new())).collect()).collect();
    let barrier = Barrier::new(count);
    let broken = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = shards
            .into_iter()
            .map(|mut shard| {
                let (mail, barrier, broken) = (&mail, &barrier, &broken);
                scope.spawn(move || {
                    for tick in 1..=ticks {
                        let ticked = catch_unwind(AssertUnwindSafe(|| shard.tick((tick + 1) * TICK, shared)));
                        if ticked.is_err() {
                            broken.store(true, Ordering::SeqCst);
                        }
                        post_mail(&mut shard, mail);
                        barrier.wait();
                        // Others would wait for ever for a thread that is gone.
                        if broken.load(Ordering::SeqCst) {
                            return None;
                        }
                        take_mail(&mut shard, mail);
                        if shard.own == 0 && tick % 1_000 == 0 {
                            progress(tick * TICK);
                        }
                    }
                    Some(shard.finish(shared))
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    })
}

fn post_mail(shard: &mut Shard, mail: &Mail) {
    for (to, events) in shard.outbox.iter_mut().enumerate().filter(|(_, events)| !events.is_empty()) {
        mail[to][shard.own].lock().unwrap_or_else(PoisonError::into_inner).append(events);
    }
}

fn take_mail(shard: &mut Shard, mail: &Mail) {
    for from in &mail[shard.own] {
        for event in from.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            shard.calendar.push(event);
        }
    }
}
