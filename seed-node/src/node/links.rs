//! The node's connections: which there are, which may be, and whom never again.

use std::collections::{BTreeMap, VecDeque};

use headwater_wire::PeerId;
use headwater_wire::signal::{IceServer, SignalData};
use tokio::sync::mpsc;

use crate::transport::{Link, LinkId, LinkReport, LinkRequest, OutgoingChunk, Transport};

/// Peers that are refused; the oldest are forgiven first. Ids are the signalling server's to give, so that a longer
/// memory would not help against one who comes back under a new one.
const MAX_BANNED: usize = 4096;

/// One peer's connection.
#[derive(Debug)]
struct Entry {
    link: Link,
    open: bool,
}

/// What became of the wish for a connection.
pub(super) enum Connecting {
    /// It is opening.
    Anew,
    /// It is opening in place of one that was open.
    Replacing,
    /// The peer is banned, or there are enough.
    Refused,
}

/// All connections of a node, open or opening.
pub(super) struct Links {
    entries: BTreeMap<PeerId, Entry>,
    banned: VecDeque<PeerId>,
    next: u64,
    most: usize,
    reports: mpsc::Sender<LinkReport>,
}

impl Links {
    /// None yet, and never more than `most`.
    pub(super) fn new(most: usize, reports: mpsc::Sender<LinkReport>) -> Self {
        Self { entries: BTreeMap::new(), banned: VecDeque::new(), next: 0, most, reports }
    }

    /// Starts a connection, in place of one to the same peer; unless the peer is banned or there are enough.
    pub(super) fn connect(
        &mut self,
        transport: &dyn Transport,
        peer: PeerId,
        offer: bool,
        ice_servers: &[IceServer],
    ) -> Connecting {
        if self.banned.contains(&peer) {
            tracing::debug!(%peer, "refusing a banned peer");
            return Connecting::Refused;
        }
        if !self.entries.contains_key(&peer) && self.entries.len() >= self.most {
            tracing::warn!(%peer, most = self.most, "refusing a peer: there are enough connections");
            return Connecting::Refused;
        }
        self.next += 1;
        let request = LinkRequest { link: LinkId(self.next), peer, offer, ice_servers: ice_servers.to_vec() };
        let link = transport.connect(request, self.reports.clone());
        match self.entries.insert(peer, Entry { link, open: false }) {
            Some(old) if old.open => Connecting::Replacing,
            _ => Connecting::Anew,
        }
    }

    /// Whether there is a connection to this peer, open or opening.
    pub(super) fn contains(&self, peer: PeerId) -> bool {
        self.entries.contains_key(&peer)
    }

    /// Whether the channel to this peer is open.
    pub(super) fn is_open(&self, peer: PeerId) -> bool {
        self.entries.get(&peer).is_some_and(|entry| entry.open)
    }

    /// Whether this is the present connection to the peer: reports of earlier ones may still be on their way.
    pub(super) fn is_current(&self, peer: PeerId, link: LinkId) -> bool {
        self.entries.get(&peer).is_some_and(|entry| entry.link.id == link)
    }

    /// Notes that the channel is open.
    pub(super) fn set_open(&mut self, peer: PeerId) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.open = true;
        }
    }

    /// Forgets a connection, which closes it. Says whether it was open; `None` where there was none.
    pub(super) fn remove(&mut self, peer: PeerId) -> Option<bool> {
        self.entries.remove(&peer).map(|entry| entry.open)
    }

    /// Forgets all connections, which closes them once what was handed to them has left.
    pub(super) fn release(&mut self) {
        self.entries.clear();
    }

    /// Refuses a peer from now on.
    pub(super) fn ban(&mut self, peer: PeerId) {
        if self.banned.len() >= MAX_BANNED {
            self.banned.pop_front();
        }
        self.banned.push_back(peer);
    }

    /// Peers with an open channel.
    pub(super) fn open_peers(&self) -> Vec<PeerId> {
        self.entries.iter().filter(|(_, entry)| entry.open).map(|(peer, _)| *peer).collect()
    }

    /// Hands on what the other side said through the signalling server.
    pub(super) fn signal(&self, peer: PeerId, data: SignalData) {
        let Some(entry) = self.entries.get(&peer) else { return };
        if entry.link.signals.try_send(data).is_err() {
            tracing::debug!(%peer, "dropping signalling: there is too much of it, or the connection is gone");
        }
    }

    /// Hands over a control frame; `false` where the peer does not take its frames any more.
    pub(super) fn send(&self, peer: PeerId, frame: Vec<u8>) -> bool {
        self.entries.get(&peer).is_none_or(|entry| entry.link.control.try_send(frame).is_ok())
    }

    /// Hands over a chunk; `false` where the peer does not take its frames any more.
    pub(super) fn send_chunk(&self, peer: PeerId, chunk: OutgoingChunk) -> bool {
        self.entries.get(&peer).is_none_or(|entry| entry.link.chunks.try_send(chunk).is_ok())
    }
}
