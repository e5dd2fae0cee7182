//! What is sent to whom, and when: turn by turn between neighbours, nearest deadline first, within the viewer's cap.

use alloc::vec::Vec;

use headwater_wire::frame::piece_len;
use headwater_wire::{ChunkId, ChunkRange, Message, PeerId, RejectReason, SegmentId};

use crate::engine::Engine;
use crate::io::Output;
use crate::neighbour::MAX_ASKS;
use crate::time::{Now, Span};

/// Chunks handed to the shell for one neighbour at once: one being written and one to follow without a pause.
const MAX_SENDING: usize = 2;

/// How much of the cap may be used at once after a pause: a chunk, or a tenth of a second's worth.
const BURST: Span = Span::from_millis(100);

/// A send that takes longer than this waits for its own path, not for this peer's line: it does not keep others back.
const STUCK: Span = Span::from_millis(250);

/// Between these two lies how long a chunk should take to leave: shorter, and the line has room for more at once; longer,
/// and what is sent at once only delays each other.
const QUICK: Span = Span::from_millis(80);
const SLOW: Span = Span::from_millis(160);

/// Fewest, first and most chunks sent at once to all neighbours together.
const MIN_SLOTS: f64 = 2.0;
const FIRST_SLOTS: f64 = 4.0;
const MAX_SLOTS: f64 = 256.0;

/// How many chunks are sent at once, all neighbours together. Few: a chunk that has arrived is passed on at once, while
/// many that share the line all arrive late. So the number follows the time that one takes to leave.
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

    /// A chunk has left after `took`.
    fn learn(&mut self, took: Span) {
        if took > SLOW {
            self.count = (self.count * 0.95).max(MIN_SLOTS);
        } else if took < QUICK && self.short {
            self.count = (self.count + 0.25).min(MAX_SLOTS);
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
}

impl Engine {
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
                if !neighbour.sending.contains_key(&chunk) {
                    neighbour.wants.insert(chunk, now + time_left);
                }
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

    pub(crate) fn on_chunk_sent(&mut self, peer: PeerId, chunk: ChunkId) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        if let Some((len, since)) = neighbour.sending.remove(&chunk) {
            self.stats.uploaded_bytes += u64::from(len);
            self.slots.learn(self.now.passed(since));
        }
    }

    pub(crate) fn schedule_uploads(&mut self) {
        let now = self.now;
        let under_way = self.neighbours.values().flat_map(|neighbour| neighbour.sending.values());
        let stuck_at: Vec<Now> = under_way.map(|(_, since)| *since + STUCK).filter(|at| *at > now).collect();
        let mut used = stuck_at.len();
        self.slots.short = false;
        loop {
            // The neighbour that is being sent the least has its turn, so that nobody gains by claiming to be in a hurry. Of
            // equals, the chunk that was sent the fewest times: who gets it passes it on, and others need not ask here.
            // Then the one whose deadline is nearest.
            let segments = &self.segments;
            let times_sent = |chunk: ChunkId| {
                let segment = segments.get(&chunk.segment);
                segment.and_then(|segment| segment.sent.get(chunk.index.0 as usize)).copied().unwrap_or(0)
            };
            let next = self
                .neighbours
                .iter()
                .filter(|(_, neighbour)| neighbour.sending.len() < MAX_SENDING)
                .filter_map(|(peer, neighbour)| {
                    let wants = neighbour.wants.iter().map(|(chunk, at)| (times_sent(chunk), *at, chunk));
                    let (times, deadline, chunk) = wants.min()?;
                    Some((neighbour.sending.len(), times, deadline, peer, chunk))
                })
                .min();
            let Some((.., peer, chunk)) = next else { return };
            if used >= self.slots.count as usize {
                self.slots.short = true;
                if let Some(at) = stuck_at.iter().min() {
                    self.wake_at(*at);
                }
                return;
            }
            if let Some(at) = self.allowance.ready_at(now) {
                return self.wake_at(at);
            }
            used += 1;
            self.send_chunk(peer, chunk);
        }
    }

    fn send_chunk(&mut self, peer: PeerId, chunk: ChunkId) {
        let held = self.segments.get(&chunk.segment).filter(|segment| segment.held.contains(chunk.index));
        let len = held.and_then(|segment| segment.len).and_then(|len| len.chunk_len(chunk.index));
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        neighbour.wants.remove(&chunk);
        // It may have been evicted since it was asked for.
        let Some(len) = len else {
            let chunks = ChunkRange::one(chunk.index);
            let reason = RejectReason::NotHeld;
            return self.send(peer, &Message::Reject { segment: chunk.segment, chunks, reason });
        };
        neighbour.sending.insert(chunk, (len, self.now));
        if let Some(segment) = self.segments.get_mut(&chunk.segment) {
            let place = chunk.index.0 as usize;
            if segment.sent.len() <= place {
                segment.sent.resize(place + 1, 0);
            }
            if let Some(times) = segment.sent.get_mut(place) {
                *times = times.saturating_add(1);
            }
        }
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        let piece_len = piece_len(len, neighbour.max_frame());
        self.allowance.spend(len);
        if self.segments.get(&chunk.segment).is_some_and(|segment| segment.complete) {
            self.touch(chunk.segment);
        }
        self.emit(Output::SendChunk { peer, chunk, len, piece_len });
    }
}
