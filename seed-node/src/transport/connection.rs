//! What a connection is, whichever stack carries it: its channel, its times, and how it tells the node what happens.

use std::io;
use std::time::Duration;

use headwater_wire::PeerId;
use headwater_wire::signal::SignalData;
use tokio::sync::mpsc;

use super::{LinkEvent, LinkId, LinkReport};

/// The data channel's name; both sides create it, so that no message is spent on opening it.
pub(super) const CHANNEL_LABEL: &str = "headwater";

/// The data channel's number, agreed by this protocol.
pub(super) const CHANNEL_ID: u16 = 0;

/// How long a connection may take to open: signalling, candidates through slow NATs, DTLS.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the side that answered lets the other speak first. Its own association is up half a round trip earlier, and
/// `webrtc` 0.21 loses a first message that arrives in one datagram with the end of the SCTP handshake (its negotiated
/// channel has no stream yet). Whoever offered speaks as soon as it can, so that this is rarely waited out.
pub(super) const FIRST_WORD_WAIT: Duration = Duration::from_millis(250);

/// What may be with the transport and not acknowledged before control frames wait as well. Chunks wait long before, for
/// the pilot's window; this much is reached only where the other side does not read.
pub(super) const MAX_OUTSTANDING: usize = 2 * 1024 * 1024;

/// How long the last frames may take to arrive before a connection is closed under them.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// How often to look for acknowledgements of which nothing was heard, so that a stall is noticed.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What every stack takes of a message. RFC 8841.
pub(super) const MESSAGE_LEN: u32 = 64 * 1024;

/// Candidates kept until the description that they belong to has come.
pub(super) const MAX_EARLY_CANDIDATES: usize = 32;

/// Tells the node what happens to one connection.
#[derive(Clone)]
pub(super) struct Reporter {
    pub(super) link: LinkId,
    pub(super) peer: PeerId,
    pub(super) reports: mpsc::Sender<LinkReport>,
}

impl Reporter {
    pub(super) async fn report(&self, event: LinkEvent) -> io::Result<()> {
        let report = LinkReport { link: self.link, peer: self.peer, event };
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the node is gone");
        self.reports.send(report).await.map_err(|_| gone())
    }
}

/// What ICE checks of one connection are known and authenticated by.
pub(super) struct Credentials {
    pub(super) ufrag: String,
    pub(super) password: String,
}

impl Credentials {
    pub(super) fn random() -> io::Result<Self> {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { ufrag: digits(&bytes[..8]), password: digits(&bytes[8..]) })
    }
}

pub(super) fn candidate_data(candidate: String) -> SignalData {
    // There is one media description; naming it by index alone works with whatever id the offer gave it.
    SignalData::Candidate { candidate, sdp_mid: None, sdp_m_line_index: Some(0) }
}

/// Whether a candidate of the other side's can be used: browsers' `.local` names need no resolving, for they reach our
/// addresses, and we learn theirs from that.
pub(super) fn is_usable(candidate: &str) -> bool {
    let hidden = candidate.split_whitespace().nth(4).is_some_and(|address| address.ends_with(".local"));
    !candidate.is_empty() && !hidden
}
