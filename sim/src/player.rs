//! The player, in the manner of hls.js: one segment after the other until enough is buffered, plays after the first,
//! stalls when it runs dry. Knows nothing of where segments come from.

use crate::clock::{Micros, SECOND};
use crate::content::Content;
use crate::scenario;

/// How a demanded segment is being had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// The player's own HTTP request of this number.
    Http(u32),
    /// The engine, under this demand's number.
    Engine(u64),
}

/// The segment that the player is waiting for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    pub(crate) seq: u32,
    pub(crate) track: u8,
    pub(crate) via: Via,
}

/// One viewer's player.
#[derive(Debug)]
pub(crate) struct Player {
    /// Where it is on the media timeline, as of `updated`.
    pub(crate) position: Micros,
    pub(crate) buffered_to: Micros,
    pub(crate) started: Option<Micros>,
    pub(crate) demand: Option<Demand>,
    /// The next segment to demand.
    pub(crate) next: u32,
    pub(crate) track: u8,
    /// The playlist as last seen: listed segments are `known_first..known_end`.
    pub(crate) known_first: u32,
    pub(crate) known_end: u32,
    pub(crate) ended: bool,
    pub(crate) stalls: u32,
    /// Time stalled, the present stall excluded.
    pub(crate) stalled: Micros,
    pub(crate) watched: Micros,
    pub(crate) seeking: Option<Micros>,
    /// How long seeks took, one by one.
    pub(crate) seeks: Vec<Micros>,
    /// How long the slowest of its own loads took.
    pub(crate) slowest: Option<Micros>,
    updated: Micros,
    playing: bool,
    waiting: Option<Micros>,
    /// Bytes a second, as the player measures them.
    estimate: Option<f64>,
    buffer: Micros,
    sync: Micros,
    abr: bool,
}

impl Player {
    pub(crate) fn new(settings: &scenario::Player, segment: Micros) -> Self {
        Self {
            position: 0,
            buffered_to: 0,
            started: None,
            demand: None,
            next: 0,
            track: 0,
            known_first: 0,
            known_end: 0,
            ended: false,
            stalls: 0,
            stalled: 0,
            watched: 0,
            seeking: None,
            seeks: Vec::new(),
            slowest: None,
            updated: 0,
            playing: false,
            waiting: None,
            estimate: None,
            buffer: (settings.buffer_s * 1e6) as Micros,
            sync: (settings.sync_segments * segment as f64) as Micros,
            abr: settings.abr,
        }
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, now: Micros, content: &Content) {
        if self.playing {
            let passed = now.saturating_sub(self.updated);
            let left = self.buffered_to.saturating_sub(self.position);
            self.position += passed.min(left);
            self.watched += passed.min(left);
            if passed >= left {
                self.playing = false;
                if self.next >= content.count && !content.live {
                    self.ended = true;
                } else {
                    self.waiting = Some(self.updated + left);
                }
            }
        }
        self.updated = now;
    }

    /// Whether it has begun, is not at the end, and shows nothing new.
    pub(crate) fn is_stalled(&self) -> bool {
        self.waiting.is_some() && self.seeking.is_none()
    }

    /// Time stalled, the present stall included.
    pub(crate) fn stalled_until(&self, now: Micros) -> Micros {
        let present = self.waiting.filter(|_| self.seeking.is_none()).map_or(0, |since| now.saturating_sub(since));
        self.stalled + present
    }

    /// Stalls, the present one included.
    pub(crate) fn stall_count(&self) -> u32 {
        self.stalls + u32::from(self.is_stalled())
    }

    /// Takes a playlist in. The first one decides where it begins: VOD at `start` of the whole.
    pub(crate) fn playlist(&mut self, published: u32, start: f64, content: &Content) {
        let first_time = self.known_end == 0;
        self.known_first = content.first_listed(published);
        self.known_end = published;
        let begin = if first_time && !content.live {
            Some((start * f64::from(content.count)) as u32)
        } else if first_time || self.next < self.known_first {
            let edge = content.start_of(published);
            Some((edge.saturating_sub(self.sync) / content.segment) as u32)
        } else {
            None
        };
        if let Some(begin) = begin {
            self.next = begin.max(self.known_first).min(published.saturating_sub(1));
            self.position = content.start_of(self.next);
            self.buffered_to = self.position;
        }
    }

    /// The segment to demand now.
    pub(crate) fn wants(&self) -> Option<u32> {
        let room = self.buffered_to.saturating_sub(self.position) < self.buffer;
        (self.demand.is_none() && room && self.next < self.known_end && !self.ended).then_some(self.next)
    }

    /// Whether there is enough to play for the next segment to wait a little: a second, and twice what a load takes.
    pub(crate) fn can_wait(&self) -> bool {
        let Some(slowest) = self.slowest.filter(|_| self.playing) else { return false };
        self.buffered_to.saturating_sub(self.position) > SECOND + 2 * slowest
    }

    /// Takes a segment in; says whether it was the first.
    pub(crate) fn delivered(&mut self, now: Micros, content: &Content) -> bool {
        self.advance(now, content);
        let Some(demand) = self.demand.take() else { return false };
        self.next = demand.seq + 1;
        self.buffered_to = content.start_of(self.next);
        self.playing = !self.ended;
        if let Some(since) = self.seeking.take() {
            self.seeks.push(now.saturating_sub(since));
            self.waiting = None;
        } else if let Some(since) = self.waiting.take() {
            self.stalls += 1;
            self.stalled += now.saturating_sub(since);
        }
        let first = self.started.is_none();
        self.started.get_or_insert(now);
        first
    }

    /// Goes to another place; what was demanded is not wanted any more. Says whether anything must be loaded.
    pub(crate) fn seek(&mut self, now: Micros, to: u32, content: &Content) {
        self.advance(now, content);
        if let Some(since) = self.waiting.take()
            && self.seeking.is_none()
        {
            self.stalls += 1;
            self.stalled += now.saturating_sub(since);
        }
        self.seeking.get_or_insert(now);
        self.waiting = Some(now);
        self.playing = false;
        self.ended = false;
        self.demand = None;
        self.next = to;
        self.position = content.start_of(to);
        self.buffered_to = self.position;
    }

    /// What a load told about the line: chooses the rendition of the next segment.
    pub(crate) fn measured(&mut self, bytes: u32, took: Micros, content: &Content, rates: &[f64]) {
        let sample = f64::from(bytes) / (took.max(1_000) as f64 / 1e6);
        let estimate = self.estimate.map_or(sample, |old| old * 0.7 + sample * 0.3);
        self.estimate = Some(estimate);
        if !self.abr || content.tracks < 2 {
            return;
        }
        let ahead = self.buffered_to.saturating_sub(self.position) as f64 / content.segment as f64;
        let fits = |rate: f64| rate * 125.0 <= estimate * if ahead > 1.0 { 0.8 } else { 0.6 };
        let best = rates.iter().rposition(|rate| fits(*rate)).unwrap_or(0) as u8;
        // One step up at a time; down at once.
        self.track = if best > self.track { self.track + 1 } else { best };
    }
}
