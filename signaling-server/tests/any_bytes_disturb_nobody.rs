//! Clients that send anything at all, in any pieces, and end in any way: none of them is noticed by the others, and nothing of them
//! stays behind.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::cell::Cell;
use std::time::Duration;

use common::{Client, PATIENCE, TestServer, offer, until_metric};
use headwater_wire::Role;
use headwater_wire::signal::ServerMessage;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Every run is of these; one that failed stays here.
const SEEDS: [u64; 3] = [1, 2, 3];

/// Clients of a seed, and how many of them at once.
const CLIENTS: u64 = 1000;
const AT_ONCE: usize = 16;

/// How long a client waits whether the server says or closes anything before it goes: most are closed at once.
const LINGER: Duration = Duration::from_millis(50);

/// Numbers by lot (splitmix64).
struct Lots(u64);

impl Lots {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A frame as a client sends it: the first byte, whether it is masked, the length that it claims to have, and the payload.
fn frame(first: u8, is_masked: bool, claimed: u64, payload: &[u8]) -> Vec<u8> {
    let flag = if is_masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match claimed {
        0..126 => bytes.push(flag | u8::try_from(claimed).unwrap()),
        126..0x1_0000 => {
            bytes.push(flag | 126);
            bytes.extend(u16::try_from(claimed).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(flag | 127);
            bytes.extend(claimed.to_be_bytes());
        }
    }
    let mask = if is_masked { [0xa5, 0x5a, 0x33, 0xcc] } else { [0; 4] };
    if is_masked {
        bytes.extend(mask);
    }
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn text(payload: &[u8]) -> Vec<u8> {
    frame(0x81, true, payload.len() as u64, payload)
}

/// Messages of both protocols, most of them good.
fn messages(path: &str) -> Vec<String> {
    let hash = "aaaaaaaaaaaaaaaaaaaa";
    let announce = |extra: &str| {
        format!(r#"{{"action":"announce","info_hash":"{hash}","peer_id":"-WW0102-000000000007"{extra}}}"#)
    };
    if path == "/v1/signal" {
        return [
            r#"{"type":"join","version":1,"swarm":"fuzz","role":"viewer","want":8}"#,
            r#"{"type":"join","version":1,"swarm":"witnesses","want":32,"connected":["00c0ffee00c0ffee"]}"#,
            r#"{"type":"want","count":3}"#,
            r#"{"type":"signal","to":"00c0ffee00c0ffee","data":{"kind":"offer","sdp":"v=0"}}"#,
            r#"{"type":"signal","to":"00c0ffee00c0ffee","data":{"kind":"candidate","candidate":"","sdp_m_line_index":0}}"#,
            r#"{"type":"lost","peer":"00c0ffee00c0ffee"}"#,
            r#"{"type":"stats","http_bytes":18446744073709551615,"uploaded_bytes":1,"neighbours":4294967295}"#,
            r#"{"type":"leave"}"#,
        ]
        .map(str::to_owned)
        .into();
    }
    vec![
        announce(""),
        announce(r#","numwant":5,"left":0,"offers":[{"offer_id":"oooooooooooooooooooo","offer":{"sdp":"v=0"}}]"#),
        announce(r#","to_peer_id":"-WW0102-000000000008","offer_id":"oooooooooooooooooooo","answer":{"sdp":"v=0"}"#),
        announce(r#","event":"completed","left":"0""#),
        announce(r#","event":"stopped""#),
        format!(r#"{{"action":"scrape","info_hash":["{hash}","{hash}"]}}"#),
        r#"{"action":"scrape"}"#.to_owned(),
    ]
}

/// Changes a few bytes, cuts, repeats or nests.
fn mutate(lots: &mut Lots, message: &str) -> Vec<u8> {
    let mut bytes = message.as_bytes().to_vec();
    match lots.below(8) {
        0 => {}
        1 => bytes.truncate(lots.below(bytes.len())),
        2 => {
            for _ in 0..=lots.below(4) {
                let at = lots.below(bytes.len());
                bytes[at] = lots.next().to_le_bytes()[0];
            }
        }
        3 => bytes.extend(message.as_bytes()),
        4 => {
            let brackets = lots.one(&["[", "{\"a\":", "[[[["]).repeat(lots.below(5000));
            let at = lots.below(bytes.len());
            bytes.splice(at..at, brackets.bytes());
        }
        5 => {
            let number = lots.one(&["-1", "1e999", "99999999999999999999", "null", "\"\\ud800\"", "\"\\u0000\""]);
            bytes = message.replacen(|c: char| c.is_ascii_digit(), number, 1).into_bytes();
        }
        6 => {
            let at = lots.below(bytes.len());
            let len = lots.below(40_000);
            bytes.splice(at..at, std::iter::repeat_n(b'x', len));
        }
        _ => bytes = lots.bytes(2000),
    }
    bytes
}

/// What a client sends after the handshake.
fn conversation(lots: &mut Lots, path: &str) -> Vec<u8> {
    let all = messages(path);
    let mut bytes = Vec::new();
    if lots.below(3) > 0 {
        bytes.extend(text(all[0].as_bytes()));
    }
    for _ in 0..lots.below(12) {
        let message = lots.one(&all).clone();
        let payload = mutate(lots, &message);
        match lots.below(9) {
            0 => bytes.extend(lots.bytes(300)),
            // Any first byte: other kinds, reserved bits, fragments of nothing.
            1 => bytes.extend(frame(lots.next().to_le_bytes()[0], true, payload.len() as u64, &payload)),
            2 => bytes.extend(frame(0x81, false, payload.len() as u64, &payload)),
            3 => {
                let claimed = *lots.one(&[0, 125, 126, 65_535, 65_537, u64::from(u32::MAX), u64::MAX, 1 << 63]);
                bytes.extend(frame(0x81, true, claimed, &payload));
            }
            // In fragments, with a ping between them.
            4 => {
                let mut rest = payload.as_slice();
                let mut first = 0x01;
                while rest.len() > 1 {
                    let (part, after) = rest.split_at(1 + lots.below(rest.len() - 1));
                    bytes.extend(frame(first, true, part.len() as u64, part));
                    bytes.extend(frame(0x89, true, 2, b"hi"));
                    (first, rest) = (0x00, after);
                }
                bytes.extend(frame(first | 0x80, true, rest.len() as u64, rest));
            }
            5 => bytes.extend(frame(0x82, true, payload.len() as u64, &payload)),
            6 => bytes.extend(frame(0x88, true, 2, &1000_u16.to_be_bytes())),
            _ => bytes.extend(text(&payload)),
        }
    }
    if lots.below(4) == 0 {
        bytes.truncate(lots.below(bytes.len() + 1));
    }
    bytes
}

fn handshake(lots: &mut Lots, path: &str) -> Vec<u8> {
    let good = format!(
        "GET {path} HTTP/1.1\r\nhost: test\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    match lots.below(12) {
        0 => lots.bytes(2000),
        1 => mutate(lots, &good),
        _ => good.into_bytes(),
    }
}

/// One client from its connecting to its end.
async fn client(addr: std::net::SocketAddr, seed: u64) {
    let mut lots = Lots(seed);
    let path = *lots.one(&["/v1/signal", "/announce", "/"]);
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut bytes = handshake(&mut lots, path);
    bytes.extend(conversation(&mut lots, path));
    let mut rest = bytes.as_slice();
    // In pieces that the server sees as they come. It may hang up at any moment.
    stream.set_nodelay(true).unwrap();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + lots.below(rest.len().min(20_000)));
        if stream.write_all(piece).await.is_err() {
            return;
        }
        rest = after;
        tokio::task::yield_now().await;
    }
    match lots.below(4) {
        // Half closed, and reads on until the server has closed too.
        0 => {
            let _ = stream.shutdown().await;
            let mut sink = Vec::new();
            let _ = timeout(PATIENCE, stream.read_to_end(&mut sink)).await.expect("the server closes as well");
        }
        // Resets the connection.
        1 => {
            stream.set_zero_linger().unwrap();
        }
        2 => {}
        _ => {
            let mut sink = Vec::new();
            let _ = timeout(LINGER, stream.read_to_end(&mut sink)).await;
        }
    }
}

/// Peers of both protocols that go on whatever the others do.
struct Witnesses {
    native: [Client; 2],
    tracker: [Client; 2],
    rounds: u64,
}

impl Witnesses {
    async fn new(server: &TestServer) -> Self {
        let mut native = [server.join("quiet", Role::Viewer, 1).await, server.join("quiet", Role::Viewer, 1).await];
        for witness in &mut native {
            witness.next_connect().await;
        }
        let tracker =
            [Client::connect(server.addr, "/announce").await, Client::connect(server.addr, "/announce").await];
        Self { native, tracker, rounds: 0 }
    }

    /// Signals in both directions, and an offer and its answer.
    async fn exchange(&mut self) {
        self.rounds += 1;
        let words = format!("round {}", self.rounds);
        for turn in 0..2 {
            let [first, second] = &mut self.native;
            let (from, to) = if turn == 0 { (first, second) } else { (second, first) };
            from.signal(to.peer, offer(&words)).await;
            assert_eq!(to.next().await, ServerMessage::Signal { from: from.peer, data: offer(&words) });
        }
        let hash = "wwwwwwwwwwwwwwwwwwww";
        let announce =
            |peer: u32| json!({ "action": "announce", "info_hash": hash, "peer_id": format!("-WW0102-{peer:012}") });
        let [first, second] = &mut self.tracker;
        first.send_text(announce(1).to_string()).await;
        assert!(first.next_json().await["incomplete"].is_u64());
        let mut offering = announce(2);
        offering["offers"] = json!([{ "offer_id": hash, "offer": { "sdp": words } }]);
        second.send_text(offering.to_string()).await;
        assert_eq!(second.next_json().await["incomplete"], 2);
        assert_eq!(first.next_json().await["offer"]["sdp"], words.as_str());
        let mut answer = announce(1);
        answer["to_peer_id"] = offering["peer_id"].clone();
        answer["offer_id"] = json!(hash);
        answer["answer"] = json!({ "sdp": words });
        first.send_text(answer.to_string()).await;
        assert_eq!(second.next_json().await["answer"]["sdp"], words.as_str());
    }
}

async fn storm(seed: u64) {
    let server = TestServer::start_with(|options| {
        // The witnesses speak all the time.
        options.limits.messages.burst = 1_000_000;
        options.limits.offers.burst = 1_000_000;
        // Whoever stays without a word is gone before the end of the test.
        options.core.join_timeout = headwater_rendezvous::Duration::from_millis(500);
        options.timing.first_announce = Duration::from_millis(500);
    })
    .await;
    let mut witnesses = Witnesses::new(&server).await;
    witnesses.exchange().await;
    let is_over = Cell::new(false);
    let attack = async {
        let mut clients = JoinSet::new();
        for nth in 0..CLIENTS {
            if clients.len() >= AT_ONCE {
                clients.join_next().await.unwrap().unwrap();
            }
            clients.spawn(client(server.addr, seed * 1_000_000 + nth));
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        is_over.set(true);
    };
    let bystanders = async {
        while !is_over.get() {
            witnesses.exchange().await;
        }
    };
    tokio::join!(attack, bystanders);
    assert!(witnesses.rounds >= 5, "the witnesses were held up: {} rounds", witnesses.rounds);
    witnesses.native[0].flush().await;
    // Nothing of them is left: no connection, no member.
    for (name, count) in [("connections", 2), ("peers", 2), ("swarms", 1)] {
        for protocol in ["native", "tracker"] {
            let name = format!("headwater_signal_{name}{{protocol=\"{protocol}\"}}");
            until_metric(&server, &name, |value| value == count).await;
        }
    }
}

#[tokio::test]
async fn clients_that_send_anything_are_not_noticed_by_the_others() {
    for seed in SEEDS {
        println!("seed {seed}");
        storm(seed).await;
    }
}

#[tokio::test]
async fn a_half_closed_client_is_answered_as_far_as_it_asked_and_let_go() {
    let server = TestServer::start().await;
    let mut witness = server.join("s", Role::Viewer, 1).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let mut good = Lots(0);
    let head = loop {
        // One of the good ones.
        let head = handshake(&mut good, "/v1/signal");
        if head.starts_with(b"GET /v1/signal HTTP/1.1\r\nhost: test\r\nupgrade: websocket")
            && head.ends_with(b"==\r\n\r\n")
        {
            break head;
        }
    };
    stream.write_all(&head).await.unwrap();
    stream.write_all(&text(br#"{"type":"join","version":1,"swarm":"s","want":1}"#)).await.unwrap();
    let (joined, _, _) = witness.next_connect().await;
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes as well").unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("\"welcome\"") && answer.contains("\"connect\""), "{answer}");
    // It is no member any more.
    until_metric(&server, "headwater_signal_peers{protocol=\"native\"}", |peers| peers == 1).await;
    witness.signal(joined, offer("")).await;
    assert_eq!(witness.next().await, ServerMessage::Gone { peer: joined });
}

#[tokio::test]
async fn a_message_may_come_in_any_fragments_up_to_its_limit_and_not_beyond() {
    let server = TestServer::start().await;
    let mut witness = server.join("s", Role::Viewer, 0).await;
    let connect = async || {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let head = "GET /v1/signal HTTP/1.1\r\nhost: test\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    // Byte by byte, each a fragment of its own, with a ping between any two.
    let mut stream = connect().await;
    let message = br#"{"type":"join","version":1,"swarm":"s","want":1}"#;
    for (nth, byte) in message.iter().enumerate() {
        let first = if nth == 0 { 0x01 } else { 0x00 } | if nth + 1 == message.len() { 0x80 } else { 0 };
        stream.write_all(&[frame(first, true, 1, &[*byte]), frame(0x89, true, 0, b"")].concat()).await.unwrap();
    }
    let (joined, _, _) = witness.next_connect().await;
    // Fragments that are small each, and too much together: refused before they are all held.
    let part = vec![b' '; 8000];
    let mut first = 0x01;
    let flood = async {
        while stream.write_all(&frame(first, true, part.len() as u64, &part)).await.is_ok() {
            first = 0x00;
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, flood).await.expect("the server hangs up");
    until_metric(&server, "headwater_signal_connections_closed_total{reason=\"error\"}", |count| count == 1).await;
    witness.signal(joined, offer("")).await;
    assert_eq!(witness.next().await, ServerMessage::Gone { peer: joined });
    // One frame that says that it is larger than anything is refused by its head alone.
    let mut stream = connect().await;
    stream.write_all(&frame(0x81, true, 1 << 40, b"")).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server hangs up").unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("\"too_large\""));
    witness.flush().await;
}
