//! A seed: mirrors a stream into a node, and signs what it pulls.

mod publisher;

use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use headwater_swarm::{Config, Integrity};
use headwater_wire::{Role, Scope, SwarmName};
use tokio::sync::broadcast::Receiver;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use url::Url;

use crate::cache::DiskCache;
use crate::http::Http;
use crate::key::Key;
use crate::node::{Node, NodeConfig, NodeEvent, NodeHandle, Tamper};
use crate::origin::Source;
use crate::origin::mirror::Mirror;
use crate::origin::pull::Puller;
use crate::sign::Signer;
use crate::signalling::Membership;
use crate::transport::rtc::RtcTransport;

pub use publisher::Published;
use publisher::Publisher;

/// Segments pulled and not yet taken in.
const MIRROR_QUEUE: usize = 4;

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
    /// Further keys of the publisher, with which other seeds sign while keys are changed.
    pub also_trusted: Vec<VerifyingKey>,
    /// Most bytes kept in memory.
    pub memory: u64,
    /// Most bytes a second sent to all peers together.
    pub upload_cap: Option<u64>,
    /// Most viewers at once.
    pub viewers: u16,
    /// Where segments are kept for the next start.
    pub cache: Option<Arc<DiskCache>>,
    /// The sockets; several seeds of one process may share them.
    pub transport: RtcTransport,
}

/// A running seed.
#[derive(Debug)]
pub struct Seed {
    node: Node,
    mirror: JoinHandle<()>,
    publisher: JoinHandle<()>,
    published: Arc<Published>,
    puller: Puller,
}

impl Seed {
    /// Starts a seed; gives its node's events from the very first.
    #[must_use]
    pub fn start(http: Http, config: SeedConfig) -> (Self, Receiver<NodeEvent>) {
        Self::start_tampering(http, config, None)
    }

    /// Starts a seed that changes chunks on their way out: for tests of those who must notice.
    #[must_use]
    pub fn start_tampering(
        http: Http,
        config: SeedConfig,
        tamper: Option<Box<dyn Tamper>>,
    ) -> (Self, Receiver<NodeEvent>) {
        let scope = Scope::of_swarm(&config.swarm);
        let integrity = if config.key.is_some() { Integrity::Signed(scope) } else { Integrity::Open };
        let engine = Config {
            memory_budget: config.memory,
            upload_cap: config.upload_cap,
            max_neighbours: config.viewers,
            ..Config::seed(integrity)
        };
        let membership = Membership {
            server: config.signal,
            swarm: config.swarm,
            role: Role::Seed,
            token: config.token,
            want: engine.neighbours,
        };
        let (node, events) = Node::start(NodeConfig {
            engine,
            keys: config.key.iter().map(Key::verifying_key).chain(config.also_trusted).collect(),
            membership,
            transport: Arc::new(config.transport),
            origin: None,
            tamper,
        });
        let puller = Puller::new(http, config.cache, config.source.is_live());
        let (pulled_tx, pulled) = mpsc::channel(MIRROR_QUEUE);
        let mirror = Mirror { puller: puller.clone(), budget: config.memory, events: pulled_tx };
        let signer = config.key.map(|key| Signer::new(key, scope));
        let published = Arc::<Published>::default();
        let publisher = Publisher::new(node.handle().clone(), signer, Arc::clone(&published)).run(pulled);
        let mirror = tokio::spawn(mirror.run(config.source));
        (Self { node, mirror, publisher: tokio::spawn(publisher), published, puller }, events)
    }

    /// A handle to its node.
    #[must_use]
    pub fn handle(&self) -> &NodeHandle {
        self.node.handle()
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
    pub async fn shutdown(self) {
        self.mirror.abort();
        self.publisher.abort();
        self.node.shutdown().await;
    }
}
