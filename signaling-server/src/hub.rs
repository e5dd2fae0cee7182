//! The signalling core and the tracker behind a lock, the outboxes of the connections, and the clock.
//!
//! No lock is held across an await: one input is a short computation, and what comes of it goes into bounded outboxes.

mod state;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_rendezvous::cluster::{self, SwarmHash};
use headwater_rendezvous::tracker::{Intent, Message, TrackerConfig, TrackerCounts, Unserved};
use headwater_rendezvous::{
    Config, ConnId, CostMap, Counts, Grant, Input, Now, Place as Location, Rendezvous, SwarmReport,
};
use headwater_wire::signal::{ClientMessage, ServerMessage};
use headwater_wire::{PeerId, SwarmName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tracing::debug;

use self::state::{Speaker, State};
use crate::bus::Bus;
use crate::hold::Held;
use crate::outbox::{Ending, Outbox};
use crate::turn::Turn;

/// A drained peer waits a random part of this before it joins elsewhere, so that not all come at once.
const DRAIN_SPREAD_MS: u64 = 10_000;

/// On behalf of no connection: all that get something are woken.
const NOBODY: ConnId = ConnId(u64::MAX);

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Headwater's own.
    Native,
    /// The WebTorrent tracker protocol.
    Tracker,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    next_conn: AtomicU64,
    /// One for each connection that there may be, of either protocol.
    seats: Arc<Semaphore>,
    epoch: Instant,
    /// When the core wants to be called again.
    timeout: watch::Sender<Option<Now>>,
    /// To other nodes, where there may be some.
    bus: Option<Arc<Bus>>,
}

/// What clients are told when the server stops.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drain {
    /// Another server.
    pub(crate) url: Option<String>,
}

/// What there is and what was done. Pairs are by protocol, see [`Protocol`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct HubCounts {
    pub(crate) connections: [usize; 2],
    pub(crate) messages: [u64; 2],
    pub(crate) dropped: [u64; 2],
    pub(crate) core: Counts,
    pub(crate) tracker: TrackerCounts,
    pub(crate) is_draining: bool,
    /// Other nodes that live.
    pub(crate) nodes: usize,
}

/// A connection's place in the hub. Dropped, it takes the connection out.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) conn: ConnId,
    pub(crate) protocol: Protocol,
    pub(crate) outbox: Arc<Outbox>,
    hub: Arc<Hub>,
}

impl Hub {
    pub(crate) fn new(
        config: Config,
        tracker: TrackerConfig,
        turn: Option<Turn>,
        bus: Option<Arc<Bus>>,
        seed: u64,
    ) -> Arc<Self> {
        let seats = config.max_connections.min(Semaphore::MAX_PERMITS);
        let state = State::new(config, tracker, turn, bus.clone(), seed);
        Arc::new(Self {
            state: Mutex::new(state),
            next_conn: AtomicU64::new(0),
            seats: Arc::new(Semaphore::new(seats)),
            epoch: Instant::now(),
            timeout: watch::Sender::new(None),
            bus,
        })
    }

    pub(crate) fn now(&self) -> Now {
        self.at(Instant::now())
    }

    /// A moment in the core's time.
    pub(crate) fn at(&self, instant: Instant) -> Now {
        let since = instant.saturating_duration_since(self.epoch);
        Now(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Room for one more connection, held until its socket is closed.
    pub(crate) fn seat(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.seats).try_acquire_owned().ok()
    }

    /// Adds a connection; in the native protocol it gets the name `fresh`, and is paired by where it is.
    pub(crate) fn open(self: &Arc<Self>, protocol: Protocol, fresh: PeerId, from: Location) -> Place {
        let conn = ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed));
        let outbox = Arc::new(Outbox::default());
        let place = Place { conn, protocol, outbox: Arc::clone(&outbox), hub: Arc::clone(self) };
        let mut state = self.lock();
        state.outboxes.insert(conn, (protocol, Arc::clone(&outbox)));
        state.open[protocol as usize] += 1;
        if let Some(drain) = &state.draining {
            drain.tell(protocol, &outbox);
        }
        drop(state);
        if protocol == Protocol::Native {
            self.with_core(conn, |core, now| {
                core.handle_input(now, Input::Opened { conn, fresh });
                core.handle_input(now, Input::Located { conn, place: from });
            });
        }
        place
    }

    /// Takes what a carrier says about costs.
    pub(crate) fn set_costs(&self, costs: CostMap) {
        self.lock().core.set_costs(costs);
    }

    /// Tells every client, now and from now on, that the server stops.
    pub(crate) fn drain(&self, drain: Drain) {
        let mut state = self.lock();
        for (protocol, outbox) in state.outboxes.values() {
            drain.tell(*protocol, outbox);
        }
        state.draining = Some(drain);
    }

    /// What there is and what was done, for the metrics.
    pub(crate) fn counts(&self) -> HubCounts {
        let state = self.lock();
        HubCounts {
            connections: state.open,
            messages: state.messages,
            dropped: state.dropped,
            core: state.core.counts(),
            tracker: state.tracker.counts(),
            is_draining: state.draining.is_some(),
            nodes: state.core.directory().node_count(),
        }
    }

    /// What a swarm of the native protocol looks like, here and on other nodes.
    pub(crate) async fn swarm_report(&self, swarm: &SwarmName) -> Option<SwarmReport> {
        let until = {
            let now = self.now();
            let mut state = self.lock();
            let until = state.learn(now, std::iter::once(SwarmHash::of_name(swarm)));
            state.pump_bus();
            until
        };
        if until.is_some() {
            self.sleep_until(until).await;
        }
        self.lock().core.swarm_report(swarm)
    }

    /// To other nodes, where there may be some.
    pub(crate) const fn bus(&self) -> Option<&Arc<Bus>> {
        self.bus.as_ref()
    }

    /// Other nodes can be reached, or cannot.
    pub(crate) fn set_connected(&self, is_connected: bool) {
        self.with_core(NOBODY, |core, now| core.handle_input(now, Input::Bus { is_connected }));
    }

    /// Tells other nodes that this one stops.
    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        state.core.directory_mut().leave();
        state.pump_bus();
    }

    /// Another node said something; false where it cannot be read.
    pub(crate) fn node_message(&self, bytes: &[u8]) -> bool {
        let (from, message) = match cluster::read(bytes) {
            Ok(read) => read,
            Err(error) => {
                debug!(%error, "a message of another node cannot be read");
                return false;
            }
        };
        let mut state = self.lock();
        state.tracker.handle_node(from, &message);
        state.pump_tracker(NOBODY, Speaker::of(&message));
        drop(state);
        let message = Box::new(message);
        self.with_core(NOBODY, |core, now| core.handle_input(now, Input::Node { from, message }));
        true
    }

    /// Calls the core whenever it asked to be. Never returns.
    pub(crate) async fn run_timer(&self) {
        let mut timeout = self.timeout.subscribe();
        loop {
            let at = *timeout.borrow_and_update();
            tokio::select! {
                () = self.sleep_until(at) => {
                    self.with_core(NOBODY, |core, now| core.handle_input(now, Input::Timeout));
                    self.release_held();
                }
                changed = timeout.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn sleep_until(&self, at: Option<Now>) {
        match at.and_then(|Now(micros)| self.epoch.checked_add(Duration::from_micros(micros))) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic under the lock would be a bug; the other connections need not die of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the core something on behalf of a connection that looks into its outbox afterwards by itself.
    fn with_core(&self, by: ConnId, change: impl FnOnce(&mut Rendezvous, Now)) {
        let now = self.now();
        let mut state = self.lock();
        change(&mut state.core, now);
        let next = state.pump(by, now);
        self.call_again(&state, next);
    }

    /// Sets the clock to what the core wants, or to the first message that is held.
    fn call_again(&self, state: &State, next: Option<Now>) {
        let next = [next, state.hold.first()].into_iter().flatten().min();
        self.timeout.send_if_modified(|timeout| std::mem::replace(timeout, next) != next);
    }

    /// Until when a message has to wait: for what other nodes have of these swarms, or behind others of its connection.
    fn must_wait(&self, conn: ConnId, swarms: impl Iterator<Item = SwarmHash>) -> Option<Now> {
        let now = self.now();
        let mut state = self.lock();
        let until = if state.hold.holds(conn) { Some(now) } else { state.learn(now, swarms) };
        state.pump_bus();
        until
    }

    /// Holds a message back. Gives it back where there is no room.
    fn hold_back(&self, conn: ConnId, until: Now, held: Held) -> Option<Held> {
        let mut state = self.lock();
        let back = state.hold.push(conn, until, held);
        let first = state.hold.first();
        self.timeout.send_if_modified(|timeout| {
            let next = [*timeout, first].into_iter().flatten().min();
            std::mem::replace(timeout, next) != next
        });
        back
    }

    /// Handles what was held long enough.
    fn release_held(&self) {
        let now = self.now();
        loop {
            let Some(conn) = self.lock().hold.take_due(now) else { break };
            // Those that come while the first are handled wait behind them.
            loop {
                let Some(messages) = self.lock().hold.take_more(conn) else { break };
                messages.into_iter().for_each(|held| self.handle_held(conn, held));
            }
        }
        self.with_core(NOBODY, |_, _| {});
    }

    fn handle_held(&self, conn: ConnId, held: Held) {
        match held {
            Held::Native(message, grant) => self.native(conn, NOBODY, message, grant),
            Held::Tracker { text, grant, offers } => {
                let mut message = Message::read(&text);
                message.keep_offers(offers);
                self.tracker(conn, NOBODY, message, grant);
            }
        }
    }

    /// Holds a message of the tracker protocol back where it has to wait; says whether it does.
    fn hold_back_tracker(&self, conn: ConnId, text: &str, message: &Message<'_>, grant: Option<Grant>) -> bool {
        let one;
        let swarms = match message.intent() {
            Intent::Swarm(info_hash) => {
                one = [info_hash];
                &one[..]
            }
            Intent::Scrape(several) => several,
            Intent::Unknown => &[],
        };
        let until = self.must_wait(conn, swarms.iter().map(SwarmHash::of_info_hash));
        until.is_some_and(|until| {
            let held = Held::Tracker { text: text.to_owned(), grant, offers: message.offers() };
            self.hold_back(conn, until, held).is_none()
        })
    }

    fn native(&self, conn: ConnId, by: ConnId, message: ClientMessage, grant: Option<Grant>) {
        self.with_core(by, |core, now| {
            if let Some(grant) = grant {
                core.handle_input(now, Input::Granted { conn, grant });
            }
            core.handle_input(now, Input::Message { conn, message });
        });
    }

    fn tracker(&self, conn: ConnId, by: ConnId, message: Message<'_>, grant: Option<Grant>) {
        // Without other nodes and without tokens, a tracker needs no clock.
        let now = if self.bus.is_some() || grant.is_some() { self.now() } else { Now::default() };
        let mut state = self.lock();
        // A message that was held may come when its connection is gone: nobody would ever take that peer out.
        if !state.outboxes.contains_key(&conn) {
            return;
        }
        state.messages[Protocol::Tracker as usize] += 1;
        let State { core, tracker, .. } = &mut *state;
        tracker.handle_message_beside(conn, message, grant.as_ref(), &mut core.beside(now));
        state.pump_tracker(by, Speaker::Client(conn));
        state.pump_bus();
    }
}

impl Drain {
    fn tell(&self, protocol: Protocol, outbox: &Outbox) {
        if protocol == Protocol::Native {
            // Without randomness everyone waits the whole time: late, but not wrong.
            let draw = getrandom::u64().unwrap_or(u64::MAX);
            let after_ms = u32::try_from(draw % (DRAIN_SPREAD_MS + 1)).unwrap_or(0);
            let message = ServerMessage::Drain { url: self.url.clone(), after_ms };
            if let Ok(text) = serde_json::to_string(&message) {
                outbox.push(&text, false);
            }
        }
        outbox.end(Ending::Drain);
    }
}

impl Place {
    /// A message of the native protocol.
    pub(crate) fn message(&self, message: ClientMessage, grant: Option<Grant>) {
        let (conn, hub) = (self.conn, &self.hub);
        hub.lock().messages[Protocol::Native as usize] += 1;
        let mut message = message;
        if hub.bus.is_some() {
            let swarm = match &message {
                ClientMessage::Join { swarm, .. } => Some(SwarmHash::of_name(swarm)),
                _ => None,
            };
            if let Some(until) = hub.must_wait(conn, swarm.into_iter()) {
                match hub.hold_back(conn, until, Held::Native(message, grant)) {
                    Some(Held::Native(back, _)) => message = back,
                    _ => return,
                }
            }
        }
        hub.native(conn, conn, message, grant);
    }

    /// A message of the tracker protocol, as text and as what it says.
    pub(crate) fn tracker_message(&self, text: &str, message: Message<'_>, grant: Option<Grant>) {
        let (conn, hub) = (self.conn, &self.hub);
        if hub.bus.is_none() || !hub.hold_back_tracker(conn, text, &message, grant) {
            hub.tracker(conn, conn, message, grant);
        }
    }

    /// Tells a client of the tracker protocol what is wrong, without closing.
    pub(crate) fn tracker_refusal(&self, refusal: &Unserved) {
        let mut state = self.hub.lock();
        state.tracker.refuse(self.conn, refusal);
        state.pump_tracker(self.conn, Speaker::Client(self.conn));
    }

    pub(crate) fn at(&self, instant: Instant) -> Now {
        self.hub.at(instant)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let conn = self.conn;
        let mut state = self.hub.lock();
        state.take_out(conn);
        state.hold.forget(conn);
        match self.protocol {
            Protocol::Tracker => state.close_tracker(conn),
            Protocol::Native => {
                drop(state);
                self.hub.with_core(conn, |core, now| core.handle_input(now, Input::Closed { conn }));
            }
        }
    }
}

#[cfg(test)]
mod tests;
