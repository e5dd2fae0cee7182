//! Viewers of content on demand meet those who hold what they will play next.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;

use common::{World, fresh, join};
use headwater_rendezvous::{ConnId, Duration};
use headwater_wire::signal::ClientMessage;
use headwater_wire::{PeerId, Role};

fn enters(world: &mut World, at: u32, want: u16) -> (ConnId, BTreeSet<PeerId>) {
    let conn = world.open();
    let mut message = join("a swarm", Role::Viewer, want);
    if let ClientMessage::Join { position_s, .. } = &mut message {
        *position_s = Some(at);
    }
    let got = world.say(conn, message);
    (conn, got[&conn].connects().into_iter().map(|(peer, _, _)| peer).collect())
}

#[test]
fn a_newcomer_meets_those_who_are_just_ahead_of_it_on_the_same_stretch() {
    let mut world = World::new();
    let stretches: Vec<u32> = (0..40).map(|n| n * 100).collect();
    let there: Vec<ConnId> = stretches.iter().map(|at| enters(&mut world, *at, 0).0).collect();
    // Everybody plays for four minutes: whoever began at 1000 holds 1000 to 1240.
    world.now = world.now.plus(Duration::from_secs(110));
    for (conn, at) in there.iter().zip(&stretches) {
        world.say(*conn, ClientMessage::Watching { position_s: at + 110 });
    }
    world.now = world.now.plus(Duration::from_secs(110));
    for (conn, at) in there.iter().zip(&stretches) {
        world.say(*conn, ClientMessage::Watching { position_s: at + 220 });
    }
    let (_, met) = enters(&mut world, 1150, 2);
    let holders: BTreeSet<PeerId> = [there[10], there[11]].map(fresh).into();
    assert_eq!(met, holders, "of forty, these have played 1150, and have it still");
}

#[test]
fn whoever_jumps_says_so_and_is_given_others() {
    let mut world = World::new();
    let near: BTreeSet<PeerId> = (0..3).map(|_| fresh(enters(&mut world, 3000, 0).0)).collect();
    for _ in 0..20 {
        enters(&mut world, 100, 0);
    }
    let (conn, met) = enters(&mut world, 100, 4);
    assert!(met.iter().filter(|peer| near.contains(peer)).count() <= 1, "one in four may be anywhere");
    world.say(conn, ClientMessage::Watching { position_s: 3010 });
    let got = world.say(conn, ClientMessage::Want { count: 3 });
    let met: BTreeSet<PeerId> = got[&conn].connects().into_iter().map(|(peer, _, _)| peer).chain(met).collect();
    assert!(near.is_subset(&met));
}

#[test]
fn positions_that_nobody_repeats_count_no_more() {
    let mut world = World::new();
    let first = fresh(enters(&mut world, 0, 0).0);
    let busy = enters(&mut world, 0, 1).0;
    world.now = world.now.plus(Duration::from_secs(600));
    // The first has one neighbour, as has the busy one: without positions the lot decides, and nothing is refused.
    let (_, met) = enters(&mut world, 5000, 2);
    assert_eq!(met, BTreeSet::from([first, fresh(busy)]));
}
