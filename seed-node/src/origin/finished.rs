//! Pulls a finished stream: what viewers are about to play first, the rest from its beginning, all tracks side by side.
//! What the origin could not give is tried again when all else is here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use headwater_wire::{SegmentId, SeqNo, TrackId};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::Track;
use super::mirror::{MirrorEvent, PARALLEL, Unheard};
use super::pull::Puller;
use crate::backoff::Backoff;
use crate::http::HttpError;
use crate::node::Location;
use crate::node::wishes::{Need, NeedsQueue};

/// The first wait before what the origin could not give is asked for again, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// Segments after one that a viewer speaks of which are pulled before all others.
const AHEAD: u64 = 6;

/// Wishes that wait to be granted: those of some hundred viewers.
const MAX_WISHES: usize = 1024;

/// What is still to be pulled, and in what order.
#[derive(Debug, Default)]
struct Backlog {
    waiting: BTreeMap<SegmentId, Location>,
    /// What viewers are about to play, by how near they are and who said so first.
    wished: BTreeMap<(u64, u64), SegmentId>,
    wishes: u64,
    /// Everything, in order.
    queue: VecDeque<SegmentId>,
    /// What the origin could not give.
    failed: Vec<(SegmentId, Location)>,
}

impl Backlog {
    fn new(tracks: &[Track]) -> Self {
        let mut backlog = Self::default();
        let longest = tracks.iter().map(|track| track.media.segments.len()).max().unwrap_or(0);
        for place in 0..longest {
            for track in tracks {
                let Some(listed) = track.media.segments.get(place) else { continue };
                let segment = SegmentId { track: track.id, seq: listed.seq };
                backlog.waiting.insert(segment, listed.location.clone());
                backlog.queue.push_back(segment);
            }
        }
        backlog
    }

    /// A viewer has come to `segment`: it and what follows it are pulled next.
    fn wish(&mut self, SegmentId { track, seq: SeqNo(first) }: SegmentId) {
        let id = |seq| SegmentId { track, seq: SeqNo(seq) };
        self.wishes += 1;
        for (segment, _) in self.waiting.range(id(first)..id(first.saturating_add(AHEAD))) {
            // The next of each viewer before the one after it of any.
            self.wished.insert((segment.seq.0 - first, self.wishes), *segment);
        }
        while self.wished.len() > MAX_WISHES {
            self.wished.pop_last();
        }
    }

    /// The next to pull; only what is wished for, where there is no room for more.
    fn next(&mut self, full: bool) -> Option<(SegmentId, Location)> {
        loop {
            let segment = match self.wished.pop_first() {
                Some((_, segment)) => segment,
                None if full => return None,
                None => self.queue.pop_front()?,
            };
            if let Some(location) = self.waiting.remove(&segment) {
                return Some((segment, location));
            }
        }
    }

    /// Lets everything that failed be tried again.
    fn try_again(&mut self) {
        for (segment, location) in std::mem::take(&mut self.failed) {
            self.waiting.insert(segment, location);
            self.queue.push_back(segment);
        }
    }
}

/// What the nodes hold. Which of it goes where there is no room for all is theirs to say.
#[derive(Debug)]
struct Held {
    room: u64,
    bytes: u64,
    largest: u64,
    segments: BTreeMap<SegmentId, (Location, u64)>,
}

impl Held {
    fn new(room: u64) -> Self {
        Self { room, bytes: 0, largest: 0, segments: BTreeMap::new() }
    }

    /// Whether what is under way, and one more, may not fit.
    fn is_full(&self, under_way: usize) -> bool {
        self.bytes.saturating_add(self.largest.saturating_mul(under_way as u64 + 1)) > self.room
    }

    fn take_in(&mut self, segment: SegmentId, location: Location, len: u64) {
        self.let_go(segment);
        self.segments.insert(segment, (location, len));
        self.bytes += len;
        self.largest = self.largest.max(len);
    }

    fn let_go(&mut self, segment: SegmentId) -> Option<Location> {
        let (location, len) = self.segments.remove(&segment)?;
        self.bytes -= len;
        Some(location)
    }
}

/// A finished stream on its way.
pub(super) struct Finished {
    puller: Puller,
    events: mpsc::Sender<MirrorEvent>,
    tracks: BTreeSet<TrackId>,
    backlog: Backlog,
    held: Held,
    backoff: Backoff,
}

type Pulled = (SegmentId, Location, Result<Bytes, HttpError>);

impl Finished {
    /// What pulls `tracks`, of which there is room for so many bytes.
    pub(super) fn new(puller: Puller, events: mpsc::Sender<MirrorEvent>, room: u64, tracks: &[Track]) -> Self {
        let ids = tracks.iter().map(|track| track.id).collect();
        let backoff = Backoff::new(RETRY.0, RETRY.1);
        Self { puller, events, tracks: ids, backlog: Backlog::new(tracks), held: Held::new(room), backoff }
    }

    /// For as long as somebody listens: what does not fit comes when viewers get near it, what was lost comes again.
    ///
    /// Without `needs` somebody waits for its end: what cannot be had at once is left out.
    pub(super) async fn run(mut self, needs: Option<NeedsQueue>) -> Result<(), Unheard> {
        let Some(mut needs) = needs else { return self.run_once().await };
        let mut pulls: JoinSet<Pulled> = JoinSet::new();
        let (mut said_full, mut said_whole, mut retry_at) = (false, false, None);
        loop {
            let full = self.held.is_full(pulls.len());
            self.start_pulls(&mut pulls);
            let left = !self.backlog.waiting.is_empty();
            if full && left && !std::mem::replace(&mut said_full, true) {
                let room = self.held.room;
                tracing::warn!(room, "no room for the whole stream; the rest comes when viewers get near it");
            }
            if pulls.is_empty() && !self.backlog.failed.is_empty() {
                retry_at = retry_at.or_else(|| Some(Instant::now() + self.backoff.next_delay()));
            } else if pulls.is_empty() && !left && !std::mem::replace(&mut said_whole, true) {
                tracing::info!(bytes = self.held.bytes, "the whole stream is here");
            }
            tokio::select! {
                Some(pulled) = pulls.join_next() => self.on_pulled(pulled).await?,
                need = needs.next() => match need {
                    Some(Need::Near(segment)) if self.tracks.contains(&segment.track) => self.backlog.wish(segment),
                    Some(Need::Near(_)) => {}
                    Some(Need::Gone { segment, lost }) => self.on_gone(segment, lost),
                    None => return Err(Unheard),
                },
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                    retry_at = None;
                    self.backlog.try_again();
                }
                () = self.events.closed() => return Err(Unheard),
            }
        }
    }

    async fn run_once(mut self) -> Result<(), Unheard> {
        let mut pulls: JoinSet<Pulled> = JoinSet::new();
        loop {
            self.start_pulls(&mut pulls);
            tokio::select! {
                pulled = pulls.join_next() => match pulled {
                    Some(pulled) => self.on_pulled(pulled).await?,
                    None => return Ok(()),
                },
                () = self.events.closed() => return Err(Unheard),
            }
        }
    }

    fn start_pulls(&mut self, pulls: &mut JoinSet<Pulled>) {
        while pulls.len() < PARALLEL
            && let Some((segment, location)) = self.backlog.next(self.held.is_full(pulls.len()))
        {
            let puller = self.puller.clone();
            pulls.spawn(async move {
                let result = puller.pull(&location).await;
                (segment, location, result)
            });
        }
    }

    async fn on_pulled(&mut self, pulled: Result<Pulled, JoinError>) -> Result<(), Unheard> {
        // A pull that panicked is one segment that viewers get over HTTP.
        let Ok((segment, location, result)) = pulled else { return Ok(()) };
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%segment, %error, "cannot pull a segment; trying again later, viewers get it over HTTP");
                self.backlog.failed.push((segment, location));
                return Ok(());
            }
        };
        self.backoff.reset();
        self.held.take_in(segment, location.clone(), bytes.len() as u64);
        let location = Some(location);
        self.events.send(MirrorEvent::Segment { segment, bytes, location }).await.map_err(|_| Unheard)
    }

    /// A node holds it no longer. What was let go for others waits until a viewer comes near; what was lost is pulled anew.
    fn on_gone(&mut self, segment: SegmentId, lost: bool) {
        let Some(location) = self.held.let_go(segment) else { return };
        if lost {
            // What it was is of no use.
            self.puller.forget(&location);
            self.backlog.queue.push_back(segment);
        }
        self.backlog.waiting.insert(segment, location);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use url::Url;

    use super::*;
    use crate::http::Http;

    fn id(track: u64, seq: u64) -> SegmentId {
        SegmentId { track: TrackId(track), seq: SeqNo(seq) }
    }

    fn backlog(count: u64) -> Backlog {
        let mut backlog = Backlog::default();
        for seq in 0..count {
            let url = Url::parse(&format!("http://o.example/{seq}.ts")).unwrap();
            backlog.waiting.insert(id(1, seq), Location { url, range: None });
            backlog.queue.push_back(id(1, seq));
        }
        backlog
    }

    fn pulled(backlog: &mut Backlog, count: usize, full: bool) -> Vec<u64> {
        std::iter::from_fn(|| backlog.next(full)).take(count).map(|(segment, _)| segment.seq.0).collect()
    }

    #[test]
    fn what_viewers_are_about_to_play_comes_before_the_rest_and_each_viewers_next_first() {
        let mut backlog = backlog(40);
        assert_eq!(pulled(&mut backlog, 2, false), [0, 1]);
        backlog.wish(id(1, 20));
        backlog.wish(id(1, 30));
        backlog.wish(id(1, 20));
        backlog.wish(id(2, 5));
        let first = pulled(&mut backlog, 4, false);
        assert_eq!(first, [20, 30, 21, 31]);
        assert_eq!(pulled(&mut backlog, 100, true).len(), 2 * AHEAD as usize - 4, "no more where there is no room");
        let rest = pulled(&mut backlog, 100, false);
        assert_eq!(rest.len(), 40 - 2 - 2 * AHEAD as usize);
        assert_eq!(rest[..2], [2, 3]);
    }

    #[test]
    fn whoever_wishes_for_everything_is_not_remembered_without_bound() {
        let mut backlog = backlog(10_000);
        for seq in (0..10_000).rev() {
            backlog.wish(id(1, seq));
        }
        assert!(backlog.wished.len() <= MAX_WISHES);
    }

    #[test]
    fn what_is_gone_makes_room_and_comes_when_a_viewer_is_near_but_what_was_lost_comes_anyway() {
        let puller = Puller::new(Http::new().unwrap(), None, false);
        let mut finished = Finished::new(puller, mpsc::channel(1).0, 250, &[]);
        let location = Location { url: Url::parse("http://o.example/").unwrap(), range: None };
        for seq in 0..2 {
            assert_eq!(finished.held.is_full(0), seq == 2);
            finished.held.take_in(id(1, seq), location.clone(), 100);
        }
        assert!(finished.held.is_full(0));
        finished.on_gone(id(1, 0), false);
        finished.on_gone(id(1, 0), true);
        assert!(!finished.held.is_full(0), "its place is free");
        assert_eq!(finished.backlog.next(false), None, "nobody is near it");
        finished.on_gone(id(1, 1), true);
        assert_eq!(pulled(&mut finished.backlog, 9, false), [1]);
        finished.backlog.wish(id(1, 0));
        assert_eq!(pulled(&mut finished.backlog, 9, true), [0]);
        assert_eq!(finished.held.bytes, 0);
    }
}
