//! When HTTP steps in for a viewer that waits for its first neighbours.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use headwater_swarm::{
    Config, DemandId, Engine, Input, Integrity, MediaKind, MediaTime, Now, Output, Playhead, PlaylistSegment,
    PlaylistUpdate,
};
use headwater_wire::{SegmentId, SeqNo, TrackId};

const TRACK: TrackId = TrackId(1);

/// The time, in milliseconds, after which a viewer that is told of others and meets none goes to the origin.
fn rescued_after(buffered_ms: i64) -> u64 {
    let mut engine = Engine::new(Config::viewer(Integrity::Open), 1, Now::default());
    let listed = |seq: u64| PlaylistSegment {
        seq: SeqNo(seq),
        start: MediaTime::from_secs(seq as f64 * 2.0),
        duration: Duration::from_secs(2),
    };
    let segments = (0..60).map(listed).collect();
    // The next segment begins where the buffer ends.
    let end = 40 * 1_000;
    let playhead = Playhead {
        position: MediaTime::from_micros((end - buffered_ms) * 1_000),
        buffered_to: MediaTime::from_micros(end * 1_000),
        rate_permille: 1000,
    };
    let (first_byte, transfer) = (Duration::from_millis(50), Duration::from_millis(50));
    for input in [
        Input::Playlist(PlaylistUpdate { track: TRACK, live: true, first: SeqNo(0), segments }),
        Input::Playhead(playhead),
        Input::OriginMeasured { first_byte, bytes: 1_000_000, transfer },
        Input::SwarmSize { peers: 100 },
        Input::Demand {
            demand: DemandId(1),
            segment: SegmentId { track: TRACK, seq: SeqNo(20) },
            kind: MediaKind::Main,
        },
    ] {
        engine.handle_input(Now::default(), input);
    }
    let mut now = Now::default();
    loop {
        match engine.poll_output() {
            Output::Fetch { .. } => return now.as_micros() / 1_000,
            Output::Timeout { at } => {
                now = at.unwrap();
                engine.handle_input(now, Input::Timeout);
            }
            _ => {}
        }
    }
}

#[test]
fn a_newcomer_gives_its_first_neighbours_as_long_as_it_can() {
    let after = rescued_after(1_800);
    // 450 ms for the player, and 1.6 times what the segment takes; then it must be on its way.
    assert!((1_150..1_350).contains(&after), "{after} ms");
}

#[test]
fn who_has_time_keeps_a_broad_margin() {
    let after = rescued_after(4_800);
    assert!((3_600..3_900).contains(&after), "{after} ms");
}
