//! The pilot on a path of virtual time: one narrow link with a queue that drops what does not fit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::*;

/// Bytes of a chunk in one datagram, and what it weighs on the wire: a full link carries 92 % of its rate.
const PAYLOAD: u64 = 1130;
const DATAGRAM: u64 = 1228;

struct Path {
    bytes_a_second: f64,
    queue: u64,
    round_trip: Duration,
    /// The longest that either end may be late, at random.
    jitter: Duration,
}

#[derive(Debug, Default)]
struct Outcome {
    delivered: u64,
    lost: u64,
    deepest: u64,
    longest_wait: Duration,
}

/// Sends for a while: a transport whose own window starts small and doubles, as SCTP's does, under the pilot's.
fn drive(path: &Path, lasting: Duration, pauses: bool) -> (Outcome, Pilot) {
    drive_believing(path, path.round_trip + Duration::from_micros(300), lasting, pauses)
}

/// The same, where checks of the connection had this round trip.
fn drive_believing(path: &Path, round_trip: Duration, lasting: Duration, pauses: bool) -> (Outcome, Pilot) {
    let start = Instant::now();
    let mut pilot = Pilot::new(start);
    pilot.note_round_trip(start, round_trip);
    let mut outcome = Outcome::default();
    let (mut now, mut link_free) = (start, start);
    let mut pending: VecDeque<u64> = VecDeque::new();
    let (mut cwnd, mut in_flight, mut outstanding) = (4380_u64, 0_u64, 0_u64);
    let mut acks: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
    let mut random = 1_u64;
    let mut last = start;
    while now < start + lasting {
        let second = now.duration_since(start).as_secs();
        let quiet = pauses && second % 2 == 1;
        let permit = if quiet { Permit::AfterAck } else { pilot.permit(now) };
        let mut next = now + Duration::from_millis(100);
        match permit {
            Permit::Now => {
                let len = u64::from(pilot.piece_len(65_536));
                pilot.on_sent(now, len);
                outstanding += len;
                pending.push_back(len);
                next = now;
            }
            // Timers are that coarse.
            Permit::At(at) => next = at + Duration::from_millis(1),
            Permit::AfterAck => {}
        }
        while in_flight < cwnd && !pending.is_empty() {
            let piece = pending.front_mut().unwrap();
            let payload = PAYLOAD.min(*piece);
            *piece -= payload;
            if *piece == 0 {
                pending.pop_front();
            }
            in_flight += payload;
            let queued = (link_free.saturating_duration_since(now).as_secs_f64() * path.bytes_a_second) as u64;
            outcome.deepest = outcome.deepest.max(queued);
            if queued + DATAGRAM > path.queue {
                outcome.lost += 1;
                // It comes again a while later; what that does to the transport is not the point here.
                acks.push(Reverse((now + path.round_trip * 2, payload)));
                continue;
            }
            link_free = link_free.max(now) + Duration::from_secs_f64(DATAGRAM as f64 / path.bytes_a_second);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let late = path.jitter.mul_f64((random >> 40) as f64 / (1_u64 << 24) as f64);
            acks.push(Reverse((link_free + path.round_trip + late, payload)));
        }
        if let Some(Reverse((at, _))) = acks.peek() {
            next = next.min(*at);
        }
        now = now.max(next);
        let mut acked = 0;
        while let Some(Reverse((at, payload))) = acks.peek().copied() {
            if at > now {
                break;
            }
            acks.pop();
            acked += payload;
        }
        if acked > 0 {
            if !pending.is_empty() {
                cwnd += acked.min(cwnd);
            }
            in_flight -= acked;
            outstanding -= acked;
            outcome.delivered += acked;
            if !pauses {
                outcome.longest_wait = outcome.longest_wait.max(now - last);
            }
            last = now;
            pilot.on_outstanding(now, outstanding);
        }
    }
    (outcome, pilot)
}

fn path(mbit: f64, round_trip_ms: u64, queue_kib: u64) -> Path {
    Path {
        bytes_a_second: mbit * 125_000.0,
        queue: queue_kib * 1024,
        round_trip: Duration::from_millis(round_trip_ms),
        jitter: Duration::from_micros(500),
    }
}

#[test]
fn long_fast_paths_are_filled_whatever_their_queue() {
    for (mbit, round_trip, queue) in
        [(100.0, 40, 64), (100.0, 40, 256), (100.0, 40, 1024), (50.0, 20, 128), (20.0, 80, 128), (100.0, 10, 64)]
    {
        let (outcome, pilot) = drive(&path(mbit, round_trip, queue), Duration::from_secs(20), false);
        let share = outcome.delivered as f64 / (mbit * 125_000.0 * 20.0);
        println!("{mbit} Mbit/s, {round_trip} ms, {queue} KiB: {share:.3}, {outcome:?}, window {}", pilot.window());
        assert!(share > 0.75, "{mbit} Mbit/s, {round_trip} ms, {queue} KiB: {share:.3}, {outcome:?}");
        assert!(outcome.lost < 20, "{mbit} Mbit/s, {round_trip} ms, {queue} KiB: {outcome:?}");
    }
}

#[test]
fn a_pause_is_not_followed_by_a_burst() {
    for queue in [64, 256] {
        let (outcome, _) = drive(&path(100.0, 40, queue), Duration::from_secs(20), true);
        assert!(outcome.lost < 20, "{queue} KiB: {outcome:?}");
        assert!(outcome.delivered as f64 > 0.35 * 12.5e6 * 20.0, "{queue} KiB: {outcome:?}");
    }
}

#[test]
fn late_timers_and_crowded_machines_cost_some_speed_and_no_losses() {
    let mut path = path(100.0, 40, 64);
    path.jitter = Duration::from_millis(4);
    let (outcome, pilot) = drive(&path, Duration::from_secs(20), false);
    let share = outcome.delivered as f64 / (12.5e6 * 20.0);
    println!("{share:.3} {outcome:?} window {}", pilot.window());
    assert_eq!(outcome.lost, 0, "{outcome:?}");
    assert!(share > 0.6, "{share:.3} {outcome:?}");
}

#[test]
fn a_path_that_is_longer_than_it_was_is_noticed_and_filled() {
    let path = path(100.0, 40, 256);
    let (outcome, pilot) = drive_believing(&path, Duration::from_micros(700), Duration::from_secs(40), false);
    let share = outcome.delivered as f64 / (12.5e6 * 40.0);
    assert!(share > 0.5 && outcome.lost < 20, "{share:.3} {outcome:?} window {}", pilot.window());
}

#[test]
fn a_near_path_with_a_queue_of_our_own_stays_near() {
    let near = Path { round_trip: Duration::from_micros(700), ..path(100.0, 0, 256) };
    let (outcome, pilot) = drive_believing(&near, Duration::from_micros(700), Duration::from_secs(40), false);
    assert!(outcome.delivered as f64 > 0.8 * 12.5e6 * 40.0 && outcome.lost == 0, "{outcome:?}");
    assert_eq!(pilot.piece_len(65_000), 65_000);
}

#[test]
fn on_this_machine_the_window_is_what_a_browser_takes() {
    let (outcome, pilot) = drive(&path(400.0, 0, 1024), Duration::from_secs(2), false);
    assert_eq!((pilot.window(), outcome.lost), (MIN_WINDOW, 0));
    assert_eq!(pilot.piece_len(65_000), 65_000);
}
