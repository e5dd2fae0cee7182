//! Who is told to connect to whom.

mod common;

use std::collections::BTreeMap;

use common::{World, fresh, join, rejoin};
use headwater_rendezvous::config::{MAX_SEED_PAIRS, MAX_VIEWER_PAIRS, SEED_GREETING, SEEDS_FIRST};
use headwater_rendezvous::{ConnId, Input};
use headwater_wire::limits::MAX_WANT;
use headwater_wire::signal::{ClientMessage, ServerMessage, SignalData};
use headwater_wire::{PeerId, Role};

fn offer() -> SignalData {
    SignalData::Offer { sdp: "x".to_owned() }
}

#[test]
fn both_sides_are_told_and_the_newcomer_offers() {
    let mut world = World::new();
    let (first, _) = world.join(Role::Viewer, 8);
    let (second, got) = world.join(Role::Viewer, 8);
    assert_eq!(got[&second].connects(), [(fresh(first), true, Role::Viewer)]);
    assert_eq!(got[&first].connects(), [(fresh(second), false, Role::Viewer)]);
}

#[test]
fn a_newcomer_gets_two_seeds_and_the_rest_viewers() {
    let mut world = World::new();
    for _ in 0..20 {
        world.join(Role::Viewer, 0);
    }
    for _ in 0..5 {
        world.join(Role::Seed, 0);
    }
    let (conn, got) = world.join(Role::Viewer, 8);
    let connects = got[&conn].connects();
    let seeds = connects.iter().filter(|(_, _, role)| *role == Role::Seed).count();
    assert_eq!((connects.len(), seeds), (8, SEEDS_FIRST));
}

#[test]
fn a_newcomer_that_is_alone_with_seeds_gets_the_rest_of_them_when_it_asks_again() {
    let mut world = World::new();
    for _ in 0..5 {
        world.join(Role::Seed, 0);
    }
    let (conn, got) = world.join(Role::Viewer, 8);
    assert_eq!(got[&conn].connects().len(), SEEDS_FIRST);
    let got = world.say(conn, ClientMessage::Want { count: 6 });
    assert_eq!(got[&conn].connects().len(), 5 - SEEDS_FIRST);
}

#[test]
fn those_with_the_fewest_pairings_are_chosen() {
    let mut world = World::new();
    let (busy, _) = world.join(Role::Viewer, 0);
    world.join(Role::Viewer, 1);
    world.join(Role::Viewer, 0);
    let (conn, got) = world.join(Role::Viewer, 1);
    let (chosen, _, _) = got[&conn].connects()[0];
    assert_ne!(chosen, fresh(busy));
}

#[test]
fn a_seed_is_not_paired_with_a_seed() {
    let mut world = World::new();
    world.join(Role::Seed, 8);
    let (conn, got) = world.join(Role::Seed, 8);
    assert_eq!(got[&conn].connects(), []);
}

#[test]
fn a_seed_that_arrives_is_given_viewers_without_one_and_they_offer() {
    let mut world = World::new();
    for _ in 0..2 * SEED_GREETING {
        world.join(Role::Viewer, 0);
    }
    let (conn, got) = world.join(Role::Seed, 0);
    let connects = got[&conn].connects();
    assert_eq!(connects.len(), SEED_GREETING);
    assert!(connects.iter().all(|&(_, offers, _)| !offers));
}

#[test]
fn a_wish_is_kept_until_someone_comes() {
    let mut world = World::new();
    let (waits, _) = world.join(Role::Viewer, 1);
    let (comes, got) = world.join(Role::Viewer, 0);
    assert_eq!(got[&waits].connects(), [(fresh(comes), true, Role::Viewer)]);
    // It had what it wanted.
    let (later, got) = world.join(Role::Viewer, 0);
    assert!(!got.contains_key(&waits) && got[&later].connects().is_empty());
}

#[test]
fn pairings_are_bounded_for_viewers_and_for_seeds() {
    let mut world = World::new();
    let mut pairs: BTreeMap<ConnId, usize> = BTreeMap::new();
    let mut conns = Vec::new();
    for _ in 0..400 {
        let role = if conns.is_empty() { Role::Seed } else { Role::Viewer };
        let (conn, got) = world.join(role, MAX_WANT);
        conns.push(conn);
        for (conn, got) in got {
            *pairs.entry(conn).or_default() += got.connects().len();
        }
    }
    for &conn in &conns {
        for (conn, got) in world.say(conn, ClientMessage::Want { count: MAX_WANT }) {
            *pairs.entry(conn).or_default() += got.connects().len();
        }
    }
    let seed = pairs.remove(&conns[0]);
    assert_eq!(seed, Some(MAX_SEED_PAIRS));
    assert_eq!(pairs.values().max(), Some(&MAX_VIEWER_PAIRS));
}

#[test]
fn a_swarm_larger_than_the_sample_still_gives_what_is_asked() {
    let mut world = World::new();
    for _ in 0..1000 {
        world.join(Role::Viewer, 2);
    }
    let (conn, got) = world.join(Role::Viewer, MAX_WANT);
    assert_eq!(got[&conn].connects().len(), usize::from(MAX_WANT));
}

#[test]
fn a_lost_neighbour_may_be_met_again_but_others_are_preferred() {
    let mut world = World::new();
    let (first, _) = world.join(Role::Viewer, 0);
    let (second, _) = world.join(Role::Viewer, 1);
    world.say(second, ClientMessage::Lost { peer: fresh(first) });
    let got = world.say(second, ClientMessage::Signal { to: fresh(first), data: offer() });
    assert_eq!(got[&second].messages, [ServerMessage::Gone { peer: fresh(first) }]);

    let (third, _) = world.join(Role::Viewer, 0);
    let got = world.say(second, ClientMessage::Want { count: 1 });
    assert_eq!(got[&second].connects(), [(fresh(third), true, Role::Viewer)]);
    let got = world.say(second, ClientMessage::Want { count: 1 });
    assert_eq!(got[&second].connects(), [(fresh(first), true, Role::Viewer)]);
}

#[test]
fn neighbours_that_are_connected_are_paired_without_being_told() {
    let mut world = World::new();
    let (stays, _) = world.join(Role::Viewer, 8);
    let (old, got) = world.join(Role::Viewer, 8);
    let (name, resume, _) = got[&old].welcome().unwrap();

    let new = world.open();
    let connected = vec![fresh(stays), name, PeerId(1)];
    let got = world.say(new, rejoin("s", Role::Viewer, 8, Some(resume), connected));
    assert!(got[&old].closed && !got.contains_key(&stays));
    assert_eq!(got[&new].welcome().map(|(name, _, size)| (name, size)), Some((name, 2)));
    assert_eq!(got[&new].connects(), []);

    let got = world.say(new, ClientMessage::Signal { to: fresh(stays), data: offer() });
    assert_eq!(got[&stays].messages, [ServerMessage::Signal { from: name, data: offer() }]);
}

#[test]
fn a_peer_that_comes_back_without_a_neighbour_has_lost_it() {
    let mut world = World::new();
    let (stays, _) = world.join(Role::Viewer, 0);
    let (old, got) = world.join(Role::Viewer, 1);
    let (name, resume, _) = got[&old].welcome().unwrap();
    world.input(Input::Closed { conn: old });

    let new = world.open();
    world.say(new, rejoin("s", Role::Viewer, 0, Some(resume), Vec::new()));
    for (from, to) in [(new, fresh(stays)), (stays, name)] {
        let got = world.say(from, ClientMessage::Signal { to, data: offer() });
        assert_eq!(got[&from].messages, [ServerMessage::Gone { peer: to }]);
    }
    let got = world.say(new, ClientMessage::Want { count: 1 });
    assert_eq!(got[&new].connects(), [(fresh(stays), true, Role::Viewer)]);
}

#[test]
fn a_resume_of_another_swarm_gives_a_new_name() {
    let mut world = World::new();
    let (first, got) = world.join(Role::Viewer, 0);
    let (_, resume, _) = got[&first].welcome().unwrap();
    let conn = world.open();
    let got = world.say(conn, rejoin("another", Role::Viewer, 0, Some(resume), Vec::new()));
    assert_eq!(got[&conn].welcome().map(|(name, _, _)| name), Some(fresh(conn)));
}

#[test]
fn swarms_do_not_meet_and_an_empty_one_is_forgotten() {
    let mut world = World::new();
    let conn = world.open();
    world.say(conn, join("a", Role::Viewer, 8));
    let other = world.open();
    let got = world.say(other, join("b", Role::Viewer, 8));
    assert_eq!(got[&other].connects(), []);
    assert_eq!(world.core.swarm_count(), 2);
    let got = world.say(other, ClientMessage::Leave);
    assert!(got[&other].closed);
    assert_eq!((world.core.swarm_count(), world.core.connection_count()), (1, 1));
}
