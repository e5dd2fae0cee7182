//! Data channels of the `webrtc` crate: the one place that knows it.
//!
//! A connection is a task that owns the peer connection, and once the channel is open a second one that writes, so that a
//! full send window holds nothing else up.

mod negotiation;
mod sender;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::rtc::ice::mdns::MulticastDnsMode;
use ::rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use ::rtc::peer_connection::transport::RTCDtlsRole;
use headwater_wire::limits::MAX_FRAME;
use headwater_wire::signal::IceServer;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::error::Error;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder, RTCIceGatheringState,
    RTCIceServer, RTCPeerConnectionIceEvent, RTCPeerConnectionState, SettingEngineBuilder,
};

use negotiation::Negotiation;
use sender::Writer;

use super::connection::{
    CHANNEL_ID, CHANNEL_LABEL, Credentials, FIRST_WORD_WAIT, MAX_OUTSTANDING, MESSAGE_LEN, OPEN_TIMEOUT, Reporter,
    candidate_data,
};
use super::mux::{Branch, Mux, Place};
use super::stack::Incoming;
use super::{LinkEvent, LinkRequest, SIGNAL_QUEUE};

/// Without a sign of life for this long, a connection counts as interrupted …
const ICE_DISCONNECTED: Duration = Duration::from_secs(3);

/// … and after this much more as gone, so that a viewer that vanishes frees its memory soon.
const ICE_FAILED: Duration = Duration::from_secs(4);

/// How often an idle connection shows that it is alive.
const ICE_KEEPALIVE: Duration = Duration::from_secs(2);

/// The least that a peer may say to take of a message: frames are not made of headers.
const LEAST_MESSAGE_LEN: u32 = 16 * 1024;

/// What the peer connection calls back with. Its callbacks run on the task that moves the packets and must not wait.
struct Callbacks {
    candidates: mpsc::Sender<String>,
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
        if self.candidates.try_send(candidate).is_err() {
            tracing::debug!("more local candidates than anybody needs");
        }
    }
}

/// One connection, until it ends.
pub(super) async fn run(
    mux: &Mux,
    request: &LinkRequest,
    incoming: Incoming,
    reporter: &Reporter,
) -> Result<(), Error> {
    let Incoming { mut signals, control, chunks } = incoming;
    let (candidates_tx, mut candidates) = mpsc::channel(SIGNAL_QUEUE);
    let (state_tx, mut state) = watch::channel(RTCPeerConnectionState::New);
    let credentials = Credentials::random()?;
    let place = mux.place(credentials.ufrag.clone()).map_err(|error| Error::Other(error.to_string()))?;
    let callbacks = Callbacks { candidates: candidates_tx, state: state_tx };
    // What is over once the channel is open is boxed: a task keeps room for the largest of its steps as long as it runs.
    let connection = Box::pin(build(&request.ice_servers, callbacks, credentials, &place)).await?;
    let init = RTCDataChannelInit { negotiated: Some(CHANNEL_ID), ..RTCDataChannelInit::default() };
    let channel = Box::pin(connection.create_data_channel(CHANNEL_LABEL, Some(init))).await?;
    let mut negotiation = Negotiation::new(&*connection);
    if request.offer {
        let offer = Box::pin(negotiation.offer()).await?;
        reporter.report(LinkEvent::Signal(offer)).await?;
    }

    let mut writer = Writer::new(control, chunks);
    let branch = &place.branch;
    let deadline = Instant::now() + OPEN_TIMEOUT;
    let mut opens_by = None;
    let result = loop {
        tokio::select! {
            signal = signals.recv() => match signal {
                None => {
                    writer.finish().await;
                    break Ok(());
                }
                Some(signal) => match Box::pin(negotiation.take_in(signal)).await {
                    Ok(Some(answer)) => reporter.report(LinkEvent::Signal(answer)).await?,
                    Ok(None) => {}
                    Err(error) => break Err(error),
                },
            },
            Some(candidate) = candidates.recv() => {
                for candidate in place.tell(&candidate) {
                    reporter.report(LinkEvent::Signal(candidate_data(candidate))).await?;
                }
            }
            event = channel.poll() => match event {
                Some(DataChannelEvent::OnOpen) if request.offer => open(&*connection, &mut writer, &channel, branch, reporter).await?,
                Some(DataChannelEvent::OnOpen) => opens_by = Some(Instant::now() + FIRST_WORD_WAIT),
                Some(DataChannelEvent::OnMessage(message)) => {
                    open(&*connection, &mut writer, &channel, branch, reporter).await?;
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
                open(&*connection, &mut writer, &channel, branch, reporter).await?;
            }
            () = sleep_until(deadline), if !writer.is_started() => break Err(Error::ErrTimeout),
        }
    };
    writer.abort();
    connection.close().await?;
    result
}

/// Says that the channel is open, once.
async fn open(
    connection: &dyn PeerConnection,
    writer: &mut Writer,
    channel: &Arc<dyn DataChannel>,
    branch: &Arc<Branch>,
    reporter: &Reporter,
) -> Result<(), Error> {
    if writer.is_started() {
        return Ok(());
    }
    let agreed = match connection.sctp().await {
        Some(sctp) => sctp.max_message_size().await.unwrap_or(MESSAGE_LEN),
        None => MESSAGE_LEN,
    };
    if agreed < LEAST_MESSAGE_LEN {
        return Err(Error::Other(format!(
            "the peer takes messages of {agreed} bytes, and must of {LEAST_MESSAGE_LEN}"
        )));
    }
    reporter.report(LinkEvent::Open).await?;
    writer.start(channel, branch, reporter, agreed);
    Ok(())
}

async fn build(
    ice_servers: &[IceServer],
    callbacks: Callbacks,
    credentials: Credentials,
    place: &Place,
) -> Result<Box<dyn PeerConnection>, Error> {
    let settings = SettingEngineBuilder::new()
        // Browsers' `.local` names need no resolving: they reach our addresses, and we learn theirs from that.
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        // As the server we need not wait for our own answer to arrive before the handshake: half the connect time.
        .with_answering_dtls_role(RTCDtlsRole::Server)
        .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEPALIVE))
        .with_include_loopback_candidate(true)
        // Two native peers take of each other what their engines announce.
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_FRAME))
        .with_ice_credentials(credentials.ufrag, credentials.password)
        .build();
    let ice_servers = ice_servers
        .iter()
        .map(|server| RTCIceServer {
            urls: stun_urls(server),
            username: server.username.clone().unwrap_or_default(),
            credential: server.credential.clone().unwrap_or_default(),
        })
        .collect();
    let connection = PeerConnectionBuilder::<SocketAddr>::new()
        .with_configuration(RTCConfigurationBuilder::new().with_ice_servers(ice_servers).build())
        .with_setting_engine(settings)
        .with_runtime(Arc::new(place.runtime()))
        .with_handler(Arc::new(callbacks))
        .with_udp_addrs(place.addresses())
        .with_tcp_addrs(place.tcp_addresses())
        .with_data_channel_send_buffer_limit(MAX_OUTSTANDING)
        .build()
        .await?;
    Ok(Box::new(connection))
}

/// STUN alone: relays tell their clients apart by address, and all connections have the same here. Viewers behind
/// narrow networks bring a relay of their own.
fn stun_urls(server: &IceServer) -> Vec<String> {
    server.urls.iter().filter(|url| url.starts_with("stun:")).cloned().collect()
}
