//! The WebTorrent tracker protocol as its clients speak it: who gets which offer, and what is answered.

// A test may panic.
#![allow(clippy::unwrap_used)]

use headwater_rendezvous::ConnId;
use headwater_rendezvous::tracker::{Binary, Message, Tracker, TrackerConfig};
use serde_json::{Value, json};

const HASH: &str = "aaaaaaaaaaaaaaaaaaaa";

struct World {
    tracker: Tracker,
}

impl World {
    fn new() -> Self {
        Self::with(TrackerConfig::default())
    }

    fn with(config: TrackerConfig) -> Self {
        Self { tracker: Tracker::new(config, 7) }
    }

    fn say(&mut self, conn: u64, message: &Value) -> Vec<(u64, Value)> {
        self.say_text(conn, &message.to_string())
    }

    fn say_text(&mut self, conn: u64, text: &str) -> Vec<(u64, Value)> {
        self.tracker.handle_message(ConnId(conn), Message::read(text));
        let mut sent = Vec::new();
        while let Some(output) = self.tracker.poll_output() {
            sent.push((output.conn.0, serde_json::from_str(output.text).unwrap()));
        }
        sent
    }

    fn announce(&mut self, conn: u64, extra: &Value) -> Vec<(u64, Value)> {
        let mut message = json!({ "action": "announce", "info_hash": HASH, "peer_id": peer(conn) });
        for (key, value) in extra.as_object().unwrap() {
            message[key] = value.clone();
        }
        self.say(conn, &message)
    }
}

fn peer(n: u64) -> String {
    format!("-PM0203-{n:012}")
}

fn offers(count: usize) -> Value {
    (0..count).map(|n| json!({ "offer": { "fake_offer": n }, "offer_id": format!("offer {n:014}") })).collect()
}

fn failure(sent: &[(u64, Value)]) -> &str {
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].1["action"].is_string());
    sent[0].1["failure reason"].as_str().unwrap()
}

#[test]
fn an_announce_is_answered_before_its_offers_go_to_distinct_others() {
    let mut world = World::new();
    for conn in 1..=4 {
        let sent = world.announce(conn, &json!({ "event": "started", "left": 10 }));
        let reply =
            json!({ "action": "announce", "info_hash": HASH, "complete": 0, "incomplete": conn, "interval": 120 });
        assert_eq!(sent, [(conn, reply)]);
    }
    let sent = world.announce(1, &json!({ "numwant": 5, "offers": offers(5), "left": "10" }));
    assert_eq!(sent[0].0, 1);
    assert_eq!(sent[0].1["incomplete"], 4);
    let mut reached: Vec<u64> = sent[1..].iter().map(|(conn, _)| *conn).collect();
    reached.sort_unstable();
    assert_eq!(reached, [2, 3, 4]);
    for (nth, (_, message)) in sent[1..].iter().enumerate() {
        let expected = json!({
            "action": "announce", "info_hash": HASH, "peer_id": peer(1),
            "offer_id": format!("offer {nth:014}"), "offer": { "fake_offer": nth },
        });
        assert_eq!(*message, expected);
    }
}

#[test]
fn numwant_and_the_limit_bound_the_offers_that_are_forwarded() {
    let mut world = World::with(TrackerConfig { max_offers: 3, ..TrackerConfig::default() });
    for conn in 1..=9 {
        world.announce(conn, &json!({}));
    }
    assert_eq!(world.announce(1, &json!({ "offers": offers(8) })).len(), 1 + 3);
    assert_eq!(world.announce(1, &json!({ "offers": offers(8), "numwant": 2 })).len(), 1 + 2);
    assert_eq!(world.announce(1, &json!({ "offers": offers(8), "numwant": "2" })).len(), 1 + 2);
    assert_eq!(world.announce(1, &json!({ "offers": offers(8), "numwant": 0 })).len(), 1);
    assert_eq!(world.announce(1, &json!({ "offers": offers(1), "numwant": null })).len(), 1 + 1);
    assert_eq!(world.announce(1, &json!({ "offers": [], "numwant": 50 })).len(), 1);
    assert_eq!(world.announce(1, &json!({ "offers": null, "numwant": -1 })).len(), 1);
}

#[test]
fn an_answer_goes_to_the_peer_it_is_for_and_nobody_acknowledges_it() {
    let mut world = World::new();
    world.announce(1, &json!({}));
    world.announce(2, &json!({}));
    let answer = json!({ "to_peer_id": peer(1), "offer_id": "xxxxxxxxxxxxxxxxxxxx", "answer": { "type": "answer", "sdp": "v=0\r\n" } });
    let expected = json!({
        "action": "announce", "info_hash": HASH, "peer_id": peer(2),
        "offer_id": "xxxxxxxxxxxxxxxxxxxx", "answer": { "type": "answer", "sdp": "v=0\r\n" },
    });
    assert_eq!(world.announce(2, &answer), [(1, expected)]);
    let mut nobody = answer.clone();
    nobody["to_peer_id"] = json!(peer(9));
    assert_eq!(world.announce(2, &nobody), []);
    // Neither in a stranger's name, nor by one who is not in the swarm.
    let mut forged = answer.clone();
    forged["peer_id"] = json!(peer(1));
    assert_eq!(world.announce(2, &forged), []);
    assert_eq!(world.announce(3, &answer), []);
    assert_eq!(world.tracker.counts().answers, 1);
}

#[test]
fn stopped_and_completed_and_closing_change_the_figures() {
    let mut world = World::new();
    let figures = |sent: &[(u64, Value)]| (sent[0].1["complete"].clone(), sent[0].1["incomplete"].clone());
    world.announce(1, &json!({ "left": 5 }));
    assert_eq!(figures(&world.announce(2, &json!({ "left": 0, "event": null }))), (json!(1), json!(1)));
    assert_eq!(figures(&world.announce(1, &json!({ "event": "completed", "left": 0 }))), (json!(2), json!(0)));
    assert_eq!(figures(&world.announce(2, &json!({ "event": "stopped", "left": 0 }))), (json!(1), json!(0)));
    let scrape = world.say(3, &json!({ "action": "scrape", "info_hash": HASH }));
    let expected = json!({
        "action": "scrape", "files": { HASH: { "complete": 1, "incomplete": 0, "downloaded": 1 } },
        "flags": { "min_request_interval": 600 },
    });
    assert_eq!(scrape, [(3, expected)]);
    world.tracker.handle_closed(ConnId(1));
    world.tracker.handle_closed(ConnId(1));
    assert_eq!((world.tracker.counts().peers, world.tracker.counts().swarms), (0, 0));
}

#[test]
fn scrapes_take_one_several_or_no_hashes() {
    let mut world = World::new();
    world.announce(1, &json!({}));
    let unknown = "zzzzzzzzzzzzzzzzzzzz";
    let sent = world.say(1, &json!({ "action": "scrape", "info_hash": [HASH, unknown] }));
    assert_eq!(sent[0].1["files"][HASH]["incomplete"], 1);
    assert_eq!(sent[0].1["files"][unknown], json!({ "complete": 0, "incomplete": 0, "downloaded": 0 }));
    let sent = world.say(1, &json!({ "action": "scrape", "info_hash": [] }));
    assert_eq!(sent[0].1["files"], json!({}));
    let all = json!({ "action": "scrape" });
    let refused = world.say(1, &all);
    assert_eq!(failure(&refused), "name the info_hash to scrape");
    assert_eq!(refused[0].1["action"], "scrape");
    let many: Vec<String> = (0..65).map(|n| format!("{n:020}")).collect();
    failure(&world.say(1, &json!({ "action": "scrape", "info_hash": many })));

    let mut open = World::with(TrackerConfig { scrape_all: true, ..TrackerConfig::default() });
    open.announce(1, &json!({}));
    assert_eq!(open.say(2, &all)[0].1["files"].as_object().unwrap().len(), 1);
}

#[test]
fn a_peer_that_comes_by_a_new_socket_takes_over() {
    let mut world = World::new();
    world.announce(1, &json!({}));
    world.announce(2, &json!({}));
    let as_first = json!({ "peer_id": peer(1) });
    assert_eq!(world.announce(3, &as_first)[0].1["incomplete"], 2);
    let sent = world.announce(2, &json!({ "offers": offers(5) }));
    assert_eq!(sent[1..].iter().map(|(conn, _)| *conn).collect::<Vec<_>>(), [3]);
    // The old socket's end is no end of the peer.
    world.tracker.handle_closed(ConnId(1));
    assert_eq!(world.announce(2, &json!({}))[0].1["incomplete"], 2);
}

#[test]
fn a_second_peer_id_on_one_socket_is_refused_but_other_swarms_are_not() {
    let mut world = World::new();
    world.announce(1, &json!({}));
    let refused = world.announce(1, &json!({ "peer_id": peer(2) }));
    assert_eq!(failure(&refused), "this connection has another peer_id in this swarm");
    assert_eq!(refused[0].1["info_hash"], HASH);
    assert_eq!(world.announce(1, &json!({ "info_hash": "b".repeat(20), "peer_id": peer(2) }))[0].1["incomplete"], 1);
    // After it stopped, the place is free.
    world.announce(1, &json!({ "event": "stopped" }));
    assert_eq!(world.announce(1, &json!({ "peer_id": peer(2) }))[0].1["incomplete"], 1);
}

#[test]
fn nobody_stops_a_peer_of_another_socket() {
    let mut world = World::new();
    world.announce(1, &json!({}));
    assert_eq!(world.announce(2, &json!({ "peer_id": peer(1), "event": "stopped" }))[0].1["incomplete"], 1);
}

#[test]
fn binary_strings_are_characters_up_to_u00ff() {
    let mut world = World::new();
    let hash: String = (0..20).map(|n| char::from(n * 13)).collect();
    let sent = world.announce(1, &json!({ "info_hash": hash }));
    assert_eq!(sent[0].1["info_hash"], json!(hash));
    assert_eq!(world.tracker.swarm_size(&Binary::from_text(&hash).unwrap()), (0, 1));
}

#[test]
fn every_error_names_its_action() {
    let mut world = World::new();
    for bad in [
        "",
        "hello",
        "[]",
        "{}",
        "null",
        r#"{"action":"dance"}"#,
        r#"{"action":1}"#,
        r#"{"action":"announce"}"#,
        r#"{"action":"announce","info_hash":"short","peer_id":"aaaaaaaaaaaaaaaaaaaa"}"#,
        r#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":7}"#,
        r#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"aaaaaaaaaaaaaaaaaaaa","event":"dance"}"#,
        r#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"aaaaaaaaaaaaaaaaaaaa","offers":{}}"#,
        r#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"aaaaaaaaaaaaaaaaaaaa","offers":[1]}"#,
        r#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"aaaaaaaaaaaaaaaaaaaa","answer":{}}"#,
        r#"{"action":"scrape","info_hash":"short"}"#,
        r#"{"action":"scrape","info_hash":["short"]}"#,
        r#"{"action":"scrape","info_hash":7}"#,
    ] {
        failure(&world.say_text(1, bad));
    }
    assert_eq!(world.tracker.counts().peers, 0);
}

#[test]
fn limits_are_errors_and_hold() {
    let mut world = World::with(TrackerConfig {
        max_swarms: 2,
        max_swarm_size: 2,
        max_swarms_per_connection: 1,
        ..TrackerConfig::default()
    });
    world.announce(1, &json!({}));
    world.announce(2, &json!({}));
    assert_eq!(failure(&world.announce(3, &json!({}))), "this swarm is full");
    // Whoever is in may announce again.
    assert_eq!(world.announce(2, &json!({}))[0].1["incomplete"], 2);
    let other = json!({ "info_hash": "b".repeat(20) });
    assert_eq!(failure(&world.announce(1, &other)), "too many swarms for one connection");
    world.announce(3, &other);
    assert_eq!(failure(&world.announce(4, &json!({ "info_hash": "c".repeat(20) }))), "this tracker is full");
}
