//! One bottleneck, packet by packet: engines that send to engines through a drop-tail queue, over data channels as
//! browsers have them. Shows what engine and data channel together make of a path.

mod sctp;
mod world;

use headwater_wire::geometry::SegmentLenError;
use serde::Serialize;

/// A path, and what goes over it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Path {
    /// The queue before the narrowest link, in bytes.
    pub queue: u32,
    /// The round trip without a queue, in milliseconds.
    pub rtt_ms: f64,
    /// The narrowest link, in Mbit/s, in each direction.
    pub mbps: f64,
    /// Share of packets lost by chance.
    pub loss: f64,
    /// Whether each flow's chunks are urgent, and when it begins, in seconds.
    pub flows: Vec<Flow>,
    /// What is measured, in seconds.
    pub from_s: f64,
    /// See there.
    pub to_s: f64,
}

/// Somebody who sends to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Flow {
    /// Whether the receiver's player is about to run dry.
    pub urgent: bool,
    /// When it begins, in seconds.
    pub from_s: f64,
}

/// Why a path cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// Its segments cannot be.
    #[error(transparent)]
    Segment(#[from] SegmentLenError),
    /// It makes no sense.
    #[error("choose 0.1 to 1000 Mbit/s, up to 10000 ms, a loss of 0 to 0.5 and a queue of at least 1500 bytes")]
    Value,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The share of the link that each flow's chunks had.
    pub shares: Vec<f64>,
    /// How long packets stood in the queue, in milliseconds: the median and the 95th percentile.
    pub queued_ms: f64,
    /// See there.
    pub queued_p95_ms: f64,
    /// Packets that the queue had no room for.
    pub dropped: u64,
    /// How often one end gave the other up, which it never should on a path that carries.
    pub let_go: u32,
}

impl Path {
    /// One background flow over a path without loss.
    #[must_use]
    pub fn new(queue: u32, rtt_ms: f64, mbps: f64) -> Self {
        let flows = vec![Flow { urgent: false, from_s: 0.0 }];
        Self { queue, rtt_ms, mbps, loss: 0.0, flows, from_s: 10.0, to_s: 40.0 }
    }

    /// Lets it happen.
    ///
    /// # Errors
    /// Where it makes no sense.
    pub fn run(&self) -> Result<Outcome, PathError> {
        let sensible = |value: f64, least: f64, most: f64| (least..=most).contains(&value);
        let holds = sensible(self.mbps, 0.1, 1000.0)
            && sensible(self.rtt_ms, 0.0, 10_000.0)
            && sensible(self.loss, 0.0, 0.5)
            && self.queue >= 1500
            && self.from_s < self.to_s;
        if !holds {
            return Err(PathError::Value);
        }
        Ok(world::World::new(self)?.run())
    }
}

/// The paths that the bars are about, each without loss and with one flow.
#[must_use]
pub fn grid() -> Vec<Path> {
    let mut paths = Vec::new();
    for mbps in [2.0, 10.0, 50.0, 200.0] {
        for rtt_ms in [5.0, 40.0, 100.0, 200.0] {
            for queue in [32_000, 128_000, 1_000_000] {
                paths.push(Path::new(queue, rtt_ms, mbps));
            }
        }
    }
    paths
}
