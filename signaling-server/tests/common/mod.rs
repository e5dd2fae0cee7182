//! A server in this process and clients that speak to it over real sockets.
// Not every test file uses all of it, and a test may panic.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod tokens;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use headwater_signal::{Options, Server};
use headwater_wire::signal::{ClientMessage, ErrorCode, SIGNAL_VERSION, ServerMessage, SignalData};
use headwater_wire::{PeerId, Role, SwarmName};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longer than anything here takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct TestServer {
    pub addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(([127, 0, 0, 1], 0).into()).unwrap();
        change(&mut options);
        let server = Server::bind(options).await.unwrap();
        let addr = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self { addr, stop: Some(stop), running }
    }

    pub fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub async fn stopped(self) {
        tokio::time::timeout(PATIENCE, self.running).await.expect("the server stops").unwrap();
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.addr, "/v1/signal").await
    }

    /// A client that has joined.
    pub async fn join(&self, swarm: &str, role: Role, want: u16) -> Client {
        self.join_as(join(swarm, role, want)).await
    }

    pub async fn join_as(&self, join: ClientMessage) -> Client {
        Client::join_as(self.addr, join).await
    }
}

pub fn join(swarm: &str, role: Role, want: u16) -> ClientMessage {
    ClientMessage::Join {
        version: SIGNAL_VERSION,
        swarm: SwarmName::new(swarm).unwrap(),
        role,
        token: None,
        want,
        resume: None,
        connected: Vec::new(),
        position_s: None,
    }
}

pub fn offer(sdp: &str) -> SignalData {
    SignalData::Offer { sdp: sdp.to_owned() }
}

pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub peer: PeerId,
    pub resume: String,
    pub swarm_size: u32,
}

impl Client {
    pub async fn connect(addr: SocketAddr, path: &str) -> Self {
        let (socket, _) = connect_async(format!("ws://{addr}{path}")).await.unwrap();
        Self { socket, peer: PeerId(0), resume: String::new(), swarm_size: 0 }
    }

    /// One that has joined.
    pub async fn join_as(addr: SocketAddr, join: ClientMessage) -> Self {
        let mut client = Self::connect(addr, "/v1/signal").await;
        client.send(&join).await;
        match client.next().await {
            ServerMessage::Welcome { peer, resume, swarm_size, .. } => {
                client.peer = peer;
                client.resume = resume;
                client.swarm_size = swarm_size;
            }
            other => panic!("expected a welcome, got {other:?}"),
        }
        client
    }

    pub async fn next_json(&mut self) -> serde_json::Value {
        match self.next_frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("expected a message, got {other:?}"),
        }
    }

    pub async fn send(&mut self, message: &ClientMessage) {
        self.send_text(serde_json::to_string(message).unwrap()).await;
    }

    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    pub async fn signal(&mut self, to: PeerId, data: SignalData) {
        self.send(&ClientMessage::Signal { to, data }).await;
    }

    /// The next frame that is not a ping or pong; None once the socket is gone.
    pub async fn next_frame(&mut self) -> Option<Message> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the server says something");
            match next {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                None | Some(Err(Error::ConnectionClosed | Error::Protocol(_) | Error::Io(_))) => return None,
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }

    pub async fn next(&mut self) -> ServerMessage {
        match self.next_frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// The next message, which must be a `connect`.
    pub async fn next_connect(&mut self) -> (PeerId, bool, Role) {
        match self.next().await {
            ServerMessage::Connect { peer, offer, role } => (peer, offer, role),
            other => panic!("expected a connect, got {other:?}"),
        }
    }

    /// The server must refuse with this code and close.
    pub async fn expect_refusal(&mut self, expected: ErrorCode) {
        match self.next().await {
            ServerMessage::Error { code, message } => {
                assert_eq!(code, expected, "{message}");
                assert!(!message.is_empty());
            }
            other => panic!("expected {expected:?}, got {other:?}"),
        }
        match self.next_frame().await {
            Some(Message::Close(Some(frame))) => assert_ne!(frame.code, CloseCode::Normal),
            other => panic!("expected a close frame, got {other:?}"),
        }
        assert_eq!(self.next_frame().await, None);
    }

    /// Proves that the server is done with everything this client sent before: an answer to a signal to nobody.
    pub async fn flush(&mut self) {
        let nobody = PeerId(u64::MAX);
        self.signal(nobody, offer("")).await;
        assert_eq!(self.next().await, ServerMessage::Gone { peer: nobody });
    }
}

/// Waits until a line of the metrics has a value that will do.
pub async fn until_metric(server: &TestServer, name: &str, will_do: impl Fn(u64) -> bool) {
    let seen = async {
        loop {
            let page = http_get(server, "/metrics").await;
            let value = page.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim().parse().unwrap();
            if will_do(value) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, seen).await.is_err() {
        panic!("{name} stays as it is: {}", http_get(server, "/metrics").await);
    }
}

/// The whole answer to a GET, as text.
pub async fn http_get(server: &TestServer, path: &str) -> String {
    http_get_with(server, path, "").await
}

/// The same with more header lines, each with its line end.
pub async fn http_get_with(server: &TestServer, path: &str, headers: &str) -> String {
    http_get_from(server.addr, path, headers).await
}

/// The same from any address.
pub async fn http_get_from(addr: SocketAddr, path: &str, headers: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}
