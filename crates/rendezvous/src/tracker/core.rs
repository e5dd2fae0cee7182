//! The tracker itself: swarms by info hash, whose peers are whose, and what is done about each message.

use std::collections::BTreeMap;

use super::binary::Binary;
use super::config::TrackerConfig;
use super::message::{Announce, Answer, Event, Message, Request, Scrape, Unserved};
use super::reply::{self, Figures};
use super::swarm::Swarm;
use crate::cluster::{Directory, SwarmHash};
use crate::io::ConnId;
use crate::quota::{Coming, Grant, Quotas, TokenId};
use crate::rng::Rng;
use crate::time::Now;

/// What a tracker has in common with the core of the native protocol beside it.
#[derive(Debug)]
pub struct Beside<'a> {
    /// The time. Only tokens and other nodes need it.
    pub now: Now,
    /// The other nodes: their peers count, and get their share of the offers.
    pub nodes: &'a mut Directory,
    /// What tokens are used for.
    pub quotas: &'a mut Quotas,
}

/// A message to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackerOutput<'a> {
    /// To whom.
    pub conn: ConnId,
    /// What, as JSON.
    pub text: &'a str,
}

/// How much there is, and what has been done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrackerCounts {
    /// Info hashes now.
    pub swarms: usize,
    /// Peers now.
    pub peers: usize,
    /// Announces served.
    pub announces: u64,
    /// Offers forwarded.
    pub offers: u64,
    /// Answers forwarded.
    pub answers: u64,
    /// Scrapes served.
    pub scrapes: u64,
    /// Messages refused.
    pub errors: u64,
}

/// A peer of a connection.
#[derive(Debug, Clone, Copy)]
struct Membership {
    info_hash: Binary,
    peer_id: Binary,
    token: Option<TokenId>,
}

/// See the module.
#[derive(Debug)]
pub struct Tracker {
    config: TrackerConfig,
    pub(super) rng: Rng,
    pub(super) swarms: BTreeMap<Binary, Swarm>,
    connections: BTreeMap<ConnId, Vec<Membership>>,
    pub(super) counts: TrackerCounts,
    /// The texts of the outputs, one behind the other: one message makes up to `max_offers` of them.
    pub(super) texts: String,
    /// To whom, and where its text ends.
    pub(super) outputs: Vec<(ConnId, usize)>,
    polled: usize,
}

impl Tracker {
    /// A tracker without peers. `seed` decides every choice by lot.
    #[must_use]
    pub fn new(config: TrackerConfig, seed: u64) -> Self {
        Self {
            config,
            rng: Rng::new(seed),
            swarms: BTreeMap::new(),
            connections: BTreeMap::new(),
            counts: TrackerCounts::default(),
            texts: String::new(),
            outputs: Vec::new(),
            polled: 0,
        }
    }

    /// Takes one message of a connection. Drain [`Self::poll_output`] afterwards: the next message drops what is left.
    pub fn handle_message(&mut self, conn: ConnId, message: Message<'_>) {
        let (mut nodes, mut quotas) = (Directory::default(), Quotas::default());
        let mut beside = Beside { now: Now::default(), nodes: &mut nodes, quotas: &mut quotas };
        self.handle_message_beside(conn, message, None, &mut beside);
    }

    /// The same with what it shares; `grant` is what the connection's token allows.
    pub fn handle_message_beside(
        &mut self,
        conn: ConnId,
        message: Message<'_>,
        grant: Option<&Grant>,
        beside: &mut Beside<'_>,
    ) {
        self.clear();
        let served = match message.0 {
            Ok(Request::Announce(announce)) => self.announce(conn, &announce, grant, beside),
            Ok(Request::Answer(answer)) => {
                self.answer(conn, &answer, beside.nodes);
                Ok(())
            }
            Ok(Request::Scrape(scrape)) => self.scrape(conn, &scrape, beside.nodes),
            Err(unserved) => Err(unserved),
        };
        if let Err(unserved) = served {
            self.fail(conn, &unserved);
        }
    }

    /// Refuses a message that the shell does not let through. Drain [`Self::poll_output`] afterwards.
    pub fn refuse(&mut self, conn: ConnId, refusal: &Unserved) {
        self.clear();
        self.fail(conn, refusal);
    }

    fn fail(&mut self, conn: ConnId, Unserved { action, reason, info_hash }: &Unserved) {
        self.counts.errors += 1;
        reply::failed(&mut self.texts, action, reason, *info_hash);
        self.outputs.push((conn, self.texts.len()));
    }

    /// Takes all peers of a connection out. Unknown ones are ignored.
    pub fn handle_closed(&mut self, conn: ConnId) {
        let (mut nodes, mut quotas) = (Directory::default(), Quotas::default());
        self.handle_closed_beside(conn, &mut Beside { now: Now::default(), nodes: &mut nodes, quotas: &mut quotas });
    }

    /// The same with what it shares.
    pub fn handle_closed_beside(&mut self, conn: ConnId, beside: &mut Beside<'_>) {
        for Membership { info_hash, peer_id, token } in self.connections.remove(&conn).unwrap_or_default() {
            token.inspect(|token| beside.quotas.leave(*token));
            self.leave(&info_hash, &peer_id);
            self.tell_nodes(&info_hash, beside.now, beside.nodes);
        }
    }

    /// The next message to send.
    pub fn poll_output(&mut self) -> Option<TrackerOutput<'_>> {
        let start = self.polled.checked_sub(1).and_then(|last| self.outputs.get(last)).map_or(0, |&(_, end)| end);
        let &(conn, end) = self.outputs.get(self.polled)?;
        self.polled += 1;
        self.texts.get(start..end).map(|text| TrackerOutput { conn, text })
    }

    /// How much there is, and what has been done.
    #[must_use]
    pub fn counts(&self) -> TrackerCounts {
        TrackerCounts { swarms: self.swarms.len(), ..self.counts }
    }

    /// How many of a swarm are complete and how many are not.
    #[must_use]
    pub fn swarm_size(&self, info_hash: &Binary) -> (usize, usize) {
        let figures = self.figures(info_hash, &Directory::default());
        (figures.complete, figures.incomplete)
    }

    pub(super) fn clear(&mut self) {
        /// A buffer above this is given back: one burst of large offers should not be kept for ever.
        const KEPT: usize = 1 << 20;
        self.outputs.clear();
        self.polled = 0;
        self.texts.clear();
        if self.texts.capacity() > KEPT {
            self.texts = String::new();
        }
    }

    fn announce(
        &mut self,
        conn: ConnId,
        announce: &Announce<'_>,
        grant: Option<&Grant>,
        beside: &mut Beside<'_>,
    ) -> Result<(), Unserved> {
        let Announce { info_hash, peer_id, event, is_seeder, numwant, ref offers } = *announce;
        self.check_peer(conn, &info_hash, &peer_id)?;
        self.counts.announces += 1;
        if event == Event::Stopped {
            // Only its own: a stranger must not be able to take somebody out.
            if self.forget(conn, &info_hash, beside.quotas) {
                self.leave(&info_hash, &peer_id);
                self.tell_nodes(&info_hash, beside.now, beside.nodes);
            }
            self.tell_figures(conn, &info_hash, beside.nodes);
            return Ok(());
        }
        self.join(conn, (info_hash, peer_id), is_seeder && event != Event::Completed, grant, beside)?;
        if event == Event::Completed
            && let Some(swarm) = self.swarms.get_mut(&info_hash)
        {
            swarm.complete(&peer_id);
        }
        let nodes = &mut *beside.nodes;
        self.tell_nodes(&info_hash, beside.now, nodes);
        self.tell_figures(conn, &info_hash, nodes);
        let wanted = numwant.unwrap_or(usize::MAX).min(offers.len()).min(self.config.max_offers);
        let here = self.share_offers(wanted, announce, nodes);
        if here > 0
            && let Some(swarm) = self.swarms.get(&info_hash)
        {
            let (texts, outputs) = (&mut self.texts, &mut self.outputs);
            let sent = swarm.draw(&peer_id, here, &mut self.rng, |nth, peer| {
                let Some(offer) = offers.get(nth) else { return };
                let (id, offer) = (offer.offer_id.get(), offer.offer.get());
                reply::forwarded(texts, &info_hash, &peer_id, id, "offer", offer);
                outputs.push((peer.conn, texts.len()));
            });
            self.counts.offers += sent as u64;
        }
        Ok(())
    }

    /// One connection has one peer id a swarm: two would be a client that talks to itself.
    fn check_peer(&self, conn: ConnId, info_hash: &Binary, peer_id: &Binary) -> Result<(), Unserved> {
        let other = self.connections.get(&conn).and_then(|own| own.iter().find(|one| one.info_hash == *info_hash));
        match other {
            Some(other) if other.peer_id != *peer_id => {
                Err(refusal(info_hash, "this connection has another peer_id in this swarm"))
            }
            _ => Ok(()),
        }
    }

    fn join(
        &mut self,
        conn: ConnId,
        (info_hash, peer_id): (Binary, Binary),
        is_seeder: bool,
        grant: Option<&Grant>,
        beside: &mut Beside<'_>,
    ) -> Result<(), Unserved> {
        let own = self.connections.get(&conn).map_or(&[][..], Vec::as_slice);
        let is_known = own.iter().any(|one| one.info_hash == info_hash);
        if !is_known {
            let full = if own.len() >= self.config.max_swarms_per_connection {
                Some("too many swarms for one connection")
            } else {
                match self.swarms.get(&info_hash) {
                    Some(swarm) if swarm.len() >= self.config.max_swarm_size => Some("this swarm is full"),
                    None if self.swarms.len() >= self.config.max_swarms => Some("this tracker is full"),
                    _ => None,
                }
            };
            if let Some(reason) = full {
                return Err(refusal(&info_hash, reason));
            }
            if let Some(grant) = grant {
                let holder = self.token_of(&info_hash, &peer_id);
                // Every offer shows its sender's name: whoever has another token may not take it over.
                if holder.is_some_and(|holder| holder != grant.token) {
                    return Err(refusal(&info_hash, "this peer_id is another client's: take one of your own"));
                }
                let replaces = holder.is_some();
                let counted = beside.quotas.join(beside.now, grant, Coming { came_back: false, replaces });
                counted.map_err(|error| refusal(&info_hash, error.text()))?;
            }
            let token = grant.map(|grant| grant.token);
            self.connections.entry(conn).or_default().push(Membership { info_hash, peer_id, token });
        }
        match self.swarms.entry(info_hash).or_default().put(peer_id, conn, is_seeder) {
            None => self.counts.peers += 1,
            // The peer came back by a new socket before the old one was seen to be dead.
            Some(old) if old != conn => {
                self.forget(old, &info_hash, beside.quotas);
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// The token with which a peer came.
    fn token_of(&self, info_hash: &Binary, peer_id: &Binary) -> Option<TokenId> {
        let conn = self.swarms.get(info_hash)?.peer(peer_id)?.conn;
        self.connections.get(&conn)?.iter().find(|one| one.info_hash == *info_hash)?.token
    }

    /// Takes a swarm off the list of a connection; says whether it was there.
    fn forget(&mut self, conn: ConnId, info_hash: &Binary, quotas: &mut Quotas) -> bool {
        let Some(own) = self.connections.get_mut(&conn) else { return false };
        let place = own.iter().position(|one| one.info_hash == *info_hash);
        if let Some(place) = place {
            own.swap_remove(place).token.inspect(|token| quotas.leave(*token));
        }
        if own.is_empty() {
            self.connections.remove(&conn);
        }
        place.is_some()
    }

    fn leave(&mut self, info_hash: &Binary, peer_id: &Binary) {
        let Some(swarm) = self.swarms.get_mut(info_hash) else { return };
        swarm.remove(peer_id);
        self.counts.peers = self.counts.peers.saturating_sub(1);
        if swarm.len() == 0 {
            self.swarms.remove(info_hash);
        }
    }

    fn answer(&mut self, conn: ConnId, answer: &Answer<'_>, nodes: &mut Directory) {
        let Answer { info_hash, peer_id, to_peer_id, offer_id, answer: text } = answer;
        let Some(swarm) = self.swarms.get(info_hash) else { return };
        // In somebody else's name, nothing is forwarded.
        if swarm.peer(peer_id).is_none_or(|peer| peer.conn != conn) {
            return;
        }
        let Some(target) = swarm.peer(to_peer_id) else {
            self.answer_elsewhere(answer, nodes);
            return;
        };
        self.counts.answers += 1;
        reply::forwarded(&mut self.texts, info_hash, peer_id, offer_id.get(), "answer", text.get());
        self.outputs.push((target.conn, self.texts.len()));
    }

    fn scrape(&mut self, conn: ConnId, scrape: &Scrape, nodes: &Directory) -> Result<(), Unserved> {
        let bad = |reason| Err(Unserved { action: "scrape", reason, info_hash: None });
        let interval = self.config.scrape_interval.as_secs();
        match scrape {
            Scrape::All if !self.config.scrape_all => return bad("name the info_hash to scrape"),
            Scrape::All => {
                let mut texts = std::mem::take(&mut self.texts);
                let files = self.swarms.keys().map(|info_hash| (*info_hash, self.figures(info_hash, nodes)));
                reply::scraped(&mut texts, files, interval);
                self.texts = texts;
            }
            Scrape::Some(hashes) if hashes.len() > self.config.max_scrape => {
                return bad("too many info hashes in one scrape");
            }
            Scrape::Some(hashes) => {
                let mut texts = std::mem::take(&mut self.texts);
                reply::scraped(&mut texts, hashes.iter().map(|hash| (*hash, self.figures(hash, nodes))), interval);
                self.texts = texts;
            }
        }
        self.counts.scrapes += 1;
        self.outputs.push((conn, self.texts.len()));
        Ok(())
    }

    /// Of a swarm, here and on other nodes.
    fn figures(&self, info_hash: &Binary, nodes: &Directory) -> Figures {
        let mut figures = self.swarms.get(info_hash).map_or(Figures::default(), Swarm::figures);
        if nodes.is_used() {
            let elsewhere = nodes.elsewhere(&SwarmHash::of_info_hash(info_hash));
            figures.complete += elsewhere.seeds as usize;
            figures.incomplete += elsewhere.viewers as usize;
            figures.downloaded = figures.downloaded.saturating_add(elsewhere.downloaded);
        }
        figures
    }

    fn tell_figures(&mut self, conn: ConnId, info_hash: &Binary, nodes: &Directory) {
        let figures = self.figures(info_hash, nodes);
        reply::announced(&mut self.texts, info_hash, figures, self.config.announce_interval.as_secs());
        self.outputs.push((conn, self.texts.len()));
    }
}

const fn refusal(info_hash: &Binary, reason: &'static str) -> Unserved {
    Unserved { action: "announce", reason, info_hash: Some(*info_hash) }
}
