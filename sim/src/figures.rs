//! How the figures of a report are worked out from what was counted.

use headwater_wire::Role;

use crate::clock::{Micros, SECOND};
use crate::population::MBPS;
use crate::report::{Bytes, Control, Copies, Moment, Spread};
use crate::stats::{BEHIND_BIN_MS, MESSAGE_KINDS, PeerRecord, Source};
use crate::world::{Outcome, Shared};

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = ((values.len() as f64 * share).ceil() as usize).saturating_sub(1);
            values.get(place).copied().unwrap_or(0.0)
        };
        Self { median: at(0.5), p95: at(0.95), count: values.len() as u64 }
    }

    /// From the histogram of distances behind live, in seconds.
    pub(crate) fn of_bins(bins: &[u64]) -> Self {
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

pub(crate) fn upload_ratio(record: &PeerRecord) -> Option<f64> {
    let long = record.left.saturating_sub(record.joined) >= 30 * SECOND;
    let received = record.segment_bytes();
    (long && record.booted.is_some() && received > 0).then(|| record.uploaded as f64 / received as f64)
}

pub(crate) fn histogram(ratios: &[f64]) -> Vec<f64> {
    let mut bins = vec![0.0; 31];
    for ratio in ratios {
        let bin = ((ratio * 10.0) as usize).min(30);
        bins[bin] += 1.0 / ratios.len() as f64;
    }
    bins
}

/// Seconds that engines ran, all peers together.
pub(crate) fn engine_seconds(records: &[PeerRecord]) -> f64 {
    let begin = |record: &PeerRecord| if record.role == Role::Seed { Some(record.joined) } else { record.booted };
    records.iter().filter_map(|record| Some(record.left.saturating_sub(begin(record)?))).sum::<u64>() as f64
        / SECOND as f64
}

/// Million bits a second that the first viewers' and all seeds' uplinks can carry.
pub(crate) fn uplink_sum(shared: &Shared) -> f64 {
    let sessions = shared.population.sessions.iter().filter(|session| session.uploads && !session.late);
    sessions.map(|session| session.up.min(session.cap) / MBPS).sum()
}

/// A lower bound in seconds: one viewer has the first chunk from the origin, relays are as far apart as peers are in
/// the middle, each passes chunks on the moment they are there to as many as it has neighbours, and the rest of the
/// segment follows at the median downlink.
pub(crate) fn propagation(shared: &Shared) -> f64 {
    let population = &shared.population;
    let viewers: Vec<u32> = (0..population.len()).filter(|i| population.session(*i).role == Role::Viewer).collect();
    let count = viewers.len();
    let at = |i: usize| viewers[i % count];
    // Every tenth-or-so viewer with one far from it in the list: a fixed sample, so that runs stay comparable.
    let pairs = (0..500).map(|i| population.latency(at(i * 7), at(i * 13 + count / 2)) as f64 / SECOND as f64);
    let hop = Spread::of(pairs.collect()).median;
    let down = Spread::of(viewers.iter().map(|viewer| population.session(*viewer).down).collect()).median;
    let fan_out = f64::from(shared.scenario.engine.neighbours.unwrap_or(8).max(3)) - 1.0;
    let hops = (f64::from(shared.scenario.audience.viewers).ln() / fan_out.ln()).ceil();
    let segment = mean_segment(shared);
    let origin = population.latency(at(0), population.origin()) as f64 / SECOND as f64;
    2.0 * origin + shared.scenario.origin.think_ms / 1e3 + hops * hop + segment / down
}

pub(crate) fn offload(series: &[Moment]) -> f64 {
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
pub(crate) fn copies(shared: &Shared, outcome: &Outcome, from: Micros) -> Copies {
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

pub(crate) fn copies_by_segment(shared: &Shared, outcome: &Outcome) -> Vec<[f64; 3]> {
    let counts = outcome.origin.as_ref().map(|origin| origin.segments.as_slice()).unwrap_or_default();
    let bytes = mean_segment(shared);
    counts.iter().map(|count| count.map(|sent| sent as f64 / bytes)).collect()
}

pub(crate) fn control(outcome: &Outcome, peer_seconds: f64) -> Control {
    let per = |count: u64| count as f64 / peer_seconds.max(1.0);
    let kinds = MESSAGE_KINDS.iter().zip(outcome.counters.kinds).filter(|(_, (count, _))| *count > 0);
    Control {
        messages: per(outcome.counters.kinds.iter().map(|(count, _)| count).sum()),
        bytes: per(outcome.counters.kinds.iter().map(|(_, bytes)| bytes).sum()),
        kinds: kinds.map(|(name, (count, bytes))| ((*name).to_owned(), per(count), per(bytes))).collect(),
    }
}

pub(crate) fn series(shared: &Shared, outcome: &Outcome) -> Vec<Moment> {
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
