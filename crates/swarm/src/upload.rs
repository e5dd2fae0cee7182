//! What is sent to whom, and when: turn by turn between neighbours, nearest deadline first, within the viewer's cap.

use alloc::vec::Vec;

use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{ChunkId, ChunkRange, Message, PeerId, RejectReason, SegmentId};

use crate::engine::Engine;
use crate::flow::PRESSING;
use crate::neighbour::{MAX_ASKS, Neighbour, Sending};
use crate::time::{Now, Span};

/// Chunks handed to the shell for one neighbour at once: one being written and one to follow without a pause.
const MAX_SENDING: usize = 2;

/// How much of the cap may be used at once after a pause: a chunk, or a tenth of a second's worth.
const BURST: Span = Span::from_millis(100);

/// What is due within this time is urgent.
const SOON: Span = Span::from_secs(5);

/// Fewest, first and most chunks sent at once to all neighbours together.
const MIN_SLOTS: f64 = 2.0;
const FIRST_SLOTS: f64 = 2.0;
const MAX_SLOTS: f64 = 256.0;

/// How many chunks are sent at once, all neighbours together. Few: a chunk that has arrived is passed on at once, while
/// many that share the line all arrive late. So the number follows the time that one takes to leave, beside the shortest time
/// that one to the same neighbour took: a slow path alone says nothing of this peer's line.
#[derive(Debug)]
pub(crate) struct Slots {
    count: f64,
    /// Whether the last round had more to send than slots.
    short: bool,
}

impl Slots {
    pub(crate) const fn new() -> Self {
        Self { count: FIRST_SLOTS, short: false }
    }

    /// A chunk has left after `took`, to a neighbour to whom one took `quickest` at least.
    fn learn(&mut self, took: Span, quickest: Span) {
        if took > quickest + quickest / 2 + Span::from_millis(30) {
            self.count = (self.count * 0.95).max(MIN_SLOTS);
        } else if self.short && took < quickest + quickest / 8 + Span::from_millis(10) {
            self.count = (self.count + 0.5).min(MAX_SLOTS);
        }
    }
}

/// The upload cap as a bucket that fills with time.
#[derive(Debug)]
pub(crate) struct Allowance {
    cap: Option<u64>,
    /// Bytes that may be sent now; below zero after a chunk that was larger than what was left.
    left: f64,
    at: Now,
}

impl Allowance {
    pub(crate) fn new(now: Now, cap: Option<u64>) -> Self {
        Self { cap, left: 0.0, at: now }
    }

    /// Whether something may be sent now; otherwise when.
    fn ready_at(&mut self, now: Now) -> Option<Now> {
        let cap = self.cap?.max(1) as f64;
        self.left = (self.left + now.passed(self.at).as_secs_f64() * cap).min(cap * BURST.as_secs_f64());
        self.at = now;
        (self.left < 0.0).then(|| now + Span::from_secs_f64(-self.left / cap))
    }

    fn spend(&mut self, bytes: u32) {
        self.left -= f64::from(bytes);
    }

    /// What was spent for bytes that do not leave after all.
    pub(crate) fn give_back(&mut self, bytes: u32) {
        self.left += f64::from(bytes);
    }
}

impl Engine {
    /// The shell has yet to fetch the bytes of a chunk that it is to send, from a disk or further away. That time is not this
    /// peer's line's, and nobody else waits for it. For shells that keep segments elsewhere than in memory.
    pub fn suspend_sending(&mut self, peer: PeerId, chunk: ChunkId) {
        self.date_sending(peer, chunk, Now::default());
        self.sends = true;
    }

    /// The bytes are here: the chunk leaves from `now`.
    pub fn resume_sending(&mut self, now: Now, peer: PeerId, chunk: ChunkId) {
        self.now = self.now.max(now);
        self.date_sending(peer, chunk, self.now);
    }

    fn date_sending(&mut self, peer: PeerId, chunk: ChunkId, since: Now) {
        let sending = self.neighbours.get_mut(&peer).and_then(|neighbour| neighbour.sending.get_mut(&chunk));
        if let Some(sending) = sending {
            // Others may have left meanwhile: it teaches nothing.
            (sending.since, sending.alone) = (since, false);
        }
    }

    pub(crate) fn on_request(&mut self, peer: PeerId, id: SegmentId, chunks: ChunkRange, time_left: Span) {
        let now = self.now;
        let uploads = self.config.uploads;
        let segment = self.segments.get(&id).filter(|segment| !segment.differs);
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        let mut rejects: Vec<(ChunkRange, RejectReason)> = Vec::new();
        for index in chunks.iter() {
            let chunk = ChunkId { segment: id, index };
            let held = segment
                .is_some_and(|segment| segment.held.contains(index) && (segment.shared || !segment.hashes.is_empty()));
            let reason = if !uploads {
                RejectReason::NoUpload
            } else if !held {
                RejectReason::NotHeld
            } else if neighbour.wants.len() >= MAX_ASKS {
                RejectReason::Busy
            } else {
                // One that is being sent was taken back, and is asked for anew: it leaves again once that has left.
                neighbour.wants.insert(chunk, now + time_left);
                continue;
            };
            match rejects.last_mut() {
                Some((range, last)) if *last == reason && range.end() == index.0 => range.count += 1,
                _ => rejects.push((ChunkRange::one(index), reason)),
            }
        }
        for (chunks, reason) in rejects {
            self.send(peer, &Message::Reject { segment: id, chunks, reason });
        }
    }

    /// A part has left. Says whether that was the last of its chunk.
    pub(crate) fn on_chunk_sent(&mut self, peer: PeerId, chunk: ChunkId) -> bool {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return false };
        let Some(sending) = neighbour.sending.get_mut(&chunk) else { return false };
        if sending.sent < sending.len {
            return false;
        }
        let Some(sending) = neighbour.sending.remove(&chunk) else { return false };
        self.stats.uploaded_bytes += u64::from(sending.len);
        // One that had to wait for another to the same neighbour or for the path, or is short, tells of that.
        if sending.alone && sending.len == CHUNK_LEN && sending.presses <= sending.since {
            let took = self.now.passed(sending.since);
            let quickest = neighbour.left_after(took);
            self.slots.learn(took, quickest);
        }
        true
    }

    pub(crate) fn schedule_uploads(&mut self) {
        let now = self.now;
        // A send that takes very long waits for its own path, not for this peer's line: it does not keep others back.
        // Nor does one that leaves as its path carries it.
        let sending = |neighbour: &Neighbour| {
            let patience = neighbour.send_patience();
            let open = neighbour.sending.values().filter(|sending| sending.presses <= now);
            open.map(|sending| sending.since + patience).collect::<Vec<Now>>()
        };
        let mut counted: Vec<Now> = self.neighbours.values().flat_map(sending).filter(|until| *until > now).collect();
        self.slots.short = false;
        loop {
            if counted.len() >= self.slots.count as usize {
                let has_more = |neighbour: &Neighbour| {
                    neighbour.sending.len() < MAX_SENDING && neighbour.waiting().next().is_some()
                };
                self.slots.short = self.neighbours.values().any(has_more);
                if self.slots.short
                    && let Some(at) = counted.iter().min()
                {
                    self.wake_at(*at);
                }
                return;
            }
            // What is due soon goes before what fills a buffer. Then the neighbour that is being sent the least has its turn,
            // so that nobody gains much by claiming to be in a hurry; of equals, the chunk that was sent the fewest times: who
            // gets it passes it on, and others need not ask here. Then the one whose deadline is nearest.
            let segments = &self.segments;
            let times_sent = |chunk: ChunkId| {
                let segment = segments.get(&chunk.segment);
                segment.and_then(|segment| segment.sent.get(chunk.index.0 as usize)).copied().unwrap_or(0)
            };
            // What waits for its path is looked at again when it becomes urgent.
            let mut urgent = Now::NEVER;
            let next = self
                .neighbours
                .iter()
                .filter_map(|(peer, neighbour)| {
                    let wants = neighbour.waiting().map(|(chunk, at)| (at > now + SOON, times_sent(chunk), at, chunk));
                    let (later, times, deadline, chunk) = wants.min()?;
                    // What waits for the path does not keep back what is urgent.
                    let open = neighbour.sending.values().filter(|sending| later || sending.presses <= now);
                    if open.count() >= MAX_SENDING {
                        if later {
                            let first = neighbour.waiting().map(|(_, at)| at).min().unwrap_or(deadline);
                            urgent = urgent.min(first - SOON);
                        }
                        return None;
                    }
                    Some((later, neighbour.sending.len(), times, deadline, peer, chunk))
                })
                .min();
            self.wake_at(urgent);
            let Some((.., deadline, peer, chunk)) = next else { return };
            if let Some(at) = self.allowance.ready_at(now) {
                return self.wake_at(at);
            }
            let patience = self.neighbours.get(&peer).map_or(Span::ZERO, Neighbour::send_patience);
            if self.send_chunk(peer, chunk, deadline) {
                counted.push(now + patience);
            }
        }
    }

    /// Says whether the chunk takes one of the slots.
    fn send_chunk(&mut self, peer: PeerId, chunk: ChunkId, deadline: Now) -> bool {
        let held = self.segments.get(&chunk.segment).filter(|segment| segment.held.contains(chunk.index));
        let len = held.and_then(|segment| segment.len).and_then(|len| len.chunk_len(chunk.index));
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return false };
        neighbour.wants.remove(&chunk);
        // It may have been evicted since it was asked for.
        let Some(len) = len else {
            let chunks = ChunkRange::one(chunk.index);
            let reason = RejectReason::NotHeld;
            self.send(peer, &Message::Reject { segment: chunk.segment, chunks, reason });
            return false;
        };
        let alone = neighbour.sending.is_empty();
        let presses = if self.config.paces && !neighbour.flow.is_local() { deadline - PRESSING } else { self.now };
        neighbour.sending.insert(chunk, Sending { len, since: self.now, alone, sent: 0, presses });
        if let Some(segment) = self.segments.get_mut(&chunk.segment) {
            let place = chunk.index.0 as usize;
            if segment.sent.len() <= place {
                segment.sent.resize(place + 1, 0);
            }
            if let Some(times) = segment.sent.get_mut(place) {
                *times = times.saturating_add(1);
            }
        }
        self.allowance.spend(len);
        if self.segments.get(&chunk.segment).is_some_and(|segment| segment.complete) {
            self.touch(chunk.segment);
        }
        presses <= self.now
    }
}
