//! The client of the signalling server: keeps one WebSocket to it, and comes back after every loss.
//!
//! Losing the server costs no data channel: the node hears of it and goes on. What it has to say meanwhile is dropped,
//! since sessions that were being set up through the lost connection are lost with it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use headwater_wire::limits::{MAX_SIGNAL_MESSAGE_LEN, MAX_WANT};
use headwater_wire::signal::{
    ClientMessage, ErrorCode, IceServer, SIGNAL_VERSION, ServerMessage, SignalData, StatsReport,
};
use headwater_wire::{PeerId, Role, SwarmName};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use url::Url;

use crate::backoff::{Backoff, jitter};

/// Events waiting for the node, and requests waiting for the server.
const QUEUE: usize = 256;

/// The first wait after a lost connection, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How long connecting and joining may take.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long leaving may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often to ask whether the server is still there; twice this without a word from it counts as a loss.
const PING_EVERY: Duration = Duration::from_secs(20);

/// What it takes to join a swarm.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The WebSocket URL of the signalling server.
    pub server: Url,
    /// The swarm.
    pub swarm: SwarmName,
    /// Viewer or seed.
    pub role: Role,
    /// Proof that the publisher lets this peer in, where the server asks for one.
    pub token: Option<String>,
    /// How many neighbours to ask for on joining.
    pub want: u16,
}

/// What the server said.
#[derive(Debug)]
pub enum SignallingEvent {
    /// This peer is a member now.
    Joined {
        /// Its name.
        peer: PeerId,
        /// STUN and TURN servers for its connections.
        ice_servers: Vec<IceServer>,
        /// How many peers the swarm has, this one included.
        swarm_size: u32,
    },
    /// Connect to this peer.
    Connect {
        /// Who.
        peer: PeerId,
        /// Whether this side makes the offer.
        offer: bool,
    },
    /// From a peer.
    Signal {
        /// Which.
        from: PeerId,
        /// What.
        data: SignalData,
    },
    /// A peer that was to be connected is not there any more.
    Gone {
        /// Which.
        peer: PeerId,
    },
    /// The connection is lost; the client tries again by itself.
    Lost,
}

/// What to tell the server.
#[derive(Debug)]
pub enum SignallingRequest {
    /// Pass this on.
    Signal {
        /// To whom.
        to: PeerId,
        /// What.
        data: SignalData,
    },
    /// Pair this peer with more others.
    Want(u16),
    /// The data channel to this peer closed or never opened.
    Lost(PeerId),
    /// What this peer carried.
    Stats(StatsReport),
}

/// The node's end of the client. The client leaves the swarm when it is dropped.
#[derive(Debug)]
pub struct Signalling {
    /// What the server says.
    pub events: mpsc::Receiver<SignallingEvent>,
    requests: mpsc::Sender<SignallingRequest>,
    connected: watch::Sender<Vec<PeerId>>,
    task: JoinHandle<()>,
}

impl Signalling {
    /// Starts the client.
    #[must_use]
    pub fn start(membership: Membership) -> Self {
        let (events_tx, events) = mpsc::channel(QUEUE);
        let (requests, requests_rx) = mpsc::channel(QUEUE);
        let (connected, connected_rx) = watch::channel(Vec::new());
        let client = Client {
            server: membership.server.clone(),
            membership,
            events: events_tx,
            requests: requests_rx,
            connected: connected_rx,
            resume: None,
        };
        let task = tokio::spawn(client.run());
        Self { events, requests, connected, task }
    }

    /// Leaves the swarm, and waits a moment for the server to hear of it.
    pub async fn leave(self) {
        let Self { events, requests, task, .. } = self;
        drop(requests);
        let _ = timeout(LEAVE_TIMEOUT, task).await;
        drop(events);
    }

    /// Tells the server something, or nothing where there is no room: it has been gone for long then.
    pub fn tell(&self, request: SignallingRequest) {
        if self.requests.try_send(request).is_err() {
            tracing::debug!("dropping a request to the signalling server");
        }
    }

    /// Says to whom a data channel is open, for when the client joins again.
    pub fn set_connected(&self, peers: Vec<PeerId>) {
        self.connected.send_replace(peers);
    }
}

/// Why a connection to the server ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Socket(#[from] Box<tungstenite::Error>),
    #[error("the server does not answer")]
    Silent,
    #[error("the server closed the connection")]
    Closed,
    #[error("the server does not speak this protocol: {0}")]
    Malformed(serde_json::Error),
    #[error("the server refused: {message} ({code:?})")]
    Refused { code: ErrorCode, message: String },
    #[error("the server stops")]
    Drained { url: Option<String>, after: Duration },
    #[error("this peer leaves")]
    Leaving,
}

impl From<tungstenite::Error> for Lost {
    fn from(error: tungstenite::Error) -> Self {
        Self::Socket(Box::new(error))
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Client {
    membership: Membership,
    /// Where to join next: the membership's server, or the one that a draining server named.
    server: Url,
    events: mpsc::Sender<SignallingEvent>,
    requests: mpsc::Receiver<SignallingRequest>,
    connected: watch::Receiver<Vec<PeerId>>,
    resume: Option<String>,
}

impl Client {
    async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let mut joined = false;
            let Err(lost) = self.attend(&mut joined).await else { return };
            if joined {
                backoff.reset();
                if self.events.send(SignallingEvent::Lost).await.is_err() {
                    return;
                }
            }
            let delay = match &lost {
                Lost::Leaving => return,
                Lost::Drained { url, after } => {
                    if let Some(url) = url.as_deref().and_then(|url| Url::parse(url).ok()) {
                        self.server = url;
                    }
                    jitter(*after, *after + RETRY.0)
                }
                _ => backoff.next_delay(),
            };
            if !joined && !matches!(lost, Lost::Drained { .. }) {
                // The server that a drained one named may be the wrong one to insist on.
                self.server = self.membership.server.clone();
            }
            tracing::warn!(server = %self.server, error = %lost, retry_in_ms = delay.as_millis() as u64, "no signalling");
            sleep(delay).await;
            // These were about sessions of the lost connection.
            while self.requests.try_recv().is_ok() {}
            if self.events.is_closed() {
                return;
            }
        }
    }

    /// One connection, from joining until it is lost.
    async fn attend(&mut self, joined: &mut bool) -> Result<(), Lost> {
        let mut socket = timeout(JOIN_TIMEOUT, self.join()).await.map_err(|_| Lost::Silent)??;
        let mut ping = interval(PING_EVERY);
        let mut heard = true;
        loop {
            tokio::select! {
                message = socket.next() => {
                    heard = true;
                    match message.ok_or(Lost::Closed)?? {
                        Message::Text(text) => {
                            let message = serde_json::from_str(text.as_str()).map_err(Lost::Malformed)?;
                            *joined |= matches!(message, ServerMessage::Welcome { .. });
                            self.hear(message).await?;
                        }
                        Message::Close(_) => return Err(Lost::Closed),
                        _ => {}
                    }
                }
                request = self.requests.recv() => {
                    let Some(request) = request else {
                        let _ = send(&mut socket, &ClientMessage::Leave).await;
                        let _ = socket.close(None).await;
                        return Err(Lost::Leaving);
                    };
                    if *joined {
                        send(&mut socket, &message_of(request)).await?;
                    }
                }
                _ = ping.tick() => {
                    if !std::mem::take(&mut heard) {
                        return Err(Lost::Silent);
                    }
                    socket.send(Message::Ping(bytes::Bytes::new())).await?;
                }
            }
        }
    }

    async fn join(&self) -> Result<Socket, Lost> {
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_SIGNAL_MESSAGE_LEN))
            .max_frame_size(Some(MAX_SIGNAL_MESSAGE_LEN));
        let (mut socket, _) = connect_async_with_config(self.server.as_str(), Some(limits), true).await?;
        let join = ClientMessage::Join {
            version: SIGNAL_VERSION,
            swarm: self.membership.swarm.clone(),
            role: self.membership.role,
            token: self.membership.token.clone(),
            want: self.membership.want.min(MAX_WANT),
            resume: self.resume.clone(),
            connected: self.connected.borrow().clone(),
            position_s: None,
        };
        send(&mut socket, &join).await?;
        Ok(socket)
    }

    async fn hear(&mut self, message: ServerMessage) -> Result<(), Lost> {
        let event = match message {
            ServerMessage::Welcome { peer, resume, ice_servers, swarm_size } => {
                self.resume = Some(resume);
                SignallingEvent::Joined { peer, ice_servers, swarm_size }
            }
            ServerMessage::Connect { peer, offer, .. } => SignallingEvent::Connect { peer, offer },
            ServerMessage::Signal { from, data } => SignallingEvent::Signal { from, data },
            ServerMessage::Gone { peer } => SignallingEvent::Gone { peer },
            ServerMessage::Drain { url, after_ms } => {
                return Err(Lost::Drained { url, after: Duration::from_millis(u64::from(after_ms)) });
            }
            // Every code closes the connection by now; were there one that does not, the server would go on.
            ServerMessage::Error { code, message } => return Err(Lost::Refused { code, message }),
        };
        self.events.send(event).await.map_err(|_| Lost::Leaving)
    }
}

fn message_of(request: SignallingRequest) -> ClientMessage {
    match request {
        SignallingRequest::Signal { to, data } => ClientMessage::Signal { to, data },
        SignallingRequest::Want(count) => ClientMessage::Want { count: count.min(MAX_WANT) },
        SignallingRequest::Lost(peer) => ClientMessage::Lost { peer },
        SignallingRequest::Stats(report) => ClientMessage::Stats { report },
    }
}

async fn send(socket: &mut Socket, message: &ClientMessage) -> Result<(), Lost> {
    let text = serde_json::to_string(message).map_err(Lost::Malformed)?;
    socket.send(Message::text(text)).await?;
    Ok(())
}
