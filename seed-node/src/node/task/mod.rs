//! The node's task: turns what happens into the engine's inputs. What the outputs say is done in [`perform`].

mod perform;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use headwater_swarm::{BatchSource, DataVerdict, DemandId, Engine, FetchId, Input, Now, Stats};
use headwater_wire::frame::{DATA_HEADER_LEN, encode_control};
use headwater_wire::message::ByeReason;
use headwater_wire::signal::{IceServer, SignalData, StatsReport};
use headwater_wire::{ChunkHash, ChunkId, DataHeader, Frame, Message, PeerId, RootHash, SegmentId, SeqNo, TrackId};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::fetch::FetchReport;
use super::links::{Connecting, Links};
use super::shelf::{BroughtBack, Shelf, Waiting};
use super::wishes::Wishes;
use super::{Command, Delivered, DemandError, Location, NodeConfig, NodeEvent, OriginAccess, Tamper};
use crate::signalling::{Signalling, SignallingEvent, SignallingRequest};
use crate::store::Store;
use crate::transport::{LinkEvent, LinkReport, REPORT_QUEUE, Transport};

/// Chunks of HTTP bodies waiting for the node: 4 MiB at most. A full queue holds the requests back.
const FETCH_QUEUE: usize = 64;

/// Segments that came back into memory, waiting for the node.
const BACK_QUEUE: usize = 1;

/// How often the signalling server is told what this peer carried.
const STATS_EVERY: Duration = Duration::from_secs(30);

/// Connections that may be opening while all neighbours of the engine's limit are there; the engine ends what is too much.
const SPARE_LINKS: usize = 32;

type Reply = oneshot::Sender<Result<Delivered, DemandError>>;

pub(super) struct NodeTask {
    engine: Engine,
    store: Store,
    links: Links,
    signalling: Signalling,
    transport: Arc<dyn Transport>,
    keys: Vec<VerifyingKey>,
    origin: Option<OriginAccess>,
    tamper: Option<Box<dyn Tamper>>,
    shelf: Option<Shelf>,
    brought_back: mpsc::Receiver<BroughtBack>,
    wishes: Wishes,
    /// Of live tracks: the number before which catalogue entries are forgotten.
    floors: BTreeMap<TrackId, SeqNo>,
    ice_servers: Vec<IceServer>,
    locations: BTreeMap<SegmentId, Location>,
    fetches: BTreeMap<FetchId, (SegmentId, AbortHandle)>,
    demands: BTreeMap<DemandId, Reply>,
    next_demand: u64,
    link_reports: mpsc::Receiver<LinkReport>,
    fetch_reports: mpsc::Receiver<FetchReport>,
    fetch_reports_tx: mpsc::Sender<FetchReport>,
    events: broadcast::Sender<NodeEvent>,
    started: Instant,
    wake_at: Option<Now>,
}

impl NodeTask {
    pub(super) fn new(config: NodeConfig, events: broadcast::Sender<NodeEvent>) -> Self {
        let (link_reports_tx, link_reports) = mpsc::channel(REPORT_QUEUE);
        let (fetch_reports_tx, fetch_reports) = mpsc::channel(FETCH_QUEUE);
        let (back_tx, brought_back) = mpsc::channel(BACK_QUEUE);
        let shelf = config.again.map(|(puller, memory)| Shelf::new(puller, memory, back_tx));
        let most = usize::from(config.engine.max_neighbours) + SPARE_LINKS;
        // A predictable engine is worse at spreading requests, and no danger.
        let seed = getrandom::u64().unwrap_or(0);
        Self {
            engine: Engine::new(config.engine, seed, Now::default()),
            store: Store::default(),
            links: Links::new(most, link_reports_tx),
            signalling: Signalling::start(config.membership),
            transport: config.transport,
            keys: config.keys,
            origin: config.origin,
            tamper: config.tamper,
            shelf,
            brought_back,
            wishes: Wishes::new(config.needs),
            floors: BTreeMap::new(),
            ice_servers: Vec::new(),
            locations: BTreeMap::new(),
            fetches: BTreeMap::new(),
            demands: BTreeMap::new(),
            next_demand: 0,
            link_reports,
            fetch_reports,
            fetch_reports_tx,
            events,
            started: Instant::now(),
            wake_at: None,
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut stats = interval(STATS_EVERY);
        stats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.drain();
        loop {
            let wake_at = self.wake_at.map(|at| self.started + Duration::from_micros(at.as_micros()));
            tokio::select! {
                command = commands.recv() => match command {
                    None | Some(Command::Shutdown) => break,
                    Some(command) => self.obey(command),
                },
                Some(report) = self.link_reports.recv() => self.on_link(report),
                Some(event) = self.signalling.events.recv() => self.on_signalling(event),
                Some(report) = self.fetch_reports.recv() => self.on_fetch(report),
                Some(back) = self.brought_back.recv() => self.on_brought_back(back),
                () = sleep_until(wake_at.unwrap_or(self.started)), if wake_at.is_some() => self.input(Input::Timeout),
                _ = stats.tick() => self.report_stats(),
            }
            self.drain();
        }
        self.say_goodbye().await;
    }

    fn now(&self) -> Now {
        Now::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(self.now(), input);
    }

    fn announce(&self, event: NodeEvent) {
        // Nobody need listen.
        let _ = self.events.send(event);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Publish(own) => {
                self.store.put_segment(own.segment, &own.bytes);
                if let (Some(shelf), Some(location)) = (&mut self.shelf, own.location) {
                    let root = RootHash::of_chunks(own.len, &own.hashes);
                    for segment in shelf.take_in(own.segment, location, root, own.bytes.len() as u64) {
                        self.store.evict(segment);
                    }
                }
                self.input(Input::SegmentStored { segment: own.segment, len: own.len, hashes: own.hashes });
            }
            Command::Batch(source, bytes) => self.input(Input::Batch { source, bytes: &bytes }),
            Command::Playlist(update, locations) => {
                let (track, first) = (update.track, update.first);
                self.locations.retain(|segment, _| segment.track != track || segment.seq >= first);
                self.locations.extend(locations);
                if update.live {
                    let floor = self.engine.forget_entries_behind(track, first);
                    self.floors.insert(track, floor);
                }
                self.input(Input::Playlist(update));
            }
            Command::Playhead(playhead) => self.input(Input::Playhead(playhead)),
            Command::Demand { segment, kind, reply } => {
                self.cancel_forgotten_demands();
                self.next_demand += 1;
                let demand = DemandId(self.next_demand);
                self.demands.insert(demand, reply);
                self.input(Input::Demand { demand, segment, kind });
            }
            // Nobody waits for the answer any more where sending it fails.
            Command::Stats(reply) => drop(reply.send(self.engine.stats())),
            Command::Shutdown => {}
        }
    }

    /// Whoever dropped the future of a demand does not want the segment any more.
    fn cancel_forgotten_demands(&mut self) {
        let forgotten: Vec<DemandId> =
            self.demands.iter().filter(|(_, reply)| reply.is_closed()).map(|(demand, _)| *demand).collect();
        for demand in forgotten {
            self.demands.remove(&demand);
            self.input(Input::DemandCancelled { demand });
        }
    }

    fn on_signalling(&mut self, event: SignallingEvent) {
        match event {
            SignallingEvent::Joined { peer, ice_servers, swarm_size } => {
                self.input(Input::SwarmSize { peers: swarm_size });
                self.ice_servers = ice_servers;
                tracing::info!(%peer, "joined");
                self.announce(NodeEvent::Joined(peer));
            }
            SignallingEvent::Connect { peer, offer } => self.connect(peer, offer),
            SignallingEvent::Signal { from, data } => {
                // An offer without a `connect` before it: this side joined again in between.
                if !self.links.contains(from) && matches!(data, SignalData::Offer { .. }) {
                    self.connect(from, false);
                }
                self.links.signal(from, data);
            }
            SignallingEvent::Gone { peer } => {
                // An open channel outlives the signalling connection of either end.
                if !self.links.is_open(peer) {
                    let _ = self.links.remove(peer);
                }
            }
            SignallingEvent::Lost => self.announce(NodeEvent::SignallingLost),
        }
    }

    fn connect(&mut self, peer: PeerId, offer: bool) {
        match self.links.connect(&*self.transport, peer, offer, &self.ice_servers) {
            Connecting::Anew => {}
            Connecting::Replacing => self.forget(peer),
            Connecting::Refused => self.signalling.tell(SignallingRequest::Lost(peer)),
        }
    }

    fn on_link(&mut self, report: LinkReport) {
        let LinkReport { link, peer, event } = report;
        if !self.links.is_current(peer, link) {
            return;
        }
        match event {
            LinkEvent::Signal(data) => self.signalling.tell(SignallingRequest::Signal { to: peer, data }),
            LinkEvent::Open => {
                self.links.set_open(peer);
                self.signalling.set_connected(self.links.open_peers());
                self.input(Input::PeerConnected { peer });
            }
            LinkEvent::Frame(frame) => self.on_frame(peer, &frame),
            LinkEvent::ChunkSent(chunk) => self.input(Input::ChunkSent { peer, chunk }),
            LinkEvent::Closed => self.lose(peer),
        }
    }

    fn on_frame(&mut self, peer: PeerId, frame: &[u8]) {
        let is_data = frame.first().copied().is_some_and(Frame::is_data);
        if !is_data {
            tracing::trace!(%peer, frame = ?Frame::parse(frame), "control frame");
            self.input(Input::Control { peer, frame });
            return self.wishes.note(peer, frame, std::time::Instant::now());
        }
        let header = frame.first_chunk::<DATA_HEADER_LEN>().map(|header| DataHeader::parse(header, frame.len()));
        let Some(Ok(header)) = header else {
            tracing::debug!(%peer, "malformed data frame");
            self.links.ban(peer);
            return self.lose(peer);
        };
        let payload = &frame[DATA_HEADER_LEN..];
        // Bounded by the frame's length, which the parser has checked.
        let verdict = self.engine.handle_data(self.now(), peer, &header, payload.len() as u32);
        match verdict {
            DataVerdict::Ignore => {}
            DataVerdict::Append => {
                self.store.append(peer, header.chunk, payload);
            }
            DataVerdict::AppendLast => {
                let hash = ChunkHash::of(self.store.append(peer, header.chunk, payload));
                self.input(Input::ChunkReceived { peer, chunk: header.chunk, hash });
            }
        }
    }

    fn on_brought_back(&mut self, BroughtBack { segment, bytes }: BroughtBack) {
        let Some(shelf) = &mut self.shelf else { return };
        let waiting = shelf.take_waiting(segment);
        if let Some(bytes) = bytes {
            // It may have been let go meanwhile: then nobody would ever let these bytes go.
            if shelf.knows(segment) {
                self.store.put_segment(segment, &bytes);
            }
            for leaving in shelf.stay_in_bounds(segment) {
                self.store.evict(leaving);
            }
        } else {
            self.wishes.gone(segment, true);
            self.engine.lose(segment);
        }
        for Waiting { peer, chunk, piece_len } in waiting {
            self.send_waiting(peer, chunk, piece_len);
        }
    }

    fn on_fetch(&mut self, report: FetchReport) {
        match report {
            FetchReport::Head { fetch, ranged, total } if self.fetches.contains_key(&fetch) => {
                self.input(Input::FetchHead { fetch, ranged, total });
            }
            FetchReport::Chunk { fetch, index, bytes, hash } => {
                let Some((segment, _)) = self.fetches.get(&fetch) else { return };
                let len = bytes.len() as u32;
                self.store.put_chunk(ChunkId { segment: *segment, index }, bytes);
                self.input(Input::FetchChunk { fetch, index, len, hash });
            }
            FetchReport::Done { fetch, total } => {
                if self.fetches.remove(&fetch).is_some() {
                    self.input(Input::FetchDone { fetch, total });
                }
            }
            FetchReport::Failed { fetch, status } => {
                if self.fetches.remove(&fetch).is_some() {
                    self.input(Input::FetchFailed { fetch, status });
                }
            }
            FetchReport::Catalogue { batches, found } => {
                for batch in batches {
                    self.input(Input::Batch { source: BatchSource::Origin, bytes: &batch });
                    self.drain();
                }
                self.input(Input::CatalogueFetched { found });
            }
            FetchReport::Head { .. } => {}
        }
    }

    /// The connection to a peer ended by itself.
    fn lose(&mut self, peer: PeerId) {
        let Some(was_open) = self.links.remove(peer) else { return };
        self.signalling.tell(SignallingRequest::Lost(peer));
        if was_open {
            self.forget(peer);
            self.announce(NodeEvent::Disconnected { peer, reason: None });
        }
    }

    fn forget(&mut self, peer: PeerId) {
        self.wishes.forget(peer);
        self.store.discard_all(peer);
        self.signalling.set_connected(self.links.open_peers());
        self.input(Input::PeerDisconnected { peer });
    }

    fn report_stats(&self) {
        let Stats { http_bytes, seed_bytes, viewer_bytes, uploaded_bytes, neighbours, .. } = self.engine.stats();
        let report = StatsReport { http_bytes, seed_bytes, viewer_bytes, uploaded_bytes, neighbours };
        self.signalling.tell(SignallingRequest::Stats(report));
    }

    async fn say_goodbye(mut self) {
        let bye = encode_control(&Message::Bye { reason: ByeReason::Leaving });
        let mut leaving = self.links.open_peers().len();
        for peer in self.links.open_peers() {
            self.links.send(peer, bye.clone());
        }
        self.links.release();
        let leave = self.signalling.leave();
        let closed = async {
            while leaving > 0 {
                match self.link_reports.recv().await {
                    Some(LinkReport { event: LinkEvent::Closed, .. }) => leaving -= 1,
                    Some(_) => {}
                    None => break,
                }
            }
        };
        tokio::join!(leave, closed);
    }
}
