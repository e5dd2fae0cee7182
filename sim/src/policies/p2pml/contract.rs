//! The model's side of the engine's contract.

use headwater_swarm::{DataVerdict, Input, Now, Output, Stats};
use headwater_wire::{DataHeader, PeerId, SegmentId};

use super::{Neighbour, P2pml};
use crate::brain::Brain;
use crate::policies::talk;

impl Brain for P2pml {
    fn handle_input(&mut self, now: Now, input: Input<'_>) {
        self.now = now;
        self.dirty = true;
        match input {
            Input::Playlist(update) => {
                let track = update.track;
                for listed in update.segments {
                    self.listed.entry(SegmentId { track, seq: listed.seq }).or_insert((listed, now));
                }
            }
            Input::Playhead(playhead) => self.position = Some((now, playhead.position, playhead.buffered_to)),
            Input::Demand { demand, segment, .. } => {
                self.demand = Some((demand, segment));
                self.latest = Some(segment);
                self.deliver();
            }
            Input::DemandCancelled { .. } => self.demand = None,
            Input::SegmentStored { segment, len, .. } => self.complete(segment, len, now, true),
            Input::PeerConnected { peer } => {
                self.neighbours.insert(peer, Neighbour::default());
                let talk = self.announcement();
                self.send(peer, &talk);
            }
            Input::PeerDisconnected { peer } => self.lost(peer),
            Input::Control { peer, frame } => {
                if let Some(talk) = talk::decode(frame) {
                    self.heard(peer, talk);
                }
            }
            Input::ChunkReceived { peer, chunk, .. } => {
                let download = self.p2p.get(&chunk.segment).filter(|download| download.from == peer);
                let Some(download) = download else { return };
                if let Some(len) = download.len.filter(|len| len.bytes() == download.got) {
                    let since = download.since;
                    self.p2p.remove(&chunk.segment);
                    self.complete(chunk.segment, len, since, false);
                }
            }
            Input::ChunkSent { peer, .. } => {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.sending = neighbour.sending.saturating_sub(1);
                }
                self.give(peer);
            }
            Input::FetchDone { fetch, total } => self.http_ended(fetch, Some(total)),
            Input::FetchFailed { fetch, .. } => self.http_ended(fetch, None),
            _ => {}
        }
    }

    fn handle_data(&mut self, now: Now, peer: PeerId, header: &DataHeader, payload_len: u32) -> DataVerdict {
        self.now = now;
        let download = self.p2p.get_mut(&header.chunk.segment).filter(|download| download.from == peer);
        let Some((len, download)) = download.and_then(|download| Some((download.len?, download))) else {
            self.stats.wasted_bytes += u64::from(payload_len);
            return DataVerdict::Ignore;
        };
        download.heard = now;
        download.got += payload_len;
        if len.chunk_len(header.chunk.index) == Some(header.offset + payload_len) {
            return DataVerdict::AppendLast;
        }
        DataVerdict::Append
    }

    fn poll_output(&mut self) -> Output {
        if self.dirty {
            self.dirty = false;
            self.look();
        }
        self.outputs.pop_front().unwrap_or(Output::Timeout { at: self.wake })
    }

    fn stats(&self) -> Stats {
        Stats { neighbours: self.neighbours.len() as u32, ..self.stats }
    }

    fn is_held_nearby(&self, segment: SegmentId) -> bool {
        self.neighbours.values().any(|neighbour| neighbour.has.contains(&segment))
    }
}
