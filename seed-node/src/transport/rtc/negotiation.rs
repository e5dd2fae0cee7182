//! Offer, answer and candidates of one connection.

use headwater_wire::signal::SignalData;
use webrtc::error::Error;
use webrtc::peer_connection::{PeerConnection, RTCIceCandidateInit, RTCSessionDescription};

use super::super::connection::{MAX_EARLY_CANDIDATES, is_usable};

/// Takes in what the other side says through the signalling server.
pub(super) struct Negotiation<'a> {
    connection: &'a dyn PeerConnection,
    described: bool,
    early: Vec<RTCIceCandidateInit>,
}

impl<'a> Negotiation<'a> {
    pub(super) fn new(connection: &'a dyn PeerConnection) -> Self {
        Self { connection, described: false, early: Vec::new() }
    }

    pub(super) async fn offer(&self) -> Result<SignalData, Error> {
        let offer = self.connection.create_offer(None).await?;
        let sdp = offer.sdp.clone();
        self.connection.set_local_description(offer).await?;
        Ok(SignalData::Offer { sdp })
    }

    /// Takes in what the other side said; gives what there is to answer.
    pub(super) async fn take_in(&mut self, signal: SignalData) -> Result<Option<SignalData>, Error> {
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
        if !is_usable(&candidate.candidate) {
            return;
        }
        if let Err(error) = self.connection.add_ice_candidate(candidate).await {
            tracing::debug!(%error, "ignoring a candidate");
        }
    }
}
