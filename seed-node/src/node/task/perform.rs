//! Doing what the engine's outputs say.

use std::collections::{BTreeMap, VecDeque};

use headwater_swarm::{DeliveryReport, DemandId, Event, FetchId, Input, Output, Verdict, VerifyId};
use headwater_wire::{ByteRange, ChunkId, PeerId, PublicKey, SegmentId, SeqNo, SignedBatch, TrackId};

use super::NodeTask;
use crate::key::verify;
use crate::node::fetch::{Fetch, fetch_catalogue};
use crate::node::shelf::Waiting;
use crate::node::{Delivered, DemandError, NodeEvent};
use crate::signalling::SignallingRequest;
use crate::transport::OutgoingChunk;

/// An input that doing an output led to.
enum FollowUp {
    Verified(VerifyId, Verdict),
    Sent(PeerId, ChunkId),
    Lost(PeerId),
    FetchFailed(FetchId),
}

impl NodeTask {
    /// Does what the engine says until it has nothing more to say.
    pub(super) fn drain(&mut self) {
        let mut follow_ups = VecDeque::new();
        loop {
            match self.engine.poll_output() {
                Output::Timeout { at } => {
                    self.wake_at = at;
                    let Some(follow_up) = follow_ups.pop_front() else { return };
                    self.follow_up(follow_up);
                }
                output => follow_ups.extend(self.perform(output)),
            }
        }
    }

    fn follow_up(&mut self, follow_up: FollowUp) {
        match follow_up {
            FollowUp::Verified(verify, verdict) => self.input(Input::BatchVerified { verify, verdict }),
            FollowUp::Sent(peer, chunk) => self.input(Input::ChunkSent { peer, chunk }),
            FollowUp::Lost(peer) => self.lose(peer),
            FollowUp::FetchFailed(fetch) => self.input(Input::FetchFailed { fetch, status: None }),
        }
    }

    fn perform(&mut self, output: Output) -> Option<FollowUp> {
        match output {
            Output::Timeout { .. } => None,
            Output::Send { peer, frame } => (!self.links.send(peer, frame)).then_some(FollowUp::Lost(peer)),
            Output::SendChunk { peer, chunk, piece_len, .. } => self.send_chunk(peer, chunk, piece_len),
            Output::Disconnect { peer, reason } => {
                tracing::debug!(%peer, ?reason, "disconnecting");
                if reason.is_ban() {
                    self.links.ban(peer);
                }
                if self.links.remove(peer).is_some() {
                    self.signalling.tell(SignallingRequest::Lost(peer));
                }
                self.wishes.forget(peer);
                self.store.discard_all(peer);
                self.signalling.set_connected(self.links.open_peers());
                self.announce(NodeEvent::Disconnected { peer, reason: Some(reason) });
                None
            }
            Output::WantNeighbours { count } => {
                self.signalling.tell(SignallingRequest::Want(count));
                None
            }
            Output::Fetch { fetch, segment, range } => self.start_fetch(fetch, segment, range),
            Output::AbortFetch { fetch } => {
                if let Some((_, task)) = self.fetches.remove(&fetch) {
                    task.abort();
                }
                None
            }
            Output::FetchCatalogue => {
                tokio::spawn(fetch_catalogue(self.origin.clone(), self.fetch_reports_tx.clone()));
                None
            }
            Output::VerifyBatch { verify, batch } => Some(FollowUp::Verified(verify, self.verdict(&batch))),
            Output::KeepChunk { peer, chunk, .. } => {
                self.store.keep(peer, chunk);
                None
            }
            Output::DropChunk { peer, chunk } => {
                self.store.discard(peer, chunk);
                None
            }
            Output::Deliver { demand, segment, report } => {
                self.deliver(demand, segment, report);
                None
            }
            Output::Fail { demand } => {
                self.answer(demand, Err(DemandError::Unavailable));
                None
            }
            Output::Evict { segment } => {
                self.store.evict(segment);
                if let Some(shelf) = &mut self.shelf {
                    shelf.forget(segment);
                }
                self.wishes.gone(segment, false);
                None
            }
            Output::Event(event) => {
                if let Event::NeighbourReady { peer, .. } = event {
                    self.wishes.welcome(peer, std::time::Instant::now());
                }
                self.log(event);
                self.announce(NodeEvent::Engine(event));
                None
            }
        }
    }

    /// Sends a chunk whose segment has just come back, if it has.
    pub(super) fn send_waiting(&mut self, peer: PeerId, chunk: ChunkId, piece_len: u32) {
        let follow_up = match self.store.chunk(chunk) {
            Some(_) => {
                self.engine.resume_sending(self.now(), peer, chunk);
                self.send_chunk(peer, chunk, piece_len)
            }
            // The peer asks elsewhere before long.
            None => Some(FollowUp::Sent(peer, chunk)),
        };
        if let Some(follow_up) = follow_up {
            self.follow_up(follow_up);
        }
    }

    fn send_chunk(&mut self, peer: PeerId, chunk: ChunkId, piece_len: u32) -> Option<FollowUp> {
        let Some(mut bytes) = self.store.chunk(chunk) else {
            if self.shelf.as_mut().is_some_and(|shelf| shelf.bring_back(Waiting { peer, chunk, piece_len })) {
                self.engine.suspend_sending(peer, chunk);
                return None;
            }
            tracing::warn!(%peer, segment = %chunk.segment, chunk = chunk.index.0, "the chunk to be sent is not here");
            return Some(FollowUp::Sent(peer, chunk));
        };
        if let Some(shelf) = &mut self.shelf {
            shelf.touch(chunk.segment);
        }
        if let Some(tamper) = &mut self.tamper {
            bytes = tamper.tamper(chunk, bytes);
        }
        let outgoing = OutgoingChunk { chunk, bytes, piece_len };
        (!self.links.send_chunk(peer, outgoing)).then_some(FollowUp::Lost(peer))
    }

    fn start_fetch(&mut self, fetch: FetchId, segment: SegmentId, range: Option<ByteRange>) -> Option<FollowUp> {
        let (Some(origin), Some(location)) = (&self.origin, self.locations.get(&segment)) else {
            return Some(FollowUp::FetchFailed(fetch));
        };
        let request = Fetch {
            id: fetch,
            http: origin.http.clone(),
            location: location.clone(),
            range,
            reports: self.fetch_reports_tx.clone(),
        };
        let task = tokio::spawn(request.run());
        self.fetches.insert(fetch, (segment, task.abort_handle()));
        None
    }

    fn verdict(&self, batch: &SignedBatch) -> Verdict {
        if is_forgotten(&self.floors, batch) {
            // Of no use, and no reason to think ill of whoever passes it on.
            return Verdict::OtherKey;
        }
        let mut named = self.keys.iter().filter(|key| PublicKey(key.to_bytes()).hint() == batch.key_hint()).peekable();
        if named.peek().is_none() {
            return Verdict::OtherKey;
        }
        Verdict::of(named.any(|key| verify(key, batch)))
    }

    fn deliver(&mut self, demand: DemandId, segment: SegmentId, report: DeliveryReport) {
        let delivered = self.store.segment(segment, report.len.bytes()).map(|bytes| Delivered { bytes, report });
        if delivered.is_none() {
            tracing::error!(%segment, "the segment to be delivered is not whole");
        }
        self.answer(demand, delivered.ok_or(DemandError::Unavailable));
    }

    fn answer(&mut self, demand: DemandId, answer: Result<Delivered, DemandError>) {
        if let Some(reply) = self.demands.remove(&demand) {
            // Nobody waits any more where sending fails.
            let _ = reply.send(answer);
        }
    }

    fn log(&self, event: Event) {
        match event {
            Event::NeighbourReady { peer, seed } => tracing::debug!(%peer, seed, "neighbour ready"),
            Event::PeerBanned { peer, reason } => tracing::warn!(%peer, ?reason, "banned a peer"),
            Event::OriginDiffers { segment } => {
                tracing::warn!(%segment, "the origin serves other bytes than were signed; sign the stream again");
            }
            Event::CatalogueNotSigned => {
                tracing::warn!("the catalogue file is not signed with this publisher's key; sign it again");
            }
        }
    }
}

/// Whether all that a batch speaks of lies behind what is kept: true ones of old are there for anyone to send again, and each
/// would cost a verification.
fn is_forgotten(floors: &BTreeMap<TrackId, SeqNo>, batch: &SignedBatch) -> bool {
    let Ok((_, body)) = SignedBatch::parse(batch.as_bytes()) else { return false };
    floors.get(&body.track).is_some_and(|floor| body.entries.iter().all(|entry| entry.seq < *floor))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use headwater_wire::{Entry, Scope};

    use super::*;
    use crate::key::Key;
    use crate::sign::Signer;

    #[test]
    fn a_batch_of_what_is_forgotten_is_not_looked_at_and_one_that_reaches_further_is() {
        let signer = Signer::new(Key::generate().unwrap(), Scope::Any);
        let batch = |track, numbers: &[u64]| {
            let entry = |seq: &u64| Entry::of_segment(SeqNo(*seq), b"x", false).unwrap();
            let entries: Vec<Entry> = numbers.iter().map(entry).collect();
            signer.sign(TrackId(track), &entries).unwrap().remove(0)
        };
        let floors = BTreeMap::from([(TrackId(1), SeqNo(10))]);
        assert!(is_forgotten(&floors, &batch(1, &[8, 9])));
        assert!(!is_forgotten(&floors, &batch(1, &[9, 10])));
        assert!(!is_forgotten(&floors, &batch(2, &[8])), "of this track nothing was forgotten");
    }
}
