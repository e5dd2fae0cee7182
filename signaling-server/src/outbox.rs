//! What waits to be written to one client: ready WebSocket frames in one buffer, written with one call.

use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use headwater_wire::signal::ErrorCode;

use crate::ws;

/// Messages waiting for one client: a burst of introductions and their candidates fits; more means that it is not
/// reading.
const MAX_QUEUED: usize = 512;

/// Bytes waiting for one client: many SDPs fit, and a thousand dead clients hold a quarter of a gigabyte at most. A single
/// message may be larger, such as a scrape of all swarms: nobody failed to read anything before it.
const MAX_QUEUED_BYTES: usize = 256 * 1024;

/// How a connection ends that the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Write what waits, then close, with this reason where something was wrong.
    Close(Option<ErrorCode>),
    /// Write what waits, then close: the server stops.
    Drain,
    /// At once: the client does not read.
    GiveUp,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: Vec<u8>,
    messages: usize,
    ending: Option<Ending>,
    waker: Option<Waker>,
}

impl Outbox {
    /// Queues a message; false where the client has let too many pile up. `wake` is false where the connection is about
    /// to look by itself.
    pub(crate) fn push(&self, text: &str, wake: bool) -> bool {
        self.with(wake, |waiting| {
            let is_large = !waiting.frames.is_empty() && waiting.frames.len() + text.len() > MAX_QUEUED_BYTES;
            if waiting.messages >= MAX_QUEUED || is_large {
                return false;
            }
            waiting.messages += 1;
            ws::write_text(&mut waiting.frames, text);
            true
        })
    }

    /// Ends the connection; the first ending stands, except that giving up comes before all.
    pub(crate) fn end(&self, ending: Ending) {
        self.with(true, |waiting| {
            if waiting.ending.is_none() || ending == Ending::GiveUp {
                waiting.ending = Some(ending);
            }
        });
    }

    /// Takes the frames that wait if `frames` is empty, and remembers whom to wake when there is more.
    pub(crate) fn take(&self, frames: &mut Vec<u8>, waker: &Waker) -> Option<Ending> {
        self.with(false, |waiting| {
            if frames.is_empty() {
                std::mem::swap(frames, &mut waiting.frames);
                waiting.messages = 0;
            }
            if waiting.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
                waiting.waker = Some(waker.clone());
            }
            // The frames go first.
            waiting.ending.filter(|ending| *ending == Ending::GiveUp || waiting.frames.is_empty())
        })
    }

    fn with<T>(&self, wake: bool, change: impl FnOnce(&mut Waiting) -> T) -> T {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut waiting);
        let waker = if wake { waiting.waker.take() } else { None };
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_frames_and_the_end_after_them() {
        let outbox = Outbox::default();
        assert!(outbox.push("a", true) && outbox.push("b", true));
        outbox.end(Ending::Close(None));
        outbox.end(Ending::Drain);
        let mut frames = b"under way".to_vec();
        assert_eq!(outbox.take(&mut frames, Waker::noop()), None);
        frames.clear();
        assert_eq!(outbox.take(&mut frames, Waker::noop()), Some(Ending::Close(None)));
        assert_eq!(frames, b"\x81\x01a\x81\x01b");
    }

    #[test]
    fn what_waits_is_bounded_in_messages_and_in_bytes() {
        let (outbox, other) = (Outbox::default(), Outbox::default());
        assert_eq!((0..1000).filter(|_| outbox.push("x", true)).count(), MAX_QUEUED);
        let large = "x".repeat(16 * 1024);
        assert!((0..1000).filter(|_| other.push(&large, true)).count() < 16);
        let single = Outbox::default();
        assert!(single.push(&"x".repeat(2 * MAX_QUEUED_BYTES), true) && !single.push("x", true));
        other.end(Ending::Close(None));
        other.end(Ending::GiveUp);
        assert_eq!(other.take(&mut vec![1], Waker::noop()), Some(Ending::GiveUp));
    }
}
