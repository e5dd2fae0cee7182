//! One bottleneck, packet by packet: what must hold whatever engine and data channel make of it.

#![allow(clippy::unwrap_used, reason = "a path that cannot be run fails the test")]

use headwater_sim::path::{Flow, Outcome, Path};

/// Payload of all that a packet weighs on the wire, at best, and a piece that had begun to come before it was measured.
const MOST: f64 = 0.94;

fn run(change: impl FnOnce(&mut Path)) -> Outcome {
    let mut path = Path::new(1_000_000, 40.0, 4.0);
    (path.from_s, path.to_s) = (3.0, 13.0);
    change(&mut path);
    path.run().unwrap()
}

#[test]
fn a_path_without_loss_is_filled_and_never_more_than_that() {
    let outcome = run(|_| {});
    assert!(outcome.shares[0] > 0.85 && outcome.shares[0] < MOST, "{outcome:?}");
    assert_eq!(outcome.dropped, 0);
}

#[test]
fn a_queue_holds_no_more_than_it_has_room_for() {
    let outcome = run(|path| path.queue = 32_000);
    assert!(outcome.dropped > 0, "{outcome:?}");
    // 32 kB at 500 kB a second.
    assert!(outcome.queued_p95_ms <= 64.0 && outcome.queued_ms <= outcome.queued_p95_ms, "{outcome:?}");
}

#[test]
fn loss_slows_a_flow_down_and_loses_nothing() {
    let lossy = run(|path| path.loss = 0.02);
    assert!(lossy.shares[0] > 0.05, "it stands still: {lossy:?}");
    assert!(lossy.shares[0] < 0.8 * run(|_| {}).shares[0], "{lossy:?}");
}

#[test]
fn two_flows_have_what_one_has() {
    let outcome =
        run(|path| path.flows = vec![Flow { urgent: false, from_s: 0.0 }, Flow { urgent: true, from_s: 1.0 }]);
    assert!(outcome.shares.iter().all(|share| *share > 0.05), "{outcome:?}");
    assert!(outcome.shares.iter().sum::<f64>() < MOST, "{outcome:?}");
}

#[test]
fn the_same_path_comes_out_the_same() {
    let lossy = || run(|path| path.loss = 0.01);
    assert_eq!(lossy(), lossy());
}
