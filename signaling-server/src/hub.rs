//! The signalling core behind a lock, the queues of the connections, and the clock.
//!
//! No lock is held across an await: one input is a short computation, and what comes of it goes into bounded queues.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_rendezvous::{Config, ConnId, Input, Now, Output, Rendezvous};
use headwater_wire::PeerId;
use headwater_wire::signal::{ErrorCode, ServerMessage};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, error};

/// Messages waiting for one client: a burst of introductions and their candidates fits; more means that it is not
/// reading.
const MAX_QUEUED: usize = 512;

/// Bytes waiting for one client: many SDPs fit, and a thousand dead clients hold a quarter of a gigabyte at most.
const MAX_QUEUED_BYTES: usize = 256 * 1024;

/// What a connection is to send.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// One message, as JSON.
    Text(String),
    /// Close, with this reason where something was wrong.
    Close(Option<ErrorCode>),
}

/// The hub's end of a connection.
#[derive(Debug)]
struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    bytes: Arc<AtomicUsize>,
    give_up: Arc<Notify>,
}

/// The connection's end. Dropped, it takes the connection out of the hub.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) conn: ConnId,
    queue: mpsc::Receiver<Outgoing>,
    bytes: Arc<AtomicUsize>,
    give_up: Arc<Notify>,
    hub: Arc<Hub>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    next_conn: AtomicU64,
    epoch: Instant,
    /// When the core wants to be called again.
    timeout: watch::Sender<Option<Now>>,
}

#[derive(Debug)]
struct State {
    core: Rendezvous,
    outboxes: BTreeMap<ConnId, Outbox>,
}

impl Hub {
    pub(crate) fn new(config: Config, seed: u64) -> Arc<Self> {
        let state = State { core: Rendezvous::new(config, seed), outboxes: BTreeMap::new() };
        Arc::new(Self {
            state: Mutex::new(state),
            next_conn: AtomicU64::new(0),
            epoch: Instant::now(),
            timeout: watch::Sender::new(None),
        })
    }

    pub(crate) fn now(&self) -> Now {
        Now(u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Adds a connection.
    pub(crate) fn open(self: &Arc<Self>, fresh: PeerId) -> Inbox {
        let conn = ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let bytes = Arc::new(AtomicUsize::new(0));
        let give_up = Arc::new(Notify::new());
        let outbox = Outbox { queue: sender, bytes: Arc::clone(&bytes), give_up: Arc::clone(&give_up) };
        self.with_state(|state| {
            state.outboxes.insert(conn, outbox);
            state.core.handle_input(self.now(), Input::Opened { conn, fresh });
        });
        Inbox { conn, queue: receiver, bytes, give_up, hub: Arc::clone(self) }
    }

    /// Hands one event to the core, and what comes of it to the connections.
    pub(crate) fn input(&self, input: Input) {
        self.with_state(|state| state.core.handle_input(self.now(), input));
    }

    /// Calls the core whenever it asked to be. Never returns.
    pub(crate) async fn run_timer(&self) {
        let mut timeout = self.timeout.subscribe();
        loop {
            let at = *timeout.borrow_and_update();
            tokio::select! {
                () = self.sleep_until(at) => self.input(Input::Timeout),
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

    fn with_state(&self, change: impl FnOnce(&mut State)) {
        // A panic under the lock would be a bug; the other connections need not die of it.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let next = state.pump(self.now());
        self.timeout.send_if_modified(|timeout| std::mem::replace(timeout, next) != next);
    }
}

impl State {
    /// Carries out what the core says until it has nothing more to say; returns when it wants to be called again.
    fn pump(&mut self, now: Now) -> Option<Now> {
        let mut reason = None;
        loop {
            match self.core.poll_output() {
                Output::Send { conn, message } => {
                    reason = match &message {
                        ServerMessage::Error { code, .. } => Some((conn, *code)),
                        _ => None,
                    };
                    if !self.send(conn, &message) {
                        self.give_up(now, conn);
                    }
                }
                Output::Close { conn } => {
                    let code = reason.filter(|(of, _)| *of == conn).map(|(_, code)| code);
                    if let Some(outbox) = self.outboxes.remove(&conn)
                        && outbox.queue.try_send(Outgoing::Close(code)).is_err()
                    {
                        outbox.give_up.notify_one();
                    }
                }
                Output::Timeout(timeout) => return timeout.map(|timeout| timeout.at),
            }
        }
    }

    /// Queues a message; false where the client has let too many pile up.
    fn send(&self, conn: ConnId, message: &ServerMessage) -> bool {
        let Some(outbox) = self.outboxes.get(&conn) else { return true };
        let text = match serde_json::to_string(message) {
            Ok(text) => text,
            Err(error) => {
                error!(%error, "a message could not be written as JSON");
                return true;
            }
        };
        let len = text.len();
        let before = outbox.bytes.fetch_add(len, Ordering::Relaxed);
        before + len <= MAX_QUEUED_BYTES && outbox.queue.try_send(Outgoing::Text(text)).is_ok()
    }

    /// Ends a connection that does not read, without waiting for it.
    fn give_up(&mut self, now: Now, conn: ConnId) {
        if let Some(outbox) = self.outboxes.remove(&conn) {
            debug!(conn = conn.0, "closing a connection that does not read");
            outbox.give_up.notify_one();
            self.core.handle_input(now, Input::Closed { conn });
        }
    }
}

impl Inbox {
    /// The next thing to send. None only after the hub gave this connection up.
    pub(crate) async fn next(&mut self) -> Option<Outgoing> {
        let next = self.queue.recv().await;
        self.taken(next.as_ref());
        next
    }

    /// The next thing to send, if there is one at once.
    pub(crate) fn try_next(&mut self) -> Option<Outgoing> {
        let next = self.queue.try_recv().ok();
        self.taken(next.as_ref());
        next
    }

    /// Resolves when the hub has given this connection up.
    pub(crate) fn given_up(&self) -> impl Future<Output = ()> + use<> {
        let give_up = Arc::clone(&self.give_up);
        async move { give_up.notified().await }
    }

    pub(crate) fn input(&self, input: Input) {
        self.hub.input(input);
    }

    fn taken(&self, next: Option<&Outgoing>) {
        if let Some(Outgoing::Text(text)) = next {
            self.bytes.fetch_sub(text.len(), Ordering::Relaxed);
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let conn = self.conn;
        self.hub.with_state(|state| {
            state.outboxes.remove(&conn);
            state.core.handle_input(self.hub.now(), Input::Closed { conn });
        });
    }
}
