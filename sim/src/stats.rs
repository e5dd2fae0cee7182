//! What is counted while a run goes on: by peer, by second, by segment.

use headwater_wire::Role;

use crate::clock::{Micros, SECOND, micros};
use crate::event::{NodeIndex, Requester, Resource};
use crate::population::Session;
use crate::world::Shared;

/// Where bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The origin, by the player's own loader.
    PlainHttp,
    /// The origin, by the engine.
    EngineHttp,
    /// The origin, by a seed.
    MirrorHttp,
    /// The origin's catalogue file.
    Catalogue,
    Seed,
    Viewer,
}

/// How many sources there are.
pub(crate) const SOURCES: usize = 6;

/// What is remembered of a peer.
#[derive(Debug, Clone)]
pub(crate) struct PeerRecord {
    pub(crate) index: NodeIndex,
    pub(crate) role: Role,
    pub(crate) joined: Micros,
    pub(crate) left: Micros,
    pub(crate) booted: Option<Micros>,
    pub(crate) started: Option<Micros>,
    pub(crate) stalls: u32,
    pub(crate) stalled: Micros,
    /// It was stalled for a second or more while a neighbour held what it waited for.
    pub(crate) stalled_beside: bool,
    pub(crate) watched: Micros,
    pub(crate) seeks: Vec<Micros>,
    /// By [`Source`].
    pub(crate) received: [u64; SOURCES],
    pub(crate) uploaded: u64,
    pub(crate) wasted_bytes: u64,
    pub(crate) control_frames: u64,
    pub(crate) control_bytes: u64,
    pub(crate) connections: u32,
    pub(crate) neighbours: u32,
    /// The engine's requests to the origin: as its duty, as a rescue, for want of anybody to ask.
    pub(crate) fetches: [u64; 3],
    /// Segments that the engine gave up.
    pub(crate) failed: u32,
    /// Bytes of segments handed to the player, and the same as the deliveries' reports account for them.
    pub(crate) delivered: u64,
    pub(crate) delivered_by_source: u64,
}

impl PeerRecord {
    pub(crate) fn new(index: NodeIndex, session: &Session) -> Self {
        Self {
            index,
            role: session.role,
            joined: session.join,
            left: session.join,
            booted: None,
            started: None,
            stalls: 0,
            stalled: 0,
            stalled_beside: false,
            watched: 0,
            seeks: Vec::new(),
            received: [0; SOURCES],
            uploaded: 0,
            wasted_bytes: 0,
            control_frames: 0,
            control_bytes: 0,
            connections: 0,
            neighbours: 0,
            fetches: [0; 3],
            failed: 0,
            delivered: 0,
            delivered_by_source: 0,
        }
    }

    pub(crate) fn add(&mut self, source: Source, len: u32) {
        self.received[source as usize] += u64::from(len);
    }

    pub(crate) fn from(&self, source: Source) -> u64 {
        self.received[source as usize]
    }

    /// Segment bytes received from anywhere.
    pub(crate) fn segment_bytes(&self) -> u64 {
        [Source::PlainHttp, Source::EngineHttp, Source::Seed, Source::Viewer]
            .map(|source| self.from(source))
            .iter()
            .sum()
    }
}

/// Kinds of control messages, by their postcard number; the names in the report.
pub(crate) const MESSAGE_KINDS: [&str; 17] = [
    "hello",
    "have",
    "have chunks",
    "dropped",
    "fetching",
    "request",
    "reject",
    "cancel",
    "get catalogue",
    "catalogue",
    "get hashes",
    "hashes",
    "ping",
    "pong",
    "bye",
    "candidates",
    "other",
];

/// One second of the run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Second {
    /// Bytes received by everyone, by [`Source`].
    pub(crate) received: [u64; SOURCES],
    pub(crate) uploaded: u64,
    pub(crate) control_frames: u64,
    pub(crate) control_bytes: u64,
    /// Samples of players that play or stall.
    pub(crate) watching: u64,
    pub(crate) stalled: u64,
    pub(crate) behind_ms: u64,
    pub(crate) behind_samples: u64,
}

/// Milliseconds a bin of the histogram of the distance behind live.
pub(crate) const BEHIND_BIN_MS: u64 = 50;
const BEHIND_BINS: usize = 2_400;

/// What a shard counts.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    pub(crate) seconds: Vec<Second>,
    /// Distances behind live: the whole run, and after the ramp.
    pub(crate) behind: [Vec<u64>; 2],
    pub(crate) kinds: [(u64, u64); MESSAGE_KINDS.len()],
    pub(crate) events: u64,
    ramp: Micros,
}

impl Counters {
    pub(crate) fn new(shared: &Shared) -> Self {
        // What happens at the very end counts with the last second.
        let seconds = ((shared.end / SECOND) as usize).max(1);
        Self {
            seconds: vec![Second::default(); seconds],
            behind: [vec![0; BEHIND_BINS], vec![0; BEHIND_BINS]],
            kinds: [(0, 0); MESSAGE_KINDS.len()],
            events: 0,
            ramp: micros(shared.scenario.audience.ramp_s),
        }
    }

    fn second(&mut self, at: Micros) -> &mut Second {
        let last = self.seconds.len() - 1;
        &mut self.seconds[((at / SECOND) as usize).min(last)]
    }

    pub(crate) fn received(&mut self, at: Micros, source: Source, len: u32) {
        self.second(at).received[source as usize] += u64::from(len);
    }

    pub(crate) fn uploaded(&mut self, at: Micros, len: u32) {
        self.second(at).uploaded += u64::from(len);
    }

    pub(crate) fn control(&mut self, at: Micros, bytes: u64, frame: &[u8]) {
        let second = self.second(at);
        second.control_frames += 1;
        second.control_bytes += bytes;
        let kind = frame.get(1).map_or(usize::MAX, |kind| usize::from(*kind)).min(MESSAGE_KINDS.len() - 1);
        self.kinds[kind].0 += 1;
        self.kinds[kind].1 += bytes;
    }

    pub(crate) fn watching(&mut self, at: Micros, stalled: bool, behind: Option<Micros>) {
        let after_ramp = at >= self.ramp;
        let second = self.second(at);
        second.watching += 1;
        second.stalled += u64::from(stalled);
        let Some(behind) = behind else { return };
        second.behind_ms += behind / 1_000;
        second.behind_samples += 1;
        let bin = ((behind / 1_000 / BEHIND_BIN_MS) as usize).min(BEHIND_BINS - 1);
        self.behind[0][bin] += 1;
        if after_ramp {
            self.behind[1][bin] += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (a, b) in self.seconds.iter_mut().zip(&other.seconds) {
            for (a, b) in a.received.iter_mut().zip(b.received) {
                *a += b;
            }
            a.uploaded += b.uploaded;
            a.control_frames += b.control_frames;
            a.control_bytes += b.control_bytes;
            a.watching += b.watching;
            a.stalled += b.stalled;
            a.behind_ms += b.behind_ms;
            a.behind_samples += b.behind_samples;
        }
        for (a, b) in self.behind.iter_mut().flatten().zip(other.behind.iter().flatten()) {
            *a += b;
        }
        for (a, b) in self.kinds.iter_mut().zip(other.kinds) {
            a.0 += b.0;
            a.1 += b.1;
        }
        self.events += other.events;
    }
}

/// Bytes that left the origin, by segment and requester.
#[derive(Debug, Clone)]
pub(crate) struct OriginCount {
    pub(crate) requests: u64,
    pub(crate) refused: u64,
    pub(crate) catalogue: u64,
    /// By sequence number, renditions together: by players, by engines, by seeds.
    pub(crate) segments: Vec<[u64; 3]>,
    /// By second: by players, by engines, by seeds.
    pub(crate) seconds: Vec<[u64; 3]>,
}

impl OriginCount {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            requests: 0,
            refused: 0,
            catalogue: 0,
            segments: vec![[0; 3]; shared.content.count as usize],
            seconds: vec![[0; 3]; (shared.end / SECOND) as usize + 2],
        }
    }

    pub(crate) fn sent(&mut self, at: Micros, resource: Resource, len: u32, shared: &Shared) {
        let len = u64::from(len);
        let Resource::Segment { segment, by, .. } = resource else {
            self.catalogue += len;
            return;
        };
        let by = match by {
            Requester::Player => 0,
            Requester::Engine => 1,
            Requester::Seed => 2,
        };
        self.segments[segment.seq as usize][by] += len;
        let last = self.seconds.len() - 1;
        self.seconds[((at.min(shared.end) / SECOND) as usize).min(last)][by] += len;
    }
}
