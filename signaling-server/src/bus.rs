//! The way to other nodes: what is for them waits here, in bounds, until whoever carries it takes it. Nothing here waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use headwater_rendezvous::cluster::{self, DirectoryOutput, NodeId, SwarmHash, Told};
use tokio::sync::{Notify, mpsc};
use tracing::error;

/// Messages that wait for the bus: what a busy node says in some tenths of a second.
const MAX_QUEUED: usize = 8192;

/// Bytes that wait for the bus.
const MAX_QUEUED_BYTES: usize = 16 << 20;

/// A message on its way.
pub(crate) struct Letter {
    pub(crate) to: Told,
    pub(crate) bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Bus {
    own: NodeId,
    queue: mpsc::Sender<Letter>,
    queued_bytes: AtomicUsize,
    /// Swarms that are to be watched, or not any more, since that was last looked at. No more than there are swarms.
    watches: Mutex<BTreeMap<SwarmHash, bool>>,
    /// There is something in `watches`.
    pub(crate) watches_changed: Notify,
    is_connected: AtomicBool,
    pub(crate) counts: BusCounts,
}

/// What went over the bus.
#[derive(Debug, Default)]
pub(crate) struct BusCounts {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    /// Not sent: the bus was away, or slower than this node.
    pub(crate) dropped: AtomicU64,
    /// Received, and not read.
    pub(crate) unreadable: AtomicU64,
}

impl Bus {
    /// A bus for this node, and what is to be carried.
    pub(crate) fn new(own: NodeId) -> (Self, mpsc::Receiver<Letter>) {
        let (queue, letters) = mpsc::channel(MAX_QUEUED);
        let bus = Self {
            own,
            queue,
            queued_bytes: AtomicUsize::new(0),
            watches: Mutex::new(BTreeMap::new()),
            watches_changed: Notify::new(),
            is_connected: AtomicBool::new(false),
            counts: BusCounts::default(),
        };
        (bus, letters)
    }

    pub(crate) const fn own(&self) -> NodeId {
        self.own
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    pub(crate) fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Relaxed);
    }

    /// Takes something to do. What does not fit is dropped and counted: the other nodes ask again.
    pub(crate) fn take(&self, output: DirectoryOutput) {
        let (to, message) = match output {
            DirectoryOutput::Watch(swarm) => return self.watch(swarm, true),
            DirectoryOutput::Unwatch(swarm) => return self.watch(swarm, false),
            DirectoryOutput::Tell(to, message) => (to, message),
        };
        let bytes = match cluster::write(self.own, &message) {
            Ok(bytes) => bytes,
            Err(error) => {
                error!(%error, "a message to another node cannot be written");
                return;
            }
        };
        let len = bytes.len();
        let fits = self.queued_bytes.load(Ordering::Relaxed) + len <= MAX_QUEUED_BYTES;
        if fits && self.queue.try_send(Letter { to, bytes }).is_ok() {
            self.queued_bytes.fetch_add(len, Ordering::Relaxed);
        } else {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A letter was taken out of the queue.
    pub(crate) fn took(&self, letter: &Letter) {
        // The sender may not have counted it yet.
        let _ = self.queued_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
            Some(queued.saturating_sub(letter.bytes.len()))
        });
    }

    fn watch(&self, swarm: SwarmHash, is_wanted: bool) {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).insert(swarm, is_wanted);
        self.watches_changed.notify_one();
    }

    /// What changed of the swarms that are to be watched.
    pub(crate) fn take_watches(&self) -> BTreeMap<SwarmHash, bool> {
        std::mem::take(&mut *self.watches.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_rendezvous::cluster::NodeMessage;

    #[test]
    fn what_waits_for_a_bus_that_is_away_is_bounded() {
        let (bus, mut letters) = Bus::new(NodeId(1));
        for _ in 0..2 * MAX_QUEUED {
            bus.take(DirectoryOutput::Tell(Told::Everyone, Box::new(NodeMessage::Alive)));
        }
        assert_eq!(bus.counts.dropped.load(Ordering::Relaxed), MAX_QUEUED as u64);
        let letter = letters.try_recv().unwrap();
        bus.took(&letter);
        bus.take(DirectoryOutput::Tell(Told::Everyone, Box::new(NodeMessage::Alive)));
        assert_eq!(bus.counts.dropped.load(Ordering::Relaxed), MAX_QUEUED as u64);
    }

    #[test]
    fn bytes_that_wait_are_bounded_too() {
        let (bus, _letters) = Bus::new(NodeId(1));
        let sdp = "x".repeat(500_000);
        for _ in 0..100 {
            let data = headwater_wire::signal::SignalData::Offer { sdp: sdp.clone() };
            let peer = headwater_wire::PeerId(1);
            let message =
                NodeMessage::Signal { swarm: SwarmHash([0; 16]), from: peer, to: peer, data, is_searching: false };
            bus.take(DirectoryOutput::Tell(Told::Everyone, Box::new(message)));
        }
        assert!(bus.queued_bytes.load(Ordering::Relaxed) <= MAX_QUEUED_BYTES);
        assert!(bus.counts.dropped.load(Ordering::Relaxed) > 60);
    }

    #[test]
    fn only_the_last_word_about_a_swarm_counts() {
        let (bus, _letters) = Bus::new(NodeId(1));
        let swarm = SwarmHash([7; 16]);
        bus.take(DirectoryOutput::Watch(swarm));
        bus.take(DirectoryOutput::Unwatch(swarm));
        assert_eq!(bus.take_watches(), BTreeMap::from([(swarm, false)]));
        assert!(bus.take_watches().is_empty());
    }
}
