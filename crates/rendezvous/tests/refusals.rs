//! What is refused, with which code, and that nothing stays of it.

mod common;

use common::{World, join, rejoin};
use headwater_rendezvous::config::MAX_CONNECTED;
use headwater_rendezvous::{ConnId, Input, Now, TimeoutReason};
use headwater_wire::limits::{MAX_CANDIDATE_LEN, MAX_SDP_LEN, MAX_WANT};
use headwater_wire::signal::{ClientMessage, ErrorCode, SignalData, StatsReport};
use headwater_wire::{PeerId, Role, SwarmName};

fn refused(world: &mut World, conn: ConnId, message: ClientMessage) -> Option<ErrorCode> {
    let got = world.say(conn, message);
    let got = got.get(&conn)?;
    assert!(got.closed);
    // Whatever comes late is ignored.
    assert!(world.say(conn, ClientMessage::Leave).is_empty());
    got.error()
}

#[test]
fn anything_but_a_join_is_refused_at_first_and_a_join_later() {
    let mut world = World::new();
    for message in [ClientMessage::Leave, ClientMessage::Want { count: 1 }] {
        let conn = world.open();
        assert_eq!(refused(&mut world, conn, message), Some(ErrorCode::NotJoined));
    }
    let (conn, _) = world.join(Role::Viewer, 1);
    assert_eq!(refused(&mut world, conn, join("s", Role::Viewer, 1)), Some(ErrorCode::NotJoined));
    assert_eq!((world.core.connection_count(), world.core.swarm_count()), (0, 0));
    assert_eq!(world.timeout, None);
}

#[test]
fn a_connection_that_does_not_join_is_closed_in_time() {
    let mut world = World::new();
    let silent = world.open();
    world.now = Now(1);
    let (joined, _) = world.join(Role::Viewer, 1);
    let timeout = world.timeout.unwrap();
    assert_eq!((timeout.at, timeout.reason), (Now(10_000_000), TimeoutReason::Join));
    world.now = Now(9_999_999);
    assert!(world.input(Input::Timeout).is_empty());
    world.now = timeout.at;
    let got = world.input(Input::Timeout);
    assert_eq!(got[&silent].error(), Some(ErrorCode::NotJoined));
    assert!(got[&silent].closed && !got.contains_key(&joined));
    assert_eq!(world.timeout, None);
}

#[test]
fn another_version_is_refused() {
    let mut world = World::new();
    let conn = world.open();
    let mut message = join("s", Role::Viewer, 1);
    if let ClientMessage::Join { version, .. } = &mut message {
        *version = 2;
    }
    assert_eq!(refused(&mut world, conn, message), Some(ErrorCode::Version));
}

#[test]
fn what_is_over_a_limit_is_refused() {
    let mut world = World::new();
    let connected = vec![PeerId(1); MAX_CONNECTED + 1];
    for message in [join("s", Role::Viewer, MAX_WANT + 1), rejoin("s", Role::Viewer, 1, None, connected)] {
        let conn = world.open();
        assert_eq!(refused(&mut world, conn, message), Some(ErrorCode::BadMessage));
    }
    let (conn, _) = world.join(Role::Viewer, 1);
    let message = ClientMessage::Want { count: MAX_WANT + 1 };
    assert_eq!(refused(&mut world, conn, message), Some(ErrorCode::BadMessage));
    let candidate = |candidate: usize, mid: usize| SignalData::Candidate {
        candidate: "x".repeat(candidate),
        sdp_mid: Some("m".repeat(mid)),
        sdp_m_line_index: None,
    };
    for data in [
        SignalData::Offer { sdp: "x".repeat(MAX_SDP_LEN + 1) },
        SignalData::Answer { sdp: "x".repeat(MAX_SDP_LEN + 1) },
        candidate(MAX_CANDIDATE_LEN + 1, 1),
        candidate(1, 1000),
    ] {
        let (conn, _) = world.join(Role::Viewer, 1);
        let message = ClientMessage::Signal { to: PeerId(1), data };
        assert_eq!(refused(&mut world, conn, message), Some(ErrorCode::TooLarge));
    }
}

#[test]
fn a_full_server_and_a_full_swarm_say_so() {
    let mut world = World::with(|config| {
        config.max_connections = 4;
        config.max_swarms = 1;
        config.max_swarm_size = 2;
    });
    let (first, _) = world.join(Role::Viewer, 1);
    world.join(Role::Viewer, 1);
    let conn = world.open();
    assert_eq!(refused(&mut world, conn, join("another", Role::Viewer, 1)), Some(ErrorCode::Full));
    let conn = world.open();
    assert_eq!(refused(&mut world, conn, join("s", Role::Viewer, 1)), Some(ErrorCode::Full));

    world.open();
    world.open();
    let (conn, fresh) = (ConnId(99), PeerId(99));
    let got = world.input(Input::Opened { conn, fresh });
    assert_eq!(got[&conn].error(), Some(ErrorCode::Full));
    // Whoever leaves makes room.
    world.input(Input::Closed { conn: first });
    let conn = world.open();
    let got = world.say(conn, join("s", Role::Viewer, 1));
    assert!(got[&conn].welcome().is_some());
}

#[test]
fn what_members_carried_is_summed_up() {
    let mut world = World::new();
    for role in [Role::Viewer, Role::Viewer, Role::Seed] {
        let (conn, _) = world.join(role, 0);
        let report = StatsReport { http_bytes: u64::MAX / 2, viewer_bytes: 5, ..StatsReport::default() };
        world.say(conn, ClientMessage::Stats { report });
    }
    let report = world.core.swarm_report(&SwarmName::new("s").unwrap()).unwrap();
    assert_eq!((report.viewers, report.seeds), (2, 1));
    assert_eq!((report.carried.http_bytes, report.carried.viewer_bytes), (u64::MAX, 15));
}
