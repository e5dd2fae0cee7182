//! Hashes and signs what the mirror pulls, and hands it to the node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use headwater_wire::catalogue::encode_file;
use headwater_wire::limits::{MAX_BATCH_LEN, MAX_CATALOGUE_FILE_LEN};
use headwater_wire::{RootHash, SegmentId, SeqNo, SignedBatch, TrackId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::node::{Location, NodeHandle, OwnSegment};
use crate::origin::mirror::MirrorEvent;
use crate::sign::{Hashed, Signer};

/// How long segments of a finished stream wait for others to be signed with them: first, and at most. A batch a segment
/// would make thousands of a film; viewers who come at once do not wait long.
const HOLD: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(4));

/// Segments that wait to be signed together at most.
const MAX_HELD: usize = 64;

/// Bytes of them at most.
const MAX_HELD_BYTES: usize = 32 * 1024 * 1024;

/// Batches of a live stream that its catalogue file has: some minutes of a few renditions.
const MAX_LIVE_BATCHES: usize = 1024;

/// What was signed is remembered of this many segments of a track, the last ones, to notice when one changes.
const MAX_REMEMBERED: usize = 50_000;

/// What a publisher counts.
#[derive(Debug, Default)]
pub struct Published {
    /// Segments handed to the node.
    pub segments: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Batches signed.
    pub batches: AtomicU64,
    /// Segments that were not published: of no length that a segment has, or changed after they were signed.
    pub refused: AtomicU64,
    catalogue: Mutex<VecDeque<SignedBatch>>,
}

impl Published {
    /// The catalogue file as it would lie beside the playlist.
    #[must_use]
    pub fn catalogue(&self) -> Vec<u8> {
        // Nothing panics while it holds the lock.
        encode_file(&*self.catalogue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, batches: &[SignedBatch], live: bool) {
        self.batches.fetch_add(batches.len() as u64, Ordering::Relaxed);
        let mut catalogue = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        catalogue.extend(batches.iter().cloned());
        let most = if live { MAX_LIVE_BATCHES } else { MAX_CATALOGUE_FILE_LEN / MAX_BATCH_LEN };
        let surplus = catalogue.len().saturating_sub(most);
        catalogue.drain(..surplus);
    }
}

/// A segment that waits to be signed with others.
struct Held {
    segment: SegmentId,
    bytes: Bytes,
    hashed: Hashed,
    location: Option<Location>,
    /// Signed before: it had to make room, and comes again.
    again: bool,
}

/// Between the mirror and the node.
pub(super) struct Publisher {
    node: NodeHandle,
    signer: Option<Signer>,
    counters: Arc<Published>,
    live: BTreeSet<TrackId>,
    held: Vec<Held>,
    hold: Duration,
    due: Option<Instant>,
    signed: BTreeMap<TrackId, BTreeMap<SeqNo, RootHash>>,
    /// Whether this one counts segments.
    counts: bool,
}

impl Publisher {
    pub(super) fn new(node: NodeHandle, signer: Option<Signer>, counters: Arc<Published>, counts: bool) -> Self {
        Self {
            node,
            signer,
            counters,
            live: BTreeSet::new(),
            held: Vec::new(),
            hold: HOLD.0,
            due: None,
            signed: BTreeMap::new(),
            counts,
        }
    }

    /// Publishes until the mirror has no more.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<MirrorEvent>) {
        loop {
            let due = self.due;
            tokio::select! {
                event = events.recv() => match event {
                    Some(MirrorEvent::Playlist { update, .. }) => {
                        if update.live {
                            self.live.insert(update.track);
                        }
                        self.node.update_playlist(update, Vec::new()).await;
                    }
                    Some(MirrorEvent::Segment { segment, bytes, location }) => self.take_in(segment, bytes, location).await,
                    None => break,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.hold = (self.hold * 2).min(HOLD.1);
                    self.publish().await;
                }
            }
        }
        self.publish().await;
    }

    async fn take_in(&mut self, segment: SegmentId, bytes: Bytes, location: Option<Location>) {
        let live = self.live.contains(&segment.track);
        let hashing = bytes.clone();
        let hashed = tokio::task::spawn_blocking(move || Hashed::of(segment, &hashing, live)).await;
        let Ok(Some(hashed)) = hashed else {
            tracing::error!(%segment, len = bytes.len(), "no segment has this length; leaving it out");
            self.count(&self.counters.refused, 1);
            return;
        };
        let signed = self.signed.entry(segment.track).or_default();
        if signed.get(&segment.seq).is_some_and(|root| *root != hashed.entry.root) {
            tracing::error!(%segment, "a segment changed after it was signed; the first one stays");
            self.count(&self.counters.refused, 1);
            return;
        }
        let again = signed.insert(segment.seq, hashed.entry.root).is_some();
        if signed.len() > MAX_REMEMBERED {
            signed.pop_first();
        }
        self.held.push(Held { segment, bytes, hashed, location, again });
        let bytes: usize = self.held.iter().map(|held| held.bytes.len()).sum();
        if live || self.held.len() >= MAX_HELD || bytes >= MAX_HELD_BYTES {
            self.publish().await;
        } else if self.due.is_none() {
            self.due = Some(Instant::now() + self.hold);
        }
    }

    fn count(&self, counter: &AtomicU64, much: u64) {
        if self.counts {
            counter.fetch_add(much, Ordering::Relaxed);
        }
    }

    /// Signs what is held, in a batch a track, and hands it to the node: first the signatures, then the bytes.
    async fn publish(&mut self) {
        self.due = None;
        let held = std::mem::take(&mut self.held);
        if let Some(signer) = &self.signer {
            let mut tracks: BTreeMap<TrackId, Vec<_>> = BTreeMap::new();
            for Held { segment, hashed, .. } in held.iter().filter(|held| !held.again) {
                tracks.entry(segment.track).or_default().push(hashed.entry.clone());
            }
            for (track, entries) in tracks {
                match signer.sign(track, &entries) {
                    Ok(batches) => {
                        self.counters.note(&batches, self.live.contains(&track));
                        for batch in batches {
                            self.node.add_own_batch(&batch).await;
                        }
                    }
                    Err(error) => tracing::error!(%track, %error, "cannot sign"),
                }
            }
        }
        for Held { segment, bytes, hashed: Hashed { entry, hashes }, location, again } in held {
            tracing::debug!(%segment, len = entry.len.bytes(), "segment stored");
            if !again {
                self.count(&self.counters.segments, 1);
                self.count(&self.counters.bytes, bytes.len() as u64);
            }
            self.node.publish(OwnSegment { segment, bytes, len: entry.len, hashes, location }).await;
        }
    }
}
