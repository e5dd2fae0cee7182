//! What neighbours tell each other: hellos, holdings, catalogue entries, hashes, pings.

use alloc::vec::Vec;

use headwater_wire::frame::encode_control;
use headwater_wire::limits::{MAX_FRAME, MAX_HASHES, MAX_RANGES};
use headwater_wire::message::ByeReason;
use headwater_wire::{
    ChunkHash, ChunkId, ChunkIndex, ChunkRange, Frame, Hello, Message, PROTOCOL_VERSION, PeerId, RejectReason, Role,
    RootHash, SegmentId, SegmentLen, SeqNo, SeqRange, SignedBatch, TrackId,
};

use crate::engine::Engine;
use crate::io::{BatchSource, DisconnectReason, Event, Output};
use crate::map::{SortedMap, SortedSet};
use crate::neighbour::Neighbour;
use crate::ranges::ChunkSet;
use crate::time::{Now, Span};

/// How long news of chunks are gathered before they are told: a wait this short costs a relay nothing that counts, and
/// halves the messages of a burst.
const GATHER: Span = Span::from_millis(20);

/// How often a neighbour is pinged.
const PING_EVERY: Span = Span::from_secs(5);

/// A neighbour that has said nothing for this long is gone.
const SILENCE: Span = Span::from_secs(20);

/// A peer that has not said hello this long after its channel opened never will.
const HELLO_WITHIN: Span = Span::from_secs(10);

/// Between two requests for more neighbours, at first; doubled each time nobody came of it. Whoever has none at all, though
/// there are others, has met those that it cannot connect to, and each segment meanwhile is a copy from the origin.
const WANT_EVERY: Span = Span::from_secs(5);
const WANT_EVERY_ALONE: Span = Span::from_secs(2);

/// How many neighbours are asked for, beyond those wanted, by a viewer whose neighbours have nothing for it.
const STRANGERS: u16 = 4;

/// As many segments as a player's buffer reaches.
pub(crate) const REACH: u64 = 16;

/// The newest entries of a live track that a new neighbour is told unasked: players begin three segments before the end.
const LIVE_ENTRIES: u64 = 4;

/// Questions (for entries, for hashes) a neighbour may ask in a second; more are not answered.
const MAX_QUESTIONS: u32 = 20;

/// What is new and not told yet, and when things were last said.
#[derive(Debug)]
pub(crate) struct Announcements {
    chunks: SortedMap<SegmentId, ChunkSet>,
    whole: SortedSet<SegmentId>,
    dropped: SortedSet<SegmentId>,
    due: Option<Now>,
    last_want: Now,
    /// When a neighbour may have to be pinged or let go next.
    next_look: Now,
    wants: u32,
    /// When this peer last went to the origin because none of its neighbours has what it wants.
    pub(crate) strange_at: Option<Now>,
    /// When others were last asked for because of that.
    pub(crate) sought_at: Option<Now>,
    /// When others may be asked for because of that again, and how often they were since the player last jumped.
    next_strange: Now,
    strange_wants: u32,
    /// Questions answered, by neighbour, in the second that began at the time given.
    answered: SortedMap<PeerId, u32>,
    answered_since: Now,
}

impl Announcements {
    pub(crate) fn new(now: Now) -> Self {
        Self {
            chunks: SortedMap::default(),
            whole: SortedSet::default(),
            dropped: SortedSet::default(),
            due: None,
            last_want: now,
            next_look: now,
            wants: 0,
            strange_at: None,
            sought_at: None,
            next_strange: now,
            strange_wants: 0,
            answered: SortedMap::default(),
            answered_since: now,
        }
    }
}

impl Engine {
    pub(crate) fn send(&mut self, peer: PeerId, message: &Message) {
        self.emit(Output::Send { peer, frame: encode_control(message) });
    }

    pub(crate) fn on_connected(&mut self, peer: PeerId) {
        self.forget_peer(peer);
        if self.neighbours.len() >= usize::from(self.config.max_neighbours) {
            self.send(peer, &Message::Bye { reason: ByeReason::Full });
            self.emit(Output::Disconnect { peer, reason: DisconnectReason::Full });
            return;
        }
        self.neighbours.insert(peer, Neighbour::new(self.now));
        let hello = Hello {
            version: PROTOCOL_VERSION,
            role: self.config.role,
            max_frame: MAX_FRAME,
            uploads: self.config.uploads,
            nonce: self.nonce,
            features: Vec::new(),
            required: Vec::new(),
        };
        self.send(peer, &Message::Hello(hello));
    }

    /// Drops all that is known of a peer: what was asked of it is missing again.
    pub(crate) fn forget_peer(&mut self, peer: PeerId) {
        let Some(neighbour) = self.neighbours.remove(&peer) else { return };
        self.announcements.answered.remove(&peer);
        for (chunk, ask) in &neighbour.asked {
            self.stats.wasted_bytes += u64::from(ask.received);
            if let Some(segment) = self.segments.get_mut(&chunk.segment) {
                segment.asked.remove(&chunk.index);
            }
        }
        // Its incoming buffers went with the connection, the unchecked ones too.
        for id in self.active.iter() {
            let Some(segment) = self.segments.get_mut(&id) else { continue };
            let len = segment.len;
            let wasted = &mut self.stats.wasted_bytes;
            segment.unchecked.retain(|index, (from, _)| {
                let lost = *from == peer;
                if lost {
                    *wasted += len.and_then(|len| len.chunk_len(*index)).map_or(0, u64::from);
                }
                !lost
            });
            if segment.hash_parts.as_ref().is_some_and(|(from, _)| *from == peer) {
                segment.hash_parts = None;
            }
        }
    }

    pub(crate) fn disconnect(&mut self, peer: PeerId, reason: DisconnectReason) {
        if !self.neighbours.contains_key(&peer) {
            return;
        }
        let bye = match reason {
            DisconnectReason::BadData => ByeReason::BadData,
            DisconnectReason::ProtocolError => ByeReason::ProtocolError,
            DisconnectReason::Incompatible => ByeReason::Incompatible,
            DisconnectReason::Full => ByeReason::Full,
            DisconnectReason::Unresponsive | DisconnectReason::Left => ByeReason::Leaving,
        };
        self.send(peer, &Message::Bye { reason: bye });
        self.emit(Output::Disconnect { peer, reason });
        if reason.is_ban() {
            self.emit(Output::Event(Event::PeerBanned { peer, reason }));
        }
        self.forget_peer(peer);
    }

    /// Takes a control frame in; says whether it may change any plan.
    pub(crate) fn on_control(&mut self, peer: PeerId, frame: &[u8]) -> bool {
        let now = self.now;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return false };
        neighbour.last_heard = now;
        let (ready, flooding) = (neighbour.is_ready(), neighbour.is_flooding(now));
        let message = match Frame::parse(frame) {
            Ok(Frame::Control(message)) if !flooding => message,
            _ => {
                self.disconnect(peer, DisconnectReason::ProtocolError);
                return true;
            }
        };
        let plans = !ready || self.changes_plans(&message);
        match message {
            Message::Hello(hello) if !ready => self.on_hello(peer, hello),
            Message::Bye { .. } => {
                self.emit(Output::Disconnect { peer, reason: DisconnectReason::Left });
                self.forget_peer(peer);
            }
            _ if !ready => self.disconnect(peer, DisconnectReason::ProtocolError),
            Message::Hello(_) => self.disconnect(peer, DisconnectReason::ProtocolError),
            message => self.on_message(peer, message),
        }
        plans
    }

    /// Whether a message may change what this peer gets from where. Most of what neighbours say does not: they hold what is here.
    fn changes_plans(&mut self, message: &Message) -> bool {
        let is_here = |id| self.segments.get(&id).is_some_and(|segment| segment.complete);
        match message {
            Message::Ping { .. } | Message::Pong { .. } => false,
            Message::Request { .. } | Message::Cancel { .. } => {
                self.sends = true;
                false
            }
            Message::Have { track, full: false, ranges } => {
                !ranges.iter().all(|range| range.count == 1 && is_here(SegmentId { track: *track, seq: range.first }))
            }
            Message::HaveChunks { segment, .. } => !is_here(*segment),
            _ => true,
        }
    }

    fn on_hello(&mut self, peer: PeerId, hello: Hello) {
        if hello.version != PROTOCOL_VERSION || !hello.required.is_empty() {
            return self.disconnect(peer, DisconnectReason::Incompatible);
        }
        let seed = hello.role == Role::Seed;
        // Two seeds have nothing to say to each other.
        if seed && self.config.role == Role::Seed {
            return self.disconnect(peer, DisconnectReason::Full);
        }
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.hello = Some(hello);
        }
        self.announcements.wants = 0;
        self.emit(Output::Event(Event::NeighbourReady { peer, seed }));
        if !seed && self.config.uploads {
            self.tell_holdings(peer);
            self.tell_candidates(peer);
        }
    }

    /// Says all that this peer holds.
    fn tell_holdings(&mut self, peer: PeerId) {
        let mut whole: SortedMap<TrackId, Vec<SeqRange>> = SortedMap::default();
        let mut messages = Vec::new();
        for (id, segment) in self.segments.iter() {
            if self.is_spreading(id) {
                continue;
            }
            if segment.shared {
                push_seq(whole.or_default(id.track), id.seq);
            } else if !segment.complete && !segment.hashes.is_empty() && !segment.held.is_empty() {
                messages.push(Message::HaveChunks { segment: id, chunks: segment.held.ranges() });
            }
        }
        for (track, ranges) in whole {
            for (i, part) in ranges.chunks(MAX_RANGES).enumerate() {
                self.send(peer, &Message::Have { track, full: i == 0, ranges: part.to_vec() });
            }
        }
        for message in messages {
            self.send(peer, &message);
        }
        self.tell_live_entries(peer);
        for (segment, chunks) in self.fetches_under_way() {
            self.send(peer, &Message::Fetching { segment, chunks });
        }
    }

    /// Hands over the newest entries of live tracks: a newcomer has no time to ask for those that it begins with.
    fn tell_live_entries(&mut self, peer: PeerId) {
        for last in self.latest.values().copied().collect::<Vec<SegmentId>>() {
            if self.timeline.is_live(last.track) {
                let last_seq = self.timeline.last(last.track).unwrap_or(last.seq);
                let first = SeqNo(last_seq.0.saturating_sub(LIVE_ENTRIES - 1));
                self.tell_entries(peer, last.track, SeqRange { first, count: LIVE_ENTRIES });
            }
        }
    }

    fn tell_entries(&mut self, peer: PeerId, track: TrackId, range: SeqRange) {
        let batches = self.catalogue.covering(track, range);
        let answers: Vec<_> = batches.into_iter().map(|batch| Message::Catalogue(batch.as_bytes().to_vec())).collect();
        for answer in answers {
            self.send(peer, &answer);
        }
    }

    fn on_message(&mut self, peer: PeerId, message: Message) {
        let now = self.now;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        match message {
            Message::Hello(_) | Message::Bye { .. } => {}
            Message::Have { track, full, ranges } => {
                self.ceiling = ranges.iter().map(|range| range.end()).fold(self.ceiling, SeqNo::max);
                neighbour.holdings.learn_whole(track, full, &ranges);
                self.around.learn_whole(track, false, &ranges);
                for range in ranges.iter().filter(|range| range.count == 1) {
                    let segment = SegmentId { track, seq: range.first };
                    self.note_progress(segment, &[ChunkRange::one(ChunkIndex(0))]);
                }
            }
            Message::HaveChunks { segment, chunks } => {
                self.ceiling = self.ceiling.max(segment.seq);
                neighbour.holdings.learn_chunks(segment, &chunks);
                self.around.learn_chunks(segment, &chunks);
                self.note_progress(segment, &chunks);
            }
            Message::Dropped { track, ranges } => neighbour.holdings.learn_dropped(track, &ranges),
            Message::Fetching { segment, chunks } => self.on_fetching(peer, segment, chunks),
            Message::Request { segment, chunks, time_left_ms } => {
                self.on_request(peer, segment, chunks, Span::from_millis(u64::from(time_left_ms)));
            }
            Message::Cancel { segment, chunks } => {
                for index in chunks.iter() {
                    let chunk = ChunkId { segment, index };
                    neighbour.wants.remove(&chunk);
                    // What is left of one that is being sent need not go.
                    if let Some(sending) = neighbour.sending.get(&chunk).filter(|sending| sending.sent < sending.len) {
                        self.allowance.give_back(sending.len - sending.sent);
                        neighbour.sending.remove(&chunk);
                    }
                }
            }
            Message::Reject { segment, chunks, reason } => self.on_reject(peer, segment, chunks, reason),
            Message::GetCatalogue { track, range } => {
                if self.may_answer(peer) {
                    self.tell_entries(peer, track, range);
                }
            }
            Message::Catalogue(bytes) => match SignedBatch::parse(&bytes) {
                Ok((batch, body)) => self.on_batch(BatchSource::Peer(peer), batch, body),
                Err(_) => self.disconnect(peer, DisconnectReason::ProtocolError),
            },
            Message::GetHashes { segment } => {
                if self.may_answer(peer) {
                    self.tell_hashes(peer, segment);
                }
            }
            Message::Hashes { segment, len, first, hashes } => self.on_hashes(peer, segment, len, first, hashes),
            Message::Candidates { track, epoch, nonces } => self.on_candidates(track, epoch, &nonces),
            Message::Ping { nonce } => self.send(peer, &Message::Pong { nonce }),
            Message::Pong { nonce } => {
                if neighbour.flow.answered(now, nonce) {
                    neighbour.forgive();
                    self.parts_due = Some(now);
                } else if let Some((_, at)) = neighbour.ping.take_if(|(sent, _)| *sent == nonce) {
                    neighbour.set_round_trip(now.passed(at));
                    neighbour.flow.note_round_trip(now, now.passed(at));
                }
            }
        }
    }

    /// Whether this neighbour's question is within its share.
    fn may_answer(&mut self, peer: PeerId) -> bool {
        if self.now.passed(self.announcements.answered_since) >= Span::from_secs(1) {
            self.announcements.answered.clear();
            self.announcements.answered_since = self.now;
        }
        let count = self.announcements.answered.or_default(peer);
        *count += 1;
        *count <= MAX_QUESTIONS
    }

    fn tell_hashes(&mut self, peer: PeerId, id: SegmentId) {
        let Some(segment) = self.segments.get(&id).filter(|segment| !segment.differs) else { return };
        let Some(len) = segment.len.filter(|_| !segment.hashes.is_empty()) else { return };
        let parts: Vec<Message> = segment
            .hashes
            .chunks(MAX_HASHES)
            .enumerate()
            .map(|(i, part)| Message::Hashes {
                segment: id,
                len,
                first: (i * MAX_HASHES) as u32,
                hashes: part.to_vec(),
            })
            .collect();
        for part in parts {
            self.send(peer, &part);
        }
    }

    fn on_hashes(&mut self, peer: PeerId, id: SegmentId, len: SegmentLen, first: u32, hashes: Vec<ChunkHash>) {
        let known = self.catalogue.get(id);
        let open = self.is_open();
        // Nobody may tell hashes unasked: without a signed entry the first to tell would be believed.
        let was_asked = self.neighbours.get(&peer).is_some_and(|neighbour| neighbour.questions.contains_key(&id));
        let Some(segment) = self.segments.get_mut(&id) else { return };
        if !was_asked || !segment.hashes.is_empty() || segment.differs || segment.complete {
            return;
        }
        // Without an entry nothing can be made of them; of another length they are of another edition.
        if known.map_or(!open, |known| known.len != len) {
            return;
        }
        let mut parts = match segment.hash_parts.take() {
            Some((from, parts)) if from == peer => parts,
            Some(other) if first != 0 => {
                segment.hash_parts = Some(other);
                return;
            }
            _ => Vec::new(),
        };
        if first == 0 {
            parts.clear();
        }
        if parts.len() != first as usize {
            return;
        }
        parts.extend(hashes);
        if parts.len() < len.chunk_count() as usize {
            segment.hash_parts = Some((peer, parts));
            return;
        }
        let root = RootHash::of_chunks(len, &parts);
        match known {
            Some(known) if known.root != root => {
                self.stats.bad_chunks += 1;
                return self.disconnect(peer, DisconnectReason::BadData);
            }
            Some(_) => {}
            None => self.catalogue.assume(id, len, root),
        }
        self.on_hashes_checked(id, len, parts);
    }

    /// The chunk hashes of an incomplete segment are known: what came before them can be checked.
    pub(crate) fn on_hashes_checked(&mut self, id: SegmentId, len: SegmentLen, hashes: Vec<ChunkHash>) {
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.len = Some(len);
        segment.hashes = hashes;
        let from_origin = core::mem::take(&mut segment.http_hashes);
        let agrees = from_origin.iter().all(|(index, hash)| segment.hashes.get(index.0 as usize) == Some(hash));
        if !agrees {
            return self.distrust(id);
        }
        let held = segment.held.clone();
        let unchecked = core::mem::take(&mut segment.unchecked);
        for index in held.iter() {
            self.announce_chunk(ChunkId { segment: id, index });
        }
        for (index, (peer, hash)) in unchecked {
            // One bad chunk ends the connection, and with it all else that came over it.
            if !self.neighbours.contains_key(&peer) {
                self.stats.wasted_bytes += u64::from(len.chunk_len(index).unwrap_or(0));
                continue;
            }
            self.judge_chunk(peer, ChunkId { segment: id, index }, hash);
        }
    }

    // News.

    pub(crate) fn announce_chunk(&mut self, chunk: ChunkId) {
        self.announcements.chunks.or_default(chunk.segment).insert(chunk.index);
        self.announcements.due.get_or_insert(self.now + GATHER);
    }

    pub(crate) fn announce_whole(&mut self, id: SegmentId) {
        self.announcements.chunks.remove(&id);
        self.announcements.whole.insert(id);
        self.announcements.due.get_or_insert(self.now + GATHER);
    }

    pub(crate) fn announce_dropped(&mut self, id: SegmentId) {
        self.announcements.chunks.remove(&id);
        self.announcements.whole.remove(&id);
        self.announcements.dropped.insert(id);
        self.announcements.due.get_or_insert(self.now + GATHER);
    }

    pub(crate) fn flush_announcements(&mut self) {
        self.flush_candidates();
        let Some(due) = self.announcements.due else { return };
        if due > self.now {
            return self.wake_at(due);
        }
        self.announcements.due = None;
        let chunks = core::mem::take(&mut self.announcements.chunks);
        let whole = core::mem::take(&mut self.announcements.whole);
        let dropped = core::mem::take(&mut self.announcements.dropped);
        if !self.config.uploads {
            return;
        }
        // A segment that was dropped and came back meanwhile is held, not dropped.
        let is_shared = |id: &SegmentId| self.segments.get(id).is_some_and(|segment| segment.shared);
        let dropped: SortedSet<SegmentId> = dropped.iter().filter(|id| !is_shared(id)).collect();
        let whole: SortedSet<SegmentId> = whole.iter().filter(is_shared).collect();
        let mut news: Vec<Message> = Vec::new();
        for (track, ranges) in by_track(dropped) {
            let parts = ranges.chunks(MAX_RANGES);
            news.extend(parts.map(|part| Message::Dropped { track, ranges: part.to_vec() }));
        }
        for (track, ranges) in by_track(whole) {
            let parts = ranges.chunks(MAX_RANGES);
            news.extend(parts.map(|part| Message::Have { track, full: false, ranges: part.to_vec() }));
        }
        self.tell_viewers(&news);
        for (segment, set) in chunks {
            // Who has the same has no use for the news.
            let lacks = |neighbour: &Neighbour| set.iter().any(|index| !neighbour.holds(ChunkId { segment, index }));
            self.tell_viewers_who(&Message::HaveChunks { segment, chunks: set.ranges() }, None, lacks);
        }
    }

    /// Sends a message to those of the neighbours, but `except`, of which `which` says so.
    pub(crate) fn tell(&mut self, message: &Message, except: Option<PeerId>, which: impl Fn(&Neighbour) -> bool) {
        let those = self.ready().filter(|(peer, neighbour)| Some(*peer) != except && which(neighbour));
        for peer in those.map(|(peer, _)| peer).collect::<Vec<PeerId>>() {
            self.send(peer, message);
        }
    }

    /// The same, to viewers alone: seeds want nothing.
    pub(crate) fn tell_viewers_who(
        &mut self,
        message: &Message,
        except: Option<PeerId>,
        which: impl Fn(&Neighbour) -> bool,
    ) {
        self.tell(message, except, |neighbour| !neighbour.is_seed() && which(neighbour));
    }

    /// Sends messages to every viewer among the neighbours.
    pub(crate) fn tell_viewers(&mut self, messages: &[Message]) {
        for message in messages {
            self.tell_viewers_who(message, None, |_| true);
        }
    }

    /// Tells viewers, but `except`, what is of no use to those who have all of a segment.
    pub(crate) fn tell_lacking(&mut self, message: &Message, id: SegmentId, except: Option<PeerId>) {
        self.tell_viewers_who(message, except, |neighbour| !neighbour.holdings.holds_whole(id));
    }

    // Keeping in touch.

    pub(crate) fn keep_in_touch(&mut self) {
        let now = self.now;
        if self.announcements.next_look > now {
            self.wake_at(self.announcements.next_look);
            return self.ask_for_neighbours();
        }
        let mut gone = Vec::new();
        let mut pings = Vec::new();
        let mut next = now + PING_EVERY;
        for (peer, neighbour) in self.neighbours.iter_mut() {
            if !neighbour.is_ready() {
                let until = neighbour.connected + HELLO_WITHIN;
                if until <= now {
                    gone.push(peer);
                }
                next = next.min(until);
                continue;
            }
            if now.passed(neighbour.last_heard) >= SILENCE {
                gone.push(peer);
                continue;
            }
            next = next.min(neighbour.last_heard + SILENCE);
            let due = neighbour.ping.map_or(neighbour.pinged, |(_, at)| at) + PING_EVERY;
            if due <= now {
                let nonce = self.rng.next_u64() as u32;
                neighbour.ping = Some((nonce, now));
                neighbour.pinged = now;
                pings.push((peer, nonce));
            } else {
                next = next.min(due);
            }
        }
        for (peer, nonce) in pings {
            self.send(peer, &Message::Ping { nonce });
        }
        for peer in gone {
            self.disconnect(peer, DisconnectReason::Unresponsive);
        }
        if !self.neighbours.is_empty() {
            // Who comes meanwhile has nothing due before that either.
            self.announcements.next_look = next;
            self.wake_at(next);
        }
        self.ask_for_neighbours();
    }

    /// The player goes on elsewhere. Where no neighbour has what it plays there, others are asked for at once.
    pub(crate) fn on_jump(&mut self, id: SegmentId) {
        self.announcements.strange_wants = 0;
        if !self.timeline.is_live(id.track) && !self.ready().any(|(_, neighbour)| neighbour.holds_any(id)) {
            self.announcements.strange_at = Some(self.now);
            self.announcements.next_strange = self.now;
        }
    }

    fn ask_for_neighbours(&mut self) {
        let Some((_, swarm_size)) = self.swarm else { return };
        let have = self.neighbours.len() as u16;
        // Content on demand: the neighbours are elsewhere in it.
        let is_strange = self.announcements.next_strange <= self.now
            && self.announcements.strange_at.is_some_and(|at| self.now.passed(at) < WANT_EVERY);
        let count = self.config.neighbours.saturating_sub(have).max(if is_strange { STRANGERS } else { 0 });
        // Where everybody is a neighbour already there is nobody to ask for, but the swarm may have grown since.
        if count == 0 {
            return;
        }
        let is_alone = have == 0 && swarm_size > 1;
        let every = if is_alone { WANT_EVERY_ALONE } else { WANT_EVERY };
        let patience = if swarm_size <= u32::from(have) + 1 { 4 } else { 1 };
        // Who joins is offered neighbours, which is as good as having asked.
        let pause = |wants: u32| every * (patience << wants.saturating_sub(1).min(4));
        let due = self.announcements.last_want + pause(self.announcements.wants);
        if due > self.now && !is_strange {
            return self.wake_at(due);
        }
        self.announcements.last_want = self.now;
        self.announcements.wants += 1;
        if is_strange {
            // Who is in front of everybody finds nobody, however often it asks.
            self.announcements.next_strange = self.now + WANT_EVERY * (1 << self.announcements.strange_wants.min(2));
            self.announcements.strange_wants += 1;
            // Where everybody is a neighbour nobody can come.
            if swarm_size > u32::from(have) + 1 {
                self.announcements.sought_at = Some(self.now);
            }
            self.make_room(usize::from((have + count).saturating_sub(self.config.max_neighbours)));
        }
        self.emit(Output::WantNeighbours { count });
        self.wake_at(self.now + pause(self.announcements.wants));
    }

    /// Lets go of up to `count` viewers that have nothing for this one, nor it for them, and have had the time to say so.
    fn make_room(&mut self, count: usize) {
        let now = self.now;
        let latest: Vec<SegmentId> = self.latest.values().copied().collect();
        let is_idle = |neighbour: &Neighbour| {
            let serves = latest.iter().any(|last| after(*last).any(|id| neighbour.holds_any(id)));
            let furthest =
                latest.iter().filter_map(|last| Some((last.track, neighbour.holdings.furthest(last.track)?)));
            let mut served = furthest.flat_map(|(track, seq)| after(SegmentId { track, seq }));
            let is_settled = now.passed(neighbour.connected) >= WANT_EVERY;
            let is_busy = !neighbour.asked.is_empty() || !neighbour.wants.is_empty() || !neighbour.sending.is_empty();
            is_settled
                && !is_busy
                && !neighbour.is_seed()
                && !serves
                && !served.any(|id| self.segments.contains_key(&id))
        };
        let idle = self.ready().filter(|(_, neighbour)| is_idle(neighbour));
        let idle: Vec<PeerId> = idle.map(|(peer, _)| peer).take(count).collect();
        for peer in idle {
            self.disconnect(peer, DisconnectReason::Full);
        }
    }

    fn on_reject(&mut self, peer: PeerId, id: SegmentId, chunks: headwater_wire::ChunkRange, reason: RejectReason) {
        let now = self.now;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        if reason == RejectReason::NoUpload
            && let Some(hello) = &mut neighbour.hello
        {
            hello.uploads = false;
        }
        let pause = if reason == RejectReason::Busy { Span::from_secs(1) } else { Span::from_secs(10) };
        for index in chunks.iter() {
            let chunk = ChunkId { segment: id, index };
            let Some(ask) = neighbour.unask(chunk) else { continue };
            self.stats.wasted_bytes += u64::from(ask.received);
            neighbour.avoid(chunk, now + pause);
            if let Some(segment) = self.segments.get_mut(&id) {
                segment.asked.remove(&index);
            }
            // What came of it.
            self.outputs.push_back(Output::DropChunk { peer, chunk });
        }
    }

    /// Asks a neighbour that should know for entries of segments from `id` on.
    pub(crate) fn ask_for_entry(&mut self, peer: PeerId, id: SegmentId, count: u64) {
        self.send(peer, &Message::GetCatalogue { track: id.track, range: SeqRange { first: id.seq, count } });
    }

    pub(crate) fn ask_for_hashes(&mut self, peer: PeerId, id: SegmentId) {
        self.send(peer, &Message::GetHashes { segment: id });
    }
}

/// A segment and those that follow within [`REACH`].
fn after(id: SegmentId) -> impl Iterator<Item = SegmentId> {
    (0..=REACH).map(move |step| SegmentId { track: id.track, seq: id.seq.saturating_add(step) })
}

fn by_track(ids: SortedSet<SegmentId>) -> SortedMap<TrackId, Vec<SeqRange>> {
    let mut tracks: SortedMap<TrackId, Vec<SeqRange>> = SortedMap::default();
    for id in ids.iter() {
        push_seq(tracks.or_default(id.track), id.seq);
    }
    tracks
}

/// Appends `seq`, larger than all before, to ascending ranges.
fn push_seq(ranges: &mut Vec<SeqRange>, seq: SeqNo) {
    match ranges.last_mut() {
        Some(last) if last.end() == seq => last.count += 1,
        _ => ranges.push(SeqRange { first: seq, count: 1 }),
    }
}
