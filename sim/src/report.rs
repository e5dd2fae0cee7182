//! What a run came to: the figures of the table and of the JSON, worked out from what was counted.

use headwater_wire::Role;
use serde::Serialize;

use crate::clock::{Micros, SECOND, micros};
use crate::population::MBPS;
use crate::stats::{BEHIND_BIN_MS, MESSAGE_KINDS, PeerRecord, Source};
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
    /// Bytes that viewers received, by source.
    pub bytes: Bytes,
    /// Stalls in an hour of one viewer's watching.
    pub stalls_per_viewer_hour: f64,
    /// Share of viewers that stalled.
    pub stalled_viewers: f64,
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
            bytes,
            stalls_per_viewer_hour: stalls / (watched / 3_600.0).max(1e-9),
            stalled_viewers: stallers as f64 / began.max(1) as f64,
            stalled_time: stalled / (watched + stalled).max(1e-9),
            startup_ms: Spread::of(startups),
            seek_ms: Spread::of(seeks),
            behind_s: Spread::of_bins(&outcome.counters.behind[0]),
            behind_after_s: Spread::of_bins(&outcome.counters.behind[1]),
            upload_histogram: histogram(&ratios),
            upload_ratio: Spread::of(ratios),
            control: control(outcome, peer_seconds),
            wasted: wasted_bytes as f64 / (sum(&PeerRecord::segment_bytes) as f64).max(1.0),
            neighbours: neighbours.iter().sum::<f64>() / neighbours.len().max(1) as f64,
            failed: sum(&|record| u64::from(record.failed)),
            origin_requests: outcome.origin.as_ref().map_or((0, 0), |count| (count.requests, count.refused)),
            signalling_messages: outcome.signalling_messages,
            delivered: (sum(&|record| record.delivered), sum(&|record| record.delivered_by_source)),
            events: outcome.counters.events,
            series,
            copies_by_segment,
        }
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = ((values.len() as f64 * share).ceil() as usize).saturating_sub(1);
            values.get(place).copied().unwrap_or(0.0)
        };
        Self { median: at(0.5), p95: at(0.95), count: values.len() as u64 }
    }

    /// From the histogram of distances behind live, in seconds.
    fn of_bins(bins: &[u64]) -> Self {
        let count: u64 = bins.iter().sum();
        let at = |share: f64| {
            let mut left = (count as f64 * share).ceil() as u64;
            for (bin, samples) in (0..).zip(bins) {
                if *samples >= left.max(1) {
                    return (bin as f64 + 0.5) * BEHIND_BIN_MS as f64 / 1_000.0;
                }
                left -= samples;
            }
            0.0
        };
        Self { median: at(0.5), p95: at(0.95), count }
    }
}

fn upload_ratio(record: &PeerRecord) -> Option<f64> {
    let long = record.left.saturating_sub(record.joined) >= 30 * SECOND;
    let received = record.segment_bytes();
    (long && record.booted.is_some() && received > 0).then(|| record.uploaded as f64 / received as f64)
}

fn histogram(ratios: &[f64]) -> Vec<f64> {
    let mut bins = vec![0.0; 31];
    for ratio in ratios {
        let bin = ((ratio * 10.0) as usize).min(30);
        bins[bin] += 1.0 / ratios.len() as f64;
    }
    bins
}

/// Seconds that engines ran, all peers together.
fn engine_seconds(records: &[PeerRecord]) -> f64 {
    let begin = |record: &PeerRecord| if record.role == Role::Seed { Some(record.joined) } else { record.booted };
    records.iter().filter_map(|record| Some(record.left.saturating_sub(begin(record)?))).sum::<u64>() as f64
        / SECOND as f64
}

/// Million bits a second that the first viewers' and all seeds' uplinks can carry.
fn uplink_sum(shared: &Shared) -> f64 {
    let sessions = shared.population.sessions.iter().filter(|session| session.uploads && !session.late);
    sessions.map(|session| session.up / MBPS).sum()
}

fn offload(series: &[Moment]) -> f64 {
    let origin: u64 = series.iter().map(|moment| moment.bytes.player_http + moment.bytes.engine_http).sum();
    let peers: u64 = series.iter().map(|moment| moment.bytes.seeds + moment.bytes.viewers).sum();
    peers as f64 / ((origin + peers) as f64).max(1.0)
}

fn mean_segment(shared: &Shared) -> f64 {
    // The highest rendition stands for all: copies are counted in its size.
    let rate = shared.scenario.stream.renditions_kbps.last().copied().unwrap_or(1.0);
    rate * 125.0 * shared.content.segment_s()
}

/// Copies by what left the origin from `from` on. Live: of segments published from then on, a few seconds before the
/// end excepted; those whose viewers are still on their way.
fn copies(shared: &Shared, outcome: &Outcome, from: Micros) -> Copies {
    let Some(origin) = &outcome.origin else { return Copies::default() };
    let second = (from / SECOND) as usize;
    let from_seeds: u64 = outcome.counters.seconds.iter().skip(second).map(|s| s.received[Source::Seed as usize]).sum();
    let (sent, bytes) = if shared.content.live {
        let last = shared.content.published(shared.end.saturating_sub(5 * SECOND));
        // The first viewers begin with segments that were there before.
        let first = if from == 0 {
            shared.content.preroll.saturating_sub(shared.scenario.player.sync_segments as u32)
        } else {
            shared.content.published(from)
        };
        let range = first as usize..last as usize;
        let sent = add_up(origin.segments.get(range.clone()).unwrap_or_default());
        (sent, mean_segment(shared) * range.len().max(1) as f64)
    } else {
        let sent = add_up(origin.seconds.get(second..).unwrap_or_default());
        (sent, mean_segment(shared) * f64::from(shared.content.count))
    };
    // Of the same time; that it is not of the very same segments matters little.
    let span = shared.end.saturating_sub(from) as f64 / shared.content.segment as f64;
    let seeds_of = if shared.content.live { mean_segment(shared) * span.max(1.0) } else { bytes };
    Copies {
        players: sent[0] as f64 / bytes,
        engines: sent[1] as f64 / bytes,
        seeds: sent[2] as f64 / bytes,
        from_seeds: from_seeds as f64 / seeds_of,
    }
}

fn add_up(counts: &[[u64; 3]]) -> [u64; 3] {
    counts.iter().fold([0; 3], |sum, count| [sum[0] + count[0], sum[1] + count[1], sum[2] + count[2]])
}

fn copies_by_segment(shared: &Shared, outcome: &Outcome) -> Vec<[f64; 3]> {
    let counts = outcome.origin.as_ref().map(|origin| origin.segments.as_slice()).unwrap_or_default();
    let bytes = mean_segment(shared);
    counts.iter().map(|count| count.map(|sent| sent as f64 / bytes)).collect()
}

fn control(outcome: &Outcome, peer_seconds: f64) -> Control {
    let per = |count: u64| count as f64 / peer_seconds.max(1.0);
    let kinds = MESSAGE_KINDS.iter().zip(outcome.counters.kinds).filter(|(_, (count, _))| *count > 0);
    Control {
        messages: per(outcome.counters.kinds.iter().map(|(count, _)| count).sum()),
        bytes: per(outcome.counters.kinds.iter().map(|(_, bytes)| bytes).sum()),
        kinds: kinds.map(|(name, (count, bytes))| ((*name).to_owned(), per(count), per(bytes))).collect(),
    }
}

fn series(shared: &Shared, outcome: &Outcome) -> Vec<Moment> {
    let seconds = (shared.end / SECOND) as usize;
    let per_second = mean_segment(shared) / shared.content.segment_s();
    let samples = 1_000.0 / shared.scenario.player.tick_ms;
    let origin = outcome.origin.as_ref().map(|origin| origin.seconds.as_slice()).unwrap_or_default();
    let counted = outcome.counters.seconds.iter().take(seconds);
    (0..)
        .zip(counted)
        .map(|(number, second)| {
            let origin = origin.get(number as usize).copied().unwrap_or_default();
            let from = |source: Source| second.received[source as usize];
            Moment {
                second: number,
                bytes: Bytes {
                    player_http: from(Source::PlainHttp),
                    engine_http: from(Source::EngineHttp),
                    seeds: from(Source::Seed),
                    viewers: from(Source::Viewer),
                    catalogue: from(Source::Catalogue),
                },
                origin,
                copies: (origin[0] + origin[1]) as f64 / per_second,
                stalled: second.stalled as f64 / second.watching.max(1) as f64,
                watching: second.watching as f64 / samples,
                behind_s: second.behind_ms as f64 / second.behind_samples.max(1) as f64 / 1_000.0,
                control_messages: second.control_frames,
                control_bytes: second.control_bytes,
            }
        })
        .collect()
}
