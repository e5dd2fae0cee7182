//! Any message between nodes of the signalling server is read or refused; what is read is written as itself.

#![no_main]

use headwater_rendezvous::cluster::{read, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok((node, message)) = read(bytes) else { return };
    let Ok(again) = write(node, &message) else { return };
    let (same_node, same) = read(&again).expect("what is written can be read");
    assert_eq!(same_node, node);
    assert_eq!(format!("{same:?}"), format!("{message:?}"));
});
