//! A seed: mirrors a stream into a node, and signs what it pulls.

mod publisher;

use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use headwater_swarm::{Config, Integrity};
use headwater_wire::{Role, Scope, SwarmName};
use tokio::sync::broadcast::Receiver;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use crate::cache::DiskCache;
use crate::http::Http;
use crate::key::Key;
use crate::node::wishes::{Needs, needs};
use crate::node::{Node, NodeConfig, NodeEvent, NodeHandle, Tamper};
use crate::origin::Source;
use crate::origin::mirror::{Mirror, MirrorEvent};
use crate::origin::pull::{MAX_RECENT_BYTES, Puller};
use crate::sign::Signer;
use crate::signalling::Membership;
use crate::transport::DataChannels;

pub use publisher::Published;
use publisher::Publisher;

/// Segments pulled and not yet taken in.
const MIRROR_QUEUE: usize = 4;

/// The part of a stream's memory for what was pulled last, which whoever asks over HTTP gets without another pull.
const RECENT: u64 = 8;

/// What a seed is made of.
#[derive(Debug)]
pub struct SeedConfig {
    /// The stream, its playlists loaded.
    pub source: Source,
    /// The swarm.
    pub swarm: SwarmName,
    /// The signalling server's WebSocket URL.
    pub signal: Url,
    /// Proof that the publisher lets this seed in, where the server asks for one.
    pub token: Option<String>,
    /// Signs what is pulled; `None` where integrity is open.
    pub key: Option<Key>,
    /// While keys are changed: the other keys, and the swarms in which the same content is signed with them.
    pub further: Vec<(SwarmName, Key)>,
    /// Most bytes kept in memory. Of a finished stream more is seeded where there is a disk cache, or it is a folder. Several
    /// keys share it as they share the bytes, but for what comes back from the disk.
    pub memory: u64,
    /// Most bytes a second sent to all peers together. Several keys share it in equal parts.
    pub upload_cap: Option<u64>,
    /// Most viewers at once, a key.
    pub viewers: u16,
    /// Where segments are kept for the next start: this stream's alone.
    pub cache: Option<Arc<DiskCache>>,
    /// The sockets; several seeds of one process may share them.
    pub transport: DataChannels,
}

/// A running seed.
#[derive(Debug)]
pub struct Seed {
    node: Node,
    further: Vec<Node>,
    mirror: JoinHandle<()>,
    publishers: JoinSet<()>,
    published: Arc<Published>,
    puller: Puller,
}

impl Seed {
    /// Starts a seed; gives its node's events from the very first.
    #[must_use]
    pub fn start(http: Http, config: SeedConfig) -> (Self, Receiver<NodeEvent>) {
        Self::start_tampering(http, config, None)
    }

    /// The same, with the events of the node of each key.
    #[must_use]
    pub fn start_all(http: Http, config: SeedConfig) -> (Self, Vec<Receiver<NodeEvent>>) {
        Self::launch(http, config, None)
    }

    /// Starts a seed that changes chunks on their way out: for tests of those who must notice.
    #[must_use]
    pub fn start_tampering(
        http: Http,
        config: SeedConfig,
        tamper: Option<Box<dyn Tamper>>,
    ) -> (Self, Receiver<NodeEvent>) {
        let (seed, mut events) = Self::launch(http, config, tamper);
        // There is always a first key, or its absence.
        (seed, events.swap_remove(0))
    }

    fn launch(
        http: Http,
        mut config: SeedConfig,
        mut tamper: Option<Box<dyn Tamper>>,
    ) -> (Self, Vec<Receiver<NodeEvent>>) {
        let further = std::mem::take(&mut config.further);
        let first = (config.swarm.clone(), config.key.take());
        let parts: Vec<(SwarmName, Option<Key>)> =
            std::iter::once(first).chain(further.into_iter().map(|(swarm, key)| (swarm, Some(key)))).collect();
        let trusted: Vec<VerifyingKey> =
            parts.iter().filter_map(|(_, key)| key.as_ref()).map(Key::verifying_key).collect();
        config.upload_cap = config.upload_cap.map(|cap| cap / parts.len() as u64);
        let published = Arc::<Published>::default();
        let (mut nodes, mut events, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
        let mut publishers = JoinSet::new();
        let live = config.source.is_live();
        let elsewhere = match &config.cache {
            _ if live => None,
            _ if config.source.from.scheme() == "file" => Some(u64::MAX / 4),
            cache => cache.as_ref().map(|cache| cache.room()),
        };
        let Rooms { recent, memory, all: room } = Rooms::of(config.memory, elsewhere);
        let puller = Puller::new(http, config.cache.clone(), live).keeping(recent);
        let in_memory = memory / parts.len() as u64;
        let (needs_tx, needs) = needs();
        for (swarm, key) in parts {
            let scope = Scope::of_swarm(&swarm);
            let parts = NodeParts {
                swarm,
                keys: trusted.clone(),
                signed: key.is_some(),
                tamper: tamper.take(),
                room,
                needs: (!live).then(|| needs_tx.clone()),
                again: (room > memory).then(|| (puller.clone(), in_memory)),
            };
            let (node, first_events) = start_node(&config, parts);
            let signer = key.map(|key| Signer::new(key, scope));
            let (pulled_tx, pulled) = mpsc::channel(MIRROR_QUEUE);
            // Segments are counted once, by the first.
            let counts = nodes.is_empty();
            let publisher = Publisher::new(node.handle().clone(), signer, Arc::clone(&published), counts);
            publishers.spawn(publisher.run(pulled));
            nodes.push(node);
            events.push(first_events);
            listeners.push(pulled_tx);
        }
        drop(needs_tx);
        let (pulled_tx, pulled) = mpsc::channel(MIRROR_QUEUE);
        let mirror = Mirror { puller: puller.clone(), budget: room, needs: Some(needs), events: pulled_tx };
        publishers.spawn(hand_out(pulled, listeners));
        let mirror = tokio::spawn(mirror.run(config.source));
        let node = nodes.remove(0);
        (Self { node, further: nodes, mirror, publishers, published, puller }, events)
    }

    /// A handle to its node.
    #[must_use]
    pub fn handle(&self) -> &NodeHandle {
        self.node.handle()
    }

    /// The nodes of all keys, the first key's first.
    pub fn handles(&self) -> impl Iterator<Item = &NodeHandle> {
        std::iter::once(&self.node).chain(&self.further).map(Node::handle)
    }

    /// What it has published so far.
    #[must_use]
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// What pulls its segments: others who want one may ask it, and the origin is asked once.
    #[must_use]
    pub fn puller(&self) -> &Puller {
        &self.puller
    }

    /// Says goodbye to everyone and stops.
    pub async fn shutdown(mut self) {
        self.mirror.abort();
        self.publishers.abort_all();
        let nodes = std::iter::once(self.node).chain(self.further);
        let mut leaving: JoinSet<()> = nodes.map(Node::shutdown).collect();
        while leaving.join_next().await.is_some() {}
    }
}

/// How many bytes of segments there may be, and where.
#[derive(Debug, PartialEq, Eq)]
struct Rooms {
    /// Pulled last, for others who ask.
    recent: usize,
    /// In the nodes' memory.
    memory: u64,
    /// In all.
    all: u64,
}

impl Rooms {
    /// Of a stream that may take `memory`, and that can be had again from a place for so many bytes. What is in memory is there
    /// as well.
    fn of(memory: u64, elsewhere: Option<u64>) -> Self {
        let recent = (memory / RECENT).min(MAX_RECENT_BYTES as u64);
        let memory = memory - recent;
        // Far below what an address has.
        Self { recent: recent as usize, memory, all: elsewhere.unwrap_or(0).max(memory) }
    }
}

/// What one swarm's node has of its own.
struct NodeParts {
    swarm: SwarmName,
    keys: Vec<VerifyingKey>,
    signed: bool,
    tamper: Option<Box<dyn Tamper>>,
    /// Bytes of segments, in memory and on the disk.
    room: u64,
    needs: Option<Needs>,
    again: Option<(Puller, u64)>,
}

/// The node that serves one swarm.
fn start_node(config: &SeedConfig, parts: NodeParts) -> (Node, Receiver<NodeEvent>) {
    let NodeParts { swarm, keys, signed, tamper, room, needs, again } = parts;
    let integrity = if signed { Integrity::Signed(Scope::of_swarm(&swarm)) } else { Integrity::Open };
    let engine = Config {
        memory_budget: room,
        upload_cap: config.upload_cap,
        max_neighbours: config.viewers,
        ..Config::seed(integrity)
    };
    let membership = Membership {
        server: config.signal.clone(),
        swarm,
        role: Role::Seed,
        token: config.token.clone(),
        want: engine.neighbours,
    };
    let transport = Arc::new(config.transport.clone());
    Node::start(NodeConfig { engine, keys, membership, transport, origin: None, needs, again, tamper })
}

/// Gives what was pulled to the publisher of each key. The bytes are shared, not copied.
async fn hand_out(mut pulled: mpsc::Receiver<MirrorEvent>, publishers: Vec<mpsc::Sender<MirrorEvent>>) {
    while let Some(event) = pulled.recv().await {
        for publisher in &publishers {
            // It ends with the seed.
            let _ = publisher.send(event.clone()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_and_on_the_disk_is_counted_once() {
        let rooms = |memory, elsewhere| {
            let Rooms { recent, memory, all } = Rooms::of(memory, elsewhere);
            (recent, memory, all)
        };
        assert_eq!(rooms(800, None), (100, 700, 700));
        assert_eq!(rooms(800, Some(5000)), (100, 700, 5000), "not 5700: the disk has what the memory has");
        assert_eq!(rooms(800, Some(300)), (100, 700, 700), "what the disk has no room for stays in memory");
        assert_eq!(rooms(1 << 40, None).0, MAX_RECENT_BYTES);
    }
}
