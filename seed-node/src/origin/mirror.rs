//! Pulls every segment of a stream once: a live one from its newest segment, and then as segments appear; how a finished one
//! is pulled is in `finished`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_swarm::{MediaTime, PlaylistSegment, PlaylistUpdate};
use headwater_wire::{SegmentId, SeqNo, TrackId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use url::Url;

use super::finished::Finished;
use super::playlist::{Listed, Media};
use super::pull::Puller;
use super::{Source, Track, watch};
use crate::http::HttpError;
use crate::node::Location;
use crate::node::wishes::NeedsQueue;

/// Requests to the origin at once: enough to fill its link, few enough to be polite.
pub(super) const PARALLEL: usize = 4;

/// How often a live segment is given up before it is left alone.
const MAX_FAILURES: u8 = 3;

/// How far behind the edge segments are pulled: viewers of a long window who go further back get them over HTTP, and from
/// each other. It bounds what a live stream takes of memory and of the origin at the start.
const MAX_BEHIND: Duration = Duration::from_secs(300);

/// What the mirror sees.
#[derive(Debug, Clone)]
pub enum MirrorEvent {
    /// A playlist has news.
    Playlist {
        /// What is new, for the engine.
        update: PlaylistUpdate,
        /// Where the new segments are.
        locations: Vec<(SegmentId, Location)>,
    },
    /// A segment is here.
    Segment {
        /// Which.
        segment: SegmentId,
        /// Its bytes.
        bytes: Bytes,
        /// Where they can be had again, unless the stream is live.
        location: Option<Location>,
    },
}

/// Pulls a stream until it has ended, or until nobody listens any more.
#[derive(Debug)]
pub struct Mirror {
    /// Pulls the segments.
    pub puller: Puller,
    /// How many bytes of a finished stream there is room for.
    pub budget: u64,
    /// What viewers of a finished stream are near, and what has to be pulled again; `None` where somebody waits for the
    /// mirror's end.
    pub needs: Option<NeedsQueue>,
    /// Who listens. A full queue holds the mirror back.
    pub events: mpsc::Sender<MirrorEvent>,
}

/// Nobody listens any more.
pub(super) struct Unheard;

impl Mirror {
    /// Pulls the stream.
    pub async fn run(mut self, source: Source) {
        let (live, finished): (Vec<Track>, Vec<Track>) = source.tracks.into_iter().partition(|track| track.media.live);
        let mut tasks = JoinSet::new();
        let room = Arc::new(Semaphore::new(PARALLEL));
        let mut watching = JoinSet::new();
        let playlists = watch(self.puller.http(), &live, &mut watching);
        for (track, playlists) in live.into_iter().zip(playlists) {
            let follower = Follower {
                puller: self.puller.clone(),
                events: self.events.clone(),
                room: Arc::clone(&room),
                progress: Progress::new(track.id),
                url: track.url,
                pulls: BTreeMap::new(),
            };
            tasks.spawn(async move { drop(follower.run(track.media, playlists).await) });
        }
        if !finished.is_empty() {
            tasks.spawn(async move { drop(self.pull_finished(finished).await) });
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn pull_finished(&mut self, tracks: Vec<Track>) -> Result<(), Unheard> {
        for track in &tracks {
            self.events.send(Progress::new(track.id).update(&track.media)).await.map_err(|_| Unheard)?;
        }
        let (puller, events) = (self.puller.clone(), self.events.clone());
        Finished::new(puller, events, self.budget, &tracks).run(self.needs.take()).await
    }
}

/// What of a track's playlists has been told.
pub(crate) struct Progress {
    track: TrackId,
    next: SeqNo,
    start: MediaTime,
}

impl Progress {
    pub(crate) fn new(track: TrackId) -> Self {
        Self { track, next: SeqNo(0), start: MediaTime::default() }
    }

    /// The news of a playlist.
    pub(crate) fn update(&mut self, media: &Media) -> MirrorEvent {
        let mut segments = Vec::new();
        let mut locations = Vec::new();
        for listed in media.segments.iter().filter(|listed| listed.seq >= self.next) {
            segments.push(PlaylistSegment { seq: listed.seq, start: self.start, duration: listed.duration });
            locations.push((SegmentId { track: self.track, seq: listed.seq }, listed.location.clone()));
            self.start = self.start.after(listed.duration);
        }
        if let Some(last) = segments.last() {
            self.next = last.seq.saturating_add(1);
        }
        let update = PlaylistUpdate { track: self.track, live: media.live, first: media.first, segments };
        MirrorEvent::Playlist { update, locations }
    }
}

/// What became of a live segment.
#[derive(Debug)]
struct Pull {
    location: Location,
    failures: u8,
    /// Neither under way nor done.
    idle: bool,
}

/// Follows one live track.
struct Follower {
    puller: Puller,
    events: mpsc::Sender<MirrorEvent>,
    room: Arc<Semaphore>,
    progress: Progress,
    url: Url,
    pulls: BTreeMap<SeqNo, Pull>,
}

/// What was pulled, and the permit to pull: it is given back once the segment is handed on, so that no more than
/// [`PARALLEL`] segments wait for whoever listens.
type PullResult = (Listed, Result<Bytes, HttpError>, Option<OwnedSemaphorePermit>);

impl Follower {
    async fn run(mut self, media: Media, mut playlists: mpsc::Receiver<Media>) -> Result<(), Unheard> {
        let mut under_way = JoinSet::new();
        self.take_in(&media, &mut under_way).await?;
        let mut live = true;
        while live || !under_way.is_empty() {
            tokio::select! {
                Some(result) = under_way.join_next() => {
                    if let Ok(result) = result {
                        self.on_pulled(result).await?;
                    }
                }
                media = playlists.recv(), if live => match media {
                    Some(media) => self.take_in(&media, &mut under_way).await?,
                    None => live = false,
                },
                () = self.events.closed() => return Err(Unheard),
            }
        }
        tracing::info!(track = %self.progress.track, "the live stream has ended");
        Ok(())
    }

    /// Tells the news of a playlist, and starts to pull what is new.
    async fn take_in(&mut self, media: &Media, under_way: &mut JoinSet<PullResult>) -> Result<(), Unheard> {
        let begun_again = media.segments.last().is_some_and(|last| last.seq.saturating_add(1) < self.progress.next);
        if begun_again {
            tracing::error!(url = %self.url, "the playlist's numbers went back; known numbers are not taken again");
        }
        self.events.send(self.progress.update(media)).await.map_err(|_| Unheard)?;
        self.pulls.retain(|seq, _| *seq >= media.first);
        // Newest first: viewers join at the edge. Permits are given in the order in which they are asked for.
        let mut behind = Duration::ZERO;
        for listed in media.segments.iter().rev() {
            behind += listed.duration;
            if behind > MAX_BEHIND {
                break;
            }
            let pull = self.pulls.entry(listed.seq).or_insert_with(|| Pull {
                location: listed.location.clone(),
                failures: 0,
                idle: true,
            });
            if pull.location != listed.location && !begun_again {
                let (was, now) = (&pull.location.url, &listed.location.url);
                tracing::error!(segment = %listed.seq, %was, %now, "a segment changed its address; the first one stays");
            } else if pull.idle && pull.failures < MAX_FAILURES {
                pull.idle = false;
                let (puller, room, listed) = (self.puller.clone(), Arc::clone(&self.room), listed.clone());
                under_way.spawn(async move {
                    // The semaphore is never closed.
                    let permit = room.acquire_owned().await.ok();
                    let result = puller.pull(&listed.location).await;
                    (listed, result, permit)
                });
            }
        }
        Ok(())
    }

    async fn on_pulled(&mut self, (listed, result, _permit): PullResult) -> Result<(), Unheard> {
        let segment = SegmentId { track: self.progress.track, seq: listed.seq };
        match result {
            Ok(bytes) => {
                let event = MirrorEvent::Segment { segment, bytes, location: None };
                self.events.send(event).await.map_err(|_| Unheard)
            }
            Err(error) => {
                tracing::warn!(%segment, %error, "cannot pull a segment; viewers get it over HTTP");
                if let Some(pull) = self.pulls.get_mut(&listed.seq) {
                    pull.failures += 1;
                    pull.idle = true;
                }
                Ok(())
            }
        }
    }
}
