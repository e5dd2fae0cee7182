//! Any frame of a data channel is read or refused; what is read means the same when it is written again.

#![no_main]

use headwater_wire::frame::encode_control;
use headwater_wire::{DataHeader, Frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    match Frame::parse(frame) {
        Ok(Frame::Control(message)) => {
            let again = encode_control(&message);
            assert_eq!(Frame::parse(&again), Ok(Frame::Control(message)));
        }
        Ok(Frame::Data(header, payload)) => {
            let again = header.encode();
            assert_eq!(DataHeader::parse(&again, frame.len()), Ok(header));
            assert!(frame.ends_with(payload) && frame.len() == again.len() + payload.len());
        }
        Err(_) => {}
    }
});
