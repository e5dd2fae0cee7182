//! Nobody is cut off by what others send: what a slow reader has no room for is dropped, one sender's first. A client that takes
//! nothing at all is given up in time.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{Client, PATIENCE, TestServer, http_get, join, offer, until_metric};
use futures_util::{SinkExt, StreamExt};
use headwater_wire::limits::MAX_SDP_LEN;
use headwater_wire::signal::{ClientMessage, ServerMessage, SignalData};
use headwater_wire::{PeerId, Role};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// A client that reads when it is told to, and until then has room for little.
struct Slow(WebSocketStream<TcpStream>);

impl Slow {
    async fn connect(server: &TestServer, path: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(server.addr).await.unwrap();
        Self(client_async(format!("ws://{}{path}", server.addr), stream).await.unwrap().0)
    }

    async fn send(&mut self, text: String) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn next(&mut self) -> String {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("the server says something");
            if let Message::Text(text) = next.expect("it is kept").expect("it is kept") {
                return text.to_string();
            }
        }
    }

    async fn join(server: &TestServer) -> (Self, PeerId) {
        let mut slow = Self::connect(server, "/v1/signal").await;
        slow.send(serde_json::to_string(&join("s", Role::Viewer, 0)).unwrap()).await;
        match serde_json::from_str(&slow.next().await).unwrap() {
            ServerMessage::Welcome { peer, .. } => (slow, peer),
            other => panic!("{other:?}"),
        }
    }
}

/// How much was dropped so far.
async fn dropped(server: &TestServer, protocol: &str) -> u64 {
    let page = http_get(server, "/metrics").await;
    let name = format!("headwater_signal_relays_dropped_total{{protocol=\"{protocol}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

/// Messages that a flooder sends before it looks what became of them.
const ROUND: u64 = 20;

/// Sends large offers, by as many peers as their rate limits make necessary, until none arrives any more: the sockets' own buffers
/// are full. The last of the peers.
async fn flood(server: &TestServer, to: PeerId) -> Client {
    let sdp = "x".repeat(MAX_SDP_LEN);
    for _ in 0..20 {
        let mut flooder = server.join("s", Role::Viewer, 1).await;
        assert_eq!(flooder.next_connect().await.0, to);
        for _ in 0..20 {
            let before = dropped(server, "native").await;
            for _ in 0..ROUND {
                flooder.signal(to, offer(&sdp)).await;
            }
            // Answered when all of them are handled.
            flooder.flush().await;
            if dropped(server, "native").await == before + ROUND {
                return flooder;
            }
        }
        flooder.send(&ClientMessage::Leave).await;
        while flooder.next_frame().await.is_some() {}
    }
    panic!("a client that does not read was sent everything");
}

#[tokio::test]
async fn a_flood_of_one_peer_neither_closes_its_victim_nor_silences_the_others() {
    let server = TestServer::start().await;
    let (mut victim, peer) = Slow::join(&server).await;
    let mut flooder = flood(&server, peer).await;
    let mut friend = server.join("s", Role::Viewer, 2).await;
    friend.next_connect().await;
    friend.next_connect().await;
    friend.signal(peer, offer("from a friend")).await;
    // Behind everything that was sent before it.
    friend.flush().await;
    // It reads again, and has missed nothing but a part of the flood.
    let (mut connects, mut floods) = (0, 0);
    loop {
        match serde_json::from_str(&victim.next().await).unwrap() {
            ServerMessage::Connect { .. } => connects += 1,
            ServerMessage::Signal { from, data: SignalData::Offer { sdp } } if from == friend.peer => {
                assert_eq!(sdp, "from a friend");
                break;
            }
            ServerMessage::Signal { .. } => floods += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(connects >= 2 && floods > 0, "{connects} {floods}");
    let answer = ClientMessage::Signal { to: friend.peer, data: offer("from the victim") };
    victim.send(serde_json::to_string(&answer).unwrap()).await;
    assert_eq!(friend.next().await, ServerMessage::Signal { from: peer, data: offer("from the victim") });
    // What comes now arrives again.
    flooder.signal(peer, offer("once more")).await;
    let arrived = async { while !victim.next().await.contains("once more") {} };
    tokio::time::timeout(PATIENCE, arrived).await.expect("it is sent again");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up_in_time_and_holds_nobody_up() {
    let server = TestServer::start_with(|options| options.timing.stuck = Duration::from_millis(700)).await;
    let (deaf, peer) = Slow::join(&server).await;
    let mut flooder = flood(&server, peer).await;
    until_metric(&server, "headwater_signal_connections_closed_total{reason=\"gone\"}", |gone| gone == 1).await;
    flooder.signal(peer, offer("")).await;
    assert_eq!(flooder.next().await, ServerMessage::Gone { peer });
    // Its socket is gone as well: what had reached it is all there is.
    let mut deaf = deaf.0;
    let ends = async { while let Some(Ok(_)) = deaf.next().await {} };
    tokio::time::timeout(PATIENCE, ends).await.expect("the server hangs up");
}

#[tokio::test]
async fn answers_of_one_webtorrent_peer_close_nobody() {
    const HASH: &str = "aaaaaaaaaaaaaaaaaaaa";
    let server = TestServer::start().await;
    let announce =
        |peer: u32| json!({ "action": "announce", "info_hash": HASH, "peer_id": format!("-PM0203-{peer:012}") });
    let mut victim = Slow::connect(&server, "/announce").await;
    victim.send(announce(1).to_string()).await;
    victim.next().await;
    let mut flooder = Client::connect(server.addr, "/announce").await;
    flooder.send_text(announce(2).to_string()).await;
    assert_eq!(flooder.next_json().await["incomplete"], 2);
    let mut answer = announce(2);
    answer["to_peer_id"] = json!("-PM0203-000000000001");
    answer["offer_id"] = json!(HASH);
    answer["answer"] = json!({ "type": "answer", "sdp": "x".repeat(12_000) });
    for _ in 0..20 {
        let before = dropped(&server, "tracker").await;
        for _ in 0..ROUND {
            flooder.send_text(answer.to_string()).await;
        }
        flooder.send_text(announce(2).to_string()).await;
        assert_eq!(flooder.next_json().await["incomplete"], 2);
        if dropped(&server, "tracker").await == before + ROUND {
            break;
        }
    }
    assert!(dropped(&server, "tracker").await >= ROUND);
    // Another peer's offer still comes, and its own announce is answered.
    let mut third = Client::connect(server.addr, "/announce").await;
    let mut offers = announce(3);
    let one = |nth: u32| json!({ "offer_id": format!("{nth:020}"), "offer": { "sdp": "of the third" } });
    offers["offers"] = json!([one(1), one(2)]);
    third.send_text(offers.to_string()).await;
    assert_eq!(third.next_json().await["incomplete"], 3);
    victim.send(announce(1).to_string()).await;
    let (mut is_offered, mut is_answered) = (false, false);
    while !(is_offered && is_answered) {
        let message: Value = serde_json::from_str(&victim.next().await).unwrap();
        is_offered |= message["offer"]["sdp"] == "of the third";
        is_answered |= message["incomplete"] == 3;
    }
}
