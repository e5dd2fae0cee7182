//! Every JSON example of `docs/signalling.md` is a message, and every message and error code is there.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, VecDeque};

use headwater_rendezvous::ConnId;
use headwater_rendezvous::tracker::{Message, Tracker, TrackerConfig};
use headwater_wire::signal::{ClientMessage, ErrorCode, ServerMessage};
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/signalling.md");

fn examples() -> Vec<&'static str> {
    PAGE.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Whether everything that `example` says is in `written`, which may spell out defaults besides.
fn is_within(example: &Value, written: &Value) -> bool {
    match (example, written) {
        (Value::Object(example), Value::Object(written)) => {
            example.iter().all(|(key, value)| written.get(key).is_some_and(|written| is_within(value, written)))
        }
        _ => example == written,
    }
}

#[test]
fn every_example_is_a_message_and_stays_what_it_is() {
    let examples = examples();
    assert!(examples.len() > 10);
    for text in examples {
        let example: Value = serde_json::from_str(text).unwrap();
        let written = match serde_json::from_value::<ClientMessage>(example.clone()) {
            Ok(message) => {
                let written = serde_json::to_value(&message).unwrap();
                assert_eq!(serde_json::from_value::<ClientMessage>(written.clone()).unwrap(), message);
                written
            }
            Err(_) => {
                let message: ServerMessage = serde_json::from_str(text).unwrap();
                let written = serde_json::to_value(&message).unwrap();
                assert_eq!(serde_json::from_value::<ServerMessage>(written.clone()).unwrap(), message);
                written
            }
        };
        assert!(is_within(&example, &written), "{text} is read as {written}");
    }
}

#[test]
fn every_message_and_every_error_code_is_described() {
    let types: BTreeSet<String> = examples()
        .into_iter()
        .map(|text| serde_json::from_str::<Value>(text).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    // An unknown type is refused with the list of those there are.
    for complaint in [
        serde_json::from_str::<ClientMessage>(r#"{"type":"?"}"#).unwrap_err().to_string(),
        serde_json::from_str::<ServerMessage>(r#"{"type":"?"}"#).unwrap_err().to_string(),
        serde_json::from_str::<ErrorCode>(r#""?""#).unwrap_err().to_string(),
    ] {
        let (_, known) = complaint.split_once("expected one of ").unwrap();
        for name in known.split('`').skip(1).step_by(2) {
            let described = types.contains(name) || PAGE.contains(&format!("\n| `{name}` |"));
            assert!(described, "{name} is missing in docs/signalling.md");
        }
    }
}

#[test]
fn the_tracker_answers_as_the_examples_say() {
    let mut tracker = Tracker::new(TrackerConfig::default(), 1);
    let mut sent: VecDeque<(u64, Value)> = VecDeque::new();
    let mut replayed = 0;
    for block in PAGE.split("```json tracker ").skip(1) {
        let (head, rest) = block.split_once('\n').unwrap();
        let (direction, conn) = head.split_once('-').unwrap();
        let (conn, text) = (conn.parse().unwrap(), rest.split("```").next().unwrap());
        replayed += 1;
        if direction == "to" {
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(sent.pop_front(), Some((conn, expected)));
            continue;
        }
        assert!(sent.is_empty(), "{sent:?} is not in the examples");
        tracker.handle_message(ConnId(conn), Message::read(text));
        while let Some(output) = tracker.poll_output() {
            sent.push_back((output.conn.0, serde_json::from_str(output.text).unwrap()));
        }
    }
    assert!(sent.is_empty() && replayed > 8);
}
