//! A native viewer: joins a swarm and gives verified segments to a Rust program. The tests watch with it.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use headwater_swarm::{Config, Integrity, MediaKind, MediaTime, Playhead, Stats};
use headwater_wire::{Role, Scope, SegmentId, SeqNo, SwarmName, TrackId};
use tokio::sync::broadcast::Receiver;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use url::Url;

use crate::http::Http;
use crate::node::{Delivered, DemandError, Node, NodeConfig, NodeEvent, NodeHandle, OriginAccess};
use crate::origin::mirror::{MirrorEvent, Progress};
use crate::origin::playlist::Media;
use crate::origin::{Source, SourceError, Track, watch};
use crate::signalling::Membership;
use crate::transport::DataChannels;

/// What a viewer is made of.
#[derive(Debug)]
pub struct ViewerConfig {
    /// The stream's address.
    pub source: Url,
    /// The swarm.
    pub swarm: SwarmName,
    /// The signalling server's WebSocket URL.
    pub signal: Url,
    /// Proof that the publisher lets this viewer in, where the server asks for one.
    pub token: Option<String>,
    /// The publisher's public key; `None` where integrity is open.
    pub key: Option<VerifyingKey>,
    /// How long, at least, peers that hold a segment may take before the origin is asked for it. Where there is a player,
    /// tell the node of its playhead instead.
    pub patience: Duration,
}

/// A running viewer.
#[derive(Debug)]
pub struct Viewer {
    node: Node,
    source: Source,
    /// Follow live playlists, and stop with the viewer.
    _followers: JoinSet<()>,
}

impl Viewer {
    /// Loads the stream's playlists and starts to join its swarm; gives its node's events from the very first.
    ///
    /// # Errors
    /// Where the playlists cannot be used.
    pub async fn join(http: Http, config: ViewerConfig) -> Result<(Self, Receiver<NodeEvent>), SourceError> {
        let source = Source::open(&http, &config.source).await?;
        let scope = Scope::of_swarm(&config.swarm);
        let integrity = if config.key.is_some() { Integrity::Signed(scope) } else { Integrity::Open };
        // The transport paces what it sends, as a seed's.
        let engine = Config { paces: false, ..Config::viewer(integrity) };
        let membership = Membership {
            server: config.signal,
            swarm: config.swarm,
            role: Role::Viewer,
            token: config.token,
            want: engine.neighbours,
        };
        let origin = OriginAccess { http: http.clone(), catalogue: source.catalogue_url() };
        let (node, events) = Node::start(NodeConfig {
            engine,
            keys: config.key.into_iter().collect(),
            membership,
            transport: Arc::new(DataChannels::default()),
            origin: Some(origin),
            needs: None,
            again: None,
            tamper: None,
        });
        // Without a player nothing is due: the stream's beginning lies ahead by as much as the caller has time.
        let before = MediaTime::from_secs(-config.patience.as_secs_f64());
        node.handle().move_playhead(Playhead { position: before, buffered_to: before, rate_permille: 0 }).await;
        let mut followers = JoinSet::new();
        let (live, finished): (Vec<Track>, Vec<Track>) =
            source.tracks.iter().cloned().partition(|track| track.media.live);
        for track in finished {
            tell(node.handle(), Progress::new(track.id).update(&track.media)).await;
        }
        let playlists = watch(&http, &live, &mut followers);
        for (track, playlists) in live.into_iter().zip(playlists) {
            let mut progress = Progress::new(track.id);
            tell(node.handle(), progress.update(&track.media)).await;
            followers.spawn(follow(playlists, node.handle().clone(), progress));
        }
        Ok((Self { node, source, _followers: followers }, events))
    }

    /// The stream's tracks, as they were on joining.
    #[must_use]
    pub fn tracks(&self) -> &[Track] {
        &self.source.tracks
    }

    /// A handle to its node: events, and the playhead of whoever plays.
    #[must_use]
    pub fn handle(&self) -> &NodeHandle {
        self.node.handle()
    }

    /// Gets a segment from the swarm, or from the origin.
    ///
    /// # Errors
    /// See [`DemandError`].
    pub async fn segment(&self, track: TrackId, seq: SeqNo) -> Result<Delivered, DemandError> {
        let kind =
            self.source.tracks.iter().find(|known| known.id == track).map_or(MediaKind::Main, |known| known.kind);
        self.node.handle().demand(SegmentId { track, seq }, kind).await
    }

    /// Bytes by source; `None` where the node has stopped.
    pub async fn stats(&self) -> Option<Stats> {
        self.node.handle().stats().await
    }

    /// Says goodbye to everyone and stops.
    pub async fn leave(self) {
        self.node.shutdown().await;
    }
}

async fn follow(mut playlists: mpsc::Receiver<Media>, node: NodeHandle, mut progress: Progress) {
    while let Some(media) = playlists.recv().await {
        tell(&node, progress.update(&media)).await;
    }
}

async fn tell(node: &NodeHandle, event: MirrorEvent) {
    if let MirrorEvent::Playlist { update, locations } = event {
        node.update_playlist(update, locations).await;
    }
}
