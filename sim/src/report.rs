//! What a run came to: the figures of the table and of the JSON, worked out from what was counted.

use headwater_wire::Role;
use serde::Serialize;

use crate::clock::{Micros, SECOND, micros};
use crate::figures::{
    control, copies, copies_by_segment, engine_seconds, histogram, offload, propagation, series, uplink_sum,
    upload_ratio,
};
use crate::stats::{PeerRecord, Source};
use crate::world::{Outcome, Shared};

/// What a run came to. Serialised, it is the JSON of `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// Who decided for the viewers.
    pub policy: String,
    /// The scenario's seed.
    pub seed: u64,
    /// Seconds of virtual time.
    pub duration_s: f64,
    /// Viewers at a time.
    pub viewers: u32,
    /// Viewers in all, those that came in the place of others included.
    pub sessions: u32,
    /// Copies of each segment that left the origin.
    pub copies: Copies,
    /// The same for segments published (VOD: bytes sent) after the ramp.
    pub copies_after: Copies,
    /// Share of the viewers' bytes that did not come from the origin.
    pub offload: f64,
    /// The same after the ramp.
    pub offload_after: f64,
    /// What it could be at most: every viewer but one.
    pub offload_limit: f64,
    /// Bytes a second that all uplinks can carry, by what all viewers watch (one rendition, the highest).
    pub uplink_to_demand: f64,
    /// Seconds that a segment must take, once published, to reach everyone over the best of trees: see
    /// docs/simulator.md.
    pub propagation_s: f64,
    /// Bytes that viewers received, by source.
    pub bytes: Bytes,
    /// Stalls in an hour of one viewer's watching.
    pub stalls_per_viewer_hour: f64,
    /// Share of viewers that stalled.
    pub stalled_viewers: f64,
    /// Share of viewers that were stalled for a second or more while a neighbour held what they waited for.
    pub stalled_beside: f64,
    /// Share of the time that was spent stalled.
    pub stalled_time: f64,
    /// From coming to the first frame, in milliseconds.
    pub startup_ms: Spread,
    /// From a seek to its first frame, in milliseconds; VOD only.
    pub seek_ms: Spread,
    /// Behind the encoder, in seconds; live only.
    pub behind_s: Spread,
    /// The same after the ramp.
    pub behind_after_s: Spread,
    /// Bytes sent by bytes received, of viewers that stayed half a minute or longer.
    pub upload_ratio: Spread,
    /// Its histogram: the share of viewers in each tenth from 0 to 3, and beyond.
    pub upload_histogram: Vec<f64>,
    /// What peers say to each other besides segments, a peer and second.
    pub control: Control,
    /// Segment bytes that came in vain, by all segment bytes received.
    pub wasted: f64,
    /// Neighbours that viewers had at the end, on average.
    pub neighbours: f64,
    /// The engines' requests to the origin, a segment of the run: as their duty, as rescues, for want of anybody to ask.
    pub fetches: [f64; 3],
    /// Segments that engines gave up.
    pub failed: u64,
    /// Requests to the origin, and how many it refused.
    pub origin_requests: (u64, u64),
    /// Messages to and from the signalling server.
    pub signalling_messages: u64,
    /// Bytes of segments handed to players, and what the deliveries' own accounts add up to.
    pub delivered: (u64, u64),
    /// Events handled: what the run cost.
    pub events: u64,
    /// Milliseconds stalled, by session.
    pub stalled_ms: Vec<u64>,
    /// The run by second.
    pub series: Vec<Moment>,
    /// Copies that left the origin by segment: by players, by engines, by seeds.
    pub copies_by_segment: Vec<[f64; 3]>,
}

/// Copies of a segment that left the origin, on average.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Copies {
    /// For players without an engine: at start-up, or where the engine gave up.
    pub players: f64,
    /// For viewers' engines.
    pub engines: f64,
    /// For seeds.
    pub seeds: f64,
    /// Copies that seeds sent to viewers.
    pub from_seeds: f64,
}

impl Copies {
    /// For viewers.
    #[must_use]
    pub fn viewers(&self) -> f64 {
        self.players + self.engines
    }
}

/// Bytes by source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bytes {
    /// The origin, by the player's own loader.
    pub player_http: u64,
    /// The origin, by the engine.
    pub engine_http: u64,
    /// Seeds.
    pub seeds: u64,
    /// Viewers.
    pub viewers: u64,
    /// The catalogue file.
    pub catalogue: u64,
}

/// Where a figure lies among viewers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Half are below.
    pub median: f64,
    /// One in twenty is above.
    pub p95: f64,
    /// How many there are.
    pub count: u64,
}

/// What peers say to each other besides segments.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Control {
    /// Messages a peer and second.
    pub messages: f64,
    /// Bytes a peer and second, headers of the transport included.
    pub bytes: f64,
    /// The same by kind of message.
    pub kinds: Vec<(String, f64, f64)>,
}

/// One second of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moment {
    /// Its number.
    pub second: u64,
    /// Bytes viewers received in it.
    pub bytes: Bytes,
    /// Bytes that left the origin: for players, for engines, for seeds.
    pub origin: [u64; 3],
    /// Copies a segment that left the origin for viewers in it, at the mean size of a segment.
    pub copies: f64,
    /// Share of viewers that stalled.
    pub stalled: f64,
    /// Viewers that play or stall.
    pub watching: f64,
    /// Seconds behind live, on average.
    pub behind_s: f64,
    /// Control messages sent in it.
    pub control_messages: u64,
    /// Bytes of these.
    pub control_bytes: u64,
}

impl Report {
    pub(crate) fn new(shared: &Shared, outcome: &Outcome) -> Self {
        let scenario = &shared.scenario;
        let viewers: Vec<&PeerRecord> = outcome.records.iter().filter(|record| record.role == Role::Viewer).collect();
        let sum = |count: &dyn Fn(&PeerRecord) -> u64| viewers.iter().map(|record| count(record)).sum::<u64>();
        let from = |source: Source| sum(&|record| record.from(source));
        let bytes = Bytes {
            player_http: from(Source::PlainHttp),
            engine_http: from(Source::EngineHttp),
            seeds: from(Source::Seed),
            viewers: from(Source::Viewer),
            catalogue: from(Source::Catalogue),
        };
        let wasted_bytes = sum(&|record| record.wasted_bytes);
        let watched = sum(&|record| record.watched) as f64 / SECOND as f64;
        let stalled = sum(&|record| record.stalled) as f64 / SECOND as f64;
        let stalls = sum(&|record| u64::from(record.stalls)) as f64;
        let began = viewers.iter().filter(|record| record.started.is_some()).count();
        let stallers = viewers.iter().filter(|record| record.stalls > 0).count();
        let beside = viewers.iter().filter(|record| record.stalled_beside).count();
        let millis = |span: Micros| span as f64 / 1_000.0;
        let startups = viewers.iter().filter_map(|record| Some(millis(record.started? - record.joined))).collect();
        let seeks = viewers.iter().flat_map(|record| record.seeks.iter().map(|span| millis(*span))).collect();
        let ratios: Vec<f64> = viewers.iter().filter_map(|record| upload_ratio(record)).collect();
        let series = series(shared, outcome);
        let ramp = (micros(scenario.audience.ramp_s) / SECOND) as usize;
        let peer_seconds = engine_seconds(&outcome.records);
        let uplinks: f64 = uplink_sum(shared);
        let demand =
            f64::from(scenario.audience.viewers) * scenario.stream.renditions_kbps.last().unwrap_or(&1.0) / 1e3;
        let connected = viewers.iter().filter(|record| record.booted.is_some() && record.left >= shared.end);
        let neighbours: Vec<f64> = connected.map(|record| f64::from(record.neighbours)).collect();
        let segments = (scenario.duration_s / scenario.stream.segment_s).max(1.0);
        let copies_by_segment = copies_by_segment(shared, outcome);
        Self {
            scenario: scenario.name.clone(),
            policy: shared.policy.name().to_owned(),
            seed: scenario.seed,
            duration_s: scenario.duration_s,
            viewers: scenario.audience.viewers,
            sessions: viewers.len() as u32,
            copies: copies(shared, outcome, 0),
            copies_after: copies(shared, outcome, micros(scenario.audience.ramp_s)),
            offload: offload(&series),
            offload_after: offload(series.get(ramp..).unwrap_or_default()),
            offload_limit: 1.0 - 1.0 / f64::from(scenario.audience.viewers),
            uplink_to_demand: uplinks / demand,
            propagation_s: propagation(shared),
            bytes,
            stalls_per_viewer_hour: stalls / (watched / 3_600.0).max(1e-9),
            stalled_viewers: stallers as f64 / began.max(1) as f64,
            stalled_beside: beside as f64 / began.max(1) as f64,
            stalled_time: stalled / (watched + stalled).max(1e-9),
            startup_ms: Spread::of(startups),
            seek_ms: Spread::of(seeks),
            behind_s: Spread::of_bins(&outcome.counters.behind[0]),
            behind_after_s: Spread::of_bins(&outcome.counters.behind[1]),
            upload_histogram: histogram(&ratios),
            upload_ratio: Spread::of(ratios),
            control: control(outcome, peer_seconds),
            wasted: wasted_bytes as f64 / (sum(&PeerRecord::segment_bytes) as f64).max(1.0),
            neighbours: neighbours.iter().fold(0.0, |sum, count| sum + count) / neighbours.len().max(1) as f64,
            fetches: [0, 1, 2].map(|why| sum(&|record| record.fetches[why]) as f64 / segments),
            failed: sum(&|record| u64::from(record.failed)),
            origin_requests: outcome.origin.as_ref().map_or((0, 0), |count| (count.requests, count.refused)),
            signalling_messages: outcome.signalling_messages,
            delivered: (sum(&|record| record.delivered), sum(&|record| record.delivered_by_source)),
            events: outcome.counters.events,
            stalled_ms: viewers.iter().map(|record| record.stalled / 1_000).collect(),
            series,
            copies_by_segment,
        }
    }
}
