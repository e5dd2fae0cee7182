//! Every JSON example of `docs/signalling.md` is a message, and every message and error code is there.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeSet, VecDeque};

use common::{Client, TestServer};
use headwater_rendezvous::ConnId;
use headwater_rendezvous::tracker::{Message, Tracker, TrackerConfig};
use headwater_wire::signal::{ClientMessage, ErrorCode, ServerMessage};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message as Frame;

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

/// The examples of one type, in the order of the page.
fn of_type(name: &str) -> Vec<Value> {
    let values = examples().into_iter().map(|text| serde_json::from_str::<Value>(text).unwrap());
    values.filter(|value| value["type"] == name).collect()
}

/// Whether a message has just the fields of an example, but for those that may be left out.
fn looks_like(message: &Value, example: &Value, optional: &[&str]) {
    let keys = |value: &Value| -> BTreeSet<String> {
        let all = value.as_object().unwrap().keys();
        all.filter(|key| !optional.contains(&key.as_str())).cloned().collect()
    };
    assert_eq!(keys(message), keys(example), "{message} is not like {example}");
    assert_eq!(message["type"], example["type"]);
}

/// Sends an example, with the peer that it names replaced by one that is there.
async fn replay(client: &mut Client, example: &Value, field: &str, peer: &str) {
    let mut example = example.clone();
    if !field.is_empty() {
        assert!(example[field].is_string(), "{example} names no peer in {field}");
        example[field] = peer.into();
    }
    client.send_text(example.to_string()).await;
}

#[tokio::test]
async fn the_examples_are_a_conversation_that_the_server_has() {
    let mut server = TestServer::start().await;
    let (joins, connects, signals) = (of_type("join"), of_type("connect"), of_type("signal"));
    let (to_server, from_server): (Vec<Value>, Vec<Value>) =
        signals.into_iter().partition(|signal| signal["to"].is_string());
    assert_eq!((joins.len(), connects.len(), to_server.len(), from_server.len()), (2, 2, 3, 1));
    let mut a = Client::connect(server.addr, "/v1/signal").await;
    replay(&mut a, &joins[0], "", "").await;
    let welcome = a.next_json().await;
    looks_like(&welcome, &of_type("welcome")[0], &[]);
    let a_id = welcome["peer"].as_str().unwrap().to_owned();
    let mut b = Client::connect(server.addr, "/v1/signal").await;
    replay(&mut b, &joins[0], "", "").await;
    let welcome = b.next_json().await;
    let (b_id, resume) = (welcome["peer"].as_str().unwrap().to_owned(), welcome["resume"].clone());
    assert_eq!(welcome["swarm_size"], 2);
    // The one that came asked, and offers.
    for (client, offers) in [(&mut b, true), (&mut a, false)] {
        let connect = client.next_json().await;
        let example = connects.iter().find(|example| example["offer"] == offers).unwrap();
        looks_like(&connect, example, &[]);
        assert_eq!(connect["offer"], offers);
    }
    for signal in &to_server {
        replay(&mut b, signal, "to", &a_id).await;
        let heard = a.next_json().await;
        looks_like(&heard, &from_server[0], &[]);
        assert_eq!((heard["from"].as_str(), &heard["data"]), (Some(b_id.as_str()), &signal["data"]));
    }
    for (name, field) in [("want", ""), ("stats", ""), ("lost", "peer")] {
        replay(&mut b, &of_type(name)[0], field, &a_id).await;
    }
    // After `lost` they are no pair.
    replay(&mut b, &to_server[0], "to", &a_id).await;
    let gone = b.next_json().await;
    looks_like(&gone, &of_type("gone")[0], &[]);
    assert_eq!(gone["peer"].as_str(), Some(a_id.as_str()));
    replay(&mut b, &of_type("leave")[0], "", "").await;
    assert!(matches!(b.next_frame().await, Some(Frame::Close(_)) | None));
    // Joining again with everything: the same name, and the neighbour without a `connect`.
    let mut again = joins[1].clone();
    again["resume"] = resume;
    again["connected"] = serde_json::json!([a_id]);
    let mut back = Client::connect(server.addr, "/v1/signal").await;
    replay(&mut back, &again, "", "").await;
    assert_eq!(back.next_json().await["peer"].as_str(), Some(b_id.as_str()));
    replay(&mut back, &to_server[1], "to", &a_id).await;
    assert_eq!(a.next_json().await["data"], to_server[1]["data"]);
    // What is wrong has a code, and the code is the reason of the close frame.
    let mut wrong = Client::connect(server.addr, "/v1/signal").await;
    wrong.send_text("{}").await;
    let error = wrong.next_json().await;
    looks_like(&error, &of_type("error")[0], &[]);
    match wrong.next_frame().await {
        Some(Frame::Close(Some(frame))) => assert_eq!(Some(frame.reason.as_str()), error["code"].as_str()),
        other => panic!("no close frame but {other:?}"),
    }
    server.stop();
    looks_like(&a.next_json().await, &of_type("drain")[0], &["url"]);
}
