//! Runs of small scenarios: what must hold whatever the engine's tuning.

#![allow(clippy::unwrap_used, reason = "a scenario that cannot be run fails the test")]

use std::path::PathBuf;

use headwater_sim::{Policy, Report, Scenario, html, table};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn small(name: &str, change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = Scenario::load(&folder().join(format!("{name}.toml"))).unwrap();
    change(&mut scenario);
    scenario
}

fn run(scenario: &Scenario, policy: Policy, threads: u32) -> Report {
    headwater_sim::run(scenario, policy, threads, &|_| {}).unwrap()
}

#[test]
fn every_scenario_file_loads_and_is_named_after_its_file() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let scenario = Scenario::load(&path).unwrap();
        assert_eq!(Some(scenario.name.as_str()), path.file_stem().and_then(|stem| stem.to_str()));
        assert!(!scenario.about.is_empty(), "{} says nothing of itself", scenario.name);
        count += 1;
    }
    assert!(count >= 9, "{count} scenarios");
}

#[test]
fn unknown_fields_and_senseless_values_are_refused() {
    for text in [
        "name = \"x\"\nviewers = 3",
        "name = \"x\"\n[audience]\nviewer = 3",
        "name = \"x\"\n[audience]\nviewers = 0",
        "name = \"x\"\n[stream]\nsegment_s = 0",
        "name = \"x\"\n[stream]\nrenditions_kbps = []",
    ] {
        assert!(Scenario::parse(text, "test").is_err(), "{text}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_byte_for_byte_on_any_number_of_threads() {
    let scenario = small("live-50", |scenario| {
        scenario.audience.viewers = 24;
        scenario.duration_s = 30.0;
    });
    let text =
        |scenario: &Scenario, threads| serde_json::to_string(&run(scenario, Policy::Headwater, threads)).unwrap();
    let first = text(&scenario, 1);
    assert_eq!(first, text(&scenario, 1));
    assert_eq!(first, text(&scenario, 3));
    let other = Scenario { seed: 2, ..scenario };
    assert_ne!(first, text(&other, 1));
}

#[test]
fn every_byte_that_a_player_got_came_from_somewhere() {
    for name in ["live-50", "vod-20"] {
        let scenario = small(name, |scenario| {
            scenario.audience.viewers = 16;
            scenario.duration_s = 40.0;
        });
        for policy in Policy::ALL {
            let report = run(&scenario, policy, 1);
            let (delivered, accounted) = report.delivered;
            assert_eq!(delivered, accounted, "{name}, {}", policy.name());
            let bytes = report.bytes;
            let received = bytes.player_http + bytes.engine_http + bytes.seeds + bytes.viewers;
            assert!(received >= delivered, "{name}, {}: {received} received, {delivered} delivered", policy.name());
            let by_second: u64 = report.series.iter().map(|moment| moment.bytes.viewers).sum();
            assert_eq!(by_second, bytes.viewers, "{name}, {}", policy.name());
        }
    }
}

#[test]
fn over_http_alone_every_viewer_is_a_copy() {
    let scenario = small("live-50", |scenario| {
        scenario.audience.viewers = 20;
        scenario.audience.churn_per_min = 0.0;
        scenario.audience.ramp_s = 1.0;
        scenario.stream.variation = 0.0;
    });
    let report = run(&scenario, Policy::HttpOnly, 1);
    assert!((report.copies_after.viewers() - 20.0).abs() < 0.5, "{} copies", report.copies_after.viewers());
    assert_eq!(report.bytes.viewers + report.bytes.seeds, 0);
    assert!(report.stalls_per_viewer_hour < 1.0);
}

#[test]
fn two_viewers_share_about_one_copy() {
    let scenario = small("live-50", |scenario| {
        scenario.audience.viewers = 2;
        scenario.audience.churn_per_min = 0.0;
        scenario.audience.ramp_s = 4.0;
        scenario.network.unconnectable = 0.0;
        scenario.network.symmetric_nat = 0.0;
        scenario.stream.variation = 0.0;
    });
    // The ramp's end is too early: the second viewer's first segments come over HTTP.
    let report = run(&scenario, Policy::Headwater, 1);
    let late = &report.copies_by_segment[report.copies_by_segment.len() / 2..report.copies_by_segment.len() - 6];
    let copies = late.iter().map(|copies| copies[0] + copies[1]).sum::<f64>() / late.len() as f64;
    assert!((0.95..1.3).contains(&copies), "{copies} copies");
    assert!(report.stalls_per_viewer_hour == 0.0);
}

#[test]
fn a_swarm_with_a_seed_hardly_asks_the_origin() {
    let scenario = small("live-50", |scenario| {
        scenario.seeds = vec![headwater_sim::scenario::SeedPeer { up_mbps: 100.0, line_mbps: 1000.0, folder: false }];
        scenario.audience.viewers = 20;
        scenario.audience.churn_per_min = 0.0;
    });
    let report = run(&scenario, Policy::Headwater, 1);
    assert!(report.bytes.seeds > 0);
    assert!((0.9..1.1).contains(&report.copies_after.seeds), "{:?}", report.copies_after);
    assert!(report.copies_after.viewers() < 1.5, "{:?}", report.copies_after);
}

#[test]
fn viewers_survive_an_origin_that_is_away() {
    let scenario = small("live-50", |scenario| {
        scenario.audience.viewers = 10;
        scenario.audience.churn_per_min = 0.0;
        let outage = headwater_sim::scenario::Outage { from_s: 30.0, to_s: 40.0, playlists: false };
        scenario.origin.outages = vec![outage];
    });
    let report = run(&scenario, Policy::HttpOnly, 1);
    assert!(report.stalled_viewers > 0.5, "an outage of ten seconds is longer than a live buffer");
    let last = report.series.last().unwrap();
    assert!(last.stalled < 0.01, "playback went on afterwards");
    assert!(report.origin_requests.1 > 0);
}

#[test]
fn seeks_are_not_stalls() {
    let scenario = small("vod-20", |scenario| {
        scenario.audience.viewers = 6;
        scenario.audience.seeks_per_min = 4.0;
        scenario.duration_s = 50.0;
    });
    let report = run(&scenario, Policy::HttpOnly, 1);
    assert!(report.seek_ms.count > 5);
    assert!(report.seek_ms.median > 0.0 && report.seek_ms.p95 < 5_000.0, "{:?}", report.seek_ms);
    assert!(report.stalls_per_viewer_hour == 0.0);
}

#[test]
fn the_page_is_whole_and_loads_nothing() {
    let scenario = small("live-50", |scenario| {
        scenario.audience.viewers = 5;
        scenario.duration_s = 20.0;
    });
    let reports = [run(&scenario, Policy::Headwater, 1), run(&scenario, Policy::HttpOnly, 1)];
    let page = html::page(&reports);
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    for outside in ["<script", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(table::render(&reports).contains("headwater"));
}
