//! One peer: the host of an engine (or of a model in its place), with its player, its links and its HTTP requests.
//!
//! Events of one tick are handled in a row; then the engine's outputs are carried out until it has no more.

mod http;
mod links;
mod playing;

use headwater_swarm::{BatchSource, Config, Engine, Input, Now, Output};
use headwater_wire::Role;
use headwater_wire::signal::{ClientMessage, SIGNAL_VERSION, ServerMessage};

use crate::brain::Brain;
use crate::clock::{Micros, SECOND, micros};
use crate::content;
use crate::event::{Event, NodeIndex, SegmentRef, What};
use crate::peer::http::Request;
use crate::peer::links::{Downlink, Link, Uplink};
use crate::peer::playing::Load;
use crate::player::Player;
use crate::policies::{self, Policy};
use crate::population::Population;
use crate::rng::{Rng, mix};
use crate::stats::PeerRecord;
use crate::world::Desk;

/// Checking a signature in a browser.
const VERIFY: Micros = 1_000;

/// An engine that has not heard from the signalling server after this begins without it.
const WELCOME_WITHIN: Micros = 2 * SECOND;

/// How long ICE tries before it says that it failed.
const ICE_GIVES_UP: Micros = 10 * SECOND;

/// One peer while it is there.
pub(crate) struct Peer {
    index: NodeIndex,
    now: Micros,
    /// Counts the events that this peer caused.
    number: u32,
    rng: Rng,
    brain: Option<Box<dyn Brain>>,
    player: Option<Player>,
    /// By the other's place in the population.
    links: Vec<Link>,
    uplink: Uplink,
    downlink: Downlink,
    requests: Vec<Request>,
    next_request: u32,
    next_demand: u64,
    /// The earliest wake-up call in the calendar, and when the engine wants to be called.
    wake_due: Option<Micros>,
    wake_wanted: Option<Micros>,
    /// What the player loaded before there was an engine.
    loaded: Vec<Load>,
    /// The engine has been told of the segments before this one.
    told: u32,
    last_poll: (Micros, u32),
    joined_swarm: bool,
    /// How many peers the server said there are, once it answered.
    swarm_size: Option<u32>,
    /// The engine's module is there.
    module: bool,
    /// What neighbours said before there was an engine.
    early: Vec<(NodeIndex, Vec<u8>)>,
    /// When the server last heard where this viewer is in content on demand, and where it was.
    position_told: (Micros, u32),
    /// Since when it is stalled while a neighbour holds what it waits for.
    beside_since: Option<Micros>,
    pub(crate) record: PeerRecord,
}

impl Peer {
    pub(crate) fn new(index: NodeIndex, desk: &Desk<'_>) -> Self {
        let session = desk.shared.population.session(index);
        let player = (session.role == Role::Viewer)
            .then(|| Player::new(&desk.shared.scenario.player, desk.shared.content.segment));
        Self {
            index,
            now: session.join,
            number: 0,
            rng: Rng::new(mix(desk.shared.scenario.seed) ^ u64::from(index)),
            brain: None,
            player,
            links: Vec::new(),
            uplink: Uplink::new(session.up),
            downlink: Downlink::new(session.down, micros(desk.shared.scenario.network.queue_ms / 1000.0)),
            requests: Vec::new(),
            next_request: 0,
            next_demand: 0,
            wake_due: None,
            wake_wanted: None,
            loaded: Vec::new(),
            told: 0,
            last_poll: (0, 0),
            joined_swarm: false,
            swarm_size: None,
            module: false,
            early: Vec::new(),
            position_told: (0, 0),
            beside_since: None,
            record: PeerRecord::new(index, session),
        }
    }

    /// Handles all that happens to this peer in one tick. Says whether it is still there.
    pub(crate) fn handle(&mut self, events: impl Iterator<Item = Event>, desk: &mut Desk<'_>) -> bool {
        for event in events {
            self.now = self.now.max(event.at);
            if matches!(event.what, What::Leave) {
                self.leave(desk);
                return false;
            }
            self.happen(event, desk);
        }
        self.settle(desk);
        true
    }

    fn happen(&mut self, event: Event, desk: &mut Desk<'_>) {
        let from = event.from;
        match event.what {
            What::Join => self.join(desk),
            What::Boot => self.boot(desk),
            What::Wake => {
                self.wake_due = None;
                if self.wake_wanted.is_some_and(|wanted| wanted <= self.now) {
                    self.input(Input::Timeout);
                }
            }
            What::PlayerTick => self.player_tick(desk),
            What::Seek => self.seek(desk),
            What::Playlist { published } => self.playlist(published, desk),
            What::PlaylistFailed => self.poll_playlist(SECOND, desk),
            What::Retry => self.retry(),
            What::SeedPoll => self.seed_poll(desk),
            What::Mirror { segment } => self.mirror(segment, desk),
            What::Pump => self.uplink.timer = None,
            What::Verified { verify } => {
                self.input(Input::BatchVerified {
                    verify: headwater_swarm::VerifyId(verify),
                    verdict: headwater_swarm::Verdict::Signed,
                });
            }
            What::LinkTry { other } => self.link_try(other, desk),
            What::LinkDeadline { other } => self.link_deadline(other, desk),
            What::LinkSyn { link } => self.link_syn(from, link, desk),
            What::LinkAck { link } => self.link_open(from, link, desk),
            What::LinkGone { link } => self.link_gone(from, link, desk),
            What::Ack { link, len, marked } => self.acked(from, link, len, marked),
            What::FromServer(message) => self.told_by_server(*message, desk),
            What::HttpHead { request, status, published } => self.http_head(request, status, published, desk),
            What::Frame { .. } | What::Piece { .. } | What::HttpPiece { .. } => self.arrive(event, desk),
            What::Leave
            | What::HttpRequest { .. }
            | What::HttpAbort { .. }
            | What::HttpAck { .. }
            | What::ToServer(_)
            | What::Hangup => {}
        }
    }

    /// Does what the engine says until it has nothing more to say.
    fn settle(&mut self, desk: &mut Desk<'_>) {
        loop {
            self.demand_next(desk);
            let mut idle = true;
            while let Some(brain) = &mut self.brain {
                match brain.poll_output() {
                    Output::Timeout { at } => {
                        self.wake_wanted = at.map(Now::as_micros);
                        break;
                    }
                    output => {
                        idle = false;
                        self.obey(output, desk);
                    }
                }
            }
            idle &= !self.pump(desk);
            if idle {
                break;
            }
        }
        if let Some(wanted) = self.wake_wanted
            && self.wake_due.is_none_or(|due| due > wanted)
        {
            self.wake_due = Some(wanted);
            self.later(wanted, What::Wake, desk);
        }
    }

    fn obey(&mut self, output: Output, desk: &mut Desk<'_>) {
        match output {
            Output::Timeout { .. } | Output::KeepChunk { .. } | Output::DropChunk { .. } => {}
            Output::Evict { .. } | Output::Event(_) => {}
            Output::Send { peer, frame } => self.send_frame(Population::index(peer), frame, desk),
            Output::SendChunk { peer, chunk, offset, len, piece_len } => {
                self.send_chunk(Population::index(peer), chunk, offset, offset + len, piece_len);
            }
            Output::Disconnect { peer, .. } => self.disconnect(Population::index(peer), desk),
            Output::WantNeighbours { count } => self.tell_server(ClientMessage::Want { count }, desk),
            Output::Fetch { fetch, segment, range } => self.fetch(fetch, segment, range, desk),
            Output::AbortFetch { fetch } => self.abort_fetch(fetch, desk),
            Output::FetchCatalogue => self.fetch_catalogue(desk),
            Output::VerifyBatch { verify, .. } => {
                self.later(self.now + VERIFY, What::Verified { verify: verify.0 }, desk);
            }
            Output::Deliver { demand, segment, report } => self.delivered_by_engine(demand.0, segment, &report, desk),
            Output::Fail { demand } => self.engine_failed(demand.0, desk),
        }
    }

    // Coming and going.

    fn join(&mut self, desk: &mut Desk<'_>) {
        let session = desk.shared.population.session(self.index);
        self.later(session.leave, What::Leave, desk);
        if session.role == Role::Seed {
            // The others have no seeds.
            if desk.shared.policy != Policy::Headwater {
                return;
            }
            self.brain = Some(Box::new(self.seed_engine(desk)));
            self.join_swarm(desk);
            self.seed_poll(desk);
            return;
        }
        // The master playlist, then the media playlist.
        self.poll_playlist(self.origin_trip(desk), desk);
        let tick = self.tick_length(desk);
        let phase = self.rng.below(tick);
        self.later(self.now + phase, What::PlayerTick, desk);
        let seeks = desk.shared.scenario.audience.seeks_per_min;
        if seeks > 0.0 {
            let after = micros(self.rng.exponential(60.0 / seeks));
            self.later(self.now + after + SECOND, What::Seek, desk);
        }
    }

    fn seed_engine(&mut self, desk: &Desk<'_>) -> Engine {
        let session = desk.shared.population.session(self.index);
        let mut config = Config::seed(desk.shared.content.integrity());
        config.upload_cap = Some(session.cap as u64);
        Engine::new(config, self.rng.next_u64(), Now::from_micros(self.now))
    }

    /// The module has loaded: from here on the engine serves the player, once the server has said how large the swarm is or
    /// has not answered for a while.
    fn boot(&mut self, desk: &mut Desk<'_>) {
        if self.brain.is_some() {
            return;
        }
        if !std::mem::replace(&mut self.module, true) && self.swarm_size.is_none() {
            return self.later(self.now + WELCOME_WITHIN, What::Boot, desk);
        }
        let Some(brain) = self.viewer_brain(desk) else { return };
        self.brain = Some(brain);
        self.record.booted = Some(self.now);
        self.tell_playlist(desk);
        self.tell_playhead();
        for load in std::mem::take(&mut self.loaded) {
            self.tell_load(&load, desk);
        }
        if let Some(peers) = self.swarm_size {
            self.input(Input::SwarmSize { peers });
        }
        for other in self.links.iter().map(|link| link.other).collect::<Vec<_>>() {
            self.input(Input::PeerConnected { peer: desk.shared.population.id(other) });
        }
        for (from, frame) in std::mem::take(&mut self.early) {
            self.input(Input::Control { peer: desk.shared.population.id(from), frame: &frame });
        }
    }

    fn viewer_brain(&mut self, desk: &Desk<'_>) -> Option<Box<dyn Brain>> {
        let settings = &desk.shared.scenario.engine;
        let mut config = Config::viewer(desk.shared.content.integrity());
        config.uploads = desk.shared.population.session(self.index).uploads;
        config.neighbours = settings.neighbours.unwrap_or(config.neighbours);
        config.max_neighbours = settings.max_neighbours.unwrap_or(config.max_neighbours);
        if let Some(seconds) = settings.prefetch_s {
            config.prefetch = std::time::Duration::from_secs_f64(seconds.max(0.0));
        }
        if let Some(mebibytes) = settings.memory_mib {
            config.memory_budget = mebibytes << 20;
        }
        config.upload_cap = settings.upload_mbps.map(|rate| (rate * crate::population::MBPS) as u64);
        policies::make(desk.shared.policy, config, self.rng.next_u64(), Now::from_micros(self.now))
    }

    fn leave(&mut self, desk: &mut Desk<'_>) {
        let silent = desk.shared.population.session(self.index).silent;
        let silence = if silent { micros(desk.shared.scenario.network.silence_s) } else { 0 };
        for link in std::mem::take(&mut self.links) {
            let gone = What::LinkGone { link: link.id };
            self.send_at(link.other, self.now + link.latency + silence, gone, desk);
        }
        let server = desk.shared.population.server();
        let latency = desk.shared.population.latency(self.index, server);
        if self.joined_swarm {
            self.send_at(server, self.now + latency + silence, What::Hangup, desk);
        }
        for request in std::mem::take(&mut self.requests) {
            self.send(desk.shared.population.origin(), What::HttpAbort { request: request.id }, desk);
        }
        self.close_record(desk);
    }

    /// Writes down what is known only at the end.
    pub(crate) fn close_record(&mut self, desk: &mut Desk<'_>) {
        let end = self.now.max(desk.now).min(desk.shared.end);
        self.record.left = end;
        if let Some(brain) = &self.brain {
            let stats = brain.stats();
            self.record.wasted_bytes = stats.wasted_bytes;
            self.record.neighbours = stats.neighbours;
            self.record.fetches = [stats.duties, stats.rescues, stats.lone_fetches];
        }
        if let Some(player) = &mut self.player {
            player.advance(end, &desk.shared.content);
            self.record.started = player.started;
            self.record.stalls = player.stall_count();
            self.record.stalled = player.stalled_until(end);
            self.record.watched = player.watched;
            self.record.seeks = std::mem::take(&mut player.seeks);
        }
    }

    // The signalling server.

    pub(super) fn join_swarm(&mut self, desk: &mut Desk<'_>) {
        let Some(swarm) = content::swarm() else { return };
        let session = desk.shared.population.session(self.index);
        let default = Config::viewer(desk.shared.content.integrity()).neighbours;
        let want = desk.shared.scenario.engine.neighbours.unwrap_or(default);
        let want = if session.role == Role::Seed { 0 } else { want };
        let join = ClientMessage::Join {
            version: SIGNAL_VERSION,
            swarm,
            role: session.role,
            token: None,
            want,
            resume: None,
            connected: Vec::new(),
            position_s: self.position_s(desk),
        };
        self.position_told = (self.now, self.position_s(desk).unwrap_or(0));
        self.joined_swarm = true;
        // TCP, TLS and WebSocket handshakes come first.
        let server = desk.shared.population.server();
        let latency = desk.shared.population.latency(self.index, server);
        self.send_at(server, self.now + 7 * latency, What::ToServer(Box::new(join)), desk);
    }

    pub(super) fn tell_server(&mut self, message: ClientMessage, desk: &mut Desk<'_>) {
        self.send(desk.shared.population.server(), What::ToServer(Box::new(message)), desk);
    }

    fn told_by_server(&mut self, message: ServerMessage, desk: &mut Desk<'_>) {
        match message {
            ServerMessage::Welcome { swarm_size, .. } => {
                self.swarm_size = Some(swarm_size);
                self.input(Input::SwarmSize { peers: swarm_size });
                if self.module {
                    self.boot(desk);
                }
            }
            ServerMessage::Connect { peer, offer, .. } => {
                let other = Population::index(peer);
                let population = &desk.shared.population;
                // Offer and answer by way of the server; then ICE, DTLS and SCTP: four round trips.
                let setup =
                    4 * population.latency(self.index, population.server()) + 8 * population.latency(self.index, other);
                if offer {
                    self.later(self.now + setup, What::LinkTry { other }, desk);
                }
                self.later(self.now + setup + ICE_GIVES_UP, What::LinkDeadline { other }, desk);
            }
            _ => {}
        }
    }

    // What the parts share.

    fn input(&mut self, input: Input<'_>) {
        if let Some(brain) = &mut self.brain {
            brain.handle_input(Now::from_micros(self.now), input);
        }
    }

    /// A whole segment is here without the engine's doing.
    fn stored(&mut self, segment: SegmentRef, desk: &Desk<'_>) {
        let content = &desk.shared.content;
        let (len, hashes) = (content.len(segment), content.hashes(segment).to_vec());
        self.input(Input::SegmentStored { segment: segment.id(), len, hashes });
    }

    /// A seed signs what it has before it says that it has it.
    fn sign(&mut self, segment: SegmentRef, desk: &Desk<'_>) {
        if let Some(batch) = desk.shared.content.batch(segment) {
            self.input(Input::Batch { source: BatchSource::Own, bytes: batch.as_bytes() });
        }
    }

    fn later(&mut self, at: Micros, what: What, desk: &mut Desk<'_>) {
        self.send_at(self.index, at, what, desk);
    }

    /// Sends a message without weight.
    fn send(&mut self, to: NodeIndex, what: What, desk: &mut Desk<'_>) {
        let at = self.now + desk.shared.population.latency(self.index, to);
        self.send_at(to, at, what, desk);
    }

    fn send_at(&mut self, to: NodeIndex, at: Micros, what: What, desk: &mut Desk<'_>) {
        self.number = self.number.wrapping_add(1);
        desk.post(Event { at, to, from: self.index, number: self.number, what });
    }
}
