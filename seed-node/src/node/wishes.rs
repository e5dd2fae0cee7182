//! What the node of a finished stream tells whoever pulls it: what viewers are near, and what it does not hold any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use headwater_wire::{Frame, Message, PeerId, SegmentId};
use tokio::sync::mpsc;

/// Wishes of viewers that wait for whoever pulls.
const WISHES: usize = 256;

/// Wishes of one viewer that are passed on in a second, as many as the questions that the engine answers it: one who asks for
/// everything does not take the places of those who watch.
const MAX_WISHES: u32 = 20;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A viewer is near it.
    Near(SegmentId),
    /// It is not held any more.
    Gone {
        /// Which.
        segment: SegmentId,
        /// It was not let go for want of room: its bytes could not be had again.
        lost: bool,
    },
}

/// The node's end.
#[derive(Debug, Clone)]
pub struct Needs {
    near: mpsc::Sender<SegmentId>,
    /// Without a bound of its own: for each there was a segment that the other end had handed over, and whoever hands over is
    /// who listens.
    gone: mpsc::UnboundedSender<(SegmentId, bool)>,
}

/// The other end.
#[derive(Debug)]
pub struct NeedsQueue {
    near: mpsc::Receiver<SegmentId>,
    gone: mpsc::UnboundedReceiver<(SegmentId, bool)>,
}

/// Both ends.
#[must_use]
pub fn needs() -> (Needs, NeedsQueue) {
    let (near, near_rx) = mpsc::channel(WISHES);
    let (gone, gone_rx) = mpsc::unbounded_channel();
    (Needs { near, gone }, NeedsQueue { near: near_rx, gone: gone_rx })
}

impl NeedsQueue {
    /// What is told next; `None` where nobody is left to tell.
    pub async fn next(&mut self) -> Option<Need> {
        tokio::select! {
            biased;
            Some((segment, lost)) = self.gone.recv() => Some(Need::Gone { segment, lost }),
            Some(segment) = self.near.recv() => Some(Need::Near(segment)),
            else => None,
        }
    }
}

/// One viewer that has said hello.
#[derive(Debug)]
struct Near {
    /// What it spoke of last.
    segment: Option<SegmentId>,
    /// Wishes in the second that began at the time given.
    wishes: (Instant, u32),
}

/// What viewers are near.
#[derive(Debug)]
pub(super) struct Wishes {
    needs: Option<Needs>,
    viewers: BTreeMap<PeerId, Near>,
}

impl Wishes {
    pub(super) fn new(needs: Option<Needs>) -> Self {
        Self { needs, viewers: BTreeMap::new() }
    }

    /// A peer has said hello: before that nobody's wishes count.
    pub(super) fn welcome(&mut self, peer: PeerId, now: Instant) {
        if self.needs.is_some() {
            self.viewers.insert(peer, Near { segment: None, wishes: (now, 0) });
        }
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        self.viewers.remove(&peer);
    }

    /// Tells what a control frame of `peer` shows it to be near.
    pub(super) fn note(&mut self, peer: PeerId, frame: &[u8], now: Instant) {
        let Some(needs) = self.needs.as_ref().filter(|needs| !needs.near.is_closed()) else { return };
        let Some(near) = self.viewers.get_mut(&peer) else { return };
        let Ok(Frame::Control(message)) = Frame::parse(frame) else { return };
        let segment = match message {
            Message::GetCatalogue { track, range } => SegmentId { track, seq: range.first },
            Message::GetHashes { segment } | Message::Request { segment, .. } | Message::Fetching { segment, .. } => {
                segment
            }
            _ => return,
        };
        if near.segment == Some(segment) {
            return;
        }
        let (began, count) = near.wishes;
        near.wishes =
            if now.saturating_duration_since(began) >= Duration::from_secs(1) { (now, 0) } else { (began, count) };
        if near.wishes.1 >= MAX_WISHES {
            return;
        }
        near.wishes.1 += 1;
        near.segment = Some(segment);
        // A wish that finds the queue full comes again with the next segment.
        let _ = needs.near.try_send(segment);
    }

    /// The node holds a segment no longer.
    pub(super) fn gone(&self, segment: SegmentId, lost: bool) {
        if let Some(needs) = &self.needs {
            // Nobody pulls any more.
            let _ = needs.gone.send((segment, lost));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use headwater_wire::frame::encode_control;
    use headwater_wire::{SeqNo, TrackId};

    use super::*;

    fn asking(seq: u64) -> Vec<u8> {
        encode_control(&Message::GetHashes { segment: id(seq) })
    }

    fn id(seq: u64) -> SegmentId {
        SegmentId { track: TrackId(1), seq: SeqNo(seq) }
    }

    fn told(queue: &mut NeedsQueue) -> Vec<u64> {
        std::iter::from_fn(|| queue.near.try_recv().ok()).map(|segment| segment.seq.0).collect()
    }

    #[test]
    fn whoever_has_not_said_hello_has_no_wishes() {
        let (needs, mut queue) = needs();
        let (mut wishes, now) = (Wishes::new(Some(needs)), Instant::now());
        wishes.note(PeerId(1), &asking(3), now);
        assert!(told(&mut queue).is_empty());
        wishes.welcome(PeerId(1), now);
        for seq in [3, 3, 4] {
            wishes.note(PeerId(1), &asking(seq), now);
        }
        assert_eq!(told(&mut queue), [3, 4]);
        wishes.forget(PeerId(1));
        wishes.note(PeerId(1), &asking(5), now);
        assert!(told(&mut queue).is_empty());
    }

    #[test]
    fn whoever_asks_for_everything_leaves_room_for_the_others() {
        let (needs, mut queue) = needs();
        let (mut wishes, now) = (Wishes::new(Some(needs)), Instant::now());
        for peer in [1, 2] {
            wishes.welcome(PeerId(peer), now);
        }
        for seq in 0..100_000 {
            wishes.note(PeerId(1), &asking(seq), now);
        }
        wishes.note(PeerId(2), &asking(7), now);
        let heard = told(&mut queue);
        assert_eq!((heard.len(), heard.last()), (MAX_WISHES as usize + 1, Some(&7)));
        wishes.note(PeerId(1), &asking(9), now + Duration::from_secs(1));
        assert_eq!(told(&mut queue), [9], "a second later it may wish again");
    }
}
