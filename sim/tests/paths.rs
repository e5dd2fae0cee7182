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
    // What is urgent leaves as the data channel lets it.
    let outcome = run(|path| {
        path.queue = 32_000;
        path.flows[0].urgent = true;
    });
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
    let outcome = run(|path| path.flows = vec![Flow { urgent: true, from_s: 0.0 }, Flow { urgent: true, from_s: 1.0 }]);
    assert!(outcome.shares.iter().all(|share| *share > 0.05), "{outcome:?}");
    assert!(outcome.shares.iter().sum::<f64>() < MOST, "{outcome:?}");
}

#[test]
fn what_is_in_the_background_yields_to_what_is_urgent() {
    let outcome =
        run(|path| path.flows = vec![Flow { urgent: false, from_s: 0.0 }, Flow { urgent: true, from_s: 1.0 }]);
    assert!(outcome.shares[1] > 4.0 * outcome.shares[0] && outcome.shares[0] > 0.01, "{outcome:?}");
}

#[test]
fn what_is_in_the_background_fills_a_path_and_not_its_queue() {
    for (queue, rtt_ms, mbps) in
        [(32_000, 40.0, 2.0), (128_000, 5.0, 10.0), (128_000, 200.0, 10.0), (1_000_000, 40.0, 50.0)]
    {
        let outcome = run(|path| (path.queue, path.rtt_ms, path.mbps, path.from_s) = (queue, rtt_ms, mbps, 6.0));
        assert!(outcome.shares[0] > 0.85 && outcome.queued_p95_ms < 50.0, "{queue} {rtt_ms} {mbps}: {outcome:?}");
        assert_eq!((outcome.dropped, outcome.let_go), (0, 0), "{queue} {rtt_ms} {mbps}");
    }
}

#[test]
fn two_flows_in_the_background_have_as_much() {
    let outcome = run(|path| {
        (path.queue, path.mbps, path.from_s, path.to_s) = (128_000, 10.0, 10.0, 30.0);
        path.flows = vec![Flow { urgent: false, from_s: 0.0 }, Flow { urgent: false, from_s: 3.0 }];
    });
    let (most, least) = (outcome.shares[0].max(outcome.shares[1]), outcome.shares[0].min(outcome.shares[1]));
    assert!(most < 2.0 * least && most + least > 0.8 && outcome.queued_p95_ms < 50.0, "{outcome:?}");
}

#[test]
fn the_same_path_comes_out_the_same() {
    let lossy = || run(|path| path.loss = 0.01);
    assert_eq!(lossy(), lossy());
}
