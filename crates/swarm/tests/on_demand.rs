//! Content on demand: viewers are everywhere in it, and each finds those that have what it will play next.

mod bench;

use bench::{Bench, TRACK, fetches};
use headwater_swarm::{DisconnectReason, Output};
use headwater_wire::{Message, PeerId, SeqNo, SeqRange};

fn holds(first: u64, count: u64) -> Message {
    Message::Have { track: TRACK, full: true, ranges: vec![SeqRange { first: SeqNo(first), count }] }
}

/// A viewer with as many neighbours as it may have, each of which holds what `held` says.
fn with_neighbours(held: impl Fn(u64) -> Message) -> Bench {
    let mut bench = Bench::on_demand();
    bench.input(headwater_swarm::Input::SwarmSize { peers: 1000 });
    for peer in 1..=16 {
        bench.connect(peer);
        bench.say(peer, &held(peer));
    }
    bench.wait(6_000);
    bench
}

fn wanted(outputs: &[Output]) -> Vec<u16> {
    let count = |output: &Output| match output {
        Output::WantNeighbours { count } => Some(*count),
        _ => None,
    };
    outputs.iter().filter_map(count).collect()
}

fn let_go(outputs: &[Output]) -> Vec<PeerId> {
    let peer = |output: &Output| match output {
        Output::Disconnect { peer, reason: DisconnectReason::Full } => Some(*peer),
        _ => None,
    };
    outputs.iter().filter_map(peer).collect()
}

#[test]
fn a_viewer_whose_neighbours_are_elsewhere_takes_others_in_their_place() {
    // One is about to play what this viewer holds, one holds what this viewer will play in a moment; the others neither.
    let mut bench = with_neighbours(|peer| match peer {
        3 => holds(18, 2),
        _ => holds(40, 5),
    });
    let mut outputs = bench.demand(15);
    outputs.extend(bench.wait(3_000));
    assert_eq!(fetches(&outputs), [None], "nobody has it: the origin");
    assert_eq!(wanted(&outputs), [4]);
    let gone = let_go(&outputs);
    assert_eq!(gone.len(), 4, "as many as are to come in their place: {gone:?}");
    assert!(!gone.contains(&PeerId(3)));
}

#[test]
fn a_viewer_whose_neighbours_have_what_it_wants_keeps_them() {
    let mut bench = with_neighbours(|_| holds(0, 50));
    let mut outputs = bench.demand(15);
    outputs.extend(bench.wait(3_000));
    assert_eq!(wanted(&outputs), []);
    assert_eq!(let_go(&outputs), []);
}

#[test]
fn what_is_far_ahead_waits_a_moment_for_those_who_may_bring_it() {
    let mut bench = with_neighbours(|_| holds(0, 2));
    assert_eq!(fetches(&bench.demand(15)), []);
    assert_eq!(fetches(&bench.wait(1_000)), [], "half a minute is left");
    assert_eq!(fetches(&bench.wait(1_000)), [None]);
    // Less than fifteen seconds ahead nothing waits.
    let mut bench = with_neighbours(|_| holds(0, 2));
    bench.play(8.0, 12.0);
    assert_eq!(fetches(&bench.demand(10)), [None]);
}

#[test]
fn a_viewer_of_a_live_stream_that_goes_to_the_origin_keeps_its_neighbours() {
    let mut bench = Bench::new();
    bench.input(headwater_swarm::Input::SwarmSize { peers: 1000 });
    for peer in 1..=16 {
        bench.connect(peer);
    }
    bench.wait(6_000);
    let mut outputs = bench.demand(9);
    outputs.extend(bench.wait(4_000));
    assert_eq!(fetches(&outputs), [None]);
    assert_eq!((wanted(&outputs), let_go(&outputs)), (vec![], vec![]));
}

/// A viewer that has played at the beginning, which its neighbours hold, for a while and jumps to 50.
fn jumps(held_there: u64) -> (Bench, Vec<Output>) {
    let mut bench = with_neighbours(|peer| if peer <= held_there { holds(0, 90) } else { holds(0, 20) });
    bench.demand(1);
    bench.wait(1_000);
    bench.play(100.0, 104.0);
    let mut outputs = bench.demand(52);
    outputs.extend(bench.wait(20));
    (bench, outputs)
}

#[test]
fn whoever_jumps_asks_for_others_at_once_and_gives_them_time_to_come() {
    let (mut bench, outputs) = jumps(0);
    assert_eq!(wanted(&outputs), [4]);
    let mut waited = 0;
    let mut fetched = fetches(&outputs);
    while fetched.is_empty() && waited < 10_000 {
        fetched.extend(fetches(&bench.wait(100)));
        waited += 100;
    }
    // Four seconds are left when it jumps; an origin that nothing is known of may take one and a half.
    assert!((2_000..=2_900).contains(&waited), "went to the origin after {waited} ms");
    let (mut bench, _) = jumps(0);
    bench.connect(40);
    bench.say(40, &holds(45, 20));
    let mut outputs = bench.wait(800);
    outputs.extend(bench.say(40, &bench::batch(52)));
    assert_eq!(fetches(&outputs), [], "one that has it came");
}

#[test]
fn where_everybody_is_a_neighbour_a_jump_waits_for_nobody() {
    let mut bench = with_neighbours(|_| holds(0, 20));
    bench.input(headwater_swarm::Input::SwarmSize { peers: 17 });
    bench.demand(1);
    bench.wait(1_000);
    bench.play(100.0, 104.0);
    let mut outputs = bench.demand(52);
    // Some neighbours may rank before it.
    outputs.extend(bench.wait(1_000));
    assert_eq!(fetches(&outputs), [None]);
}

#[test]
fn whoever_jumps_to_what_its_neighbours_hold_asks_for_nobody() {
    let (mut bench, mut outputs) = jumps(1);
    outputs.extend(bench.wait(500));
    assert_eq!(wanted(&outputs), []);
}

/// Which segments a viewer with so many seconds to play asks its neighbours for within so many milliseconds, once it
/// demands the next one.
fn asked_within(buffered: u64, millis: u64) -> Vec<u64> {
    let mut bench = Bench::on_demand();
    bench.play(0.0, buffered as f64);
    let next = buffered / 2;
    for peer in 1..=8 {
        bench.connect(peer);
        bench.say(peer, &holds(0, 50));
    }
    for seq in next..next + 4 {
        bench.say(1, &bench::batch(seq));
    }
    let mut outputs = bench.demand(next);
    outputs.extend(bench.wait(millis));
    let asked = |message: Message| match message {
        Message::Request { segment, .. } => Some(segment.seq.0),
        _ => None,
    };
    let mut asked: Vec<u64> = (1..=8).flat_map(|peer| bench::messages(&outputs, peer)).filter_map(asked).collect();
    asked.sort_unstable();
    asked.dedup();
    asked
}

#[test]
fn a_player_with_enough_ahead_begins_segments_twice_as_fast_as_it_plays_them() {
    assert_eq!(asked_within(4, 300), [2, 3, 4, 5], "in a hurry");
    assert_eq!(asked_within(14, 100), [7], "one at a time");
    assert_eq!(asked_within(14, 1_100), [7, 8]);
    assert_eq!(asked_within(14, 2_100), [7, 8, 9]);
}
