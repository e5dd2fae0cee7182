//! What is sent to whom, and when: turn by turn between neighbours, nearest deadline first, within the viewer's cap.

use alloc::vec::Vec;
use core::time::Duration;

use headwater_wire::frame::piece_len;
use headwater_wire::{ChunkId, ChunkRange, Message, PeerId, RejectReason, SegmentId};

use crate::engine::Engine;
use crate::io::Output;
use crate::neighbour::MAX_ASKS;
use crate::time::{Now, seconds};

/// Chunks handed to the shell for one neighbour at once: one being written and one to follow without a pause.
const MAX_SENDING: usize = 2;

/// How much of the cap may be used at once after a pause: a chunk, or a tenth of a second's worth.
const BURST: Duration = Duration::from_millis(100);

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
        self.left = (self.left + now.since(self.at).as_secs_f64() * cap).min(cap * BURST.as_secs_f64());
        self.at = now;
        (self.left < 0.0).then(|| now + seconds(-self.left / cap))
    }

    fn spend(&mut self, bytes: u32) {
        self.left -= f64::from(bytes);
    }
}

impl Engine {
    pub(crate) fn on_request(&mut self, peer: PeerId, id: SegmentId, chunks: ChunkRange, time_left: Duration) {
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
        if let Some(len) = neighbour.sending.remove(&chunk) {
            self.stats.uploaded_bytes += u64::from(len);
        }
    }

    pub(crate) fn schedule_uploads(&mut self) {
        let now = self.now;
        loop {
            // The neighbour that is being sent the least has its turn, so that nobody gains by claiming to be in a hurry;
            // of equals, the one whose deadline is nearest.
            let next = self
                .neighbours
                .iter()
                .filter(|(_, neighbour)| neighbour.sending.len() < MAX_SENDING)
                .filter_map(|(peer, neighbour)| {
                    let (chunk, deadline) = neighbour.wants.iter().min_by_key(|(_, deadline)| **deadline)?;
                    Some((neighbour.sending.len(), *deadline, peer, chunk))
                })
                .min();
            let Some((_, _, peer, chunk)) = next else { return };
            if let Some(at) = self.allowance.ready_at(now) {
                return self.wake_at(at);
            }
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
        neighbour.sending.insert(chunk, len);
        let piece_len = piece_len(len, neighbour.max_frame());
        self.allowance.spend(len);
        if self.segments.get(&chunk.segment).is_some_and(|segment| segment.complete) {
            self.touch(chunk.segment);
        }
        self.emit(Output::SendChunk { peer, chunk, len, piece_len });
    }
}
