//! Members whose connections come to nothing are given those whom they can reach, and to others last.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;

use common::{World, fresh};
use headwater_rendezvous::{ConnId, Duration};
use headwater_wire::signal::ClientMessage;
use headwater_wire::{PeerId, Role};

/// Joins; whom it met.
fn enters(world: &mut World, want: u16) -> (ConnId, Vec<PeerId>) {
    let (conn, got) = world.join(Role::Viewer, want);
    (conn, got[&conn].connects().into_iter().map(|(peer, _, _)| peer).collect())
}

fn asks(world: &mut World, conn: ConnId, count: u16) -> Vec<PeerId> {
    let got = world.say(conn, ClientMessage::Want { count });
    got.get(&conn).map_or_else(Vec::new, |got| got.connects().into_iter().map(|(peer, _, _)| peer).collect())
}

/// Ten seconds later the connections to all but the first `kept` have come to nothing.
fn fails(world: &mut World, conn: ConnId, met: &[PeerId], kept: usize) {
    world.now = world.now.plus(Duration::from_secs(10));
    for peer in &met[kept..] {
        world.say(conn, ClientMessage::Lost { peer: *peer });
    }
}

/// A swarm of twenty, and one more that reached two of the eight it met. It is the last.
fn with_one_hard_to_reach() -> (World, ConnId, Vec<PeerId>) {
    let mut world = World::new();
    for _ in 0..20 {
        enters(&mut world, 0);
    }
    let (hard, met) = enters(&mut world, 8);
    fails(&mut world, hard, &met, 2);
    world.now = world.now.plus(Duration::from_secs(20));
    (world, hard, met[..2].to_vec())
}

#[test]
fn who_is_hard_to_reach_is_given_to_others_last() {
    let (mut world, hard, _) = with_one_hard_to_reach();
    let (_, met) = enters(&mut world, 20);
    assert_eq!(met.len(), 20);
    assert!(!met.contains(&fresh(hard)));
    let (_, met) = enters(&mut world, 22);
    assert!(met.contains(&fresh(hard)), "nobody else is left: it is better than nobody");
}

#[test]
fn who_is_hard_to_reach_meets_those_that_others_like_it_have_reached() {
    let (mut world, _, open) = with_one_hard_to_reach();
    let (second, met) = enters(&mut world, 4);
    let unmet: BTreeSet<PeerId> = open.iter().copied().filter(|peer| !met.contains(peer)).collect();
    fails(&mut world, second, &met, 0);
    let met = asks(&mut world, second, 4);
    assert!(unmet.is_subset(&met[..unmet.len()].iter().copied().collect()), "{met:?}, not {unmet:?} first");
}

#[test]
fn a_connection_that_was_there_and_ended_says_nothing() {
    let mut world = World::new();
    for _ in 0..8 {
        enters(&mut world, 0);
    }
    let (conn, met) = enters(&mut world, 8);
    world.now = world.now.plus(Duration::from_secs(60));
    for peer in met {
        world.say(conn, ClientMessage::Lost { peer });
    }
    let fresh_conn = fresh(conn);
    // Eight there are beside it, each with as many neighbours: were it hard to reach, it would come last.
    let given = (0..40).filter(|_| enters(&mut world, 1).1.contains(&fresh_conn)).count();
    assert!(given > 0);
}
