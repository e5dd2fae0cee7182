//! Peers that join a swarm are told of each other, and what they signal reaches the other and nobody else.

mod common;

use common::{TestServer, join, offer};
use headwater_wire::signal::{ClientMessage, ServerMessage, SignalData};
use headwater_wire::{PeerId, Role};

#[tokio::test]
async fn two_peers_negotiate_through_the_server() {
    let server = TestServer::start().await;
    let mut first = server.join("s", Role::Viewer, 8).await;
    let mut second = server.join("s", Role::Viewer, 8).await;
    assert_eq!((first.swarm_size, second.swarm_size), (1, 2));

    assert_eq!(second.next_connect().await, (first.peer, true, Role::Viewer));
    assert_eq!(first.next_connect().await, (second.peer, false, Role::Viewer));

    let candidate = SignalData::Candidate {
        candidate: "candidate:1 1 udp 1 192.0.2.1 9 typ host".to_owned(),
        sdp_mid: Some("0".to_owned()),
        sdp_m_line_index: Some(0),
    };
    let answer = SignalData::Answer { sdp: "v=0 answer".to_owned() };
    second.signal(first.peer, offer("v=0 offer")).await;
    second.signal(first.peer, candidate.clone()).await;
    for data in [offer("v=0 offer"), candidate.clone()] {
        assert_eq!(first.next().await, ServerMessage::Signal { from: second.peer, data });
    }
    first.signal(second.peer, answer.clone()).await;
    first.signal(second.peer, candidate.clone()).await;
    for data in [answer, candidate] {
        assert_eq!(second.next().await, ServerMessage::Signal { from: first.peer, data });
    }
}

#[tokio::test]
async fn a_viewer_that_joins_meets_the_seed_and_the_viewers() {
    let server = TestServer::start().await;
    let mut seed = server.join("s", Role::Seed, 0).await;
    let mut viewer = server.join("s", Role::Viewer, 8).await;
    assert_eq!(viewer.next_connect().await, (seed.peer, true, Role::Seed));
    assert_eq!(seed.next_connect().await, (viewer.peer, false, Role::Viewer));

    let mut third = server.join("s", Role::Viewer, 8).await;
    assert_eq!(third.next_connect().await, (seed.peer, true, Role::Seed));
    assert_eq!(third.next_connect().await, (viewer.peer, true, Role::Viewer));
    assert_eq!(viewer.next_connect().await, (third.peer, false, Role::Viewer));
    assert_eq!(seed.next_connect().await, (third.peer, false, Role::Viewer));
}

#[tokio::test]
async fn a_viewer_that_waits_makes_the_offer_to_the_seed_that_comes_later() {
    let server = TestServer::start().await;
    let mut viewer = server.join("s", Role::Viewer, 8).await;
    let mut seed = server.join("s", Role::Seed, 0).await;
    assert_eq!(viewer.next_connect().await, (seed.peer, true, Role::Seed));
    assert_eq!(seed.next_connect().await, (viewer.peer, false, Role::Viewer));
}

#[tokio::test]
async fn a_signal_to_a_peer_that_is_not_paired_comes_back_as_gone() {
    let server = TestServer::start().await;
    let mut here = server.join("s", Role::Viewer, 8).await;
    let mut elsewhere = server.join("another", Role::Viewer, 8).await;
    for stranger in [elsewhere.peer, here.peer, PeerId(7)] {
        here.signal(stranger, offer("x")).await;
        assert_eq!(here.next().await, ServerMessage::Gone { peer: stranger });
    }
    elsewhere.flush().await;
}

#[tokio::test]
async fn a_signal_to_a_peer_that_left_comes_back_as_gone() {
    let server = TestServer::start().await;
    let mut stays = server.join("s", Role::Viewer, 8).await;
    let mut leaves = server.join("s", Role::Viewer, 8).await;
    stays.next_connect().await;
    leaves.next_connect().await;
    leaves.send(&ClientMessage::Leave).await;
    // The server has taken it out before it closes.
    while leaves.next_frame().await.is_some() {}
    stays.signal(leaves.peer, offer("x")).await;
    assert_eq!(stays.next().await, ServerMessage::Gone { peer: leaves.peer });
}

#[tokio::test]
async fn a_peer_that_comes_back_has_its_name_again_and_is_not_paired_twice() {
    let server = TestServer::start().await;
    let mut stays = server.join("s", Role::Viewer, 8).await;
    let mut first = server.join("s", Role::Viewer, 8).await;
    stays.next_connect().await;
    first.next_connect().await;

    // The old socket still stands: the server lets the new one take its place.
    let back = |resume: &str, connected| {
        let mut join = join("s", Role::Viewer, 8);
        if let ClientMessage::Join { resume: slot, connected: list, .. } = &mut join {
            *slot = Some(resume.to_owned());
            *list = connected;
        }
        join
    };
    let mut second = server.join_as(back(&first.resume, vec![stays.peer])).await;
    assert_eq!((second.peer, second.swarm_size), (first.peer, 2));
    while first.next_frame().await.is_some() {}

    // Paired still, without a new introduction.
    second.signal(stays.peer, offer("again")).await;
    assert_eq!(stays.next().await, ServerMessage::Signal { from: second.peer, data: offer("again") });
    second.flush().await;

    // A forged secret gives another name.
    let forged = format!("{}.{}", second.peer, "0".repeat(32));
    let stranger = server.join_as(back(&forged, Vec::new())).await;
    assert_ne!(stranger.peer, second.peer);
}
