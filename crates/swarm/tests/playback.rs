//! What viewers see: playback goes on whatever the swarm does, and the swarm carries what it can.

mod world;

use std::time::Duration;

use headwater_swarm::{Config, DisconnectReason, Event, Integrity};
use world::{Setting, World};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_viewer_alone_plays_everything_over_http_once() {
    let mut world = World::new(Setting::default());
    world.add_viewer(secs(0));
    world.run_to_the_end();
    let player = &world.players().next().unwrap().clone();
    assert_eq!((player.stalls, player.failed, player.delivered), (0, 0, 30));
    assert_eq!(world.copies(), 1.0);
}

#[test]
fn staggered_viewers_take_most_bytes_from_the_seed_and_each_other() {
    let mut world = World::new(Setting::default());
    world.add_seed(secs(0));
    for i in 0..3 {
        world.add_viewer(secs(1 + 3 * i));
    }
    world.run_to_the_end();
    assert!(world.players().all(|player| player.stalls == 0 && player.failed == 0));
    assert!(world.offload() > 0.85, "offload {}", world.offload());
}

#[test]
fn without_a_seed_viewers_carry_each_other() {
    let mut world = World::new(Setting::default());
    for i in 0..3 {
        world.add_viewer(secs(3 * i));
    }
    world.run_to_the_end();
    assert!(world.players().all(|player| player.stalls == 0 && player.failed == 0));
    assert!(world.copies() < 1.25, "copies {}", world.copies());
}

#[test]
fn viewer_keeps_playing_when_the_seed_dies() {
    let mut world = World::new(Setting::default());
    let seed = world.add_seed(secs(0));
    world.add_viewer(secs(1));
    world.add_viewer(secs(4));
    world.later(secs(15), move |world| world.kill(seed));
    world.run_to_the_end();
    assert!(world.players().all(|player| player.stalls == 0 && player.failed == 0));
}

#[test]
fn a_seed_that_falls_silent_without_closing_costs_no_stall() {
    let mut world = World::new(Setting { segments: 40, ..Setting::default() });
    let seed = world.add_seed(secs(0));
    world.add_viewer(secs(1));
    // Nothing ever tells the viewer: its channel stays open, and nothing comes.
    world.later(secs(12), move |world| world.nodes[seed].alive = false);
    world.run_to_the_end();
    let player = world.players().next().unwrap();
    assert_eq!((player.stalls, player.failed), (0, 0));
    let reasons: Vec<_> = world.nodes[1].disconnects.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, [DisconnectReason::Unresponsive]);
}

#[test]
fn a_peer_that_flips_bytes_is_banned_and_nothing_of_it_is_played() {
    let mut world = World::new(Setting::default());
    let hostile = world.add_seed(secs(0));
    world.nodes[hostile].hostile = true;
    let hostile_id = world.nodes[hostile].id;
    for i in 0..3 {
        world.add_viewer(secs(1 + 3 * i));
    }
    // The world checks every delivered byte.
    world.run_to_the_end();
    for node in &world.nodes[1..] {
        assert_eq!(node.disconnects, [(hostile_id, DisconnectReason::BadData)]);
        assert!(node.events.contains(&Event::PeerBanned { peer: hostile_id, reason: DisconnectReason::BadData }));
        let stats = node.engine.stats();
        assert!(stats.bad_chunks > 0 && stats.seed_bytes <= stats.wasted_bytes, "{stats:?}");
        assert_eq!(node.player.as_ref().unwrap().stalls, 0);
    }
}

#[test]
fn an_origin_that_serves_other_bytes_than_signed_is_played_and_not_shared() {
    let mut world = World::new(Setting::default());
    world.origin_differs = true;
    for i in 0..2 {
        world.add_viewer(secs(2 * i));
    }
    world.run_to_the_end();
    assert!(world.players().all(|player| player.stalls == 0));
    assert_eq!(world.nodes[1].engine.stats().viewer_bytes, 0);
    assert!(world.nodes[1].events.iter().any(|event| matches!(event, Event::OriginDiffers { .. })));
}

#[test]
fn without_catalogue_nothing_of_peers_is_used() {
    let mut world = World::new(Setting { catalogue_file: false, ..Setting::default() });
    world.add_viewer(secs(0));
    world.add_viewer(secs(3));
    world.run_to_the_end();
    assert_eq!(world.offload(), 0.0);
    assert!(world.players().all(|player| player.stalls == 0 && player.failed == 0));
}

#[test]
fn open_integrity_needs_no_catalogue() {
    let setting = Setting { catalogue_file: false, integrity: Integrity::Open, ..Setting::default() };
    let mut world = World::new(setting);
    world.add_viewer(secs(0));
    world.add_viewer(secs(3));
    world.run_to_the_end();
    assert!(world.offload() > 0.4, "offload {}", world.offload());
}

#[test]
fn the_seed_alone_brings_entries_where_there_is_no_file() {
    let mut world = World::new(Setting { catalogue_file: false, ..Setting::default() });
    world.add_seed(secs(0));
    world.add_viewer(secs(1));
    world.add_viewer(secs(3));
    world.run_to_the_end();
    assert!(world.offload() > 0.8, "offload {}", world.offload());
}

#[test]
fn an_origin_outage_is_bridged_by_neighbours() {
    let mut world = World::new(Setting { segments: 40, ..Setting::default() });
    world.add_viewer(secs(0));
    world.add_viewer(secs(12));
    world.later(secs(20), |world| world.origin_down = true);
    world.later(secs(40), |world| world.origin_down = false);
    world.run_to_the_end();
    assert!(world.players().all(|player| player.stalls == 0));
}

#[test]
fn a_live_stream_is_carried_by_one_seed() {
    let setting = Setting { segments: 60, live_window: Some(8), ..Setting::default() };
    let mut world = World::new(setting);
    world.add_seed(secs(0));
    for i in 0..4 {
        world.add_viewer(secs(1 + 3 * i));
    }
    world.run_to_the_end();
    assert!(world.players().all(|player| player.stalls == 0 && player.failed == 0));
    assert!(world.offload() > 0.8, "offload {}", world.offload());
    // Each chunk goes to one viewer first, and the viewers trade.
    let sent = world.nodes[0].engine.stats().uploaded_bytes as f64;
    let copies = sent / f64::from(world.setting.segment_len) / world.setting.segments as f64;
    assert!(copies < 1.5, "{copies} copies left the seed");
}

#[test]
fn live_viewers_without_a_seed_take_turns_at_the_origin() {
    let setting = Setting { segments: 60, live_window: Some(8), ..Setting::default() };
    let mut world = World::new(setting);
    for i in 0..4 {
        world.add_viewer(secs(1 + 3 * i));
    }
    world.run_to_the_end();
    assert!(world.players().all(|player| player.stalls == 0 && player.failed == 0));
    assert!(world.copies() < 1.1, "copies {}", world.copies());
}

#[test]
fn a_viewer_that_gives_nothing_is_asked_for_nothing() {
    let mut world = World::new(Setting::default());
    let config = Config { uploads: false, ..Config::viewer(world.setting.integrity) };
    let taker = world.add_viewer_with(secs(0), config);
    world.add_viewer(secs(3));
    world.run_to_the_end();
    assert_eq!(world.nodes[taker].engine.stats().uploaded_bytes, 0);
}

#[test]
fn the_upload_cap_is_kept() {
    let mut world = World::new(Setting::default());
    let config = Config { upload_cap: Some(100_000), ..Config::viewer(world.setting.integrity) };
    let capped = world.add_viewer_with(secs(0), config);
    world.add_viewer(secs(3));
    world.run_to_the_end();
    let played = world.now.since(world.nodes[capped].joined).as_secs_f64();
    let rate = world.nodes[capped].engine.stats().uploaded_bytes as f64 / played;
    assert!(rate > 10_000.0 && rate <= 102_000.0, "{rate} bytes a second");
    assert!(world.players().all(|player| player.stalls == 0));
}

#[test]
fn the_memory_budget_is_kept() {
    let mut world = World::new(Setting { segments: 60, ..Setting::default() });
    let budget = 8_000_000;
    let config = Config { memory_budget: budget, ..Config::viewer(world.setting.integrity) };
    let small = world.add_viewer_with(secs(0), config);
    world.add_viewer(secs(5));
    for second in 1..200 {
        world.run_until(secs(second));
        let held: u64 = world.nodes[small].store.values().map(|bytes| bytes.len() as u64).sum();
        assert!(held <= budget + 600_000, "{held} bytes held after {second} s");
    }
    assert!(world.players().all(|player| player.ended && player.stalls == 0));
}
