//! The WebTorrent tracker protocol over real sockets: paths, frames, errors, and what a bad client does to others.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{PATIENCE, TestServer};
use futures_util::{SinkExt, StreamExt};
use headwater_signal::Rate;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const HASH: &str = "aaaaaaaaaaaaaaaaaaaa";

struct Peer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    id: String,
}

impl Peer {
    async fn connect(server: &TestServer, path: &str, id: u32) -> Self {
        let (socket, _) = connect_async(format!("ws://{}{path}", server.addr)).await.unwrap();
        Self { socket, id: format!("-PM0203-{id:012}") }
    }

    async fn send(&mut self, extra: Value) {
        self.socket.send(Message::text(self.announce(extra).to_string())).await.unwrap();
    }

    fn announce(&self, extra: Value) -> Value {
        let mut message = json!({ "action": "announce", "info_hash": HASH, "peer_id": self.id });
        for (key, value) in extra.as_object().unwrap() {
            message[key] = value.clone();
        }
        message
    }

    /// The next message; None once the server has closed.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the server says something") {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    async fn incomplete(&mut self) -> Value {
        self.send(json!({})).await;
        self.next().await.unwrap()["incomplete"].clone()
    }
}

#[tokio::test]
async fn two_peers_exchange_offer_and_answer_on_either_path() {
    let server = TestServer::start().await;
    let mut first = Peer::connect(&server, "/announce", 1).await;
    let mut second = Peer::connect(&server, "/", 2).await;
    assert_eq!(first.incomplete().await, 1);
    let offer = json!({ "type": "offer", "sdp": "v=0\r\n ä 漢" });
    second.send(json!({ "numwant": 5, "offers": [{ "offer": offer, "offer_id": "ÿ\u{0}xxxxxxxxxxxxxxxxxx" }] })).await;
    assert_eq!(second.next().await.unwrap()["incomplete"], 2);
    let forwarded = first.next().await.unwrap();
    assert_eq!(forwarded["offer"], offer);
    assert_eq!(forwarded["peer_id"], json!(second.id));
    first
        .send(json!({ "to_peer_id": second.id, "offer_id": forwarded["offer_id"], "answer": { "type": "answer" } }))
        .await;
    let answer = second.next().await.unwrap();
    assert_eq!(answer["answer"], json!({ "type": "answer" }));
    assert_eq!(answer["offer_id"], "ÿ\u{0}xxxxxxxxxxxxxxxxxx");
    assert_eq!(answer["to_peer_id"], Value::Null);
}

#[tokio::test]
async fn binary_and_fragmented_messages_are_read_and_closing_takes_the_peer_out() {
    let server = TestServer::start().await;
    let mut first = Peer::connect(&server, "/announce?token=ignored", 1).await;
    let mut second = Peer::connect(&server, "/announce", 2).await;
    let text = first.announce(json!({ "left": 0 })).to_string();
    first.socket.send(Message::binary(text.into_bytes())).await.unwrap();
    assert_eq!(first.next().await.unwrap()["complete"], 1);
    first.socket.send(Message::Ping(vec![1, 2].into())).await.unwrap();
    assert_eq!(first.socket.next().await.unwrap().unwrap(), Message::Pong(vec![1, 2].into()));
    first.socket.close(None).await.unwrap();
    while first.next().await.is_some() {}
    assert_eq!(second.incomplete().await, 1);
    second.send(json!({ "event": "stopped" })).await;
    assert_eq!(second.next().await.unwrap()["complete"], 0);
}

#[tokio::test]
async fn an_error_names_its_action_and_keeps_the_connection() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server, "/announce", 1).await;
    let deep = format!(r#"{{"action":"announce","offers":{}"#, "[".repeat(50));
    for bad in ["{}", "garbage", r#"{"action":"announce","info_hash":"x"}"#, &deep] {
        peer.socket.send(Message::text(bad)).await.unwrap();
        let error = peer.next().await.unwrap();
        assert_eq!(error["action"], "announce");
        assert!(error["failure reason"].is_string(), "{error}");
    }
    assert_eq!(peer.incomplete().await, 1);
}

#[tokio::test]
async fn a_message_that_is_no_utf8_or_too_large_ends_the_connection_of_its_sender_alone() {
    let server = TestServer::start().await;
    let mut witness = Peer::connect(&server, "/announce", 9).await;
    for bad in [vec![0xff; 100], vec![b' '; 1 << 17]] {
        let mut peer = Peer::connect(&server, "/announce", 1).await;
        assert_eq!(peer.incomplete().await, if bad.len() == 100 { 1 } else { 2 });
        let _ = peer.socket.send(Message::binary(bad)).await;
        while peer.next().await.is_some() {}
        assert_eq!(witness.incomplete().await, 1);
    }
}

#[tokio::test]
async fn offers_beyond_the_limit_are_dropped_and_everything_else_goes_on() {
    let server = TestServer::start_with(|options| options.limits.offers = Rate { burst: 7, per_second: 1 }).await;
    let mut others = Vec::new();
    for n in 1..=5 {
        others.push(Peer::connect(&server, "/announce", n).await);
        others.last_mut().unwrap().incomplete().await;
    }
    let mut peer = Peer::connect(&server, "/announce", 9).await;
    let offers: Vec<Value> = (0..5).map(|n| json!({ "offer_id": format!("{n:020}"), "offer": { "sdp": n } })).collect();
    // A client with many torrents on one connection announces all of them at once.
    for torrent in 0..40 {
        let hash = if torrent == 0 { HASH.to_owned() } else { format!("{torrent:020}") };
        peer.send(json!({ "info_hash": hash, "numwant": 5, "offers": offers })).await;
        let reply = peer.next().await.unwrap();
        assert_eq!((&reply["info_hash"], reply["incomplete"].is_u64()), (&json!(hash), true), "{reply}");
    }
    for other in &mut others {
        assert!(other.next().await.unwrap()["offer"].is_object());
    }
    // It has no allowance left for these, but for what a second or two gave back.
    peer.send(json!({ "numwant": 5, "offers": offers })).await;
    assert_eq!(peer.next().await.unwrap()["incomplete"], 6);
    let metrics = common::http_get(&server, "/metrics").await;
    let count = |name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("headwater_signal_{name} ")));
        line.unwrap().parse().unwrap()
    };
    // Offers to swarms without others are not passed on, but they count: 7 at once and one a second.
    assert!((5..=9).contains(&count("tracker_offers_total")), "{metrics}");
    assert!(count("tracker_offers_dropped_total") > 150, "{metrics}");
}

#[tokio::test]
async fn a_scrape_that_is_not_allowed_is_answered_as_one() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server, "/announce", 1).await;
    peer.socket.send(Message::text(r#"{"action":"scrape"}"#)).await.unwrap();
    let error = peer.next().await.unwrap();
    assert_eq!(
        (&error["action"], error["failure reason"].as_str()),
        (&json!("scrape"), Some("name the info_hash to scrape"))
    );
    // The same where the swarms are restricted.
    let server = TestServer::start_with(|options| {
        options.admission.swarms = headwater_signal::AllowList::new(vec!["62*".to_owned()]);
    })
    .await;
    let mut peer = Peer::connect(&server, "/announce", 1).await;
    for text in [json!({ "action": "scrape" }), json!({ "action": "scrape", "info_hash": [HASH] })] {
        peer.socket.send(Message::text(text.to_string())).await.unwrap();
        let error = peer.next().await.unwrap();
        assert!(error["action"] == "scrape" && error["failure reason"].is_string(), "{error}");
    }
}

#[tokio::test]
async fn a_flood_is_refused_with_an_action() {
    let server = TestServer::start_with(|options| {
        options.limits.messages = Rate { burst: 3, per_second: 1 };
    })
    .await;
    let mut peer = Peer::connect(&server, "/announce", 1).await;
    for _ in 0..4 {
        peer.send(json!({})).await;
    }
    for _ in 0..3 {
        assert_eq!(peer.next().await.unwrap()["incomplete"], 1);
    }
    let error = peer.next().await.unwrap();
    assert!(error["action"] == "announce" && error["failure reason"].is_string(), "{error}");
    assert_eq!(peer.next().await, None);
}

#[tokio::test]
async fn a_tracker_client_that_answers_no_pings_is_closed() {
    let server = TestServer::start_with(|options| {
        options.timing.ping_every = Duration::from_millis(30);
        options.timing.silence = Duration::from_millis(200);
    })
    .await;
    let mut witness = Peer::connect(&server, "/announce", 9).await;
    let mut peer = Peer::connect(&server, "/announce", 1).await;
    assert_eq!(peer.incomplete().await, 1);
    // Nobody polls its socket from now on, so nothing answers the pings.
    tokio::time::timeout(PATIENCE, async {
        while witness.incomplete().await != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the silent one is taken out");
}

#[tokio::test]
async fn a_tracker_client_that_announces_nothing_is_closed() {
    let server = TestServer::start_with(|options| {
        options.timing.first_announce = Duration::from_secs(2);
    })
    .await;
    let mut peer = Peer::connect(&server, "/announce", 1).await;
    assert_eq!(peer.incomplete().await, 1);
    let mut idle = Peer::connect(&server, "/announce", 2).await;
    idle.socket.send(Message::text("garbage")).await.unwrap();
    assert!(idle.next().await.unwrap()["failure reason"].is_string());
    let error = idle.next().await.unwrap();
    assert!(error["failure reason"].as_str().unwrap().contains("announce"), "{error}");
    assert_eq!(idle.next().await, None);
    // The one that came before it and announced is still there.
    assert_eq!(peer.incomplete().await, 1);
}

#[tokio::test]
async fn clients_of_either_protocol_are_refused_by_a_full_server() {
    let server = TestServer::start_with(|options| options.core.max_connections = 2).await;
    let native = server.connect().await;
    let _peer = Peer::connect(&server, "/announce", 1).await;
    for path in ["/announce", "/", "/v1/signal"] {
        match connect_async(format!("ws://{}{path}", server.addr)).await {
            Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 503, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    let metrics = common::http_get(&server, "/metrics").await;
    assert!(metrics.contains("connections_refused_total{reason=\"full\"} 3"), "{metrics}");
    drop(native);
    let freed = async { while connect_async(format!("ws://{}/announce", server.addr)).await.is_err() {} };
    tokio::time::timeout(PATIENCE, freed).await.expect("whoever leaves makes room");
}

#[tokio::test]
async fn a_plain_request_is_told_what_to_do() {
    let server = TestServer::start().await;
    for path in ["/announce", "/v1/signal"] {
        let answer = common::http_get(&server, path).await;
        assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        assert!(answer.contains("wss:"), "{answer}");
    }
}

#[tokio::test]
async fn peers_are_told_to_go_when_the_server_stops() {
    let mut server = TestServer::start().await;
    let mut peer = Peer::connect(&server, "/announce", 1).await;
    assert_eq!(peer.incomplete().await, 1);
    server.stop();
    match tokio::time::timeout(PATIENCE, peer.socket.next()).await.unwrap() {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("expected a close frame, got {other:?}"),
    }
}
