//! News goes to those who lack it, and to no others.

#![allow(clippy::unwrap_used, reason = "a test")]

mod bench;

use bench::*;
use headwater_swarm::*;
use headwater_wire::*;

/// A bench whose viewer holds all of segment 8, and may share it.
fn holder() -> Bench {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.connect(2);
    bench.say(1, &batch(8));
    bench.input(Input::SegmentStored { segment: segment(8), len: len(), hashes: hashes(8) });
    bench.demand(8);
    bench.wait(100);
    bench
}

fn claim(seq: u64) -> Message {
    Message::Fetching { segment: segment(seq), chunks: None }
}

#[test]
fn a_chunk_is_told_to_those_who_lack_it() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.connect(2);
    let first = ChunkRange::one(ChunkIndex(0));
    bench.say(1, &Message::HaveChunks { segment: segment(8), chunks: vec![first] });
    bench.demand(8);
    bench.say(1, &batch(8));
    bench.say(1, &Message::Hashes { segment: segment(8), len: len(), first: 0, hashes: hashes(8) });
    let mut outputs = bench.send_chunk(1, ChunkId { segment: segment(8), index: ChunkIndex(0) }, hashes(8)[0]);
    outputs.extend(bench.wait(100));
    let news = Message::HaveChunks { segment: segment(8), chunks: vec![first] };
    assert!(messages(&outputs, 2).contains(&news), "{outputs:?}");
    assert!(!messages(&outputs, 1).contains(&news), "told to the one it came from: {outputs:?}");
}

#[test]
fn entries_are_not_handed_to_those_who_hold_what_they_speak_of() {
    let mut bench = Bench::new();
    for peer in 1..4 {
        bench.connect(peer);
    }
    bench.say(3, &whole(8));
    let outputs = bench.say(1, &batch(8));
    assert_eq!(messages(&outputs, 2), [batch(8)]);
    assert_eq!(messages(&outputs, 3), []);
}

#[test]
fn a_fetch_of_what_is_here_is_nobodys_news() {
    let mut bench = holder();
    bench.say(2, &whole(9));
    assert_eq!(messages(&bench.say(1, &claim(8)), 2), [], "a newcomer's fetch of what everybody has");
    assert_eq!(messages(&bench.say(1, &claim(9)), 2), [], "told to one that has it all");
    bench.connect(3);
    assert_eq!(messages(&bench.say(2, &claim(9)), 3), [], "known by now");
    let mut bench = holder();
    assert_eq!(messages(&bench.say(1, &claim(9)), 2), [claim(9)]);
}

#[test]
fn a_newcomer_is_told_the_newest_entries_of_what_is_live() {
    let mut bench = holder();
    for seq in [2, 7, 9] {
        bench.say(1, &batch(seq));
    }
    let told = messages(&bench.connect(5), 5);
    let entries: Vec<&Message> = told.iter().filter(|message| matches!(message, Message::Catalogue(_))).collect();
    // Nine is the last that is listed; two lies before what a player would begin with. The order is that of their arrival.
    assert_eq!(entries, [&batch(8), &batch(7), &batch(9)], "{told:?}");
}

/// When a viewer without neighbours, in a swarm of so many, asks for others: milliseconds from its start, within half a minute.
fn wants(peers: u32) -> Vec<u64> {
    let mut bench = Bench::new();
    bench.input(Input::SwarmSize { peers });
    let is_want = |output: &Output| matches!(output, Output::WantNeighbours { .. });
    (1..3_000).filter(|_| bench.wait(10).iter().any(is_want)).map(|step| step * 10).collect()
}

#[test]
fn who_has_nobody_in_a_swarm_of_others_asks_for_them_soon() {
    let among_others = wants(100);
    assert!(among_others[0] <= 2_010 && among_others.len() >= 4, "{among_others:?}");
    let gaps: Vec<u64> = among_others.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.windows(2).all(|pair| pair[0] <= pair[1]), "less and less often: {gaps:?}");
    assert!(wants(1).iter().all(|at| *at >= 10_000), "there is nobody to be met");
}
