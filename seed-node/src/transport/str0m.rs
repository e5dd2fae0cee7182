//! Data channels of the `str0m` crate: one task a connection, which owns the whole stack.
//!
//! It has no sockets and no timers of its own, so that it takes less memory than `webrtc` and more processor time. What it
//! lacks here: addresses found by STUN (`--public-ip` names them), and TCP.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use ::str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use ::str0m::channel::{ChannelConfig, ChannelId};
use ::str0m::net::{Protocol, Receive};
use ::str0m::{Candidate, Event, IceConnectionState, IceCreds, Input, Output, Rtc, RtcConfig};
use bytes::{Bytes, BytesMut};
use headwater_wire::signal::SignalData;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use webrtc::runtime::{AsyncUdpSocket, Transmit};

use super::connection::{
    CHANNEL_ID, CHANNEL_LABEL, Credentials, FIRST_WORD_WAIT, FLUSH_TIMEOUT, LOOK_EVERY, MAX_EARLY_CANDIDATES,
    MAX_OUTSTANDING, MESSAGE_LEN, OPEN_TIMEOUT, Reporter, candidate_data, is_usable,
};
use super::cutter::Cutter;
use super::mux::{BranchSocket, Mux, Place};
use super::pilot::Permit;
use super::stack::Incoming;
use super::{LinkEvent, LinkRequest, OutgoingChunk};

/// A viewer of which nothing is heard for so long is gone: each end shows every two or three seconds that it is there.
const SILENCE: Duration = Duration::from_secs(7);

/// One connection, until it ends.
pub(super) async fn run(mux: &Mux, request: &LinkRequest, incoming: Incoming, reporter: &Reporter) -> io::Result<()> {
    let Incoming { signals, control, chunks } = incoming;
    Connection::new(mux, request.offer, reporter, control, chunks)?.run(signals).await
}

/// What the stack cannot do with what it was given.
fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// One connection.
struct Connection<'a> {
    rtc: Rtc,
    channel: Option<ChannelId>,
    pending: Option<SdpPendingOffer>,
    offers: bool,
    /// Candidates that came before the description.
    early: Vec<Candidate>,
    described: bool,
    place: Place,
    outbox: Outbox,
    reporter: &'a Reporter,
    control: mpsc::Receiver<Vec<u8>>,
    chunks: mpsc::Receiver<OutgoingChunk>,
    cutter: Cutter,
    /// The channel is there, and the other side may speak first until then.
    ready: Option<Instant>,
    /// The node was told that the channel is open.
    open: bool,
    /// When a datagram last came.
    heard: Instant,
    over: bool,
}

/// What woke it.
enum Woken {
    Signal(Option<SignalData>),
    Control(Option<Vec<u8>>),
    Chunk(OutgoingChunk),
    Received(Vec<(SocketAddr, SocketAddr, Bytes)>),
    MaySend,
    Time,
}

impl<'a> Connection<'a> {
    fn new(
        mux: &Mux,
        offers: bool,
        reporter: &'a Reporter,
        control: mpsc::Receiver<Vec<u8>>,
        chunks: mpsc::Receiver<OutgoingChunk>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let Credentials { ufrag, password } = Credentials::random()?;
        let place = mux.place(ufrag.clone())?;
        let config = RtcConfig::new()
            .clear_codecs()
            .clear_extension_map()
            .set_local_ice_credentials(IceCreds { ufrag, pass: password })
            .set_sctp_max_buffered_amount(MAX_OUTSTANDING);
        let mut rtc = config.build(now);
        let sockets = place.sockets();
        for socket in &sockets {
            let candidate = Candidate::host(socket.local_addr()?, Protocol::Udp).map_err(failed)?;
            rtc.add_local_candidate(candidate);
        }
        let outbox = Outbox::new(sockets);
        Ok(Self {
            rtc,
            channel: None,
            pending: None,
            offers,
            early: Vec::new(),
            described: false,
            place,
            outbox,
            reporter,
            control,
            chunks,
            cutter: Cutter::new(now, MESSAGE_LEN),
            ready: None,
            open: false,
            heard: now,
            over: false,
        })
    }

    async fn run(mut self, mut signals: mpsc::Receiver<SignalData>) -> io::Result<()> {
        if self.offers {
            let mut changes = self.rtc.sdp_api();
            self.channel = Some(changes.add_channel_with_config(channel_config()));
            let (offer, pending) = changes.apply().ok_or_else(|| failed("nothing to offer"))?;
            self.pending = Some(pending);
            self.say(SignalData::Offer { sdp: without_candidates(&offer.to_sdp_string()) }).await?;
        }
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let mut closes: Option<Instant> = None;
        loop {
            let timeout = self.drain().await?;
            let now = Instant::now();
            let outstanding = self.outstanding();
            if self.cutter.is_waiting() {
                self.cutter.hear(now, outstanding, self.place.branch.round_trip());
            }
            if let Some(chunk) = self.cutter.finished() {
                self.reporter.report(LinkEvent::ChunkSent(chunk)).await?;
            }
            if let Some(at) = self.ready
                && (self.offers || at <= now)
            {
                self.open().await?;
            }
            let lasts = if self.open { self.heard + SILENCE } else { deadline };
            if now >= lasts {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if let Some(by) = closes
                && (outstanding == 0 || now >= by)
            {
                break;
            }
            if self.over || !self.rtc.is_alive() {
                return Ok(());
            }
            let permit = self.cutter.permit(now);
            let mut wake = timeout.min(lasts);
            if let Some(Permit::At(at)) = permit {
                wake = wake.min(at);
            }
            let looks = self.cutter.is_waiting().then(|| now + LOOK_EVERY);
            for at in [self.ready.filter(|_| !self.open), closes, looks].into_iter().flatten() {
                wake = wake.min(at);
            }
            match self.wait(&mut signals, closes.is_some(), permit, outstanding, wake).await {
                Woken::Signal(Some(signal)) => self.take_in(signal).await?,
                // The link was dropped: what was handed over before leaves.
                Woken::Signal(None) | Woken::Control(None) => {
                    closes = Some(now + FLUSH_TIMEOUT);
                    while self.open
                        && let Ok(frame) = self.control.try_recv()
                    {
                        self.write(&frame)?;
                    }
                }
                Woken::Control(Some(frame)) => self.write(&frame)?,
                Woken::Chunk(chunk) => self.cutter.take(chunk),
                Woken::MaySend => {
                    if let Some(frame) = self.cutter.cut() {
                        self.write(&frame)?;
                    }
                }
                Woken::Received(datagrams) => self.receive(&datagrams).await?,
                Woken::Time => self.rtc.handle_input(Input::Timeout(Instant::now())).map_err(failed)?,
            }
        }
        self.rtc.close().map_err(failed)?;
        // Until the stack is silent: what it says is a datagram or two.
        while self.rtc.is_alive() && self.drain().await? <= Instant::now() {
            self.rtc.handle_input(Input::Timeout(Instant::now())).map_err(failed)?;
        }
        Ok(())
    }

    async fn wait(
        &mut self,
        signals: &mut mpsc::Receiver<SignalData>,
        closing: bool,
        permit: Option<Permit>,
        outstanding: usize,
        wake: Instant,
    ) -> Woken {
        let has_room = self.open && outstanding < MAX_OUTSTANDING;
        let may_send = has_room && permit == Some(Permit::Now);
        let takes_chunks = self.open && !closing && self.cutter.is_idle();
        tokio::select! {
            biased;
            signal = signals.recv(), if !closing => Woken::Signal(signal),
            frame = self.control.recv(), if has_room && !closing => Woken::Control(frame),
            datagrams = self.outbox.received() => Woken::Received(datagrams),
            () = std::future::ready(()), if may_send => Woken::MaySend,
            Some(chunk) = self.chunks.recv(), if takes_chunks => Woken::Chunk(chunk),
            () = sleep_until(wake.into()) => Woken::Time,
        }
    }

    /// The description, and then our addresses, as the other side is to know them.
    async fn say(&self, description: SignalData) -> io::Result<()> {
        self.reporter.report(LinkEvent::Signal(description)).await?;
        for address in self.outbox.addresses() {
            let candidate = Candidate::host(address, Protocol::Udp).map_err(failed)?;
            for line in self.place.tell(&candidate.to_sdp_string()) {
                self.reporter.report(LinkEvent::Signal(candidate_data(line))).await?;
            }
        }
        self.reporter.report(LinkEvent::Signal(candidate_data(String::new()))).await
    }

    async fn take_in(&mut self, signal: SignalData) -> io::Result<()> {
        match signal {
            SignalData::Offer { sdp } => {
                let offer = SdpOffer::from_sdp_string(&sdp).map_err(failed)?;
                let answer = self.rtc.sdp_api().accept_offer(offer).map_err(failed)?;
                self.channel = Some(self.rtc.direct_api().create_data_channel(channel_config()));
                self.add_early_candidates();
                self.say(SignalData::Answer { sdp: without_candidates(&answer.to_sdp_string()) }).await?;
            }
            SignalData::Answer { sdp } => {
                let answer = SdpAnswer::from_sdp_string(&sdp).map_err(failed)?;
                let Some(pending) = self.pending.take() else { return Ok(()) };
                self.rtc.sdp_api().accept_answer(pending, answer).map_err(failed)?;
                self.add_early_candidates();
            }
            SignalData::Candidate { candidate, .. } => {
                if !is_usable(&candidate) {
                    return Ok(());
                }
                // One that this side cannot use is no reason to give up: others may do.
                match Candidate::from_sdp_string(&candidate) {
                    Ok(candidate) if self.described => self.rtc.add_remote_candidate(candidate),
                    Ok(candidate) if self.early.len() < MAX_EARLY_CANDIDATES => self.early.push(candidate),
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "ignoring a candidate"),
                }
            }
        }
        Ok(())
    }

    fn add_early_candidates(&mut self) {
        self.described = true;
        for candidate in std::mem::take(&mut self.early) {
            self.rtc.add_remote_candidate(candidate);
        }
    }

    fn outstanding(&mut self) -> usize {
        let channel = self.channel.and_then(|channel| self.rtc.channel(channel));
        channel.map_or(0, |mut channel| channel.buffered_amount())
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let channel = self.channel.and_then(|channel| self.rtc.channel(channel));
        let mut channel = channel.ok_or(io::ErrorKind::NotConnected)?;
        if !channel.write(true, frame).map_err(failed)? {
            return Err(failed("the peer does not read"));
        }
        self.cutter.on_sent(Instant::now(), frame.len());
        Ok(())
    }

    async fn receive(&mut self, datagrams: &[(SocketAddr, SocketAddr, Bytes)]) -> io::Result<()> {
        self.heard = Instant::now();
        for (destination, source, datagram) in datagrams {
            // What is none of WebRTC's is anybody's.
            let Ok(receive) = Receive::new(Protocol::Udp, *source, *destination, datagram) else { continue };
            self.rtc.handle_input(Input::Receive(Instant::now(), receive)).map_err(failed)?;
            self.poll().await?;
        }
        Ok(())
    }

    /// Sends what the stack has to send, and says what it tells. Gives the time at which it is to be called again.
    async fn drain(&mut self) -> io::Result<Instant> {
        let at = self.poll().await?;
        self.outbox.flush().await;
        Ok(at)
    }

    async fn poll(&mut self) -> io::Result<Instant> {
        loop {
            match self.rtc.poll_output().map_err(failed)? {
                Output::Timeout(at) => return Ok(at),
                Output::Transmit(transmit) => {
                    self.outbox.put(transmit.source, transmit.destination, &transmit.contents).await;
                }
                Output::Event(event) => self.on_event(event).await?,
            }
        }
    }

    async fn on_event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::ChannelOpen(..) => self.ready = Some(Instant::now() + FIRST_WORD_WAIT),
            Event::ChannelData(data) => {
                self.open().await?;
                self.reporter.report(LinkEvent::Frame(BytesMut::from(Bytes::from(data.data)))).await?;
            }
            Event::ChannelClose(_) | Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                self.over = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Says that the channel is open, once.
    async fn open(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.open, true) {
            self.reporter.report(LinkEvent::Open).await?;
        }
        Ok(())
    }
}

/// A description without our addresses, which are told one by one.
fn without_candidates(sdp: &str) -> String {
    let is_kept = |line: &&str| !line.starts_with("a=candidate:") && !line.starts_with("a=end-of-candidates");
    sdp.split_inclusive('\n').filter(is_kept).collect()
}

fn channel_config() -> ChannelConfig {
    ChannelConfig { label: CHANNEL_LABEL.to_owned(), negotiated: Some(CHANNEL_ID), ..ChannelConfig::default() }
}

/// What leaves, as many datagrams at once as the kernel takes.
struct Outbox {
    sockets: Vec<BranchSocket>,
    batch: Vec<u8>,
    count: usize,
    stride: usize,
    way: Option<(SocketAddr, SocketAddr)>,
}

impl Outbox {
    fn new(sockets: Vec<BranchSocket>) -> Self {
        Self { sockets, batch: Vec::new(), count: 0, stride: 0, way: None }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// What came, with the addresses that it came to and from.
    async fn received(&self) -> Vec<(SocketAddr, SocketAddr, Bytes)> {
        poll_fn(|cx| {
            let mut all = Vec::new();
            for socket in &self.sockets {
                let (Poll::Ready(datagrams), Ok(to)) = (socket.poll_take(cx), socket.local_addr()) else { continue };
                all.extend(datagrams.into_iter().map(|(from, datagram)| (to, from, datagram)));
            }
            if all.is_empty() { Poll::Pending } else { Poll::Ready(all) }
        })
        .await
    }

    async fn put(&mut self, source: SocketAddr, destination: SocketAddr, datagram: &[u8]) {
        // Checks of the path are looked at one by one on their way.
        let is_data = datagram.first().is_some_and(|first| *first > 3);
        let fits = self.way == Some((source, destination)) && datagram.len() <= self.stride && is_data;
        let most = self.sockets.first().map_or(1, AsyncUdpSocket::max_gso_segments).min(32);
        if !fits || self.count >= most {
            self.flush().await;
        }
        if self.count == 0 {
            (self.stride, self.way) = (datagram.len(), Some((source, destination)));
        }
        self.batch.extend_from_slice(datagram);
        self.count += 1;
        // A shorter one is the last of its batch.
        if !is_data || datagram.len() < self.stride {
            self.flush().await;
        }
    }

    async fn flush(&mut self) {
        let Some((source, destination)) = self.way.take() else { return };
        let socket = self.sockets.iter().find(|socket| socket.local_addr().is_ok_and(|address| address == source));
        let segment_size = (self.count > 1).then_some(self.stride);
        let transmit = Transmit { destination, ecn: None, contents: &self.batch, segment_size, src_ip: None };
        if let Some(socket) = socket {
            // What cannot be sent is lost, as anywhere on the way.
            if let Err(error) = poll_fn(|cx| socket.poll_send(cx, &transmit)).await {
                tracing::trace!(%error, "cannot send");
            }
        }
        self.batch.clear();
        self.count = 0;
    }
}
