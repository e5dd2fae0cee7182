//! Near peers are chosen before far ones, some far ones always, and those that give before those that only take.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use headwater_rendezvous::{Config, ConnId, CostMap, Country, Input, Now, Output, Pid, Place, Rendezvous};
use headwater_wire::signal::{ClientMessage, SIGNAL_VERSION, ServerMessage, StatsReport};
use headwater_wire::{PeerId, Role, SwarmName};

struct World {
    core: Rendezvous,
    next: u64,
}

impl World {
    fn new() -> Self {
        Self { core: Rendezvous::new(Config::new([1; 32]), 5), next: 0 }
    }

    /// Joins from a place; whom it was told to connect to, by connection number.
    fn join(&mut self, place: Place, want: u16) -> Vec<u64> {
        self.next += 1;
        let conn = ConnId(self.next);
        self.core.handle_input(Now(0), Input::Opened { conn, fresh: PeerId(conn.0) });
        self.core.handle_input(Now(0), Input::Located { conn, place });
        let message = ClientMessage::Join {
            version: SIGNAL_VERSION,
            swarm: SwarmName::new("s").unwrap(),
            role: Role::Viewer,
            token: None,
            want,
            resume: None,
            connected: Vec::new(),
            position_s: None,
        };
        self.core.handle_input(Now(0), Input::Message { conn, message });
        let mut met = Vec::new();
        loop {
            match self.core.poll_output() {
                Output::Send { conn: to, message: ServerMessage::Connect { peer, .. } } if to == conn => {
                    met.push(peer.0)
                }
                Output::Timeout(_) => return met,
                _ => {}
            }
        }
    }

    fn stats(&mut self, conn: u64, report: StatsReport) {
        let message = ClientMessage::Stats { report };
        self.core.handle_input(Now(0), Input::Message { conn: ConnId(conn), message });
    }
}

/// An address of its own for each, far from all others.
fn place(nth: u32, asn: u32, country: &[u8; 2]) -> Place {
    Place {
        addr: Some(Ipv4Addr::from_bits(nth << 8).into()),
        asn: Some(asn),
        country: Some(Country(*country)),
        pid: None,
    }
}

#[test]
fn most_come_from_ones_own_network_and_some_from_afar() {
    let mut world = World::new();
    // Numbers 1 to 40: even ones of network 1, odd ones of network 2, abroad.
    for nth in 1..=40 {
        let here = nth % 2 == 0;
        world.join(place(nth, if here { 1 } else { 2 }, if here { b"DE" } else { b"FR" }), 0);
    }
    for _ in 0..5 {
        let nth = 100 + u32::try_from(world.next).unwrap();
        let met = world.join(place(nth, 1, b"DE"), 8);
        assert_eq!(met.len(), 8);
        let far = met.iter().filter(|&&conn| conn <= 40 && conn % 2 == 1).count();
        assert_eq!(far, 2, "{met:?}");
    }
}

#[test]
fn the_same_line_comes_before_the_same_network_and_that_before_the_same_country() {
    let mut world = World::new();
    world.join(place(1, 9, b"FR"), 0);
    world.join(place(2, 9, b"DE"), 0);
    world.join(place(3, 1, b"FR"), 0);
    world.join(Place { addr: Some(Ipv4Addr::from_bits((50 << 8) | 7).into()), ..place(4, 9, b"FR") }, 0);
    world.join(Place { addr: Some(Ipv4Addr::from_bits(50 << 8).into()), ..place(5, 9, b"FR") }, 0);
    let met = world.join(place(50, 1, b"DE"), 3);
    assert_eq!(met, [5, 4, 3]);
}

#[test]
fn a_carriers_costs_decide_between_its_groups() {
    let mut world = World::new();
    let costs = [(1, 2, 5.0), (1, 3, 10.0), (1, 4, 1.0)];
    world.core.set_costs(CostMap::new(costs.map(|(from, to, cost)| (Pid(from), Pid(to), cost))));
    let at = |nth, pid| Place { pid: Some(Pid(pid)), ..place(nth, 1, b"US") };
    for (nth, pid) in [(1, 3), (2, 2), (3, 4)] {
        world.join(at(nth, pid), 0);
    }
    assert_eq!(world.join(at(9, 1), 2), [3, 2]);
}

/// The costs of the example of RFC 7285, section 11.2.3.6.
const RFC: [(u64, u64, f64); 8] =
    [(1, 1, 1.0), (1, 2, 5.0), (1, 3, 10.0), (2, 1, 5.0), (2, 2, 1.0), (2, 3, 15.0), (3, 1, 20.0), (3, 2, 15.0)];

/// A world with as many members in each of a carrier's groups; who is in which, by connection number.
fn groups(costs: &[(u64, u64, f64)], sizes: &[(u64, u32)]) -> (World, Vec<u64>) {
    let mut world = World::new();
    world.core.set_costs(CostMap::new(costs.iter().map(|&(from, to, cost)| (Pid(from), Pid(to), cost))));
    let mut pids = vec![0];
    for &(pid, size) in sizes {
        for _ in 0..size {
            let nth = u32::try_from(pids.len()).unwrap();
            world.join(Place { pid: Some(Pid(pid)), ..place(nth, 1, b"US") }, 0);
            pids.push(pid);
        }
    }
    (world, pids)
}

#[test]
fn some_come_from_a_carriers_other_groups() {
    let (mut world, pids) = groups(&RFC, &[(1, 40), (3, 20)]);
    for nth in 100..105 {
        let met = world.join(Place { pid: Some(Pid(1)), ..place(nth, 1, b"US") }, 8);
        let far = met.iter().filter(|&&conn| pids.get(usize::try_from(conn).unwrap()) == Some(&3)).count();
        assert_eq!((met.len(), far), (8, 2), "{met:?}");
    }
}

#[test]
fn two_groups_near_each_other_meet_a_third() {
    let costs = [(1, 1, 1.0), (1, 2, 2.0), (1, 3, 50.0)];
    let (mut world, pids) = groups(&costs, &[(1, 20), (2, 40), (3, 20)]);
    let met = (100..120).flat_map(|nth| world.join(Place { pid: Some(Pid(1)), ..place(nth, 1, b"US") }, 8));
    let met: Vec<u64> = met.filter_map(|conn| pids.get(usize::try_from(conn).unwrap()).copied()).collect();
    assert!(met.contains(&2) && met.contains(&3), "{met:?}");
}

#[test]
fn those_that_only_take_are_chosen_last() {
    let mut world = World::new();
    for nth in 1..=4 {
        world.join(place(nth, 1, b"DE"), 0);
    }
    let taken = 100 << 20;
    world.stats(1, StatsReport { viewer_bytes: taken, uploaded_bytes: 1, ..StatsReport::default() });
    world.stats(2, StatsReport { viewer_bytes: taken, uploaded_bytes: taken, ..StatsReport::default() });
    let mut met = world.join(place(9, 1, b"DE"), 3);
    met.sort_unstable();
    assert_eq!(met, [2, 3, 4]);
}

#[test]
fn one_near_peer_is_not_everybodys() {
    let mut world = World::new();
    world.join(place(1, 1, b"DE"), 0);
    for nth in 2..=40 {
        world.join(place(nth, 2, b"FR"), 0);
    }
    // For those to come it is the nearest, until it has enough neighbours.
    let asked = (0..30).filter(|nth| world.join(place(100 + nth, 1, b"DE"), 4).contains(&1)).count();
    assert!((1..=12).contains(&asked), "{asked}");
}
