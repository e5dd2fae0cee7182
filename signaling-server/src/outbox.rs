//! What waits to be written to one client: ready WebSocket frames in one buffer, written with one call.

use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use headwater_wire::signal::ErrorCode;

use crate::ws;

/// The server's own messages waiting for one client: a burst of introductions and their candidates fits; more means that it is not
/// reading.
const MAX_QUEUED: usize = 512;

/// Bytes of them: a thousand dead clients hold half a gigabyte at most, with what others sent them. A single
/// message may be larger, such as a scrape of all swarms: nobody failed to read anything before it.
const MAX_QUEUED_BYTES: usize = 256 * 1024;

/// Beside these, what other clients may fill. Nobody can be cut off by what others send it: what does not fit is dropped.
const MAX_RELAYED: usize = 384;
const MAX_RELAYED_BYTES: usize = 192 * 1024;

/// While less than this waits, whoever sends may.
const CALM: usize = 64;
const CALM_BYTES: usize = 64 * 1024;

/// Beyond it, one sender may add so much: an offer or answer and its candidates. So a flood of one leaves room for the others'.
const MAX_OF_ONE: usize = 16;
const MAX_BYTES_OF_ONE: usize = 16 * 1024;

/// Who sent what is passed on: a number that no two clients share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender(pub(crate) u64);

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
    /// What other clients sent.
    relayed: usize,
    relayed_bytes: usize,
    /// What the server itself says.
    own: usize,
    own_bytes: usize,
    ending: Option<Ending>,
    waker: Option<Waker>,
    /// Messages and bytes of each sender beyond [`CALM`].
    crowd: Vec<(Sender, usize, usize)>,
}

impl Outbox {
    /// Queues what another client sends; false where there is no room, and it is dropped.
    pub(crate) fn relay(&self, from: Sender, text: &str, wake: bool) -> bool {
        self.with(wake, |waiting| {
            let bytes = waiting.relayed_bytes + text.len();
            let is_large = !waiting.frames.is_empty() && bytes > MAX_RELAYED_BYTES;
            if waiting.relayed >= MAX_RELAYED || is_large {
                return false;
            }
            if (waiting.relayed >= CALM || bytes > CALM_BYTES) && !waiting.has_room_for_one_of(from, text.len()) {
                return false;
            }
            waiting.relayed += 1;
            waiting.relayed_bytes = bytes;
            ws::write_text(&mut waiting.frames, text);
            true
        })
    }

    /// Queues a message of the server's own; false where the client has let too many pile up. `wake` is false where the connection
    /// is about to look by itself.
    pub(crate) fn push(&self, text: &str, wake: bool) -> bool {
        self.with(wake, |waiting| {
            let bytes = waiting.own_bytes + text.len();
            let is_large = waiting.own > 0 && bytes > MAX_QUEUED_BYTES;
            if waiting.own >= MAX_QUEUED || is_large {
                return false;
            }
            waiting.own += 1;
            waiting.own_bytes = bytes;
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
                (waiting.relayed, waiting.relayed_bytes) = (0, 0);
                (waiting.own, waiting.own_bytes) = (0, 0);
                waiting.crowd = Vec::new();
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

impl Waiting {
    /// Whether one more message of a sender fits into its share; counts it if so.
    fn has_room_for_one_of(&mut self, from: Sender, len: usize) -> bool {
        let Some((_, messages, bytes)) = self.crowd.iter_mut().find(|(sender, ..)| *sender == from) else {
            self.crowd.push((from, 1, len));
            return true;
        };
        if *messages >= MAX_OF_ONE || *bytes + len > MAX_BYTES_OF_ONE {
            return false;
        }
        *messages += 1;
        *bytes += len;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_send_never_takes_the_room_of_the_servers_own_words_nor_of_a_third() {
        for len in [1, 16 * 1024] {
            let outbox = Outbox::default();
            let text = "x".repeat(len);
            let of_one = (0..2000).filter(|_| outbox.relay(Sender(1), &text, true)).count();
            assert!(of_one <= CALM + MAX_OF_ONE && of_one * len <= CALM_BYTES + MAX_BYTES_OF_ONE, "{of_one}");
            // A third still gets its offer and its candidates through.
            let of_third = (0..2000).filter(|_| outbox.relay(Sender(2), &text, true)).count();
            assert!(of_third == if len == 1 { MAX_OF_ONE } else { 1 }, "{of_third}");
            // Many fill what others may fill, and no more.
            for sender in 3..1000 {
                outbox.relay(Sender(sender), &text, true);
            }
            assert!(!outbox.relay(Sender(5000), &text, true));
            assert_eq!((0..1000).filter(|_| outbox.push("gone", true)).count(), MAX_QUEUED, "all of its own");
            let mut frames = Vec::new();
            outbox.take(&mut frames, Waker::noop());
            assert!(frames.len() < MAX_RELAYED_BYTES + 20_000);
            assert!(outbox.relay(Sender(1), &text, true), "it reads again");
        }
    }

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
        assert!((0..1000).filter(|_| other.push(&large, true)).count() <= 16);
        let single = Outbox::default();
        assert!(single.relay(Sender(1), "x", true));
        assert!(single.push(&"x".repeat(2 * MAX_QUEUED_BYTES), true) && !single.push("x", true));
        other.end(Ending::Close(None));
        other.end(Ending::GiveUp);
        assert_eq!(other.take(&mut vec![1], Waker::noop()), Some(Ending::GiveUp));
    }
}
