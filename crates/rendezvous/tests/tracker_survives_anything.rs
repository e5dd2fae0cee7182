//! Any sequence of messages and closings leaves the tracker with the peers that a simple model has, and any text is answered.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use headwater_rendezvous::ConnId;
use headwater_rendezvous::tracker::{Message, Tracker, TrackerConfig};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
enum Step {
    Announce { conn: u64, hash: u8, peer: u8, offers: usize, event: &'static str },
    Answer { conn: u64, hash: u8, peer: u8, to: u8 },
    Close { conn: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let events = prop::sample::select(vec!["started", "stopped", "completed", "update"]);
    prop_oneof![
        6 => (0..6_u64, 0..3_u8, 0..5_u8, 0..7_usize, events)
            .prop_map(|(conn, hash, peer, offers, event)| Step::Announce { conn, hash, peer, offers, event }),
        2 => (0..6_u64, 0..3_u8, 0..5_u8, 0..5_u8).prop_map(|(conn, hash, peer, to)| Step::Answer { conn, hash, peer, to }),
        1 => (0..6_u64).prop_map(|conn| Step::Close { conn }),
    ]
}

fn name(n: u8) -> String {
    char::from(b'a' + n).to_string().repeat(20)
}

fn drain(tracker: &mut Tracker) -> Vec<(u64, Value)> {
    let mut sent = Vec::new();
    while let Some(output) = tracker.poll_output() {
        sent.push((output.conn.0, serde_json::from_str(output.text).unwrap()));
    }
    sent
}

proptest! {
    #[test]
    fn peers_are_where_the_model_has_them(steps in prop::collection::vec(step(), 0..120)) {
        let mut tracker = Tracker::new(TrackerConfig::default(), 1);
        // (hash, peer) -> connection
        let mut model: BTreeMap<(u8, u8), u64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Announce { conn, hash, peer, offers, event } => {
                    let offers: Vec<Value> =
                        (0..offers).map(|n| json!({ "offer": n, "offer_id": n.to_string() })).collect();
                    let message = json!({
                        "action": "announce", "info_hash": name(hash), "peer_id": name(peer), "event": event, "offers": offers,
                    });
                    tracker.handle_message(ConnId(conn), Message::read(&message.to_string()));
                    let sent = drain(&mut tracker);
                    let other_id = model.iter().any(|(&(h, p), &c)| h == hash && p != peer && c == conn);
                    if other_id {
                        prop_assert!(sent.len() == 1 && sent[0].1["failure reason"].is_string());
                        continue;
                    }
                    if event == "stopped" {
                        if model.get(&(hash, peer)) == Some(&conn) {
                            model.remove(&(hash, peer));
                        }
                    } else {
                        model.insert((hash, peer), conn);
                    }
                    let members = model.keys().filter(|(h, _)| *h == hash).count();
                    let total = sent[0].1["complete"].as_u64().unwrap() + sent[0].1["incomplete"].as_u64().unwrap();
                    prop_assert_eq!(total, members as u64);
                    let expected = if event == "stopped" { 0 } else { offers.len().min(members - 1) };
                    prop_assert_eq!(sent.len(), 1 + expected);
                    let mut reached = Vec::new();
                    for (to, message) in &sent[1..] {
                        let holders: Vec<u8> =
                            model.iter().filter(|((h, p), c)| *h == hash && *p != peer && *c == to).map(|((_, p), _)| *p).collect();
                        prop_assert!(!holders.is_empty());
                        prop_assert_eq!(&message["peer_id"], &json!(name(peer)));
                        reached.push(*to);
                    }
                    reached.sort_unstable();
                    reached.dedup();
                    prop_assert_eq!(reached.len(), expected);
                }
                Step::Answer { conn, hash, peer, to } => {
                    let message = json!({
                        "action": "announce", "info_hash": name(hash), "peer_id": name(peer), "to_peer_id": name(to),
                        "offer_id": "x", "answer": {},
                    });
                    tracker.handle_message(ConnId(conn), Message::read(&message.to_string()));
                    let sent = drain(&mut tracker);
                    let own = model.get(&(hash, peer)) == Some(&conn);
                    let target = model.get(&(hash, to)).filter(|_| own);
                    prop_assert_eq!(sent.iter().map(|(to, _)| to).collect::<Vec<_>>(), target.into_iter().collect::<Vec<_>>());
                }
                Step::Close { conn } => {
                    tracker.handle_closed(ConnId(conn));
                    model.retain(|_, owner| *owner != conn);
                }
            }
            let counts = tracker.counts();
            prop_assert_eq!(counts.peers, model.len());
            let mut hashes: Vec<u8> = model.keys().map(|(hash, _)| *hash).collect();
            hashes.dedup();
            prop_assert_eq!(counts.swarms, hashes.len());
        }
    }

    #[test]
    fn any_text_is_answered_with_json(text in ".{0,200}") {
        let mut tracker = Tracker::new(TrackerConfig::default(), 1);
        tracker.handle_message(ConnId(1), Message::read(&text));
        drain(&mut tracker);
    }
}
