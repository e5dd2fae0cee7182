//! One WebSocket: reads messages, writes what the hub queued, keeps it alive and ends it properly.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt;
use headwater_rendezvous::{Input, RateLimit};
use headwater_wire::limits::MAX_SIGNAL_MESSAGE_LEN;
use headwater_wire::signal::{ClientMessage, ErrorCode, ServerMessage};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite;
use tracing::{debug, trace};

use crate::hub::{Hub, Inbox, Outgoing};
use crate::options::Timing;

/// A client that takes longer to read what is written to it is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a closed connection is still read, so that the client gets the last message before the socket goes.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Frames read and dropped in that time.
const CLOSE_FRAMES: usize = 1024;

/// Characters of a parser's complaint that are sent back.
const MAX_COMPLAINT_LEN: usize = 200;

/// A drained peer waits a random part of this before it joins elsewhere, so that not all come at once.
const DRAIN_SPREAD_MS: u64 = 10_000;

/// What ends a conversation.
#[derive(Debug)]
enum End {
    /// The socket is gone or unusable.
    Gone,
    /// Send what is there, then the close frame.
    Close(Option<ErrorCode>),
    /// As above, after this error.
    Refuse(ErrorCode, String),
    /// The server stops.
    Drain,
}

/// Serves a connection until it ends. The hub forgets it in any case.
pub(crate) async fn serve(
    hub: &Hub,
    inbox: Inbox,
    mut socket: WebSocket,
    timing: Timing,
    mut drain: watch::Receiver<bool>,
) {
    let conn = inbox.conn.0;
    let given_up = inbox.given_up();
    let conversation = async {
        let mut connection = Connection::new(hub, inbox, timing);
        let end = connection.talk(&mut socket, &mut drain).await;
        debug!(conn, ?end, "signalling connection ends");
        // The core should not pair this peer any more while its socket is being closed.
        drop(connection);
        let _ = timeout(WRITE_TIMEOUT, finish(&mut socket, end)).await;
    };
    tokio::select! {
        () = conversation => {}
        () = given_up => {}
    }
}

struct Connection<'a> {
    hub: &'a Hub,
    inbox: Inbox,
    rate: RateLimit,
    timing: Timing,
    heard: Instant,
}

impl<'a> Connection<'a> {
    fn new(hub: &'a Hub, inbox: Inbox, timing: Timing) -> Self {
        Self { hub, inbox, rate: RateLimit::new(hub.now()), timing, heard: Instant::now() }
    }

    async fn talk(&mut self, socket: &mut WebSocket, drain: &mut watch::Receiver<bool>) -> End {
        let mut ping = tokio::time::interval_at(Instant::now() + self.timing.ping_every, self.timing.ping_every);
        loop {
            let silent_at = self.heard + self.timing.silence;
            tokio::select! {
                outgoing = self.inbox.next() => {
                    let Some(outgoing) = outgoing else { return End::Gone };
                    match timeout(WRITE_TIMEOUT, self.write(socket, outgoing)).await {
                        Ok(None) => {}
                        Ok(Some(end)) => return end,
                        Err(_) => return End::Gone,
                    }
                }
                incoming = socket.recv() => {
                    if let Some(end) = self.read(incoming) {
                        return end;
                    }
                }
                _ = ping.tick() => {
                    let sent = timeout(WRITE_TIMEOUT, socket.send(Message::Ping(bytes::Bytes::new()))).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        return End::Gone;
                    }
                }
                () = tokio::time::sleep_until(silent_at) => return End::Gone,
                () = draining(drain) => return End::Drain,
            }
        }
    }

    /// Writes everything that is queued, with one flush for all of it.
    async fn write(&mut self, socket: &mut WebSocket, first: Outgoing) -> Option<End> {
        let mut next = Some(first);
        while let Some(outgoing) = next {
            match outgoing {
                Outgoing::Text(text) => {
                    if socket.feed(Message::Text(text.into())).await.is_err() {
                        return Some(End::Gone);
                    }
                }
                Outgoing::Close(code) => return Some(End::Close(code)),
            }
            next = self.inbox.try_next();
        }
        socket.flush().await.err().map(|_| End::Gone)
    }

    fn read(&mut self, incoming: Option<Result<Message, axum::Error>>) -> Option<End> {
        let message = match incoming {
            None => return Some(End::Gone),
            Some(Ok(message)) => message,
            Some(Err(error)) => return Some(unreadable(error)),
        };
        self.heard = Instant::now();
        if !self.rate.allow(self.hub.now()) {
            return Some(End::Refuse(ErrorCode::RateLimited, "too many messages: slow down and join again".to_owned()));
        }
        match message {
            Message::Text(text) if text.len() > MAX_SIGNAL_MESSAGE_LEN => Some(too_large()),
            Message::Text(text) => match serde_json::from_str::<ClientMessage>(&text) {
                Ok(message) => {
                    trace!(conn = self.inbox.conn.0, len = text.len(), "message");
                    self.inbox.input(Input::Message { conn: self.inbox.conn, message });
                    None
                }
                Err(error) => Some(End::Refuse(ErrorCode::BadMessage, complaint(&error))),
            },
            Message::Binary(_) => {
                Some(End::Refuse(ErrorCode::BadMessage, "messages are JSON in text frames, not binary".to_owned()))
            }
            Message::Close(_) => Some(End::Close(None)),
            // Pings are answered below this layer; being heard is all that pongs are for.
            Message::Ping(_) | Message::Pong(_) => None,
        }
    }
}

/// Resolves when the server stops.
async fn draining(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
}

fn too_large() -> End {
    End::Refuse(ErrorCode::TooLarge, format!("a message has at most {MAX_SIGNAL_MESSAGE_LEN} bytes"))
}

fn unreadable(error: axum::Error) -> End {
    match error.into_inner().downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => too_large(),
        Some(tungstenite::Error::Utf8(_)) => End::Refuse(ErrorCode::BadMessage, "text must be UTF-8".to_owned()),
        _ => End::Gone,
    }
}

fn complaint(error: &serde_json::Error) -> String {
    format!("not a message of this protocol: {error}").chars().take(MAX_COMPLAINT_LEN).collect()
}

/// Says the last words and closes: the message, the close frame, then reading on for a moment, because a socket that
/// is dropped with unread bytes may take the last words with it.
async fn finish(socket: &mut WebSocket, end: End) {
    let (words, code, reason) = match end {
        End::Gone => return,
        End::Close(None) => (None, NORMAL, String::new()),
        End::Close(Some(code)) => (None, close_code(code), name(code)),
        End::Refuse(code, message) => (Some(ServerMessage::Error { code, message }), close_code(code), name(code)),
        End::Drain => (Some(drain_message()), GOING_AWAY, "drain".to_owned()),
    };
    if let Some(text) = words.and_then(|words| serde_json::to_string(&words).ok())
        && socket.feed(Message::Text(text.into())).await.is_err()
    {
        return;
    }
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    if socket.send(close).await.is_err() {
        return;
    }
    let _ = timeout(CLOSE_WAIT, async {
        for _ in 0..CLOSE_FRAMES {
            if !matches!(socket.recv().await, Some(Ok(_))) {
                break;
            }
        }
    })
    .await;
}

fn drain_message() -> ServerMessage {
    // Without randomness everyone waits the whole time: late, but not wrong.
    let draw = getrandom::u64().unwrap_or(u64::MAX);
    let after_ms = u32::try_from(draw % (DRAIN_SPREAD_MS + 1)).unwrap_or(0);
    ServerMessage::Drain { url: None, after_ms }
}

const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;

/// The WebSocket close code (RFC 6455, section 7.4.1) nearest to an error.
const fn close_code(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::BadMessage | ErrorCode::Version | ErrorCode::NotJoined | ErrorCode::Unauthorised => 1008,
        ErrorCode::TooLarge => 1009,
        ErrorCode::Internal => 1011,
        ErrorCode::RateLimited | ErrorCode::Full => 1013,
    }
}

/// The error's name as it stands in the JSON.
fn name(code: ErrorCode) -> String {
    serde_json::to_value(code).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
