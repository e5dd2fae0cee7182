//! One WebSocket: reads messages, writes what its outbox holds, keeps it alive and ends it properly.
//!
//! Everything is done in one poll: what can be read is read into a buffer of the thread and handled, then what that and
//! others left in the outbox is written with one call. A connection that waits holds no buffer.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use headwater_rendezvous::tracker::Message as TrackerMessage;
use headwater_rendezvous::{Input, RateLimit};
use headwater_wire::limits::MAX_SIGNAL_MESSAGE_LEN;
use headwater_wire::signal::{ClientMessage, ErrorCode, ServerMessage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::{debug, trace};

use crate::hub::{Place, Protocol};
use crate::json;
use crate::net::Stream;
use crate::options::Timing;
use crate::outbox::Ending;
use crate::ws::{self, Decoder, FrameError, Incoming};

/// A client that takes longer to read what is written to it is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a closed connection is still read, so that the client gets the last message before the socket goes.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Reads of a closed connection in that time.
const CLOSE_READS: usize = 1024;

/// Characters of a parser's complaint that are sent back.
const MAX_COMPLAINT_LEN: usize = 200;

/// What is read at once. One buffer a thread.
const READ_CHUNK: usize = 64 * 1024;

/// Reads of one connection before the others have their turn.
const READS_A_TURN: usize = 4;

/// Largest message that is read at all. Four times what the native protocol allows, so that a client somewhat above that
/// can be told so; a tracker's announce with twenty large offers fits.
const MAX_MESSAGE: usize = 4 * MAX_SIGNAL_MESSAGE_LEN;

thread_local! {
    static CHUNK: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_CHUNK].into_boxed_slice());
}

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

/// How one connection is served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Serving {
    pub(crate) timing: Timing,
    pub(crate) rate: headwater_rendezvous::Rate,
}

/// Serves a connection until it ends; `first` is what was read with the handshake. The hub forgets it in any case.
/// `_open` is dropped last: the server waits for it when it stops.
pub(crate) async fn serve(
    place: Place,
    stream: Stream,
    first: Vec<u8>,
    serving: Serving,
    _open: watch::Receiver<bool>,
) {
    let conn = place.conn.0;
    let protocol = place.protocol;
    let mut connection = Connection::new(place, stream, serving);
    let early = if first.is_empty() { None } else { connection.feed(&mut { first }) };
    let end = match early {
        Some(end) => end,
        None => std::future::poll_fn(|cx| connection.poll(cx)).await,
    };
    debug!(conn, ?end, "signalling connection ends");
    let Connection { place, stream, mut writing, written, .. } = connection;
    // Whatever was answered before the end still goes out.
    let mut queued = Vec::new();
    place.outbox.take(&mut queued, Waker::noop());
    writing.append(&mut queued);
    // The core should not pair this peer any more while its socket is being closed.
    drop(place);
    let unwritten = writing.get(written..).unwrap_or_default();
    let _ = timeout(WRITE_TIMEOUT, finish(stream, protocol, unwritten, end)).await;
}

struct Connection {
    place: Place,
    stream: Stream,
    decoder: Decoder,
    rate: RateLimit,
    timing: Timing,
    heard: Instant,
    ping_at: Instant,
    /// Since when nothing could be written although there was something.
    stalled: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// Frames taken from the outbox, and how much of them is out.
    writing: Vec<u8>,
    written: usize,
}

impl Connection {
    fn new(place: Place, stream: Stream, serving: Serving) -> Self {
        let Serving { timing, rate } = serving;
        let now = Instant::now();
        let ping_at = now + timing.ping_every;
        Self {
            rate: RateLimit::new(place.at(now), rate),
            place,
            stream,
            decoder: Decoder::new(MAX_MESSAGE),
            timing,
            heard: now,
            ping_at,
            stalled: None,
            timer: Box::pin(sleep_until(ping_at)),
            writing: Vec::new(),
            written: 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.on_timer() {
                return Poll::Ready(End::Gone);
            }
        }
        if let Some(end) = self.read(cx) {
            return Poll::Ready(end);
        }
        self.write(cx)
    }

    /// Pings and looks whether the client still lives; true where it does not.
    fn on_timer(&mut self) -> bool {
        let now = Instant::now();
        let silent_at = self.heard + self.timing.silence;
        let stuck_at = self.stalled.map(|since| since + WRITE_TIMEOUT);
        if now >= silent_at || stuck_at.is_some_and(|at| now >= at) {
            return true;
        }
        if now >= self.ping_at {
            self.ping_at = now + self.timing.ping_every;
            // Behind what is under way. One that does not read would only collect pings.
            if self.stalled.is_none() {
                ws::write_ping(&mut self.writing);
            }
        }
        let next = self.ping_at.min(silent_at).min(stuck_at.unwrap_or(silent_at));
        self.timer.as_mut().reset(next);
        false
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Option<End> {
        for _ in 0..READS_A_TURN {
            let read = CHUNK.with_borrow_mut(|chunk| {
                let mut buffer = ReadBuf::new(chunk);
                match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(_)) => Poll::Ready(Some(End::Gone)),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Some(End::Gone)),
                    Poll::Ready(Ok(())) => Poll::Ready(self.feed(buffer.filled_mut())),
                }
            });
            match read {
                Poll::Pending => return None,
                Poll::Ready(Some(end)) => return Some(end),
                Poll::Ready(None) => {}
            }
        }
        // There may be more, but others wait.
        cx.waker().wake_by_ref();
        None
    }

    fn feed(&mut self, bytes: &mut [u8]) -> Option<End> {
        let now = Instant::now();
        let Self { place, decoder, rate, heard, writing, .. } = self;
        let mut end = None;
        let fed = decoder.feed(bytes, |incoming| {
            *heard = now;
            end = if rate.allow(place.at(now)) { take(place, writing, &incoming) } else { Some(too_many()) };
            end.is_none()
        });
        end.or_else(|| fed.err().map(unreadable))
    }

    /// Writes what waits, with one call where the socket takes it all.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if self.written == self.writing.len() {
                // Given back at once: an idle connection holds no buffer.
                self.writing = Vec::new();
                self.written = 0;
            }
            let ending = self.place.outbox.take(&mut self.writing, cx.waker());
            if ending == Some(Ending::GiveUp) {
                return Poll::Ready(End::Gone);
            }
            let waiting = self.writing.get(self.written..).unwrap_or_default();
            if waiting.is_empty() {
                // With TLS, the last of it may still be in rustls's own buffer.
                return match (Pin::new(&mut self.stream).poll_flush(cx), ending) {
                    (Poll::Ready(Err(_)), _) => Poll::Ready(End::Gone),
                    (Poll::Ready(Ok(())), Some(Ending::Close(code))) => Poll::Ready(End::Close(code)),
                    (Poll::Ready(Ok(())), Some(Ending::Drain)) => Poll::Ready(End::Drain),
                    (Poll::Ready(Ok(())), _) => {
                        self.stalled = None;
                        Poll::Pending
                    }
                    (Poll::Pending, _) => self.stall(),
                };
            }
            match Pin::new(&mut self.stream).poll_write(cx, waiting) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.written += count;
                    self.stalled = None;
                }
                Poll::Ready(_) => return Poll::Ready(End::Gone),
                Poll::Pending => return self.stall(),
            }
        }
    }

    fn stall(&mut self) -> Poll<End> {
        if self.stalled.is_none() {
            let now = Instant::now();
            self.stalled = Some(now);
            let stuck_at = now + WRITE_TIMEOUT;
            if stuck_at < self.timer.deadline() {
                self.timer.as_mut().reset(stuck_at);
            }
        }
        Poll::Pending
    }
}

/// Handles one message or control frame.
fn take(place: &Place, writing: &mut Vec<u8>, incoming: &Incoming<'_>) -> Option<End> {
    match (incoming, place.protocol) {
        (Incoming::Text(text), Protocol::Native) => native(place, text),
        (Incoming::Text(text), Protocol::Tracker) => tracker(place, text),
        (Incoming::Binary(bytes), Protocol::Tracker) => match std::str::from_utf8(bytes) {
            Ok(text) => tracker(place, text),
            Err(_) => Some(unreadable(FrameError::Utf8)),
        },
        (Incoming::Binary(_), Protocol::Native) => {
            Some(End::Refuse(ErrorCode::BadMessage, "messages are JSON in text frames, not binary".to_owned()))
        }
        (Incoming::Close, _) => Some(End::Close(None)),
        (Incoming::Ping(payload), _) => {
            // Behind whatever is being written. The rate limit bounds them, and one that reads nothing is cut off.
            ws::write_pong(writing, payload);
            None
        }
        // Being heard is all that it is for.
        (Incoming::Pong, _) => None,
    }
}

fn native(place: &Place, text: &str) -> Option<End> {
    if text.len() > MAX_SIGNAL_MESSAGE_LEN {
        return Some(too_large());
    }
    if json::is_too_deep(text) {
        return Some(End::Refuse(ErrorCode::BadMessage, "the message is nested too deep".to_owned()));
    }
    match serde_json::from_str::<ClientMessage>(text) {
        Ok(message) => {
            trace!(conn = place.conn.0, len = text.len(), "message");
            place.input(Input::Message { conn: place.conn, message });
            None
        }
        Err(error) => Some(End::Refuse(ErrorCode::BadMessage, complaint(&error))),
    }
}

fn tracker(place: &Place, text: &str) -> Option<End> {
    if json::is_too_deep(text) {
        place.tracker_refusal(None, "the message is nested too deep");
        return None;
    }
    place.tracker_message(TrackerMessage::read(text));
    None
}

fn too_many() -> End {
    End::Refuse(ErrorCode::RateLimited, "too many messages: slow down and join again".to_owned())
}

fn too_large() -> End {
    End::Refuse(ErrorCode::TooLarge, format!("a message has at most {MAX_SIGNAL_MESSAGE_LEN} bytes"))
}

fn unreadable(error: FrameError) -> End {
    match error {
        FrameError::TooLarge => too_large(),
        FrameError::Utf8 => End::Refuse(ErrorCode::BadMessage, error.to_string()),
        FrameError::Protocol => End::Gone,
    }
}

fn complaint(error: &serde_json::Error) -> String {
    format!("not a message of this protocol: {error}").chars().take(MAX_COMPLAINT_LEN).collect()
}

/// Says the last words and closes: the message, the close frame, then reading on for a moment, because a socket that
/// is dropped with unread bytes may take the last words with it.
async fn finish(mut stream: Stream, protocol: Protocol, unwritten: &[u8], end: End) -> io::Result<()> {
    let (words, code, reason) = match end {
        End::Gone => return Ok(()),
        End::Close(None) => (None, NORMAL, String::new()),
        End::Close(Some(code)) => (None, close_code(code), name(code)),
        End::Refuse(code, message) => (last_words(protocol, code, message), close_code(code), name(code)),
        End::Drain => (None, GOING_AWAY, "drain".to_owned()),
    };
    let mut bytes = unwritten.to_vec();
    if let Some(text) = words {
        ws::write_text(&mut bytes, &text);
    }
    ws::write_close(&mut bytes, code, &reason);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    let _ = timeout(CLOSE_WAIT, read_on(&mut stream)).await;
    stream.shutdown().await
}

/// Reads until the client has closed too. Its close frame is not waited for: a client that has it closes its socket.
async fn read_on(stream: &mut Stream) {
    let mut decoder = Decoder::new(MAX_MESSAGE);
    let mut chunk = [0; 1024];
    for _ in 0..CLOSE_READS {
        let Ok(count @ 1..) = stream.read(&mut chunk).await else { return };
        let mut closed = false;
        let fed = decoder.feed(&mut chunk[..count], |incoming| {
            closed = incoming == Incoming::Close;
            !closed
        });
        if closed || fed.is_err() {
            return;
        }
    }
}

fn last_words(protocol: Protocol, code: ErrorCode, message: String) -> Option<String> {
    let words = match protocol {
        Protocol::Native => serde_json::to_string(&ServerMessage::Error { code, message }),
        Protocol::Tracker => {
            serde_json::to_string(&serde_json::json!({ "action": "announce", "failure reason": message }))
        }
    };
    words.ok()
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
