//! A peer's connections and its access line: setting up and closing, the uplink's turns, the downlink's queue.
//!
//! Pieces of chunks leave the uplink one after the other, each neighbour in turn; control frames of a neighbour stay in
//! order with its pieces, as on an ordered data channel. A flow has a window that grows with what comes through and
//! halves when a piece stood in a long queue, as SCTP's does on loss.

use std::collections::VecDeque;

use headwater_swarm::{DataVerdict, Input, Now};
use headwater_wire::signal::ClientMessage;
use headwater_wire::{ChunkId, DataHeader, Role};

use super::Peer;
use crate::clock::{Micros, TICK, transfer};
use crate::event::{ChunkRef, Event, NodeIndex, What};
use crate::stats::Source;
use crate::world::Desk;

/// How far ahead the uplink's work is laid out at once.
const SLICE: Micros = 2 * TICK;

/// A flow's first window, and its largest.
const FIRST_WINDOW: u32 = 32 * 1024;
const MAX_WINDOW: u32 = 1024 * 1024;

/// What a control frame weighs besides its bytes: headers of SCTP, DTLS, UDP and IP.
const FRAME_HEADERS: u32 = 80;

/// Something to be sent to a neighbour.
#[derive(Debug)]
enum Item {
    Frame(Vec<u8>),
    Chunk { chunk: ChunkRef, end: u32, piece_len: u32, sent: u32 },
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) other: NodeIndex,
    pub(super) id: u32,
    pub(super) latency: Micros,
    seed: bool,
    queue: VecDeque<Item>,
    in_flight: u32,
    window: u32,
    grows_fast: bool,
    last_cut: Micros,
    /// Most bytes a second, and the moment until which they are spent.
    rate_limit: f64,
    paced_until: Micros,
}

/// What a peer sends over.
#[derive(Debug)]
pub(super) struct Uplink {
    rate: f64,
    free_at: Micros,
    pub(super) timer: Option<Micros>,
    turn: usize,
}

impl Uplink {
    pub(super) fn new(rate: f64) -> Self {
        Self { rate, free_at: 0, timer: None, turn: 0 }
    }
}

/// What a peer receives over.
#[derive(Debug)]
pub(super) struct Downlink {
    rate: f64,
    free_at: Micros,
    /// Things that are in the queue now.
    queued: u32,
    longest: Micros,
}

impl Downlink {
    pub(super) fn new(rate: f64, longest: Micros) -> Self {
        Self { rate, free_at: 0, queued: 0, longest }
    }
}

impl Link {
    fn is_sendable(&self, now: Micros) -> bool {
        match self.queue.front() {
            None => false,
            Some(Item::Frame(_)) => true,
            Some(Item::Chunk { end, piece_len, sent, .. }) => {
                let piece = (*piece_len).min(end - sent);
                (self.in_flight == 0 || self.in_flight + piece <= self.window) && self.paced_until <= now + SLICE
            }
        }
    }
}

impl Peer {
    fn link_place(&self, other: NodeIndex) -> Result<usize, usize> {
        self.links.binary_search_by_key(&other, |link| link.other)
    }

    fn link_mut(&mut self, other: NodeIndex, id: u32) -> Option<&mut Link> {
        let place = self.link_place(other).ok()?;
        self.links.get_mut(place).filter(|link| link.id == id)
    }

    // Setting up and closing.

    pub(super) fn link_try(&mut self, other: NodeIndex, desk: &mut Desk<'_>) {
        if desk.shared.population.connectable(self.index, other) {
            self.number = self.number.wrapping_add(1);
            let link = self.number;
            self.send(other, What::LinkSyn { link }, desk);
        }
    }

    pub(super) fn link_syn(&mut self, other: NodeIndex, link: u32, desk: &mut Desk<'_>) {
        if !self.joined_swarm {
            return;
        }
        self.send(other, What::LinkAck { link }, desk);
        self.link_open(other, link, desk);
    }

    pub(super) fn link_open(&mut self, other: NodeIndex, id: u32, desk: &mut Desk<'_>) {
        let population = &desk.shared.population;
        let link = Link {
            other,
            id,
            latency: population.latency(self.index, other),
            seed: population.session(other).role == Role::Seed,
            queue: VecDeque::new(),
            in_flight: 0,
            window: FIRST_WINDOW,
            grows_fast: true,
            last_cut: 0,
            rate_limit: population.rate_limit(self.index, other),
            paced_until: 0,
        };
        match self.link_place(other) {
            Ok(place) => self.links[place] = link,
            Err(place) => self.links.insert(place, link),
        }
        self.record.connections += 1;
        self.input(Input::PeerConnected { peer: population.id(other) });
    }

    pub(super) fn link_deadline(&mut self, other: NodeIndex, desk: &mut Desk<'_>) {
        if self.link_place(other).is_err() {
            self.tell_server(ClientMessage::Lost { peer: desk.shared.population.id(other) }, desk);
        }
    }

    pub(super) fn link_gone(&mut self, other: NodeIndex, link: u32, desk: &mut Desk<'_>) {
        if self.link_mut(other, link).is_some() {
            self.unlink(other, desk);
            self.input(Input::PeerDisconnected { peer: desk.shared.population.id(other) });
        }
    }

    /// The engine closes a connection.
    pub(super) fn disconnect(&mut self, other: NodeIndex, desk: &mut Desk<'_>) {
        let Ok(place) = self.link_place(other) else { return };
        let link = self.links[place].id;
        self.send(other, What::LinkGone { link }, desk);
        self.unlink(other, desk);
    }

    fn unlink(&mut self, other: NodeIndex, desk: &mut Desk<'_>) {
        if let Ok(place) = self.link_place(other) {
            self.links.remove(place);
            self.early.retain(|(from, _)| *from != other);
            self.tell_server(ClientMessage::Lost { peer: desk.shared.population.id(other) }, desk);
        }
    }

    // Sending.

    pub(super) fn send_frame(&mut self, other: NodeIndex, frame: Vec<u8>, desk: &mut Desk<'_>) {
        let Ok(place) = self.link_place(other) else { return };
        let bytes = frame.len() as u64 + u64::from(FRAME_HEADERS);
        self.record.control_frames += 1;
        self.record.control_bytes += bytes;
        desk.stats.control(self.now, bytes, &frame);
        self.links[place].queue.push_back(Item::Frame(frame));
    }

    /// Sends a part of a chunk, from `sent` to `end`.
    pub(super) fn send_chunk(&mut self, other: NodeIndex, chunk: ChunkId, sent: u32, end: u32, piece_len: u32) {
        let Ok(place) = self.link_place(other) else { return };
        let chunk = ChunkRef::of(chunk);
        self.links[place].queue.push_back(Item::Chunk { chunk, end, piece_len: piece_len.max(1), sent });
    }

    /// Sends what the uplink has room for. Says whether the engine was told of chunks that left.
    pub(super) fn pump(&mut self, desk: &mut Desk<'_>) -> bool {
        let now = self.now;
        let mut told = false;
        loop {
            if self.uplink.free_at > now + SLICE {
                if self.links.iter().any(|link| !link.queue.is_empty()) {
                    self.pump_at(self.uplink.free_at - SLICE, desk);
                }
                return told;
            }
            let count = self.links.len();
            let next = (0..count).map(|i| (self.uplink.turn + i) % count).find(|i| self.links[*i].is_sendable(now));
            let Some(place) = next else { break };
            self.uplink.turn = place + 1;
            told |= self.take_turn(place, desk);
        }
        let paced = self.links.iter().filter(|link| link.paced_until > now + SLICE && !link.queue.is_empty());
        if let Some(at) = paced.map(|link| link.paced_until).min() {
            self.pump_at(at - SLICE, desk);
        }
        told
    }

    fn pump_at(&mut self, at: Micros, desk: &mut Desk<'_>) {
        if self.uplink.timer.is_none_or(|timer| timer > at) {
            self.uplink.timer = Some(at);
            self.later(at, What::Pump, desk);
        }
    }

    /// Sends one neighbour's waiting control frames and one piece of a chunk.
    fn take_turn(&mut self, place: usize, desk: &mut Desk<'_>) -> bool {
        let overhead = desk.shared.scenario.network.overhead;
        loop {
            let link = &mut self.links[place];
            let (other, id, latency) = (link.other, link.id, link.latency);
            if !link.is_sendable(self.now) {
                return false;
            }
            let begin = self.uplink.free_at.max(self.now);
            let Some(item) = link.queue.pop_front() else { return false };
            match item {
                Item::Frame(frame) => {
                    let left = begin + transfer(frame.len() as u32 + FRAME_HEADERS, self.uplink.rate);
                    self.uplink.free_at = left;
                    let at = desk.shared.population.taken(other, left + latency);
                    self.send_at(other, at, What::Frame { link: id, exited: false, frame }, desk);
                }
                Item::Chunk { chunk, end, piece_len, sent } => {
                    let piece = piece_len.min(end - sent);
                    let weight = (f64::from(piece) * overhead) as u32;
                    let left = begin + transfer(weight, self.uplink.rate);
                    self.uplink.free_at = left;
                    link.in_flight += piece;
                    if link.rate_limit.is_finite() {
                        link.paced_until = link.paced_until.max(begin) + transfer(piece, link.rate_limit);
                    }
                    let done = sent + piece == end;
                    if !done {
                        link.queue.push_front(Item::Chunk { chunk, end, piece_len, sent: sent + piece });
                    }
                    self.record.uploaded += u64::from(piece);
                    desk.stats.uploaded(self.now, piece);
                    let what = What::Piece { link: id, exited: false, marked: false, chunk, offset: sent, len: piece };
                    let at = desk.shared.population.taken(other, left + latency);
                    self.send_at(other, at, what, desk);
                    if done {
                        let peer = desk.shared.population.id(other);
                        self.input(Input::ChunkSent { peer, chunk: chunk.id() });
                    }
                    return done;
                }
            }
        }
    }

    pub(super) fn acked(&mut self, other: NodeIndex, id: u32, len: u32, marked: bool) {
        let now = self.now;
        let Some(link) = self.link_mut(other, id) else { return };
        link.in_flight = link.in_flight.saturating_sub(len);
        if marked {
            link.grows_fast = false;
            if now.saturating_sub(link.last_cut) > 2 * link.latency {
                link.last_cut = now;
                link.window = (link.window / 2).max(FIRST_WINDOW);
            }
        } else if link.grows_fast {
            link.window = (link.window + len).min(MAX_WINDOW);
        } else {
            let growth = u64::from(len) * 1_200 / u64::from(link.window);
            link.window = (link.window + growth as u32).min(MAX_WINDOW);
        }
    }

    // Receiving.

    /// Something comes to the near end of the downlink, or leaves its queue.
    pub(super) fn arrive(&mut self, mut event: Event, desk: &mut Desk<'_>) {
        let overhead = desk.shared.scenario.network.overhead;
        let (exited, weight) = match &event.what {
            What::Frame { exited, frame, .. } => (*exited, frame.len() as u32 + FRAME_HEADERS),
            What::Piece { exited, len, .. } => (*exited, (f64::from(*len) * overhead) as u32),
            What::HttpPiece { exited, len, .. } => (*exited, (f64::from(*len) * 1.04) as u32),
            _ => return,
        };
        if exited {
            self.downlink.queued -= 1;
            return self.received(event, desk);
        }
        let line = &mut self.downlink;
        let exit = line.free_at.max(self.now) + transfer(weight, line.rate);
        line.free_at = exit;
        // What came before has left the queue: the order stays.
        if line.queued == 0 && exit < self.now + TICK {
            return self.received(event, desk);
        }
        line.queued += 1;
        let waits = exit - self.now > line.longest;
        match &mut event.what {
            What::Frame { exited, .. } => *exited = true,
            What::Piece { exited, marked, .. } | What::HttpPiece { exited, marked, .. } => {
                *exited = true;
                *marked = waits;
            }
            _ => {}
        }
        event.at = exit;
        desk.post(event);
    }

    fn received(&mut self, event: Event, desk: &mut Desk<'_>) {
        let from = event.from;
        match event.what {
            What::Frame { link, frame, .. } if self.link_mut(from, link).is_some() => {
                if self.brain.is_none() {
                    self.early.push((from, frame));
                    return;
                }
                let peer = desk.shared.population.id(from);
                self.input(Input::Control { peer, frame: &frame });
            }
            What::Piece { link, marked, chunk, offset, len, .. } => {
                let Some(open) = self.link_mut(from, link) else { return };
                let seed = open.seed;
                let at = self.now + desk.shared.population.latency(self.index, from);
                let at = desk.shared.population.taken(from, at);
                self.send_at(from, at, What::Ack { link, len, marked }, desk);
                self.received_piece(from, seed, chunk, offset, len, desk);
            }
            What::HttpPiece { request, marked, start, len, last, .. } => {
                self.http_piece(request, marked, start, len, last, desk);
            }
            _ => {}
        }
    }

    fn received_piece(
        &mut self,
        from: NodeIndex,
        seed: bool,
        chunk: ChunkRef,
        offset: u32,
        len: u32,
        desk: &mut Desk<'_>,
    ) {
        let peer = desk.shared.population.id(from);
        let source = if seed { Source::Seed } else { Source::Viewer };
        self.record.add(source, len);
        desk.stats.received(self.now, source, len);
        let Some(brain) = &mut self.brain else { return };
        let header = DataHeader { chunk: chunk.id(), offset };
        let verdict = brain.handle_data(Now::from_micros(self.now), peer, &header, len);
        if verdict == DataVerdict::AppendLast {
            let hash = desk.shared.content.hash(chunk.segment, header.chunk.index);
            self.input(Input::ChunkReceived { peer, chunk: header.chunk, hash });
        }
    }
}
