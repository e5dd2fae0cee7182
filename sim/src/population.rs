//! Who there is: when each peer comes and goes, where it is and what its links are like. Made once from the seed.

use headwater_wire::{PeerId, Role};

use crate::clock::{Micros, SECOND, TICK, micros};
use crate::event::NodeIndex;
use crate::rng::{Rng, mix};
use crate::scenario::{Scenario, SeedPeer};

/// How a NAT treats strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nat {
    Open,
    PortRestricted,
    Symmetric,
}

/// One peer, from the moment it comes to the moment it goes.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) role: Role,
    pub(crate) join: Micros,
    /// Beyond the end of the run where it stays.
    pub(crate) leave: Micros,
    pub(crate) silent: bool,
    /// Whether it came after the ramp, in the place of another.
    pub(crate) late: bool,
    pub(crate) uploads: bool,
    pub(crate) folder: bool,
    pub(crate) country: u16,
    pub(crate) network: u16,
    pub(crate) nat: Nat,
    /// Bytes a second.
    pub(crate) up: f64,
    /// What its settings let it give, in bytes a second.
    pub(crate) cap: f64,
    /// Bytes a second.
    pub(crate) down: f64,
    access_rtt: Micros,
    loss: f64,
    /// Where in VOD content it begins, from 0 to 1.
    pub(crate) start: f64,
}

/// All peers, and the distances between them.
#[derive(Debug)]
pub(crate) struct Population {
    pub(crate) sessions: Vec<Session>,
    near: Micros,
    country: Micros,
    far: Micros,
    far_loss: f64,
    unconnectable: f64,
    origin: Micros,
    signalling: Micros,
    gather: Micros,
    seed: u64,
}

/// Bytes a second of a million bits a second.
pub(crate) const MBPS: f64 = 125_000.0;

impl Population {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let network = &scenario.network;
        let millis = |ms: f64| micros(ms / 1000.0);
        let mut population = Self {
            sessions: Vec::new(),
            near: millis(network.near_ms),
            country: millis(network.country_ms),
            far: millis(network.far_ms),
            far_loss: network.far_loss,
            unconnectable: network.unconnectable,
            origin: millis(scenario.origin.rtt_ms),
            signalling: millis(network.signalling_ms),
            gather: millis(network.gather_ms),
            seed: scenario.seed,
        };
        let mut rng = Rng::new(scenario.seed ^ 0x0b0e);
        let end = micros(scenario.duration_s);
        for seed in &scenario.seeds {
            population.sessions.push(seed_session(seed, end));
        }
        let audience = &scenario.audience;
        let ramp = micros(audience.ramp_s);
        for i in 0..audience.viewers {
            let join = ramp * u64::from(i) / u64::from(audience.viewers);
            // Nobody comes in the very first moment, and no two at exactly the same.
            let join = join + rng.below(20_000) + 10_000;
            let mut session = viewer_session(scenario, &mut rng, join, end);
            session.start = f64::from(i) / f64::from(audience.viewers) * audience.spread;
            let mut leave = leave_time(audience.churn_per_min, ramp.max(join), &mut rng);
            // Whoever leaves is replaced, and the replacement may leave too.
            while leave < end {
                session.leave = leave;
                let start = session.start;
                population.sessions.push(session);
                session = viewer_session(scenario, &mut rng, leave, end);
                session.late = true;
                session.start = start;
                leave = leave_time(audience.churn_per_min, leave, &mut rng);
            }
            population.sessions.push(session);
        }
        population
    }

    pub(crate) fn len(&self) -> u32 {
        self.sessions.len() as u32
    }

    pub(crate) fn session(&self, peer: NodeIndex) -> &Session {
        &self.sessions[peer as usize]
    }

    /// The origin's place among the nodes.
    pub(crate) fn origin(&self) -> NodeIndex {
        self.len()
    }

    /// The signalling server's place among the nodes.
    pub(crate) fn server(&self) -> NodeIndex {
        self.len() + 1
    }

    /// The name of a peer. Looks random, and says which it is.
    pub(crate) fn id(&self, peer: NodeIndex) -> PeerId {
        PeerId(mix(self.seed ^ mix(u64::from(peer))) << 32 | u64::from(peer))
    }

    pub(crate) fn index(id: PeerId) -> NodeIndex {
        id.0 as u32
    }

    /// The way from one node to another, in one direction.
    pub(crate) fn latency(&self, a: NodeIndex, b: NodeIndex) -> Micros {
        (self.round_trip(a, b) / 2).max(2 * TICK)
    }

    /// When a peer takes what a neighbour's message brings at `at`.
    pub(crate) fn taken(&self, peer: NodeIndex, at: Micros) -> Micros {
        if self.gather == 0 {
            return at;
        }
        // Each has its own beat, so that the world's work is spread evenly.
        let phase = mix(u64::from(peer)) % self.gather;
        (at + self.gather - 1 - phase) / self.gather * self.gather + phase
    }

    fn round_trip(&self, a: NodeIndex, b: NodeIndex) -> Micros {
        let (low, high) = (a.min(b), a.max(b));
        let Some(first) = self.sessions.get(low as usize) else { return 2 * TICK };
        if high == self.origin() {
            return first.access_rtt + self.origin;
        }
        let Some(second) = self.sessions.get(high as usize) else { return first.access_rtt + self.signalling };
        let core = if first.country != second.country {
            self.far
        } else if first.network != second.network {
            self.country
        } else {
            self.near
        };
        // No two paths are alike.
        let luck = self.pair_hash(low, high) % 64;
        first.access_rtt + second.access_rtt + core + core * luck / 128
    }

    /// Most bytes a second that loss lets one flow between two peers have: Mathis et al. 1997.
    pub(crate) fn rate_limit(&self, a: NodeIndex, b: NodeIndex) -> f64 {
        let (Some(first), Some(second)) = (self.sessions.get(a as usize), self.sessions.get(b as usize)) else {
            return f64::INFINITY;
        };
        let far = if first.country == second.country { 0.0 } else { self.far_loss };
        let loss = first.loss + second.loss + far;
        if loss <= 0.0 {
            return f64::INFINITY;
        }
        const PACKET: f64 = 1_200.0;
        1.22 * PACKET / (self.round_trip(a, b) as f64 / SECOND as f64 * loss.sqrt())
    }

    /// Whether a connection between two peers can be made.
    pub(crate) fn connectable(&self, a: NodeIndex, b: NodeIndex) -> bool {
        let (first, second) = (self.session(a), self.session(b));
        let nats = match (first.nat, second.nat) {
            (Nat::Symmetric, other) | (other, Nat::Symmetric) => other == Nat::Open,
            _ => true,
        };
        let luck = (self.pair_hash(a.min(b), a.max(b)) >> 32) as f64 / f64::from(u32::MAX);
        // Whoever runs a seed sees to it that it can be reached.
        let seed = first.role == Role::Seed || second.role == Role::Seed;
        seed || (nats && luck >= self.unconnectable)
    }

    fn pair_hash(&self, low: NodeIndex, high: NodeIndex) -> u64 {
        mix(self.seed ^ mix(u64::from(low) << 32 | u64::from(high)))
    }
}

fn leave_time(churn_per_min: f64, from: Micros, rng: &mut Rng) -> Micros {
    if churn_per_min <= 0.0 { Micros::MAX } else { from + micros(rng.exponential(60.0 / churn_per_min)) }
}

fn seed_session(seed: &SeedPeer, end: Micros) -> Session {
    Session {
        role: Role::Seed,
        join: TICK,
        leave: end + SECOND,
        silent: false,
        late: false,
        uploads: true,
        folder: seed.folder,
        country: 0,
        network: 0,
        nat: Nat::Open,
        up: seed.line_mbps * MBPS,
        cap: seed.up_mbps * MBPS,
        down: seed.line_mbps * MBPS,
        access_rtt: 2_000,
        loss: 0.0,
        start: 0.0,
    }
}

fn viewer_session(scenario: &Scenario, rng: &mut Rng, join: Micros, end: Micros) -> Session {
    let network = &scenario.network;
    let total: f64 = network.access.iter().map(|access| access.share).sum();
    let mut lot = rng.unit() * total;
    let mut kind = 0;
    for (i, access) in network.access.iter().enumerate() {
        kind = i;
        lot -= access.share;
        if lot < 0.0 {
            break;
        }
    }
    let access = &network.access[kind];
    // Half of the viewers are with the largest network of their country, a quarter with the next …
    let place = (rng.next_u64() | 1 << 63).trailing_zeros() % network.networks;
    let lot = rng.unit();
    let nat = if lot < network.symmetric_nat {
        Nat::Symmetric
    } else if lot < network.symmetric_nat + network.port_restricted_nat {
        Nat::PortRestricted
    } else {
        Nat::Open
    };
    // Lines of one kind differ: from 0.6 to 1.4 of what is typical.
    let luck = 0.6 + 0.8 * rng.unit();
    Session {
        role: Role::Viewer,
        join,
        leave: end + SECOND,
        silent: rng.chance(scenario.audience.silent_leaves),
        late: false,
        uploads: !rng.chance(scenario.audience.no_upload),
        folder: false,
        country: rng.below(u64::from(network.countries)) as u16,
        network: place as u16,
        nat,
        up: access.up_mbps * MBPS * luck,
        cap: access.up_mbps * MBPS * luck,
        down: access.down_mbps * MBPS * luck,
        access_rtt: micros(access.rtt_ms / 1000.0),
        loss: access.loss,
        start: 0.0,
    }
}
