//! A host of many publishers: each key signs for its own swarms, keys come and go while the server runs, and tokens bind clients
//! of either protocol.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::time::Duration;

use common::tokens::{Folder, OTHER_SECRET, SECRET, join_with, key, key_set, token, token_by, unix_now, with_keys};
use common::{Client, PATIENCE, TestServer, http_get_with};
use headwater_wire::signal::{ErrorCode, ServerMessage};
use serde_json::{Value, json};

/// How a join is answered: none is a welcome.
async fn refusal(server: &TestServer, swarm: &str, token: String) -> Option<(ErrorCode, String)> {
    let mut client = server.connect().await;
    client.send(&join_with(swarm, Some(token))).await;
    match client.next().await {
        ServerMessage::Welcome { .. } => None,
        ServerMessage::Error { code, message } => Some((code, message)),
        other => panic!("{other:?}"),
    }
}

fn announcement(hash: &str, peer: u32) -> Value {
    json!({ "action": "announce", "info_hash": hash.repeat(20), "peer_id": format!("-PM0203-{peer:012}") })
}

/// Says something to the tracker; what the answer complains of.
async fn complaint(client: &mut Client, message: &Value) -> Option<String> {
    client.send_text(message.to_string()).await;
    let answer = client.next_json().await;
    assert_eq!(answer["action"], message["action"]);
    answer["failure reason"].as_str().map(str::to_owned)
}

async fn tracker(server: &TestServer, token: &str) -> Client {
    Client::connect(server.addr, &format!("/announce?token={token}")).await
}

#[tokio::test]
async fn no_publisher_lets_anybody_into_anothers_swarms() {
    let folder = Folder::new("publishers");
    let keys = [key("a", SECRET, Some(&["A/*", &"61".repeat(20)])), key("b", OTHER_SECRET, Some(&["B/*"]))];
    let file = folder.write("keys.json", &key_set(&keys));
    let server = TestServer::start_with(|options| options.admission.token_keys = Some(file)).await;
    let all = || json!({ "swarm_prefix": "", "stats": true });
    for (token, own, foreign) in
        [(token(all()), "A/live", "B/live"), (token_by("b", OTHER_SECRET, all()), "B/live", "A/live")]
    {
        assert_eq!(refusal(&server, own, token.clone()).await, None);
        let (code, message) = refusal(&server, foreign, token.clone()).await.unwrap();
        assert!(code == ErrorCode::Unauthorised && message.contains("may not sign"), "{message}");
        for (swarm, status) in [(own, "200"), (foreign, "403")] {
            let path = format!("/v1/swarms/{}/stats", swarm.replace('/', "%2F"));
            let answer = http_get_with(&server, &path, &format!("authorization: Bearer {token}\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
    }
    let mut client = tracker(&server, &token(all())).await;
    assert_eq!(complaint(&mut client, &announcement("a", 1)).await, None);
    let foreign = complaint(&mut client, &announcement("b", 1)).await.unwrap();
    assert!(foreign.contains("may not sign"), "{foreign}");
    let scrape = json!({ "action": "scrape", "info_hash": ["a".repeat(20), "b".repeat(20)] });
    assert!(complaint(&mut client, &scrape).await.unwrap().contains("may not sign"));
}

#[tokio::test]
async fn keys_are_rotated_while_the_server_runs() {
    let folder = Folder::new("rotation");
    let server = with_keys(&folder).await;
    let file = folder.0.join("keys.json");
    let (old, new) = (|| token(json!({ "swarm": "s" })), || token_by("b", OTHER_SECRET, json!({ "swarm": "s" })));
    let stays = server.join_as(join_with("s", Some(old()))).await;
    assert!(refusal(&server, "s", new()).await.is_some());
    let until = async |token: &dyn Fn() -> String, is_welcome: bool| {
        let changed = async {
            while refusal(&server, "s", token()).await.is_none() != is_welcome {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, changed).await.expect("the new keys are taken");
    };
    // The new key beside the old one, then alone. What is no key set in between changes nothing.
    fs::write(&file, key_set(&[key("a", SECRET, None), key("b", OTHER_SECRET, None)])).unwrap();
    until(&new, true).await;
    assert_eq!(refusal(&server, "s", old()).await, None);
    fs::write(&file, "{").unwrap();
    fs::write(&file, key_set(&[key("b", OTHER_SECRET, None)])).unwrap();
    until(&old, false).await;
    assert_eq!(refusal(&server, "s", new()).await, None);
    // Whoever was in stays in.
    let mut stays = stays;
    stays.flush().await;
}

#[tokio::test]
async fn statistics_end_with_the_key_of_their_token() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = Folder::new("revoked");
    let server = with_keys(&folder).await;
    let token = token(json!({ "swarm": "s", "stats": true }));
    let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "GET /v1/swarms/s/stats?token={token} HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let first = async {
        while !String::from_utf8_lossy(&text).contains("event: stats") {
            assert!(stream.read_buf(&mut text).await.unwrap() > 0, "{}", String::from_utf8_lossy(&text));
        }
    };
    tokio::time::timeout(PATIENCE, first).await.expect("an event comes");
    folder.write("keys.json", &key_set(&[key("b", OTHER_SECRET, None)]));
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("no event comes any more").unwrap();
}

#[tokio::test]
async fn a_token_admits_as_many_webtorrent_peers_as_it_says() {
    let folder = Folder::new("tracker-quota");
    let server = with_keys(&folder).await;
    let token = token(json!({ "swarm": "61".repeat(20), "max_peers": 1, "uses": 2, "jti": "x" }));
    let mut first = tracker(&server, &token).await;
    let mut second = tracker(&server, &token).await;
    assert_eq!(complaint(&mut first, &announcement("a", 1)).await, None);
    let full = complaint(&mut second, &announcement("a", 2)).await.unwrap();
    assert!(full.contains("as many peers as this token allows"), "{full}");
    let mut stopped = announcement("a", 1);
    stopped["event"] = json!("stopped");
    assert_eq!(complaint(&mut first, &stopped).await, None);
    assert_eq!(complaint(&mut second, &announcement("a", 2)).await, None);
    second.socket.close(None).await.unwrap();
    while second.next_frame().await.is_some() {}
    let used = complaint(&mut first, &announcement("a", 1)).await.unwrap();
    assert!(used.contains("as often as it allows"), "{used}");
}

#[tokio::test]
async fn a_token_that_expires_while_its_holder_is_connected_opens_nothing_more() {
    let folder = Folder::new("tracker-expiry");
    let server = with_keys(&folder).await;
    // With the leeway of 30 s there are two or three left.
    let mut client = tracker(&server, &token(json!({ "swarm_prefix": "", "exp": unix_now() - 27 }))).await;
    assert_eq!(complaint(&mut client, &announcement("a", 1)).await, None);
    let expired = async {
        for nth in 0_u8.. {
            let hash = char::from(b'b' + nth % 24).to_string();
            if let Some(complaint) = complaint(&mut client, &announcement(&hash, 1)).await {
                return complaint;
            }
            let mut stopped = announcement(&hash, 1);
            stopped["event"] = json!("stopped");
            assert_eq!(complaint(&mut client, &stopped).await, None);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        unreachable!()
    };
    let why = tokio::time::timeout(PATIENCE, expired).await.expect("its time passes");
    assert_eq!(why, "the token has expired: get a new one");
    // It stays where it is, as a peer of the native protocol does.
    assert_eq!(complaint(&mut client, &announcement("a", 1)).await, None);
    let scrape = json!({ "action": "scrape", "info_hash": "a".repeat(20) });
    assert_eq!(complaint(&mut client, &scrape).await.unwrap(), why);
}
