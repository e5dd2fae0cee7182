//! Many viewers, narrow lines, and peers that die or lie: playback goes on, and every delivered byte is the publisher's.

mod world;

use std::time::Duration;

use headwater_swarm::{Config, DisconnectReason};
use world::{Setting, World};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn nobody_stalled(world: &World) -> bool {
    world.players().all(|player| player.stalls == 0 && player.failed == 0)
}

#[test]
fn fifty_viewers_are_carried_by_one_holder_with_a_narrow_line() {
    let mut world = World::new(Setting { segments: 12, segment_len: 200_000, ..Setting::default() });
    let seed = world.add_seed(secs(0));
    // What four of them need.
    world.nodes[seed].uplink = 400_000.0;
    let config = Config { max_neighbours: 51, ..Config::viewer(world.setting.integrity) };
    for i in 0..50 {
        world.add_viewer_with(Duration::from_millis(1_000 + 200 * i), config.clone());
    }
    world.run_to_the_end();
    assert!(nobody_stalled(&world));
    assert!(world.offload() > 0.9, "offload {}", world.offload());
    // Nobody let it go for being slow.
    let seed_id = world.nodes[seed].id;
    let let_go = world.nodes.iter().filter(|node| node.disconnects.iter().any(|(peer, _)| *peer == seed_id));
    assert_eq!(let_go.count(), 0);
}

#[test]
fn viewers_behind_one_slow_line_share_what_came_through_it() {
    let mut world = World::new(Setting { segments: 40, ..Setting::default() });
    // What four of the six play.
    world.lines.push((600_000.0, world.now));
    for i in 0..6 {
        let viewer = world.add_viewer(secs(2 * i));
        world.nodes[viewer].line = Some(0);
    }
    world.add_viewer(secs(1));
    world.run_to_the_end();
    let stalled: f64 = world.players().map(|player| player.stall_time.as_secs_f64()).sum();
    assert!(stalled < 1.0, "{stalled} s of stalls");
    assert!(world.copies() < 2.0, "copies {}", world.copies());
}

#[test]
fn claimants_that_die_before_they_bring_anything_cost_no_stall() {
    let mut world = World::new(Setting { segments: 60, live_window: Some(8), ..Setting::default() });
    for i in 0..12 {
        world.add_viewer(secs(i));
    }
    // Their channels stay open, and nothing more comes.
    world.later(secs(30), |world| world.claimants_to_die = 4);
    world.run_to_the_end();
    assert_eq!(world.claimants_to_die, 0);
    assert_eq!(world.players().count(), 8);
    assert!(nobody_stalled(&world));
    assert!(world.copies() < 2.0, "copies {}", world.copies());
}

#[test]
fn a_seed_and_a_viewer_that_lie_are_let_go_and_the_rest_is_unharmed() {
    let mut world = World::new(Setting { segments: 40, live_window: Some(8), ..Setting::default() });
    let liars = [world.add_seed(secs(0)), world.add_viewer(secs(1))];
    for liar in liars {
        world.nodes[liar].hostile = true;
    }
    world.add_seed(secs(0));
    for i in 0..10 {
        world.add_viewer(secs(2 + i));
    }
    world.run_to_the_end();
    assert!(nobody_stalled(&world));
    let ids = liars.map(|liar| world.nodes[liar].id);
    let honest = world.nodes.iter().enumerate().filter(|(index, _)| !liars.contains(index));
    let mut banned = 0;
    for (_, node) in honest {
        assert!(node.disconnects.iter().all(|(peer, _)| ids.contains(peer)), "{:?}", node.disconnects);
        banned += node.disconnects.iter().filter(|(_, reason)| *reason == DisconnectReason::BadData).count();
    }
    assert!(banned > 5, "{banned} found a liar out");
    assert!(world.offload() > 0.8, "offload {}", world.offload());
}
