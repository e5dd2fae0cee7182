//! Cuts chunks into frames, and lets as many go as the path takes.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use headwater_wire::frame::DATA_HEADER_LEN;
use headwater_wire::{ChunkId, DataHeader};

use super::OutgoingChunk;
use super::pilot::{Permit, Pilot};

/// The chunk that is leaving, and the window.
#[derive(Debug)]
pub(super) struct Cutter {
    pilot: Pilot,
    /// What both sides' SCTP takes at once, which may be less than the peer's engine does.
    max_piece: u32,
    /// The chunk being cut, and how much of it is sent.
    current: Option<(OutgoingChunk, usize)>,
    /// A chunk that is sent and not yet said to be: there is no room for another.
    finished: Option<ChunkId>,
}

impl Cutter {
    pub(super) fn new(now: Instant, max_message: u32) -> Self {
        let max_piece = max_message - DATA_HEADER_LEN as u32;
        Self { pilot: Pilot::new(now), max_piece, current: None, finished: None }
    }

    /// Whether it takes another chunk.
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.finished.is_none()
    }

    pub(super) fn take(&mut self, chunk: OutgoingChunk) {
        self.current = Some((chunk, 0));
    }

    /// When the next frame may leave; `None` where there is none.
    pub(super) fn permit(&mut self, now: Instant) -> Option<Permit> {
        self.current.as_ref().map(|_| self.pilot.permit(now))
    }

    /// The next frame of the chunk.
    pub(super) fn cut(&mut self) -> Option<BytesMut> {
        let (chunk, sent) = self.current.as_mut()?;
        let most = self.pilot.piece_len(chunk.piece_len.clamp(1, self.max_piece)) as usize;
        let piece = chunk.bytes.slice(*sent..(*sent + most).min(chunk.bytes.len()));
        // A chunk's length fits u32.
        let header = DataHeader { chunk: chunk.chunk, offset: *sent as u32 };
        *sent += piece.len();
        if *sent >= chunk.bytes.len() {
            self.finished = Some(chunk.chunk);
            self.current = None;
        }
        let mut frame = BytesMut::with_capacity(DATA_HEADER_LEN + piece.len());
        frame.extend_from_slice(&header.encode());
        frame.extend_from_slice(&piece);
        Some(frame)
    }

    /// A frame of any kind has left.
    pub(super) fn on_sent(&mut self, now: Instant, len: usize) {
        self.pilot.on_sent(now, len as u64);
    }

    /// Whether acknowledgements are looked for.
    pub(super) fn is_waiting(&self) -> bool {
        self.pilot.is_waiting()
    }

    /// So much has not arrived yet.
    pub(super) fn hear(&mut self, now: Instant, outstanding: usize, round_trip: Option<Duration>) {
        if let Some(round_trip) = round_trip {
            self.pilot.note_round_trip(now, round_trip);
        }
        self.pilot.on_outstanding(now, outstanding as u64);
    }

    /// A chunk of which it is to be said that it was sent. Where the window is full that waits until there is room again: the
    /// engine's queues stay in charge.
    pub(super) fn finished(&mut self) -> Option<ChunkId> {
        self.pilot.has_room().then(|| self.finished.take()).flatten()
    }
}
