//! Any text is a signalling message or an error; a message that is written is read as itself.

#![no_main]

use headwater_wire::signal::{ClientMessage, ServerMessage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(message) = serde_json::from_str::<ClientMessage>(text) {
        let again = serde_json::to_string(&message).expect("what was read can be written");
        assert_eq!(serde_json::from_str::<ClientMessage>(&again).expect("and read again"), message);
    }
    if let Ok(message) = serde_json::from_str::<ServerMessage>(text) {
        let again = serde_json::to_string(&message).expect("what was read can be written");
        assert_eq!(serde_json::from_str::<ServerMessage>(&again).expect("and read again"), message);
    }
});
