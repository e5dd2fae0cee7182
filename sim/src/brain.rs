//! What decides for a peer: the real engine, or the model of another system's policy behind the same contract.

use headwater_swarm::{DataVerdict, Engine, Input, Now, Output, Stats};
use headwater_wire::{DataHeader, PeerId, SegmentId};

/// The engine's contract (see [`headwater_swarm::Engine`]), for all that may stand in its place.
pub(crate) trait Brain: Send {
    fn handle_input(&mut self, now: Now, input: Input<'_>);
    fn handle_data(&mut self, now: Now, peer: PeerId, header: &DataHeader, payload_len: u32) -> DataVerdict;
    fn poll_output(&mut self) -> Output;
    fn stats(&self) -> Stats;
    /// Whether it knows a neighbour that holds all of a segment.
    fn is_held_nearby(&self, segment: SegmentId) -> bool;
}

impl Brain for Engine {
    fn handle_input(&mut self, now: Now, input: Input<'_>) {
        Self::handle_input(self, now, input);
    }

    fn handle_data(&mut self, now: Now, peer: PeerId, header: &DataHeader, payload_len: u32) -> DataVerdict {
        Self::handle_data(self, now, peer, header, payload_len)
    }

    fn poll_output(&mut self) -> Output {
        Self::poll_output(self)
    }

    fn stats(&self) -> Stats {
        Self::stats(self)
    }

    fn is_held_nearby(&self, segment: SegmentId) -> bool {
        Self::is_held_nearby(self, segment)
    }
}
