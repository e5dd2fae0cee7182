//! Data channels of the `webrtc` crate: the one place that knows it.
//!
//! A connection is a task that owns the peer connection, and once the channel is open a second one that writes, so that a
//! full send buffer holds nothing else up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::rtc::ice::mdns::MulticastDnsMode;
use ::rtc::peer_connection::transport::RTCDtlsRole;
use bytes::BytesMut;
use headwater_wire::DataHeader;
use headwater_wire::frame::DATA_HEADER_LEN;
use headwater_wire::signal::{IceServer, SignalData};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::error::Error;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder, RTCIceCandidateInit,
    RTCIceGatheringState, RTCIceServer, RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSessionDescription,
    SettingEngineBuilder,
};
use webrtc::runtime::TokioRuntime;

use super::sockets::{RoomyRuntime, bind_addresses};
use super::{
    CHUNK_QUEUE, CONTROL_QUEUE, Link, LinkEvent, LinkReport, LinkRequest, OutgoingChunk, SIGNAL_QUEUE, Transport,
};

/// The data channel's name; both sides create it, so that no message is spent on opening it.
const CHANNEL_LABEL: &str = "headwater";

/// The data channel's number, agreed by this protocol.
const CHANNEL_ID: u16 = 0;

/// Un-acknowledged bytes a connection may have under way. `webrtc` 0.21 has no bound of its own and collapses after a
/// burst loss with 1 MiB; 48 KiB is best to a browser on this machine, 512 KiB on a long fast path. This is the compromise
/// until the window follows the path.
const SEND_WINDOW: usize = 128 * 1024;

/// How long a connection may take to open: signalling, candidates through slow NATs, DTLS.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the side that answered lets the other speak first. Its own association is up half a round trip earlier, and
/// `webrtc` 0.21 loses a first message that arrives in one datagram with the end of the SCTP handshake (its negotiated
/// channel has no stream yet). Whoever offered speaks as soon as it can, so that this is rarely waited out.
const FIRST_WORD_WAIT: Duration = Duration::from_millis(250);

/// How long the last frames may take to arrive before a connection is closed under them.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Without a sign of life for this long, a connection counts as interrupted …
const ICE_DISCONNECTED: Duration = Duration::from_secs(4);

/// … and after this much more as gone, so that a viewer that vanishes frees its memory soon.
const ICE_FAILED: Duration = Duration::from_secs(6);

/// How often an idle connection shows that it is alive.
const ICE_KEEPALIVE: Duration = Duration::from_secs(2);

/// Candidates kept until the description that they belong to has come.
const MAX_EARLY_CANDIDATES: usize = 32;

/// Opens data channels with the `webrtc` crate.
#[derive(Debug, Clone, Copy, Default)]
pub struct RtcTransport;

impl Transport for RtcTransport {
    fn connect(&self, request: LinkRequest, reports: mpsc::Sender<LinkReport>) -> Link {
        let (signals, signals_rx) = mpsc::channel(SIGNAL_QUEUE);
        let (control, control_rx) = mpsc::channel(CONTROL_QUEUE);
        let (chunks, chunks_rx) = mpsc::channel(CHUNK_QUEUE);
        let id = request.link;
        let reporter = Reporter { link: request.link, peer: request.peer, reports };
        tokio::spawn(async move {
            if let Err(error) = run(&request, signals_rx, control_rx, chunks_rx, &reporter).await {
                tracing::debug!(peer = %request.peer, %error, "connection failed");
            }
            // The node is gone where nobody listens.
            let _ = reporter.report(LinkEvent::Closed).await;
        });
        Link { id, signals, control, chunks }
    }
}

#[derive(Clone)]
struct Reporter {
    link: super::LinkId,
    peer: headwater_wire::PeerId,
    reports: mpsc::Sender<LinkReport>,
}

impl Reporter {
    async fn report(&self, event: LinkEvent) -> Result<(), Error> {
        let report = LinkReport { link: self.link, peer: self.peer, event };
        self.reports.send(report).await.map_err(|_| Error::ErrDataChannelClosed)
    }
}

/// What the peer connection calls back with. Its callbacks run on the task that moves the packets and must not wait.
struct Callbacks {
    candidates: mpsc::Sender<SignalData>,
    state: watch::Sender<RTCPeerConnectionState>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Callbacks {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let Ok(candidate) = event.candidate.to_json() else { return };
        self.offer_candidate(candidate.candidate);
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.offer_candidate(String::new());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }
}

impl Callbacks {
    fn offer_candidate(&self, candidate: String) {
        // There is one media description; naming it by index alone works with whatever id the offer gave it.
        let data = SignalData::Candidate { candidate, sdp_mid: None, sdp_m_line_index: Some(0) };
        if self.candidates.try_send(data).is_err() {
            tracing::debug!("more local candidates than anybody needs");
        }
    }
}

async fn run(
    request: &LinkRequest,
    mut signals: mpsc::Receiver<SignalData>,
    control: mpsc::Receiver<Vec<u8>>,
    chunks: mpsc::Receiver<OutgoingChunk>,
    reporter: &Reporter,
) -> Result<(), Error> {
    let (candidates_tx, mut candidates) = mpsc::channel(SIGNAL_QUEUE);
    let (state_tx, mut state) = watch::channel(RTCPeerConnectionState::New);
    let connection = build(&request.ice_servers, Callbacks { candidates: candidates_tx, state: state_tx }).await?;
    let init = RTCDataChannelInit { negotiated: Some(CHANNEL_ID), ..RTCDataChannelInit::default() };
    let channel = connection.create_data_channel(CHANNEL_LABEL, Some(init)).await?;
    let mut negotiation = Negotiation { connection: &*connection, described: false, early: Vec::new() };
    if request.offer {
        let offer = negotiation.offer().await?;
        reporter.report(LinkEvent::Signal(offer)).await?;
    }

    let mut writer = Writer { queues: Some((control, chunks)), task: None };
    let deadline = Instant::now() + OPEN_TIMEOUT;
    let mut opens_by = None;
    let result = loop {
        tokio::select! {
            signal = signals.recv() => match signal {
                None => {
                    writer.finish().await;
                    break Ok(());
                }
                Some(signal) => match negotiation.take_in(signal).await {
                    Ok(Some(answer)) => reporter.report(LinkEvent::Signal(answer)).await?,
                    Ok(None) => {}
                    Err(error) => break Err(error),
                },
            },
            Some(candidate) = candidates.recv() => reporter.report(LinkEvent::Signal(candidate)).await?,
            event = channel.poll() => match event {
                Some(DataChannelEvent::OnOpen) if request.offer => open(&mut writer, &channel, reporter).await?,
                Some(DataChannelEvent::OnOpen) => opens_by = Some(Instant::now() + FIRST_WORD_WAIT),
                Some(DataChannelEvent::OnMessage(message)) => {
                    open(&mut writer, &channel, reporter).await?;
                    reporter.report(LinkEvent::Frame(message.data)).await?;
                }
                Some(DataChannelEvent::OnClosing | DataChannelEvent::OnClose) | None => break Ok(()),
                Some(_) => {}
            },
            Ok(()) = state.changed() => {
                let state = *state.borrow_and_update();
                if matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed) {
                    break Ok(());
                }
            }
            () = sleep_until(opens_by.unwrap_or(deadline)), if opens_by.is_some() && !writer.is_started() => {
                open(&mut writer, &channel, reporter).await?;
            }
            () = sleep_until(deadline), if !writer.is_started() => break Err(Error::ErrTimeout),
        }
    };
    writer.abort();
    connection.close().await?;
    result
}

/// Says that the channel is open, once.
async fn open(writer: &mut Writer, channel: &Arc<dyn DataChannel>, reporter: &Reporter) -> Result<(), Error> {
    if writer.is_started() {
        return Ok(());
    }
    reporter.report(LinkEvent::Open).await?;
    writer.start(channel, reporter);
    Ok(())
}

async fn build(ice_servers: &[IceServer], callbacks: Callbacks) -> Result<Box<dyn PeerConnection>, Error> {
    let settings = SettingEngineBuilder::new()
        // Browsers' `.local` names need no resolving: they reach our addresses, and we learn theirs from that.
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        // As the server we need not wait for our own answer to arrive before the handshake: half the connect time.
        .with_answering_dtls_role(RTCDtlsRole::Server)
        .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEPALIVE))
        .with_include_loopback_candidate(true)
        .build();
    let ice_servers = ice_servers
        .iter()
        .map(|server| RTCIceServer {
            urls: server.urls.clone(),
            username: server.username.clone().unwrap_or_default(),
            credential: server.credential.clone().unwrap_or_default(),
        })
        .collect();
    let connection = PeerConnectionBuilder::<SocketAddr>::new()
        .with_configuration(RTCConfigurationBuilder::new().with_ice_servers(ice_servers).build())
        .with_setting_engine(settings)
        .with_runtime(Arc::new(RoomyRuntime(TokioRuntime)))
        .with_handler(Arc::new(callbacks))
        .with_udp_addrs(bind_addresses())
        .with_data_channel_send_buffer_limit(SEND_WINDOW)
        .build()
        .await?;
    Ok(Box::new(connection))
}

/// Offer, answer and candidates of one connection.
struct Negotiation<'a> {
    connection: &'a dyn PeerConnection,
    described: bool,
    early: Vec<RTCIceCandidateInit>,
}

impl Negotiation<'_> {
    async fn offer(&self) -> Result<SignalData, Error> {
        let offer = self.connection.create_offer(None).await?;
        let sdp = offer.sdp.clone();
        self.connection.set_local_description(offer).await?;
        Ok(SignalData::Offer { sdp })
    }

    /// Takes in what the other side said; gives what there is to answer.
    async fn take_in(&mut self, signal: SignalData) -> Result<Option<SignalData>, Error> {
        match signal {
            SignalData::Offer { sdp } => {
                self.connection.set_remote_description(RTCSessionDescription::offer(sdp)?).await?;
                let answer = self.connection.create_answer(None).await?;
                let sdp = answer.sdp.clone();
                self.connection.set_local_description(answer).await?;
                self.add_early_candidates().await;
                Ok(Some(SignalData::Answer { sdp }))
            }
            SignalData::Answer { sdp } => {
                self.connection.set_remote_description(RTCSessionDescription::answer(sdp)?).await?;
                self.add_early_candidates().await;
                Ok(None)
            }
            SignalData::Candidate { candidate, .. } => {
                let candidate = RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() };
                if self.described {
                    self.add_candidate(candidate).await;
                } else if self.early.len() < MAX_EARLY_CANDIDATES {
                    self.early.push(candidate);
                }
                Ok(None)
            }
        }
    }

    async fn add_early_candidates(&mut self) {
        self.described = true;
        for candidate in std::mem::take(&mut self.early) {
            self.add_candidate(candidate).await;
        }
    }

    /// A candidate that this side cannot use is no reason to give up: others may do.
    async fn add_candidate(&self, candidate: RTCIceCandidateInit) {
        let hidden = candidate.candidate.split_whitespace().nth(4).is_some_and(|address| address.ends_with(".local"));
        if candidate.candidate.is_empty() || hidden {
            return;
        }
        if let Err(error) = self.connection.add_ice_candidate(candidate).await {
            tracing::debug!(%error, "ignoring a candidate");
        }
    }
}

/// The writing half of a connection, from when the channel is open.
struct Writer {
    queues: Option<(mpsc::Receiver<Vec<u8>>, mpsc::Receiver<OutgoingChunk>)>,
    task: Option<JoinHandle<()>>,
}

impl Writer {
    fn is_started(&self) -> bool {
        self.task.is_some()
    }

    fn start(&mut self, channel: &Arc<dyn DataChannel>, reporter: &Reporter) {
        let Some((control, chunks)) = self.queues.take() else { return };
        let (channel, reporter) = (Arc::clone(channel), reporter.clone());
        self.task = Some(tokio::spawn(async move {
            if let Err(error) = write(&*channel, control, chunks, &reporter).await {
                tracing::debug!(peer = %reporter.peer, %error, "cannot write any more");
            }
        }));
    }

    /// Lets what was handed over before the link was dropped leave.
    async fn finish(&mut self) {
        if let Some(task) = &mut self.task {
            let _ = timeout(FLUSH_TIMEOUT, task).await;
        }
    }

    fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn write(
    channel: &dyn DataChannel,
    mut control: mpsc::Receiver<Vec<u8>>,
    mut chunks: mpsc::Receiver<OutgoingChunk>,
    reporter: &Reporter,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            biased;
            frame = control.recv() => match frame {
                Some(frame) => channel.send(BytesMut::from(&frame[..])).await?,
                None => break,
            },
            Some(chunk) = chunks.recv() => {
                write_chunk(channel, &chunk, &mut control).await?;
                // Where the window is full, "sent" is said when it has room again: the engine's queues stay in charge.
                channel.writable().await?;
                reporter.report(LinkEvent::ChunkSent(chunk.chunk)).await?;
            }
        }
    }
    while channel.outstanding_bytes().await? > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn write_chunk(
    channel: &dyn DataChannel,
    chunk: &OutgoingChunk,
    control: &mut mpsc::Receiver<Vec<u8>>,
) -> Result<(), Error> {
    let mut offset: u32 = 0;
    for piece in chunk.bytes.chunks(chunk.piece_len.max(1) as usize) {
        while let Ok(frame) = control.try_recv() {
            channel.send(BytesMut::from(&frame[..])).await?;
        }
        let mut frame = BytesMut::with_capacity(DATA_HEADER_LEN + piece.len());
        frame.extend_from_slice(&DataHeader { chunk: chunk.chunk, offset }.encode());
        frame.extend_from_slice(piece);
        channel.send(frame).await?;
        // A piece is no longer than a chunk, whose length fits u32.
        offset += piece.len() as u32;
    }
    Ok(())
}
