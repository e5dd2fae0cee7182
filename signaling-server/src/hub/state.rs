//! What the hub's lock guards, and how what the cores say gets into the outboxes.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_rendezvous::cluster::{NodeMessage, SwarmHash};
use headwater_rendezvous::tracker::{Tracker, TrackerConfig};
use headwater_rendezvous::{Config, ConnId, Input, Now, Output, Rendezvous};
use headwater_wire::signal::{ErrorCode, ServerMessage};
use tracing::{debug, error};

use super::{Drain, Protocol};
use crate::admission::unix_now;
use crate::bus::Bus;
use crate::hold::Hold;
use crate::outbox::{Ending, Outbox, Sender};
use crate::turn::Turn;

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    pub(super) core: Rendezvous,
    pub(super) tracker: Tracker,
    turn: Option<Turn>,
    pub(super) outboxes: BTreeMap<ConnId, (Protocol, Arc<Outbox>)>,
    /// How many of them there are, by protocol.
    pub(super) open: [usize; 2],
    pub(super) messages: [u64; 2],
    /// What was for clients that had no room for it.
    pub(super) dropped: [u64; 2],
    /// Messages that wait until it is known what other nodes have of their swarm.
    pub(super) hold: Hold,
    pub(super) bus: Option<Arc<Bus>>,
    /// Where clients are told to go, once the server stops.
    pub(super) draining: Option<Drain>,
}

/// Whose message the tracker has handled.
#[derive(Debug, Clone, Copy)]
pub(super) enum Speaker {
    /// A client of this node.
    Client(ConnId),
    /// A client of another, by a part of its id.
    Node(u64),
}

impl Speaker {
    pub(super) fn of(message: &NodeMessage) -> Self {
        let peer = match message {
            NodeMessage::Offers { peer_id, .. } | NodeMessage::Answer { peer_id, .. } => peer_id.0.last_chunk(),
            _ => None,
        };
        Self::Node(peer.map_or(0, |last| u64::from_le_bytes(*last)))
    }
}

impl State {
    pub(super) fn new(
        config: Config,
        tracker: TrackerConfig,
        turn: Option<Turn>,
        bus: Option<Arc<Bus>>,
        seed: u64,
    ) -> Self {
        Self {
            core: Rendezvous::new(config, seed),
            tracker: Tracker::new(tracker, seed.rotate_left(32)),
            turn,
            outboxes: BTreeMap::new(),
            open: [0; 2],
            messages: [0; 2],
            dropped: [0; 2],
            hold: Hold::default(),
            bus,
            draining: None,
        }
    }

    /// Carries out what the core says until it has nothing more to say; returns when it wants to be called again.
    pub(super) fn pump(&mut self, by: ConnId, now: Now) -> Option<Now> {
        let mut reason = None;
        loop {
            match self.core.poll_output() {
                Output::Send { conn, mut message } => {
                    if let (ServerMessage::Welcome { peer, ice_servers, .. }, Some(turn)) = (&mut message, &self.turn) {
                        ice_servers.push(turn.ice_server(*peer, unix_now()));
                    }
                    reason = match &message {
                        ServerMessage::Error { code, .. } => Some((conn, *code)),
                        _ => None,
                    };
                    self.send(by, now, conn, &message);
                }
                Output::Close { conn } => {
                    let code: Option<ErrorCode> = reason.filter(|(of, _)| *of == conn).map(|(_, code)| code);
                    if let Some(outbox) = self.take_out(conn) {
                        outbox.end(Ending::Close(code));
                    }
                }
                Output::Timeout(timeout) => {
                    self.pump_bus();
                    return timeout.map(|timeout| timeout.at);
                }
            }
        }
    }

    /// Hands the bus what is for other nodes.
    pub(super) fn pump_bus(&mut self) {
        let Some(bus) = &self.bus else { return };
        while let Some(output) = self.core.directory_mut().poll_output() {
            bus.take(output);
        }
    }

    /// Until when it is worth waiting for what other nodes say of these swarms.
    pub(super) fn learn(&mut self, now: Now, swarms: impl Iterator<Item = SwarmHash>) -> Option<Now> {
        let directory = self.core.directory_mut();
        if !directory.is_connected() {
            return None;
        }
        swarms.filter_map(|swarm| directory.look(now, swarm)).max()
    }

    fn send(&mut self, by: ConnId, now: Now, conn: ConnId, message: &ServerMessage) {
        let Some((_, outbox)) = self.outboxes.get(&conn) else { return };
        match (serde_json::to_string(message), message) {
            (Ok(text), ServerMessage::Signal { from, .. }) => {
                let is_dropped = !outbox.relay(Sender(from.0), &text, conn != by);
                self.dropped[Protocol::Native as usize] += u64::from(is_dropped);
            }
            (Ok(text), _) if outbox.push(&text, conn != by) => {}
            (Ok(_), _) => {
                self.give_up(conn);
                self.core.handle_input(now, Input::Closed { conn });
            }
            (Err(error), _) => error!(%error, "a message could not be written as JSON"),
        }
    }

    /// Sends what the tracker says because of somebody's message: replies to it, and what it has for others.
    pub(super) fn pump_tracker(&mut self, by: ConnId, speaker: Speaker) {
        let mut deaf = None;
        while let Some(output) = self.tracker.poll_output() {
            let Some((_, outbox)) = self.outboxes.get(&output.conn) else { continue };
            let wake = output.conn != by;
            match speaker {
                Speaker::Client(conn) if conn == output.conn => {
                    if !outbox.push(output.text, wake) {
                        deaf = Some(conn);
                    }
                }
                Speaker::Client(ConnId(sender)) | Speaker::Node(sender) => {
                    let is_dropped = !outbox.relay(Sender(sender), output.text, wake);
                    self.dropped[Protocol::Tracker as usize] += u64::from(is_dropped);
                }
            }
        }
        if let Some(conn) = deaf {
            self.give_up(conn);
            self.close_tracker(conn);
        }
    }

    pub(super) fn close_tracker(&mut self, conn: ConnId) {
        // Only where figures are told apart does the time matter.
        self.tracker.handle_closed_beside(conn, &mut self.core.beside(Now::default()));
        self.pump_bus();
    }

    /// The outbox of a connection that is one no more.
    pub(super) fn take_out(&mut self, conn: ConnId) -> Option<Arc<Outbox>> {
        let (protocol, outbox) = self.outboxes.remove(&conn)?;
        self.open[protocol as usize] -= 1;
        Some(outbox)
    }

    /// Ends a connection that does not read, without waiting for it.
    pub(super) fn give_up(&mut self, conn: ConnId) {
        if let Some(outbox) = self.take_out(conn) {
            debug!(conn = conn.0, "closing a connection that does not read");
            outbox.end(Ending::GiveUp);
        }
    }
}
