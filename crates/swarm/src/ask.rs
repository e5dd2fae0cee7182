//! The neighbours: what is asked of whom, what is taken back, and the verdict on what comes.

use alloc::vec::Vec;

use headwater_wire::{ChunkHash, ChunkId, ChunkIndex, ChunkRange, Message, PeerId, SegmentId};

use crate::engine::Engine;
use crate::io::{DisconnectReason, Output};
use crate::map::{SortedMap, SortedSet};
use crate::neighbour::{Ask, Neighbour};
use crate::schedule::AHEAD;
use crate::time::{Now, Span};

/// How long a question for catalogue entries or hashes may go unanswered before another neighbour is asked.
const ANSWER_WITHIN: Span = Span::from_millis(1500);

/// The least time a neighbour has to deliver a chunk before somebody else is asked.
const ASK_PATIENCE: Span = Span::from_secs(2);

/// How often it is looked at whether another neighbour would bring a chunk sooner than the one that was asked.
const LOOK_EVERY: Span = Span::from_millis(100);

/// How much sooner the other must be, for what is asked twice is sometimes sent twice.
const MOVE_GAIN: Span = Span::from_millis(500);

/// How often in a row asks may run out before the neighbour is let go; what was under way together counts once.
const MAX_STRIKES: u32 = 6;

impl Engine {
    /// Asks for the catalogue entry and the chunk hashes, without which nothing of a neighbour's can be used.
    pub(crate) fn seek_knowledge(&mut self, id: SegmentId) {
        let now = self.now;
        let Some(segment) = self.segments.get(&id) else { return };
        if segment.differs || !segment.hashes.is_empty() || (segment.fetch.is_some_and(|fetch| fetch.range.is_none())) {
            return;
        }
        let entry = self.catalogue.get(id).is_some();
        let asked_lately =
            self.ready().filter_map(|(_, neighbour)| neighbour.questions.get(&id)).any(|at| *at + ANSWER_WITHIN > now);
        // An entry that came makes the question another one.
        if asked_lately && segment.entry_seen == entry {
            return self.wake_at(now + ANSWER_WITHIN);
        }
        // Whoever was asked longest ago, or never.
        let peer = self
            .ready()
            .filter(|(_, neighbour)| neighbour.gives() && neighbour.holds_any(id))
            .min_by_key(|(peer, neighbour)| (neighbour.questions.get(&id).copied(), neighbour.round_trip(), *peer))
            .map(|(peer, _)| peer);
        let Some(peer) = peer else { return };
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.note_question(id, now);
        }
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.entry_seen = entry;
        }
        if entry || self.is_open() {
            self.ask_for_hashes(peer, id);
        } else {
            self.ask_for_entry(peer, id, AHEAD * 4);
        }
        self.wake_at(now + ANSWER_WITHIN);
    }

    pub(crate) fn ask_peers(&mut self, id: SegmentId, slack: Span) {
        let now = self.now;
        let Some(segment) = self.segments.get(&id) else { return };
        let Some(len) = segment.len.filter(|_| !segment.differs) else { return };
        if self.catalogue.get(id).is_none() {
            return;
        }
        // Most of them are asked for, and it is not yet time to look for somebody quicker.
        let mut look_at: Option<Now> = None;
        let is_around = |index: &ChunkIndex| self.around.may_hold(ChunkId { segment: id, index: *index });
        let missing = segment.missing().filter(|index| !segment.is_being_fetched(*index)).filter(is_around);
        let open: Vec<(ChunkIndex, Option<PeerId>)> = missing
            .filter_map(|index| match segment.asked.get(&index) {
                Some((_, at)) if *at > now => {
                    look_at = Some(look_at.map_or(*at, |other| other.min(*at)));
                    None
                }
                asked => Some((index, asked.map(|(peer, _)| *peer))),
            })
            .collect();
        if let Some(at) = look_at {
            self.wake_at(at);
        }
        if open.is_empty() {
            return;
        }
        let is_source = |neighbour: &Neighbour| neighbour.is_ready() && neighbour.gives() && neighbour.holds_any(id);
        let all = self.neighbours.values().enumerate();
        let sources: Vec<usize> = all.filter(|(_, neighbour)| is_source(neighbour)).map(|(place, _)| place).collect();
        let mut asks: SortedMap<PeerId, SortedSet<ChunkIndex>> = SortedMap::default();
        for (index, asked) in open {
            let chunk = ChunkId { segment: id, index };
            let Some(chunk_len) = len.chunk_len(index) else { continue };
            let best = match asked {
                None => self.best_source(&sources, chunk, chunk_len, slack, None),
                Some(slow) => self.better_source(&sources, slow, chunk, chunk_len, slack),
            };
            let Some((peer, predicted)) = best else { continue };
            let Some(neighbour) = self.neighbours.get_mut(&peer) else { continue };
            let expires = now + (predicted * 4).max(ASK_PATIENCE);
            let due = now + predicted;
            let look_at = now + LOOK_EVERY;
            neighbour.ask(chunk, Ask { at: now, len: chunk_len, received: 0, due, expires });
            self.expiry = self.expiry.min(expires);
            if let Some(segment) = self.segments.get_mut(&id) {
                segment.asked.insert(index, (peer, look_at));
                segment.arrival.requested.get_or_insert(now);
            }
            asks.or_default(peer).insert(index);
            self.wake_at(look_at);
        }
        let time_left_ms = u32::try_from(slack.as_millis()).unwrap_or(u32::MAX);
        for (peer, indices) in asks {
            for chunks in ranges_of(indices.iter()) {
                self.send(peer, &Message::Request { segment: id, chunks, time_left_ms });
            }
        }
    }

    /// A neighbour that would bring a chunk clearly sooner than the one that was asked, which has not begun to send it. It
    /// is taken back from that one.
    fn better_source(
        &mut self,
        sources: &[usize],
        slow: PeerId,
        chunk: ChunkId,
        len: u32,
        slack: Span,
    ) -> Option<(PeerId, Span)> {
        let now = self.now;
        let Ask { at: asked, due, received, .. } = *self.neighbours.get(&slow)?.asked.get(&chunk)?;
        if received > 0 {
            return None;
        }
        let look_at = now + LOOK_EVERY;
        self.segments.get_mut(&chunk.segment)?.asked.insert(chunk.index, (slow, look_at));
        self.wake_at(look_at);
        // What is overdue may come any moment, or as much later again.
        let left = due.passed(now).max(now.passed(asked) / 2);
        let (peer, predicted) = self.best_source(sources, chunk, len, slack, Some(slow))?;
        // The publisher pays for what a seed sends: a viewer that may still be in time keeps the ask.
        let is_seed = |peer| self.neighbours.get(&peer).is_some_and(Neighbour::is_seed);
        let costs = is_seed(peer) && !is_seed(slow) && due > now;
        if costs || predicted + predicted / 2 + MOVE_GAIN >= left {
            return None;
        }
        self.take_back(slow, chunk);
        if let Some(neighbour) = self.neighbours.get_mut(&slow) {
            neighbour.rather_not(now, chunk, Span::from_secs(5), false);
            if due < now {
                neighbour.was_slow(now);
            }
        }
        Some((peer, predicted))
    }

    /// The neighbour that would bring the chunk first. A viewer that is in time goes before a seed: the publisher pays
    /// for what seeds send. One from which it was taken back has another turn where nobody else holds it.
    fn best_source(
        &mut self,
        sources: &[usize],
        chunk: ChunkId,
        len: u32,
        slack: Span,
        except: Option<PeerId>,
    ) -> Option<(PeerId, Span)> {
        let now = self.now;
        let mut best: Option<(bool, bool, Span, PeerId)> = None;
        let (mut others, mut again) = (except.is_some(), Now::NEVER);
        for (peer, neighbour) in sources.iter().filter_map(|place| self.neighbours.at(*place)) {
            if Some(peer) == except || !neighbour.holds(chunk) {
                continue;
            }
            let alone = neighbour.avoids(now, chunk);
            others |= alone.is_none();
            if let Some(at) = alone.filter(|at| *at > now) {
                again = again.min(at);
                continue;
            }
            if !neighbour.has_room() {
                continue;
            }
            let predicted = neighbour.predict(len);
            let late = predicted > slack / 2;
            let candidate = (alone.is_some(), late || neighbour.is_seed(), predicted, peer);
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        }
        if !others && best.is_none() {
            self.wake_at(again);
        }
        let (_, _, predicted, peer) = best.filter(|(avoided, ..)| !(*avoided && others))?;
        Some((peer, predicted))
    }

    pub(crate) fn expire_asks(&mut self) {
        let now = self.now;
        if self.expiry > now {
            return self.wake_at(self.expiry);
        }
        let mut expired: Vec<(PeerId, ChunkId, Ask)> = Vec::new();
        let mut next = Now::NEVER;
        for (peer, neighbour) in &self.neighbours {
            for (chunk, ask) in &neighbour.asked {
                if ask.expires <= now && ask.received < ask.len {
                    expired.push((peer, chunk, *ask));
                } else {
                    next = next.min(ask.expires);
                }
            }
        }
        self.expiry = next;
        self.wake_at(next);
        for (peer, chunk, ask) in expired {
            self.take_back(peer, chunk);
            let Some(neighbour) = self.neighbours.get_mut(&peer) else { continue };
            neighbour.strike(now, ask.at);
            neighbour.rather_not(now, chunk, Span::from_secs(10), ask.received > 0);
            if neighbour.strikes >= MAX_STRIKES {
                self.disconnect(peer, DisconnectReason::Unresponsive);
            }
        }
    }

    /// Cancels what is asked of one peer, through no fault of its own: it may be asked again at once.
    fn take_back(&mut self, peer: PeerId, chunk: ChunkId) {
        if let Some(segment) = self.segments.get_mut(&chunk.segment) {
            segment.asked.remove(&chunk.index);
        }
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        let Some(ask) = neighbour.unask(chunk) else { return };
        self.stats.wasted_bytes += u64::from(ask.received);
        self.send(peer, &Message::Cancel { segment: chunk.segment, chunks: ChunkRange::one(chunk.index) });
        self.emit(Output::DropChunk { peer, chunk });
    }

    /// Cancels all that is asked of peers for a segment.
    pub(crate) fn cancel_asks(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get(&id) else { return };
        let asked: Vec<(ChunkIndex, PeerId)> = segment.asked.iter().map(|(index, (peer, _))| (index, *peer)).collect();
        for (index, peer) in asked {
            self.take_back(peer, ChunkId { segment: id, index });
        }
    }

    /// Cancels what HTTP is bringing, but for chunks that are half here; where the origin failed last time, when it answers.
    pub(crate) fn cancel_fetched_asks(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.get(&id) else { return };
        let answers = segment.failures.is_none() || segment.fetch.is_some_and(|fetch| fetch.head.is_some());
        if !answers {
            return;
        }
        let asked: Vec<(ChunkIndex, PeerId)> = segment
            .asked
            .iter()
            .filter(|(index, _)| segment.is_being_fetched(*index))
            .map(|(index, (peer, _))| (index, *peer))
            .collect();
        for (index, peer) in asked {
            let chunk = ChunkId { segment: id, index };
            let ask = self.neighbours.get(&peer).and_then(|neighbour| neighbour.asked.get(&chunk));
            if ask.is_none_or(|ask| ask.received * 2 < ask.len) {
                self.take_back(peer, chunk);
            }
        }
    }

    pub(crate) fn on_chunk_received(&mut self, peer: PeerId, chunk: ChunkId, hash: ChunkHash) {
        let now = self.now;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        let Some(ask) = neighbour.unask(chunk) else {
            return self.emit(Output::DropChunk { peer, chunk });
        };
        neighbour.arrived(now, ask.len, ask.at);
        let from_seed = neighbour.is_seed();
        if from_seed {
            self.stats.seed_bytes += u64::from(ask.len);
        } else {
            self.stats.viewer_bytes += u64::from(ask.len);
        }
        let Some(segment) = self.segments.get_mut(&chunk.segment).filter(|segment| !segment.differs) else {
            self.stats.wasted_bytes += u64::from(ask.len);
            return self.emit(Output::DropChunk { peer, chunk });
        };
        segment.asked.remove(&chunk.index);
        if segment.held.contains(chunk.index) || segment.unchecked.contains_key(&chunk.index) {
            self.stats.wasted_bytes += u64::from(ask.len);
            return self.emit(Output::DropChunk { peer, chunk });
        }
        if segment.hashes.is_empty() {
            segment.unchecked.insert(chunk.index, (peer, hash));
            return;
        }
        self.judge_chunk(peer, chunk, hash);
    }

    /// Keeps an incoming chunk whose hash is the right one; a wrong one costs its sender the connection.
    pub(crate) fn judge_chunk(&mut self, peer: PeerId, chunk: ChunkId, hash: ChunkHash) {
        let from_seed = self.neighbours.get(&peer).is_some_and(Neighbour::is_seed);
        let Some(segment) = self.segments.get_mut(&chunk.segment) else { return };
        let Some(segment_len) = segment.len else { return };
        let len = segment_len.chunk_len(chunk.index).unwrap_or(0);
        if segment.hashes.get(chunk.index.0 as usize) != Some(&hash) {
            self.stats.bad_chunks += 1;
            self.stats.wasted_bytes += u64::from(len);
            self.emit(Output::DropChunk { peer, chunk });
            return self.disconnect(peer, DisconnectReason::BadData);
        }
        segment.held.insert(chunk.index);
        if from_seed {
            segment.arrival.seed_bytes += len;
        } else {
            segment.arrival.viewer_bytes += len;
        }
        self.emit(Output::KeepChunk { peer, chunk, segment_len });
        self.announce_chunk(chunk);
        let Some(segment) = self.segments.get(&chunk.segment) else { return };
        if segment.is_all_held() {
            self.abort_fetch(chunk.segment);
            self.finish(chunk.segment);
        }
    }
}

/// Ascending indices as ranges.
fn ranges_of(indices: impl Iterator<Item = ChunkIndex>) -> Vec<ChunkRange> {
    let mut ranges: Vec<ChunkRange> = Vec::new();
    for index in indices {
        match ranges.last_mut() {
            Some(last) if last.end() == index.0 => last.count += 1,
            _ => ranges.push(ChunkRange::one(index)),
        }
    }
    ranges
}
