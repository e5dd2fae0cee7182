//! Pulls a finished stream: what viewers are about to play first, the rest from its beginning, all tracks side by side.
//! What the origin could not give is tried again when all else is here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use headwater_wire::{SegmentId, SeqNo, TrackId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Track;
use super::mirror::{MirrorEvent, PARALLEL, Unheard};
use super::pull::Puller;
use crate::backoff::Backoff;
use crate::http::HttpError;
use crate::node::Location;

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

/// What has been pulled, as far as there is room for it.
#[derive(Debug)]
struct Shelf {
    room: u64,
    bytes: u64,
    largest: u64,
    pulled: VecDeque<(SegmentId, Location, u64)>,
}

impl Shelf {
    /// Whether what is under way, and one more, may not fit.
    fn is_full(&self, under_way: usize) -> bool {
        self.bytes.saturating_add(self.largest.saturating_mul(under_way as u64 + 1)) > self.room
    }

    /// Takes note of a segment; gives those whose places it takes.
    fn take_in(&mut self, segment: SegmentId, location: Location, len: u64) -> Vec<(SegmentId, Location)> {
        self.pulled.push_back((segment, location, len));
        self.bytes += len;
        self.largest = self.largest.max(len);
        let mut gone = Vec::new();
        while self.bytes > self.room
            && let Some((segment, location, len)) = self.pulled.pop_front()
        {
            self.bytes -= len;
            gone.push((segment, location));
        }
        gone
    }
}

/// A finished stream on its way.
pub(super) struct Finished {
    puller: Puller,
    events: mpsc::Sender<MirrorEvent>,
    tracks: BTreeSet<TrackId>,
    backlog: Backlog,
    shelf: Shelf,
}

type Pulled = (SegmentId, Location, Result<Bytes, HttpError>);

impl Finished {
    /// What pulls `tracks`, of which there is room for so many bytes.
    pub(super) fn new(puller: Puller, events: mpsc::Sender<MirrorEvent>, room: u64, tracks: &[Track]) -> Self {
        let ids = tracks.iter().map(|track| track.id).collect();
        let shelf = Shelf { room, bytes: 0, largest: 0, pulled: VecDeque::new() };
        Self { puller, events, tracks: ids, backlog: Backlog::new(tracks), shelf }
    }

    /// Until all of it is here, or nobody listens. Where there is no room for all, as long as viewers have wishes.
    ///
    /// Without `wishes` somebody waits for its end: what cannot be had at once is left out.
    pub(super) async fn run(mut self, wishes: Option<mpsc::Receiver<SegmentId>>) -> Result<(), Unheard> {
        let lasting = wishes.is_some();
        let mut wishes = wishes.unwrap_or_else(|| mpsc::channel(1).1);
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut pulls: JoinSet<Pulled> = JoinSet::new();
        let (mut wishing, mut said_full, mut retry_at) = (lasting, false, None);
        loop {
            let full = self.shelf.is_full(pulls.len());
            while pulls.len() < PARALLEL
                && let Some((segment, location)) = self.backlog.next(self.shelf.is_full(pulls.len()))
            {
                let puller = self.puller.clone();
                pulls.spawn(async move {
                    let result = puller.pull(&location).await;
                    (segment, location, result)
                });
            }
            if full && !self.backlog.waiting.is_empty() && !std::mem::replace(&mut said_full, true) {
                let room = self.shelf.room;
                tracing::warn!(room, "no room for the whole stream; the rest comes when viewers get near it");
            }
            if lasting && pulls.is_empty() && !self.backlog.failed.is_empty() {
                retry_at = retry_at.or_else(|| Some(Instant::now() + backoff.next_delay()));
            } else if pulls.is_empty() && (self.backlog.waiting.is_empty() || !wishing) {
                break;
            }
            tokio::select! {
                Some(pulled) = pulls.join_next() => {
                    // A pull that panicked is one segment that viewers get over HTTP.
                    if let Ok((segment, location, result)) = pulled {
                        self.on_pulled(segment, location, result).await?;
                    }
                }
                wish = wishes.recv(), if wishing => match wish {
                    Some(wish) if self.tracks.contains(&wish.track) => self.backlog.wish(wish),
                    Some(_) => {}
                    None => wishing = false,
                },
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                    retry_at = None;
                    self.backlog.try_again();
                }
                () = self.events.closed() => return Err(Unheard),
            }
        }
        tracing::info!(bytes = self.shelf.bytes, "the whole stream is here");
        Ok(())
    }

    async fn on_pulled(
        &mut self,
        segment: SegmentId,
        location: Location,
        result: Result<Bytes, HttpError>,
    ) -> Result<(), Unheard> {
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%segment, %error, "cannot pull a segment; trying again later, viewers get it over HTTP");
                self.backlog.failed.push((segment, location));
                return Ok(());
            }
        };
        let gone = self.shelf.take_in(segment, location.clone(), bytes.len() as u64);
        self.backlog.waiting.extend(gone);
        let location = Some(location);
        self.events.send(MirrorEvent::Segment { segment, bytes, location }).await.map_err(|_| Unheard)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use url::Url;

    use super::*;

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
    fn what_loses_its_place_can_be_wished_for_again() {
        let mut shelf = Shelf { room: 250, bytes: 0, largest: 0, pulled: VecDeque::new() };
        let location = Location { url: Url::parse("http://o.example/").unwrap(), range: None };
        assert!(shelf.take_in(id(1, 0), location.clone(), 100).is_empty());
        assert!(!shelf.is_full(0) && shelf.is_full(1));
        assert!(shelf.take_in(id(1, 1), location.clone(), 100).is_empty());
        assert!(shelf.is_full(0));
        let gone = shelf.take_in(id(1, 2), location, 100);
        assert_eq!(gone.iter().map(|(segment, _)| segment.seq.0).collect::<Vec<_>>(), [0]);
    }
}
