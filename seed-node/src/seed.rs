//! A seed: mirrors a stream into a node, and signs what it pulls.

use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_swarm::{Config, Integrity};
use headwater_wire::{Role, Scope, SwarmName, TrackId};
use tokio::sync::broadcast::Receiver;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use url::Url;

use crate::http::Http;
use crate::key::Key;
use crate::node::{Node, NodeConfig, NodeEvent, NodeHandle, OwnSegment, Tamper};
use crate::origin::Source;
use crate::origin::mirror::{Mirror, MirrorEvent};
use crate::sign::{Hashed, Signer};
use crate::signalling::Membership;
use crate::transport::rtc::RtcTransport;

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
    /// Most bytes kept in memory.
    pub memory: u64,
    /// Most bytes a second sent to all peers together.
    pub upload_cap: Option<u64>,
    /// Most viewers at once.
    pub viewers: u16,
    /// The sockets; several seeds of one process may share them.
    pub transport: RtcTransport,
}

/// A running seed.
#[derive(Debug)]
pub struct Seed {
    node: Node,
    mirror: JoinHandle<()>,
    publisher: JoinHandle<()>,
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
            keys: config.key.iter().map(Key::verifying_key).collect(),
            membership,
            transport: Arc::new(config.transport),
            origin: None,
            tamper,
        });
        let (pulled_tx, pulled) = mpsc::channel(MIRROR_QUEUE);
        let mirror = Mirror { http, budget: config.memory, events: pulled_tx };
        let signer = config.key.map(|key| Signer::new(key, scope));
        let publisher = publish(node.handle().clone(), signer, pulled);
        let mirror = tokio::spawn(mirror.run(config.source));
        (Self { node, mirror, publisher: tokio::spawn(publisher) }, events)
    }

    /// A handle to its node.
    #[must_use]
    pub fn handle(&self) -> &NodeHandle {
        self.node.handle()
    }

    /// Says goodbye to everyone and stops.
    pub async fn shutdown(self) {
        self.mirror.abort();
        self.publisher.abort();
        self.node.shutdown().await;
    }
}

/// Hashes and signs what the mirror pulls, and hands it to the node.
async fn publish(node: NodeHandle, signer: Option<Signer>, mut events: mpsc::Receiver<MirrorEvent>) {
    let mut live: BTreeSet<TrackId> = BTreeSet::new();
    while let Some(event) = events.recv().await {
        match event {
            MirrorEvent::Playlist { update, .. } => {
                if update.live {
                    live.insert(update.track);
                }
                node.update_playlist(update, Vec::new()).await;
            }
            MirrorEvent::Segment { segment, bytes } => {
                let hashing = bytes.clone();
                let live = live.contains(&segment.track);
                let hashed = tokio::task::spawn_blocking(move || Hashed::of(segment, &hashing, live)).await;
                let Ok(Some(hashed)) = hashed else {
                    tracing::error!(%segment, len = bytes.len(), "no segment has this length; leaving it out");
                    continue;
                };
                if let Some(signer) = &signer {
                    match signer.sign(segment.track, std::slice::from_ref(&hashed.entry)) {
                        Ok(batches) => {
                            for batch in batches {
                                node.add_own_batch(&batch).await;
                            }
                        }
                        Err(error) => tracing::error!(%segment, %error, "cannot sign a segment"),
                    }
                }
                let Hashed { entry, hashes } = hashed;
                tracing::debug!(%segment, len = entry.len.bytes(), "segment stored");
                node.publish(OwnSegment { segment, bytes, len: entry.len, hashes }).await;
            }
        }
    }
}
