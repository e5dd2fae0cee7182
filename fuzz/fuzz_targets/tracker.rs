//! Any texts of any connections leave a tracker that answers with JSON, to connections that are there.

#![no_main]

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use headwater_rendezvous::ConnId;
use headwater_rendezvous::tracker::{Message, Tracker, TrackerConfig};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    Say { conn: u8, text: &'a str },
    Close { conn: u8 },
}

fuzz_target!(|steps: Vec<Step<'_>>| {
    let mut tracker = Tracker::new(TrackerConfig::default(), 1);
    let mut open = BTreeSet::new();
    for step in steps {
        match step {
            Step::Say { conn, text } => {
                open.insert(u64::from(conn));
                tracker.handle_message(ConnId(conn.into()), Message::read(text));
            }
            Step::Close { conn } => {
                open.remove(&u64::from(conn));
                tracker.handle_closed(ConnId(conn.into()));
            }
        }
        while let Some(output) = tracker.poll_output() {
            assert!(open.contains(&output.conn.0), "spoke to a connection that is closed");
            serde_json::from_str::<serde_json::Value>(output.text).expect("every answer is JSON");
        }
    }
    for conn in open {
        tracker.handle_closed(ConnId(conn));
    }
    assert_eq!(tracker.counts().peers, 0, "who is gone stays nowhere");
    assert_eq!(tracker.counts().swarms, 0);
});
