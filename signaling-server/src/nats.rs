//! NATS as the bus between nodes: which subjects there are, and a connection that comes back by itself.
//!
//! Every node listens on `PREFIX.nodes`, on `PREFIX.node.ID` of its own, and on `PREFIX.swarm.HASH` for each swarm that it has
//! members of. Nothing that a client sends becomes part of a subject: swarms go by their hash.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber};
use futures_util::StreamExt as _;
use headwater_rendezvous::cluster::{SwarmHash, Told};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tracing::{info, warn};

use crate::bus::{Bus, Letter};
use crate::hub::Hub;

/// How long a server may take to let a node in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that does not answer so often is gone: a connection may die without a word.
const PING_EVERY: Duration = Duration::from_secs(5);

/// Commands between this module and the library; the queue that is meant to be filled is the [`Bus`].
const COMMANDS: usize = 256;

/// Messages of one subject that wait to be handled. More are dropped: whoever sent them asks again.
const INCOMING: usize = 4096;

/// The longest pause before the next attempt to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long the last words may take when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a server that stops waits for all of this.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the NATS servers are, and what is ours there.
#[derive(Debug, Clone)]
pub struct Nats {
    /// Servers of one NATS cluster.
    pub servers: Vec<ServerAddr>,
    /// The beginning of all subjects: nodes of the same prefix are one cluster.
    pub prefix: String,
    /// Certificates that a server of a `tls:` URL is checked against, besides the system's.
    pub ca: Option<PathBuf>,
}

/// Why NATS cannot be used at all. That it is away is none: nodes wait for it.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// The library refuses.
    #[error("NATS cannot be used: {0}")]
    Refused(#[from] async_nats::ConnectError),
    /// The file holds no certificates.
    #[error("cannot read certificates in nats-ca {0}: {1}. It must be a PEM file that this user may read")]
    Ca(PathBuf, #[source] pem::Error),
}

impl Nats {
    /// Looks whether its files can be used, so that a server that could never reach NATS does not start.
    pub(crate) fn check(&self) -> Result<(), NatsError> {
        let Some(ca) = &self.ca else { return Ok(()) };
        let bad = |error| NatsError::Ca(ca.clone(), error);
        let mut found = CertificateDer::pem_file_iter(ca).map_err(bad)?;
        match found.next() {
            None => Err(bad(pem::Error::NoItemsFound)),
            Some(first) => first.and_then(|_| found.try_for_each(|next| next.map(drop))).map_err(bad),
        }
    }
}

/// Carries what the hub has for other nodes, and hands it what they say, until the hub has left and all is sent.
pub(crate) async fn run(
    nats: Nats,
    hub: Arc<Hub>,
    bus: Arc<Bus>,
    mut letters: mpsc::Receiver<Letter>,
    stop: watch::Receiver<bool>,
) {
    let (events, state) = watch::channel(false);
    let client = match connect(&nats, events, Arc::clone(&bus)).await {
        Ok(client) => client,
        Err(error) => {
            warn!(%error, "this node goes on alone");
            return;
        }
    };
    let subjects = Subjects { prefix: nats.prefix };
    let mut tasks = JoinSet::new();
    for subject in [subjects.of(Told::Everyone), subjects.of(Told::Node(bus.own()))] {
        if let Ok(subscriber) = client.subscribe(subject).await {
            tasks.spawn(listen(subscriber, Arc::clone(&hub), Arc::clone(&bus)));
        }
    }
    tasks.spawn(follow(state, Arc::clone(&hub), Arc::clone(&bus)));
    let mut carrier = Carrier { client, subjects, hub, bus, watched: BTreeMap::new(), tasks };
    carrier.carry(&mut letters, stop).await;
}

async fn connect(nats: &Nats, events: watch::Sender<bool>, bus: Arc<Bus>) -> Result<Client, NatsError> {
    let mut options = ConnectOptions::new()
        .name("headwater-signal")
        .no_echo()
        .retry_on_initial_connect()
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_EVERY)
        .client_capacity(COMMANDS)
        .subscription_capacity(INCOMING)
        .reconnect_delay_callback(|attempts| {
            let pause = Duration::from_millis(100).saturating_mul(u32::try_from(attempts).unwrap_or(u32::MAX));
            pause.min(LONGEST_PAUSE)
        })
        .event_callback(move |event| {
            match event {
                Event::Connected => {
                    events.send_replace(true);
                }
                Event::Disconnected | Event::Closed => {
                    events.send_replace(false);
                }
                Event::SlowConsumer(_) => {
                    bus.counts.dropped.fetch_add(1, Ordering::Relaxed);
                }
                Event::ServerError(error) => warn!(%error, "NATS"),
                Event::ClientError(_) | Event::LameDuckMode | Event::Draining => {}
            }
            std::future::ready(())
        });
    if let Some(ca) = &nats.ca {
        options = options.add_root_certificates(ca.clone());
    }
    Ok(options.connect(nats.servers.clone()).await?)
}

/// Tells the hub when NATS comes and goes.
async fn follow(mut state: watch::Receiver<bool>, hub: Arc<Hub>, bus: Arc<Bus>) {
    // One that is there is found at once.
    if timeout(CONNECT_TIMEOUT, state.wait_for(|is_connected| *is_connected)).await.is_err() {
        warn!("NATS is not reached: this node goes on alone, pairs its own peers, and keeps trying");
    }
    loop {
        let is_connected = *state.borrow_and_update();
        if is_connected != bus.is_connected() {
            bus.set_connected(is_connected);
            hub.set_connected(is_connected);
            if is_connected {
                info!(node = %bus.own(), "NATS is reached: peers of other nodes are paired too");
            } else {
                warn!("NATS is lost: this node goes on alone, pairs its own peers, and keeps trying");
            }
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Hands the hub what comes on a subject.
async fn listen(mut subscriber: Subscriber, hub: Arc<Hub>, bus: Arc<Bus>) {
    while let Some(message) = subscriber.next().await {
        bus.counts.received.fetch_add(1, Ordering::Relaxed);
        if !hub.node_message(&message.payload) {
            bus.counts.unreadable.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Subjects {
    prefix: String,
}

impl Subjects {
    fn of(&self, to: Told) -> String {
        let prefix = &self.prefix;
        match to {
            Told::Everyone => format!("{prefix}.nodes"),
            Told::Node(node) => format!("{prefix}.node.{node}"),
            Told::Swarm(swarm) => format!("{prefix}.swarm.{swarm}"),
        }
    }
}

struct Carrier {
    client: Client,
    subjects: Subjects,
    hub: Arc<Hub>,
    bus: Arc<Bus>,
    watched: BTreeMap<SwarmHash, AbortHandle>,
    /// All end with this.
    tasks: JoinSet<()>,
}

impl Carrier {
    async fn carry(&mut self, letters: &mut mpsc::Receiver<Letter>, mut stop: watch::Receiver<bool>) {
        loop {
            let bus = Arc::clone(&self.bus);
            let letter = tokio::select! {
                letter = letters.recv() => letter,
                () = bus.watches_changed.notified() => None,
                // Ended ones are let go of.
                Some(_) = self.tasks.join_next() => None,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            // A swarm is listened to before its members are told of.
            self.watch().await;
            if let Some(letter) = letter {
                self.send(letter).await;
            }
        }
        let last_words = async {
            while let Ok(letter) = letters.try_recv() {
                self.send(letter).await;
            }
            let _ = self.client.flush().await;
        };
        let _ = timeout(LAST_WORDS, last_words).await;
    }

    async fn watch(&mut self) {
        for (swarm, is_wanted) in self.bus.take_watches() {
            if !is_wanted {
                // Its subscriber goes with the task, and unsubscribes.
                self.watched.remove(&swarm).inspect(AbortHandle::abort);
            } else if !self.watched.contains_key(&swarm)
                && let Ok(subscriber) = self.client.subscribe(self.subjects.of(Told::Swarm(swarm))).await
            {
                let listening = listen(subscriber, Arc::clone(&self.hub), Arc::clone(&self.bus));
                self.watched.insert(swarm, self.tasks.spawn(listening));
            }
        }
    }

    async fn send(&self, letter: Letter) {
        self.bus.took(&letter);
        let counts = &self.bus.counts;
        // What was said while NATS was away is of no use when it is back.
        let is_sent = self.bus.is_connected()
            && self.client.publish(self.subjects.of(letter.to), letter.bytes.into()).await.is_ok();
        let counter = if is_sent { &counts.sent } else { &counts.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
