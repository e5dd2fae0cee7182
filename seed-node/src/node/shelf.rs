//! Segments of a finished stream that need not all be in memory, since they can be had again: from the disk, or from the
//! folder that is seeded. What is used least goes first.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use headwater_wire::{ChunkId, PeerId, RootHash, SegmentId};
use tokio::sync::{Semaphore, mpsc};

use super::Location;
use crate::origin::pull::Puller;

/// Segments on their way back into memory at once: each may have 64 MB, and is let through when the node has taken it.
const AT_ONCE: usize = 4;

/// A chunk that is to be sent once its segment is back.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) peer: PeerId,
    pub(super) chunk: ChunkId,
    pub(super) piece_len: u32,
}

/// A segment that is back, or cannot be had.
#[derive(Debug)]
pub(super) struct BroughtBack {
    pub(super) segment: SegmentId,
    pub(super) bytes: Option<Bytes>,
}

#[derive(Debug)]
struct Entry {
    location: Location,
    /// What was signed: nothing else is taken for it.
    root: RootHash,
    len: u64,
    /// When it was used last, where it is in memory.
    used: Option<u64>,
}

/// Which segments can be had again, and which of them are in memory.
#[derive(Debug)]
pub(super) struct Shelf {
    puller: Puller,
    /// Most bytes of them in memory.
    memory: u64,
    in_memory: u64,
    entries: BTreeMap<SegmentId, Entry>,
    /// Those in memory, the longest unused first.
    order: BTreeMap<u64, SegmentId>,
    clock: u64,
    waiting: BTreeMap<SegmentId, Vec<Waiting>>,
    back: mpsc::Sender<BroughtBack>,
    room: Arc<Semaphore>,
}

impl Shelf {
    /// An empty one; `back` is where segments come back.
    pub(super) fn new(puller: Puller, memory: u64, back: mpsc::Sender<BroughtBack>) -> Self {
        let (entries, order, waiting) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            puller,
            memory,
            in_memory: 0,
            entries,
            order,
            clock: 0,
            waiting,
            back,
            room: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// A segment is in memory now. Gives those that are to leave it.
    pub(super) fn take_in(
        &mut self,
        segment: SegmentId,
        location: Location,
        root: RootHash,
        len: u64,
    ) -> Vec<SegmentId> {
        self.forget(segment);
        self.entries.insert(segment, Entry { location, root, len, used: None });
        self.stay_in_bounds(segment)
    }

    /// The same, of one that came back.
    pub(super) fn stay_in_bounds(&mut self, newest: SegmentId) -> Vec<SegmentId> {
        self.touch(newest);
        let mut leaving = Vec::new();
        while self.in_memory > self.memory
            && let Some((_, segment)) = self.order.first_key_value().filter(|(_, segment)| **segment != newest)
        {
            let segment = *segment;
            self.leave_memory(segment);
            leaving.push(segment);
        }
        leaving
    }

    /// A segment was used, and is in memory.
    pub(super) fn touch(&mut self, segment: SegmentId) {
        self.leave_memory(segment);
        let Some(entry) = self.entries.get_mut(&segment) else { return };
        self.clock += 1;
        entry.used = Some(self.clock);
        self.order.insert(self.clock, segment);
        self.in_memory += entry.len;
    }

    fn leave_memory(&mut self, segment: SegmentId) {
        let Some(entry) = self.entries.get_mut(&segment) else { return };
        if let Some(used) = entry.used.take() {
            self.order.remove(&used);
            self.in_memory -= entry.len;
        }
    }

    /// The node holds the segment no longer.
    pub(super) fn forget(&mut self, segment: SegmentId) {
        self.leave_memory(segment);
        self.entries.remove(&segment);
    }

    /// Brings a segment back into memory for `waiting`; `false` where it cannot be had.
    pub(super) fn bring_back(&mut self, waiting: Waiting) -> bool {
        let segment = waiting.chunk.segment;
        let Some(Entry { location, root, .. }) = self.entries.get(&segment) else { return false };
        let (location, root) = (location.clone(), *root);
        let others = self.waiting.entry(segment).or_default();
        others.push(waiting);
        if others.len() == 1 {
            let (puller, back, room) = (self.puller.clone(), self.back.clone(), Arc::clone(&self.room));
            // No more than chunks that viewers may have asked for; the permit is kept until the node has the bytes.
            tokio::spawn(async move {
                let _permit = room.acquire().await;
                let bytes = again(&puller, segment, &location, root).await;
                // The node may have stopped.
                let _ = back.send(BroughtBack { segment, bytes }).await;
            });
        }
        true
    }

    /// Whether it is still there to be brought.
    pub(super) fn knows(&self, segment: SegmentId) -> bool {
        self.entries.contains_key(&segment)
    }

    /// Who waits for a segment.
    pub(super) fn take_waiting(&mut self, segment: SegmentId) -> Vec<Waiting> {
        self.waiting.remove(&segment).unwrap_or_default()
    }
}

/// The bytes that were signed, if they can be had.
async fn again(puller: &Puller, segment: SegmentId, location: &Location, root: RootHash) -> Option<Bytes> {
    let bytes = match puller.pull_again(location).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(%segment, %error, "cannot get a segment again; viewers get it over HTTP");
            return None;
        }
    };
    let hashing = bytes.clone();
    let hashed = tokio::task::spawn_blocking(move || RootHash::of_segment(&hashing)).await.ok()?;
    if hashed.is_some_and(|(.., found)| found == root) {
        return Some(bytes);
    }
    tracing::error!(%segment, "a segment changed after it was signed; viewers get it over HTTP");
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use headwater_wire::{SeqNo, TrackId};
    use url::Url;

    use super::*;
    use crate::http::Http;

    #[tokio::test]
    async fn what_is_used_least_leaves_the_memory_and_all_of_it_is_counted() {
        let id = |seq| SegmentId { track: TrackId(1), seq: SeqNo(seq) };
        let location = Location { url: Url::parse("http://o.example/").unwrap(), range: None };
        let (_, _, root) = RootHash::of_segment(b"x").unwrap();
        let puller = Puller::new(Http::new().unwrap(), None, false);
        let mut shelf = Shelf::new(puller, 250, mpsc::channel(1).0);
        let take_in = |shelf: &mut Shelf, seq| shelf.take_in(id(seq), location.clone(), root, 100);
        assert!(take_in(&mut shelf, 0).is_empty());
        assert!(take_in(&mut shelf, 1).is_empty());
        shelf.touch(id(0));
        assert_eq!(take_in(&mut shelf, 2), [id(1)]);
        assert_eq!(shelf.stay_in_bounds(id(1)), [id(0)], "it came back");
        shelf.forget(id(2));
        assert_eq!(shelf.in_memory, 100);
        shelf.forget(id(1));
        assert_eq!((shelf.in_memory, shelf.order.len(), shelf.entries.len()), (0, 0, 1));
        // One that alone is more than the memory is there for as long as it is the newest.
        shelf.memory = 50;
        assert!(shelf.stay_in_bounds(id(0)).is_empty());
    }
}
