//! One WebSocket: reads messages, writes what its outbox holds, keeps it alive and ends it properly.
//!
//! Everything is done in one poll: what can be read is read into a buffer of the thread and handled, then what that and
//! others left in the outbox is written with one call. A connection that waits holds no buffer.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use headwater_rendezvous::tracker::{Intent, Message as TrackerMessage};
use headwater_rendezvous::{Now, RateLimit};
use headwater_wire::limits::MAX_SIGNAL_MESSAGE_LEN;
use headwater_wire::signal::{ClientMessage, ErrorCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::{debug, trace};

use crate::admission::{AddressPlace, Admission, Pass};
use crate::closing::{End, complaint, finish, too_large, too_many, unreadable};
use crate::hub::{Place, Protocol};
use crate::json;
use crate::metrics::Metrics;
use crate::net::Stream;
use crate::options::{Limits, Timing};
use crate::outbox::Ending;
use crate::ws::{self, Decoder, FrameError, Incoming};

/// What is read at once. One buffer a thread.
const READ_CHUNK: usize = 64 * 1024;

/// Reads of one connection before the others have their turn.
const READS_A_TURN: usize = 4;

/// Largest message that is read at all. Four times what the native protocol allows, so that a client somewhat above that
/// can be told so; a tracker's announce with twenty large offers fits.
pub(crate) const MAX_MESSAGE: usize = 4 * MAX_SIGNAL_MESSAGE_LEN;

thread_local! {
    static CHUNK: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_CHUNK].into_boxed_slice());
}

/// Who is served, and what is known of them.
pub(crate) struct Guest {
    pub(crate) place: Place,
    pub(crate) admission: Arc<Admission>,
    /// The token in a tracker's URL.
    pub(crate) pass: Option<Arc<Pass>>,
    /// Whether a tracker's client has named a swarm.
    pub(crate) has_announced: bool,
    /// Counted with its address while it is here.
    pub(crate) address: AddressPlace,
    /// Its room among all connections.
    pub(crate) seat: OwnedSemaphorePermit,
    pub(crate) metrics: Arc<Metrics>,
    /// Dropped last: the server waits for it when it stops.
    pub(crate) open: watch::Receiver<bool>,
}

/// How connections are served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Serving {
    pub(crate) timing: Timing,
    pub(crate) limits: Limits,
    /// Most offers of one announce that are passed on.
    pub(crate) max_offers: usize,
}

/// Serves a connection until it ends; `first` is what was read with the handshake. The hub forgets it in any case.
pub(crate) async fn serve(guest: Guest, stream: Stream, first: Vec<u8>, serving: Serving) {
    let conn = guest.place.conn.0;
    let protocol = guest.place.protocol;
    let mut connection = Connection::new(guest, stream, serving);
    let early = if first.is_empty() { None } else { connection.feed(&mut { first }, Instant::now()) };
    let end = match early {
        Some(end) => end,
        None => std::future::poll_fn(|cx| connection.poll(cx)).await,
    };
    debug!(conn, ?end, "signalling connection ends");
    let Connection { guest, stream, mut writing, written, timing, .. } = connection;
    let Guest { place, address, seat, metrics, open, .. } = guest;
    metrics.closed(end.reason());
    // Whatever was answered before the end still goes out.
    let mut queued = Vec::new();
    place.outbox.take(&mut queued, Waker::noop());
    writing.append(&mut queued);
    // The core should not pair this peer any more while its socket is being closed.
    drop(place);
    let unwritten = writing.get(written..).unwrap_or_default();
    let _ = timeout(timing.stuck, finish(stream, protocol, unwritten, end)).await;
    drop((address, seat, open));
}

struct Connection {
    guest: Guest,
    stream: Stream,
    decoder: Decoder,
    messages: RateLimit,
    bytes: RateLimit,
    offers: RateLimit,
    max_offers: usize,
    timing: Timing,
    heard: Instant,
    /// Until when a tracker's client has to announce something.
    announce_by: Option<Instant>,
    ping_at: Instant,
    /// Since when nothing could be written although there was something.
    stalled: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// Whether the timer knows whom to wake.
    is_set: bool,
    /// Frames taken from the outbox, and how much of them is out.
    writing: Vec<u8>,
    written: usize,
}

impl Connection {
    fn new(guest: Guest, stream: Stream, serving: Serving) -> Self {
        let Serving { timing, limits, max_offers } = serving;
        let now = Instant::now();
        let ping_at = now + timing.ping_every;
        let announce_by = (guest.place.protocol == Protocol::Tracker).then(|| now + timing.first_announce);
        let bucket = |rate| RateLimit::new(guest.place.at(now), rate);
        Self {
            messages: bucket(limits.messages),
            bytes: bucket(limits.bytes),
            offers: bucket(limits.offers),
            guest,
            stream,
            decoder: Decoder::new(MAX_MESSAGE),
            max_offers,
            timing,
            heard: now,
            announce_by,
            ping_at,
            stalled: None,
            timer: Box::pin(sleep_until(announce_by.map_or(ping_at, |by| by.min(ping_at)))),
            is_set: false,
            writing: Vec::new(),
            written: 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let now = Instant::now();
        // The timer knows this task from when it was set: it is asked again only when it is due.
        if !self.is_set || now >= self.timer.deadline() {
            self.is_set = true;
            while self.timer.as_mut().poll(cx).is_ready() {
                if let Some(end) = self.on_timer(now) {
                    return Poll::Ready(end);
                }
            }
        }
        if let Some(end) = self.read(cx, now) {
            return Poll::Ready(end);
        }
        self.write(cx)
    }

    /// Pings and looks whether the client still lives and wants something; the end where it does not.
    fn on_timer(&mut self, now: Instant) -> Option<End> {
        let silent_at = self.heard + self.timing.silence;
        let stuck_at = self.stalled.map(|since| since + self.timing.stuck);
        if now >= silent_at || stuck_at.is_some_and(|at| now >= at) {
            return Some(End::Gone);
        }
        self.announce_by = self.announce_by.filter(|_| !self.guest.has_announced);
        if self.announce_by.is_some_and(|by| now >= by) {
            return Some(End::Refuse(ErrorCode::NotJoined, "nothing was announced: announce, then wait".to_owned()));
        }
        if now >= self.ping_at {
            self.ping_at = now + self.timing.ping_every;
            // Behind what is under way. One that does not read would only collect pings.
            if self.stalled.is_none() {
                ws::write_ping(&mut self.writing);
            }
        }
        let next = self.ping_at.min(silent_at).min(stuck_at.unwrap_or(silent_at));
        self.timer.as_mut().reset(self.announce_by.map_or(next, |by| by.min(next)));
        None
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<End> {
        for _ in 0..READS_A_TURN {
            let read = CHUNK.with_borrow_mut(|chunk| {
                let mut buffer = ReadBuf::new(chunk);
                match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(_)) => Poll::Ready(Some(End::Gone)),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Some(End::Gone)),
                    Poll::Ready(Ok(())) => Poll::Ready(self.feed(buffer.filled_mut(), now)),
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

    fn feed(&mut self, bytes: &mut [u8], now: Instant) -> Option<End> {
        let Self { guest, decoder, messages, bytes: allowance, offers, max_offers, heard, writing, .. } = self;
        let at = guest.place.at(now);
        if !allowance.allow_many(at, bytes.len()) {
            return Some(too_many("too many bytes"));
        }
        let mut end = None;
        let fed = decoder.feed(bytes, |incoming| {
            *heard = now;
            end = if messages.allow(at) {
                let mut may_offer = |count: usize| offers.allow_some(at, count.min(*max_offers));
                guest.take(writing, &incoming, &mut may_offer)
            } else {
                Some(too_many("too many messages"))
            };
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
            let ending = self.guest.place.outbox.take(&mut self.writing, cx.waker());
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
                    (Poll::Pending, _) => self.stall(cx),
                };
            }
            match Pin::new(&mut self.stream).poll_write(cx, waiting) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.written += count;
                    self.stalled = None;
                }
                Poll::Ready(_) => return Poll::Ready(End::Gone),
                Poll::Pending => return self.stall(cx),
            }
        }
    }

    fn stall(&mut self, cx: &Context<'_>) -> Poll<End> {
        if self.stalled.is_none() {
            let now = Instant::now();
            self.stalled = Some(now);
            let stuck_at = now + self.timing.stuck;
            if stuck_at < self.timer.deadline() {
                self.timer.as_mut().reset(stuck_at);
                self.is_set = false;
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}

impl Guest {
    /// Handles one message or control frame.
    fn take(
        &mut self,
        writing: &mut Vec<u8>,
        incoming: &Incoming<'_>,
        may_offer: &mut dyn FnMut(usize) -> usize,
    ) -> Option<End> {
        match (incoming, self.place.protocol) {
            (Incoming::Text(text), Protocol::Native) => self.native(text),
            (Incoming::Text(text), Protocol::Tracker) => {
                self.tracker(text, may_offer);
                None
            }
            (Incoming::Binary(bytes), Protocol::Tracker) => match std::str::from_utf8(bytes) {
                Ok(text) => {
                    self.tracker(text, may_offer);
                    None
                }
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

    fn native(&self, text: &str) -> Option<End> {
        if text.len() > MAX_SIGNAL_MESSAGE_LEN {
            return Some(too_large());
        }
        if json::is_too_deep(text) {
            return Some(End::Refuse(ErrorCode::BadMessage, "the message is nested too deep".to_owned()));
        }
        let message = match serde_json::from_str::<ClientMessage>(text) {
            Ok(message) => message,
            Err(error) => return Some(End::Refuse(ErrorCode::BadMessage, complaint(&error))),
        };
        trace!(conn = self.place.conn.0, len = text.len(), "message");
        let mut grant = None;
        if let ClientMessage::Join { swarm, token, .. } = &message {
            match self.admission.join(self.place.at(Instant::now()), swarm, token.as_deref()) {
                Ok(granted) => grant = granted,
                Err(denied) => {
                    self.metrics.denied();
                    return Some(End::Refuse(ErrorCode::Unauthorised, denied.to_string()));
                }
            }
        }
        self.place.message(message, grant);
        None
    }

    /// What is wrong is answered, and the connection kept: it may have many other swarms.
    fn tracker(&mut self, text: &str, may_offer: &mut dyn FnMut(usize) -> usize) {
        if json::is_too_deep(text) {
            return self
                .place
                .tracker_refusal(&TrackerMessage::read("").refusal(None, "the message is nested too deep"));
        }
        let mut message = TrackerMessage::read(text);
        let pass = self.pass.as_deref();
        // Only tokens have a time.
        let now = pass.map_or(Now::default(), |_| self.place.at(Instant::now()));
        if let Err((info_hash, why)) = self.admission.allows(pass, now, message.intent()) {
            self.metrics.denied();
            return self.place.tracker_refusal(&message.refusal(info_hash, why));
        }
        let offers = message.offers();
        let kept = if offers > 0 { may_offer(offers) } else { 0 };
        if kept < offers {
            message.keep_offers(kept);
            self.metrics.offers_dropped(offers - kept);
        }
        self.has_announced |= matches!(message.intent(), Intent::Swarm(_));
        self.place.tracker_message(text, message, pass.map(|pass| pass.grant));
    }
}
