//! The core itself: connections, swarms by name, and what is done about each message.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use headwater_wire::limits::{MAX_CANDIDATE_LEN, MAX_SDP_LEN, MAX_TEXT_LEN, MAX_WANT};
use headwater_wire::signal::{ClientMessage, ErrorCode, SIGNAL_VERSION, ServerMessage, SignalData, StatsReport};
use headwater_wire::{PeerId, SwarmName};

use crate::cluster::{Directory, Figures, NodeMessage, SwarmHash, Told};
use crate::config::{Config, MAX_CONNECTED};
use crate::io::{ConnId, Input, Output, Timeout, TimeoutReason};
use crate::pairing::{self, Chance, Introduction};
use crate::place::{CostMap, Place};
use crate::quota::{Coming, Grant, QuotaError, Quotas, TokenId};
use crate::resume;
use crate::rng::Rng;
use crate::swarm::{Pair, Swarm};
use crate::time::Now;
use crate::tracker::Beside;

/// A swarm by number, so that its long name is held once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SwarmKey(u64);

/// A connection that is about to join.
#[derive(Debug, Clone, Copy)]
struct Newcomer {
    fresh: PeerId,
    deadline: Now,
    grant: Option<Grant>,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Connection {
    /// Has not joined; closed at `deadline`.
    New(Newcomer),
    /// Is a member.
    Joined { swarm: SwarmKey, peer: PeerId, token: Option<TokenId> },
}

/// Why a message is refused: sent to the client, and then the connection is closed.
type Refusal = (ErrorCode, String);

/// How much there is, and what was done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Swarms now.
    pub swarms: usize,
    /// Members now.
    pub members: usize,
    /// Joins that were welcomed.
    pub joins: u64,
    /// Pairs told to connect.
    pub introductions: u64,
    /// Descriptions and candidates passed on.
    pub signals: u64,
    /// Connections refused or closed with an error.
    pub refusals: u64,
}

/// What a swarm looks like from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwarmReport {
    /// Members that watch.
    pub viewers: usize,
    /// Members that are seeds.
    pub seeds: usize,
    /// The sum of what the present members last said they carried.
    pub carried: StatsReport,
}

/// The signalling core. See the crate for its model.
#[derive(Debug)]
pub struct Rendezvous {
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    connections: BTreeMap<ConnId, Connection>,
    deadlines: BTreeSet<(Now, ConnId)>,
    names: BTreeMap<SwarmName, SwarmKey>,
    pub(crate) swarms: BTreeMap<SwarmKey, Swarm>,
    next_swarm: u64,
    quotas: Quotas,
    pub(crate) costs: CostMap,
    pub(crate) counts: Counts,
    pub(crate) directory: Directory,
    /// What other nodes call the swarms; empty where there are none.
    pub(crate) hashes: BTreeMap<SwarmHash, SwarmKey>,
    /// Swarms that other nodes should hear of.
    pub(crate) changed: BTreeSet<SwarmKey>,
    /// When neighbours are sought on other nodes.
    pub(crate) seeks: BTreeSet<(Now, SwarmKey)>,
    /// Drained by the caller after every input, and one input adds a bounded number: not bounded by itself.
    pub(crate) outputs: VecDeque<Output>,
}

impl Rendezvous {
    /// A core without connections. `seed` decides every choice by lot.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            directory: Directory::new(config.node),
            config,
            rng: Rng::new(seed),
            connections: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            names: BTreeMap::new(),
            swarms: BTreeMap::new(),
            next_swarm: 0,
            quotas: Quotas::default(),
            costs: CostMap::default(),
            counts: Counts::default(),
            hashes: BTreeMap::new(),
            changed: BTreeSet::new(),
            seeks: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Tells the core what happened. Drain [`Self::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Opened { conn, fresh } => self.open(now, conn, fresh),
            Input::Granted { conn, grant } => {
                if let Some(Connection::New(newcomer)) = self.connections.get_mut(&conn) {
                    newcomer.grant = Some(grant);
                }
            }
            Input::Located { conn, place } => {
                if let Some(Connection::New(newcomer)) = self.connections.get_mut(&conn) {
                    newcomer.place = place;
                }
            }
            Input::Message { conn, message } => {
                if let Err(refusal) = self.message(now, conn, message) {
                    self.refuse(conn, refusal);
                }
            }
            Input::Closed { conn } => self.forget(conn),
            Input::Node { from, message } => self.heard(now, from, *message),
            Input::Bus { is_connected } => self.directory.set_connected(now, is_connected),
            Input::Timeout => {
                self.expire(now);
                self.tick(now);
            }
        }
        self.tell_of_changes(now);
    }

    /// The next thing to do; [`Output::Timeout`] once there is nothing else.
    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| {
            let all = [
                (self.deadlines.first().map(|&(at, _)| at), TimeoutReason::Join),
                (self.seeks.first().map(|&(at, _)| at), TimeoutReason::Seek),
                (self.directory.tick_at(), TimeoutReason::Nodes),
            ];
            let due = all.into_iter().filter_map(|(at, reason)| at.map(|at| Timeout { at, reason }));
            Output::Timeout(due.min_by_key(|timeout| timeout.at))
        })
    }

    /// What a tracker beside this core shares with it.
    pub const fn beside(&mut self, now: Now) -> Beside<'_> {
        Beside { now, nodes: &mut self.directory, quotas: &mut self.quotas }
    }

    /// Takes what a carrier says about costs, for all pairings from now on.
    pub fn set_costs(&mut self, costs: CostMap) {
        self.costs = costs;
    }

    /// How many connections there are, joined or not.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// How many swarms there are.
    #[must_use]
    pub fn swarm_count(&self) -> usize {
        self.swarms.len()
    }

    /// How much there is, and what was done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { swarms: self.swarms.len(), ..self.counts }
    }

    /// What a swarm looks like, on all nodes together, while it has members that are known of.
    #[must_use]
    pub fn swarm_report(&self, name: &SwarmName) -> Option<SwarmReport> {
        let here = self.names.get(name).and_then(|key| self.swarms.get(key)).map(Swarm::figures);
        let sum = here.unwrap_or_default().plus(&self.directory.elsewhere(&SwarmHash::of_name(name)));
        let Figures { viewers, seeds, carried, .. } = sum;
        (sum.members() > 0).then_some(SwarmReport { viewers: viewers as usize, seeds: seeds as usize, carried })
    }

    fn open(&mut self, now: Now, conn: ConnId, fresh: PeerId) {
        if self.connections.contains_key(&conn) {
            return;
        }
        let deadline = now.plus(self.config.join_timeout);
        let full = self.connections.len() >= self.config.max_connections;
        let newcomer = Newcomer { fresh, deadline, grant: None, place: Place::default() };
        self.connections.insert(conn, Connection::New(newcomer));
        self.deadlines.insert((deadline, conn));
        if full {
            self.refuse(conn, (ErrorCode::Full, "this server is full: try another, or later".to_owned()));
        }
    }

    fn expire(&mut self, now: Now) {
        while let Some(&(at, conn)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            let text = format!("no join came: send it first, within {} s", self.config.join_timeout.as_secs());
            self.refuse(conn, (ErrorCode::NotJoined, text));
        }
    }

    fn message(&mut self, now: Now, conn: ConnId, message: ClientMessage) -> Result<(), Refusal> {
        // A message may be under way when the core closes its connection: nothing is wrong with that.
        let Some(&connection) = self.connections.get(&conn) else { return Ok(()) };
        let (swarm_key, peer) = match connection {
            Connection::New(newcomer) => return self.first_message(now, conn, newcomer, message),
            Connection::Joined { swarm, peer, .. } => (swarm, peer),
        };
        let Some(swarm) = self.swarms.get_mut(&swarm_key) else { return Ok(()) };
        match message {
            ClientMessage::Join { .. } => {
                Err((ErrorCode::NotJoined, "this connection has joined: open another for another swarm".to_owned()))
            }
            ClientMessage::Want { count } => {
                check_want(count)?;
                let made =
                    pairing::on_want(swarm, peer, count, &mut Chance { costs: &self.costs, rng: &mut self.rng, now });
                self.tell(swarm_key, &made);
                self.seek(now, swarm_key, peer, Vec::new());
                self.seek_later(now, swarm_key);
                Ok(())
            }
            ClientMessage::Watching { position_s } => {
                swarm.set_position(now, peer, position_s);
                Ok(())
            }
            ClientMessage::Signal { to, data } => {
                check_signal(&data)?;
                let own = swarm.member(peer);
                let pair = own.and_then(|own| own.pairs.get(&to)).filter(|pair| !pair.is_kept).copied();
                let is_unknown = pair.is_none() && swarm.member(to).is_none() && self.directory.is_connected();
                let is_searching = is_unknown && swarm.may_search(now, peer, to);
                let output = match (pair, swarm.member(to)) {
                    (Some(Pair { node: Some(node), .. }), _) if self.directory.lives(node) => {
                        self.counts.signals += 1;
                        let message = NodeMessage::Signal { swarm: swarm.hash, from: peer, to, data, is_searching };
                        self.directory.tell(Told::Node(node), message);
                        return Ok(());
                    }
                    (None, None) if is_searching => {
                        self.counts.signals += 1;
                        let message = NodeMessage::Signal { swarm: swarm.hash, from: peer, to, data, is_searching };
                        self.directory.tell(Told::Swarm(swarm.hash), message);
                        return Ok(());
                    }
                    (Some(Pair { node: None, .. }), Some(other)) => {
                        self.counts.signals += 1;
                        Output::Send { conn: other.conn, message: ServerMessage::Signal { from: peer, data } }
                    }
                    _ => Output::Send { conn, message: ServerMessage::Gone { peer: to } },
                };
                self.outputs.push_back(output);
                Ok(())
            }
            ClientMessage::Lost { peer: other } => {
                let node = swarm.member(peer).and_then(|own| own.pairs.get(&other)).and_then(|pair| pair.node);
                swarm.lose(now, peer, other);
                if let Some(node) = node {
                    let message = NodeMessage::Unpaired { swarm: swarm.hash, peer, others: vec![other], lost: true };
                    self.directory.tell(Told::Node(node), message);
                }
                Ok(())
            }
            ClientMessage::Stats { report } => {
                swarm.set_stats(peer, report);
                self.has_changed(swarm_key);
                Ok(())
            }
            ClientMessage::Leave => {
                self.close(conn);
                Ok(())
            }
        }
    }

    fn first_message(
        &mut self,
        now: Now,
        conn: ConnId,
        Newcomer { fresh, deadline, grant, place }: Newcomer,
        message: ClientMessage,
    ) -> Result<(), Refusal> {
        let ClientMessage::Join { version, swarm: name, role, token: _, want, resume, connected, position_s } = message
        else {
            return Err((ErrorCode::NotJoined, "the first message must be a join".to_owned()));
        };
        if version != SIGNAL_VERSION {
            let text = format!("version {version} is not spoken here: use version {SIGNAL_VERSION}");
            return Err((ErrorCode::Version, text));
        }
        check_want(want)?;
        if connected.len() > MAX_CONNECTED {
            let text = format!("connected lists {} peers, {MAX_CONNECTED} are allowed", connected.len());
            return Err((ErrorCode::BadMessage, text));
        }
        let token = grant.map(|grant| grant.token);
        let resumed = resume.and_then(|resume| resume::verify(&self.config.resume_key, &name, &resume, token));
        let peer = resumed.map_or(fresh, |proven| proven.peer);
        // Only who was here has neighbours: a stranger's word would pair it with anybody whose id it has heard.
        let connected = if resumed.is_some() { connected } else { Vec::new() };
        if resumed.is_some() {
            self.take_over(&name, peer);
        }
        let key = self.swarm_for(&name)?;
        let counted = match grant {
            Some(grant) => {
                let came_back = resumed.is_some_and(|proven| proven.same_token);
                self.quotas.join(now, &grant, Coming { came_back, replaces: false })
            }
            None => Ok(()),
        };
        let Some(swarm) = self.swarms.get_mut(&key) else { return Ok(()) };
        if let Err(error) = counted {
            self.forget_if_empty(key);
            return Err(quota_refusal(error));
        }
        if !swarm.insert(peer, conn, role, place) {
            token.inspect(|token| self.quotas.leave(*token));
            return Err((ErrorCode::Internal, "the name drawn for this peer is taken: join again".to_owned()));
        }
        self.counts.joins += 1;
        self.counts.members += 1;
        self.deadlines.remove(&(deadline, conn));
        self.connections.insert(conn, Connection::Joined { swarm: key, peer, token });
        for neighbour in &connected {
            swarm.pair_again(now, peer, *neighbour);
        }
        if let Some(position_s) = position_s {
            swarm.set_position(now, peer, position_s);
        }
        let hash = swarm.hash;
        let elsewhere = self.directory.elsewhere(&hash);
        let welcome = ServerMessage::Welcome {
            peer,
            resume: resume::issue(&self.config.resume_key, &name, peer, token),
            ice_servers: self.config.ice_servers.clone(),
            swarm_size: u32::try_from(swarm.len() as u64 + elsewhere.members()).unwrap_or(u32::MAX),
        };
        self.outputs.push_back(Output::Send { conn, message: welcome });
        let mut chance = Chance { costs: &self.costs, rng: &mut self.rng, now };
        let made = pairing::on_join(swarm, peer, want, &elsewhere, &mut chance);
        self.tell(key, &made);
        self.has_changed(key);
        if self.directory.is_connected() {
            self.came(now, key, peer, resumed.is_some(), &connected);
        }
        Ok(())
    }

    /// Whoever holds the `resume` of a peer that is still here replaces it: its old socket is dead, and nobody has
    /// noticed yet.
    fn take_over(&mut self, name: &SwarmName, peer: PeerId) {
        let swarm = self.names.get(name).and_then(|key| self.swarms.get(key));
        if let Some(old) = swarm.and_then(|swarm| swarm.member(peer)).map(|member| member.conn) {
            self.close(old);
        }
    }

    /// The swarm of this name, made where it is new, if one more member has room there.
    fn swarm_for(&mut self, name: &SwarmName) -> Result<SwarmKey, Refusal> {
        if let Some(&key) = self.names.get(name) {
            if self.swarms.get(&key).is_some_and(|swarm| swarm.len() >= self.config.max_swarm_size) {
                return Err((ErrorCode::Full, "this swarm is full: play from the origin".to_owned()));
            }
            return Ok(key);
        }
        if self.swarms.len() >= self.config.max_swarms {
            return Err((ErrorCode::Full, "this server has no room for another swarm".to_owned()));
        }
        let key = SwarmKey(self.next_swarm);
        self.next_swarm = self.next_swarm.wrapping_add(1);
        let swarm = Swarm::new(name.clone());
        if self.config.node.is_some() {
            self.hashes.insert(swarm.hash, key);
        }
        self.names.insert(name.clone(), key);
        self.swarms.insert(key, swarm);
        Ok(key)
    }

    pub(crate) fn tell(&mut self, key: SwarmKey, made: &[Introduction]) {
        let Some(swarm) = self.swarms.get(&key) else { return };
        for &Introduction { offerer, answerer } in made {
            let (Some(first), Some(second)) = (swarm.member(offerer), swarm.member(answerer)) else { continue };
            self.counts.introductions += 1;
            for (to, peer, offer, role) in
                [(first.conn, answerer, true, second.role), (second.conn, offerer, false, first.role)]
            {
                let message = ServerMessage::Connect { peer, offer, role };
                self.outputs.push_back(Output::Send { conn: to, message });
            }
        }
    }

    fn refuse(&mut self, conn: ConnId, (code, message): Refusal) {
        self.counts.refusals += 1;
        self.outputs.push_back(Output::Send { conn, message: ServerMessage::Error { code, message } });
        self.close(conn);
    }

    pub(crate) fn close(&mut self, conn: ConnId) {
        self.forget(conn);
        self.outputs.push_back(Output::Close { conn });
    }

    fn forget(&mut self, conn: ConnId) {
        match self.connections.remove(&conn) {
            None => {}
            Some(Connection::New(Newcomer { deadline, .. })) => {
                self.deadlines.remove(&(deadline, conn));
            }
            Some(Connection::Joined { swarm: key, peer, token }) => {
                self.counts.members = self.counts.members.saturating_sub(1);
                token.inspect(|token| self.quotas.leave(*token));
                if let Some(swarm) = self.swarms.get_mut(&key)
                    && let Some(member) = swarm.remove(peer)
                {
                    let hash = swarm.hash;
                    self.left(hash, peer, &member);
                    self.has_changed(key);
                }
                self.forget_if_empty(key);
            }
        }
    }

    fn forget_if_empty(&mut self, key: SwarmKey) {
        if let Some(swarm) = self.swarms.get(&key)
            && swarm.len() == 0
        {
            self.names.remove(&swarm.name);
            self.hashes.remove(&swarm.hash);
            self.emptied(key);
        }
    }
}

fn quota_refusal(error: QuotaError) -> Refusal {
    let code = match error {
        QuotaError::Uses | QuotaError::Expired => ErrorCode::Unauthorised,
        QuotaError::Peers | QuotaError::Full => ErrorCode::Full,
    };
    (code, error.to_string())
}

fn check_want(count: u16) -> Result<(), Refusal> {
    if count > MAX_WANT {
        return Err((ErrorCode::BadMessage, format!("{count} neighbours are too many: ask for at most {MAX_WANT}")));
    }
    Ok(())
}

pub(crate) fn check_signal(data: &SignalData) -> Result<(), Refusal> {
    let (len, most, what) = match data {
        SignalData::Offer { sdp } | SignalData::Answer { sdp } => (sdp.len(), MAX_SDP_LEN, "the SDP"),
        SignalData::Candidate { candidate, sdp_mid, .. } => {
            let mid = sdp_mid.as_deref().unwrap_or_default();
            if mid.len() > MAX_TEXT_LEN {
                (mid.len(), MAX_TEXT_LEN, "sdp_mid")
            } else {
                (candidate.len(), MAX_CANDIDATE_LEN, "the candidate")
            }
        }
    };
    if len > most {
        return Err((ErrorCode::TooLarge, format!("{what} has {len} bytes, {most} are allowed")));
    }
    Ok(())
}
