//! The shell around the engine: one task that owns the engine, the chunk store and the connections. Everything else
//! talks to it through bounded channels.
//!
//! ```text
//!   origin, viewer ──NodeHandle──▶ ┌──────┐ ◀──LinkReport── connections (one task each)
//!                                  │ node │ ◀──SignallingEvent── client of the signalling server
//!                   NodeEvent ◀─── └──────┘ ◀──FetchReport── HTTP requests (one task each)
//! ```

mod fetch;
mod links;
mod shelf;
mod task;
pub mod wishes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use headwater_swarm::{
    BatchSource, Config, DeliveryReport, DisconnectReason, Event, MediaKind, Playhead, PlaylistUpdate, Stats,
};
use headwater_wire::{ChunkHash, ChunkId, PeerId, SegmentId, SegmentLen, SignedBatch};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use url::Url;

use crate::http::{Http, Range};
use crate::origin::pull::Puller;
use crate::signalling::Membership;
use crate::transport::Transport;
use wishes::Needs;

/// Commands waiting for the node.
const COMMAND_QUEUE: usize = 64;

/// Events kept for a listener that is behind.
const EVENT_QUEUE: usize = 256;

/// How long a node may take to say goodbye.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// What changes chunks on their way out. No node of ours has one but the hostile peer that the tests run.
pub trait Tamper: Send + 'static {
    /// The bytes to send in place of `bytes`.
    fn tamper(&mut self, chunk: ChunkId, bytes: Bytes) -> Bytes;
}

/// What a node is made of.
pub struct NodeConfig {
    /// The engine's settings.
    pub engine: Config,
    /// The publisher's keys.
    pub keys: Vec<VerifyingKey>,
    /// The swarm to join.
    pub membership: Membership,
    /// Opens data channels.
    pub transport: Arc<dyn Transport>,
    /// Fetches what the swarm does not give; seeds need none, since they pull on their own.
    pub origin: Option<OriginAccess>,
    /// What viewers of a finished stream are near, and what of it is not held any more, is told here.
    pub needs: Option<Needs>,
    /// Gives segments again that are not in memory any more, which holds at most so many bytes of them.
    pub again: Option<(Puller, u64)>,
    /// See [`Tamper`].
    pub tamper: Option<Box<dyn Tamper>>,
}

/// How a viewer reaches the origin.
#[derive(Debug, Clone)]
pub struct OriginAccess {
    /// The client.
    pub http: Http,
    /// Where the catalogue file is.
    pub catalogue: Url,
}

/// Where a segment is at the origin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Of the file.
    pub url: Url,
    /// The part of the file that is the segment, where it is not the whole.
    pub range: Option<Range>,
}

/// A segment as the swarm gave it: verified, unless integrity is open.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// Its bytes.
    pub bytes: Bytes,
    /// How they came.
    pub report: DeliveryReport,
}

/// Why there is no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DemandError {
    /// Neither the swarm nor the origin gives it.
    #[error("neither the swarm nor the origin has the segment")]
    Unavailable,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// What an owner of a node may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent {
    /// The signalling server let the node in, under this name.
    Joined(PeerId),
    /// The signalling server cannot be reached any more; the node tries again, and connections stay.
    SignallingLost,
    /// The engine's news.
    Engine(Event),
    /// A connection is gone.
    Disconnected {
        /// To whom it was.
        peer: PeerId,
        /// Why, where the engine ended it.
        reason: Option<DisconnectReason>,
    },
}

/// A segment that the owner of a node hands to it.
#[derive(Debug)]
pub struct OwnSegment {
    /// Its name.
    pub segment: SegmentId,
    /// Its bytes.
    pub bytes: Bytes,
    /// Its length.
    pub len: SegmentLen,
    /// The hashes of its chunks.
    pub hashes: Vec<ChunkHash>,
    /// Where its bytes can be had again, so that they need not stay in memory.
    pub location: Option<Location>,
}

#[derive(Debug)]
enum Command {
    Publish(OwnSegment),
    Batch(BatchSource, Vec<u8>),
    Playlist(PlaylistUpdate, Vec<(SegmentId, Location)>),
    Playhead(Playhead),
    Demand { segment: SegmentId, kind: MediaKind, reply: oneshot::Sender<Result<Delivered, DemandError>> },
    Stats(oneshot::Sender<Stats>),
    Shutdown,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    handle: NodeHandle,
    task: JoinHandle<()>,
}

impl Node {
    /// Starts a node; gives its events from the very first.
    #[must_use]
    pub fn start(config: NodeConfig) -> (Self, broadcast::Receiver<NodeEvent>) {
        let (commands, commands_rx) = mpsc::channel(COMMAND_QUEUE);
        let (events, first_events) = broadcast::channel(EVENT_QUEUE);
        let handle = NodeHandle { commands, events: events.clone() };
        let task = tokio::spawn(task::NodeTask::new(config, events).run(commands_rx));
        (Self { handle, task }, first_events)
    }

    /// A handle to talk to it.
    #[must_use]
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Says goodbye to everyone and stops.
    pub async fn shutdown(self) {
        let _ = self.handle.commands.send(Command::Shutdown).await;
        let abort = self.task.abort_handle();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.task).await.is_err() {
            abort.abort();
        }
    }
}

/// Talks to a [`Node`]. What is said to one that has stopped is lost.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<NodeEvent>,
}

impl NodeHandle {
    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }

    /// Hands a whole segment to the store.
    pub async fn publish(&self, segment: OwnSegment) {
        self.tell(Command::Publish(segment)).await;
    }

    /// Hands in a catalogue batch that this process signed.
    pub async fn add_own_batch(&self, batch: &SignedBatch) {
        self.tell(Command::Batch(BatchSource::Own, batch.as_bytes().to_vec())).await;
    }

    /// Hands in a catalogue batch that came from the origin.
    pub async fn add_origin_batch(&self, batch: Vec<u8>) {
        self.tell(Command::Batch(BatchSource::Origin, batch)).await;
    }

    /// Tells what is new in a playlist, and where its segments are.
    pub async fn update_playlist(&self, update: PlaylistUpdate, locations: Vec<(SegmentId, Location)>) {
        self.tell(Command::Playlist(update, locations)).await;
    }

    /// Tells where the player is.
    pub async fn move_playhead(&self, playhead: Playhead) {
        self.tell(Command::Playhead(playhead)).await;
    }

    /// Asks for a segment.
    ///
    /// # Errors
    /// See [`DemandError`].
    pub async fn demand(&self, segment: SegmentId, kind: MediaKind) -> Result<Delivered, DemandError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Demand { segment, kind, reply }).await;
        answer.await.unwrap_or(Err(DemandError::Stopped))
    }

    /// Bytes by source; `None` where the node has stopped.
    pub async fn stats(&self) -> Option<Stats> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Stats(reply)).await;
        answer.await.ok()
    }

    async fn tell(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("the node has stopped");
        }
    }
}
