//! How chunks leave for a neighbour: what is urgent at once, the rest as the path carries it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bench;

use std::time::Duration;

use bench::*;
use headwater_swarm::*;
use headwater_wire::*;

const CHUNK: u32 = 65_536;
const ROUND_TRIP: u64 = 40;

/// A viewer that holds a segment, and a neighbour.
fn giver(round_trip: u64) -> Bench {
    let now = Now::from_micros(1_000_000);
    let engine = Engine::new(Config::viewer(Integrity::Open), 1, now);
    let mut bench = Bench { engine, now, verdict: Verdict::Signed };
    let listed = PlaylistSegment { seq: SeqNo(8), start: MediaTime::from_secs(16.0), duration: Duration::from_secs(2) };
    bench.input(Input::Playlist(PlaylistUpdate { track: TRACK, live: false, first: SeqNo(8), segments: vec![listed] }));
    bench.input(Input::SegmentStored { segment: segment(8), len: len(), hashes: hashes(8) });
    let mut outputs = bench.connect(1);
    // The round trip is measured once before anything is asked for.
    while pings(&outputs).is_empty() {
        outputs = bench.wait(10);
    }
    bench.now = bench.now + Duration::from_millis(round_trip);
    bench.say(1, &Message::Pong { nonce: pings(&outputs)[0] });
    bench
}

fn pings(outputs: &[Output]) -> Vec<u32> {
    let nonce = |message| if let Message::Ping { nonce } = message { Some(nonce) } else { None };
    messages(outputs, 1).into_iter().filter_map(nonce).collect()
}

/// Asks for the first chunk.
fn ask(bench: &mut Bench, time_left_ms: u32) -> Vec<Output> {
    let chunks = ChunkRange { first: ChunkIndex(0), count: 1 };
    bench.say(1, &Message::Request { segment: segment(8), chunks, time_left_ms })
}

/// Where in the chunk each part begins, and how long it is.
fn parts(outputs: &[Output]) -> Vec<(u32, u32)> {
    let part = |output: &Output| match output {
        Output::SendChunk { offset, len, .. } => Some((*offset, *len)),
        _ => None,
    };
    outputs.iter().filter_map(part).collect()
}

fn sum(outputs: &[Output]) -> u32 {
    parts(outputs).iter().map(|(_, len)| len).sum()
}

/// Lets time pass, while parts leave at once and pings are answered after a round trip.
fn wait_answered(bench: &mut Bench, millis: u64, mut outputs: Vec<Output>) -> Vec<Output> {
    let mut under_way: Vec<(u64, u32)> = pings(&outputs).into_iter().map(|nonce| (ROUND_TRIP, nonce)).collect();
    for at in 1..=millis {
        bench.now = bench.now + Duration::from_millis(1);
        let mut fresh = bench.input(Input::Timeout);
        let due: Vec<u32> = under_way.iter().filter(|(due, _)| *due == at).map(|(_, nonce)| *nonce).collect();
        for nonce in due {
            fresh.extend(bench.say(1, &Message::Pong { nonce }));
        }
        under_way.extend(pings(&fresh).into_iter().map(|nonce| (at + ROUND_TRIP, nonce)));
        outputs.extend(fresh);
    }
    outputs
}

/// The longest frame that what is urgent leaves in.
fn longest_piece(round_trip: u64) -> Option<u32> {
    let mut bench = giver(round_trip);
    let piece = |output: &Output| match output {
        Output::SendChunk { piece_len, .. } => Some(*piece_len),
        _ => None,
    };
    ask(&mut bench, 5_000).iter().filter_map(piece).max()
}

#[test]
fn a_chunk_is_one_frame_only_where_it_arrives_at_once() {
    assert_eq!(longest_piece(1), Some(CHUNK));
    assert_eq!(longest_piece(8), Some(CHUNK));
    // Who waits for it sees that it is coming, and does not ask another.
    assert_eq!(longest_piece(ROUND_TRIP), Some(CHUNK / 2));
}

#[test]
fn a_chunk_asked_for_anew_while_it_is_being_sent_leaves_again_once_it_has_left() {
    let mut bench = giver(ROUND_TRIP);
    assert_eq!(parts(&ask(&mut bench, 5_000)), [(0, CHUNK)]);
    let chunk = ChunkId { segment: segment(8), index: ChunkIndex(0) };
    bench.say(1, &Message::Cancel { segment: segment(8), chunks: ChunkRange::one(ChunkIndex(0)) });
    assert_eq!(parts(&ask(&mut bench, 5_000)), []);
    let left = bench.input(Input::ChunkSent { peer: PeerId(1), chunk });
    assert_eq!(parts(&left), [(0, CHUNK)]);
    assert_eq!(parts(&bench.input(Input::ChunkSent { peer: PeerId(1), chunk })), []);
    assert_eq!(bench.engine.stats().uploaded_bytes, 2 * u64::from(CHUNK));
}

#[test]
fn what_is_urgent_leaves_at_once() {
    let mut bench = giver(ROUND_TRIP);
    assert_eq!(parts(&ask(&mut bench, 5_000)), [(0, CHUNK)]);
}

#[test]
fn on_a_local_path_chunks_leave_whole() {
    let mut bench = giver(1);
    assert_eq!(parts(&ask(&mut bench, 60_000)), [(0, CHUNK)]);
}

#[test]
fn what_is_not_urgent_leaves_in_parts_and_no_faster_than_it_arrives() {
    let mut bench = giver(ROUND_TRIP);
    let mut outputs = ask(&mut bench, 60_000);
    assert!(!pings(&outputs).is_empty(), "{outputs:?}");
    outputs.extend(bench.wait(2_000));
    let sent = sum(&outputs);
    assert!((6_000..24_000).contains(&sent), "{sent} bytes without a word from the other end");
}

#[test]
fn all_parts_leave_in_order_where_they_arrive() {
    let mut bench = giver(ROUND_TRIP);
    let outputs = ask(&mut bench, 60_000);
    let outputs = wait_answered(&mut bench, 400, outputs);
    let mut next = 0;
    for (offset, len) in parts(&outputs) {
        assert_eq!(offset, next);
        next += len;
    }
    assert_eq!(next, CHUNK);
}

#[test]
fn what_becomes_urgent_does_not_wait_for_the_path() {
    let mut bench = giver(ROUND_TRIP);
    let mut outputs = ask(&mut bench, 12_000);
    outputs.extend(bench.wait(1_900));
    assert!(sum(&outputs) < CHUNK, "it is not urgent yet");
    outputs.extend(bench.wait(200));
    assert_eq!(sum(&outputs), CHUNK);
}

#[test]
fn the_rest_of_a_chunk_that_is_not_wanted_any_more_stays() {
    let mut bench = giver(ROUND_TRIP);
    ask(&mut bench, 60_000);
    let chunks = ChunkRange { first: ChunkIndex(0), count: 1 };
    let outputs = bench.say(1, &Message::Cancel { segment: segment(8), chunks });
    let outputs = wait_answered(&mut bench, 400, outputs);
    assert_eq!(sum(&outputs), 0);
}

/// How much of each chunk was sent.
fn sent_of(outputs: &[Output], index: u32) -> u32 {
    let of_it = |output: &Output| match output {
        Output::SendChunk { chunk, len, .. } if chunk.index.0 == index => Some(*len),
        _ => None,
    };
    outputs.iter().filter_map(of_it).sum()
}

#[test]
fn what_is_urgent_overtakes_what_is_not() {
    let mut bench = giver(ROUND_TRIP);
    assert!(sum(&ask(&mut bench, 60_000)) < CHUNK);
    let chunks = ChunkRange { first: ChunkIndex(1), count: 1 };
    let outputs = bench.say(1, &Message::Request { segment: segment(8), chunks, time_left_ms: 1_000 });
    assert_eq!(sent_of(&outputs, 1), CHUNK);
}

#[test]
fn after_much_that_was_urgent_the_rest_leaves_soon() {
    let mut bench = giver(ROUND_TRIP);
    for _ in 0..8 {
        for index in 1..CHUNKS {
            let chunks = ChunkRange { first: ChunkIndex(index), count: 1 };
            let outputs = bench.say(1, &Message::Request { segment: segment(8), chunks, time_left_ms: 1_000 });
            assert_eq!(sent_of(&outputs, index), CHUNK);
            let chunk = ChunkId { segment: segment(8), index: ChunkIndex(index) };
            bench.input(Input::ChunkSent { peer: PeerId(1), chunk });
        }
    }
    let outputs = ask(&mut bench, 60_000);
    assert_eq!(sent_of(&wait_answered(&mut bench, 1_000, outputs), 0), CHUNK);
}

#[test]
fn the_rest_of_what_is_lost_meanwhile_is_refused() {
    let mut bench = giver(ROUND_TRIP);
    let before = sum(&ask(&mut bench, 60_000));
    assert!(before < CHUNK);
    bench.engine.lose(segment(8));
    let outputs = wait_answered(&mut bench, 400, Vec::new());
    assert_eq!(sum(&outputs), 0);
    let refused = |message: &Message| matches!(message, Message::Reject { segment: of, .. } if *of == segment(8));
    assert_eq!(messages(&outputs, 1).iter().filter(|message| refused(message)).count(), 1);
}

#[test]
fn what_waits_behind_others_leaves_in_the_moment_in_which_it_is_urgent() {
    let mut bench = giver(ROUND_TRIP);
    // No ping is answered: two chunks that are not urgent stand still.
    ask(&mut bench, 60_000);
    for index in [1, 2] {
        let chunks = ChunkRange::one(ChunkIndex(index));
        let time_left_ms = if index == 1 { 60_000 } else { 6_000 };
        bench.say(1, &Message::Request { segment: segment(8), chunks, time_left_ms });
    }
    let asked = bench.now;
    let left = loop {
        let Output::Timeout { at: Some(at) } = bench.engine.poll_output() else { panic!("no wake") };
        bench.now = at;
        if sent_of(&bench.input(Input::Timeout), 2) == CHUNK {
            break bench.now.since(asked);
        }
    };
    assert_eq!(left, Duration::from_secs(1));
}

#[test]
fn pings_among_the_parts_are_no_flood() {
    let mut bench = giver(ROUND_TRIP);
    // Nothing but answers to this engine's own pings, for longer than a flood is borne.
    for _ in 0..30 {
        let outputs = ask(&mut bench, 60_000);
        let outputs = wait_answered(&mut bench, 1_000, outputs);
        assert!(pings(&outputs).len() < 250 && !outputs.iter().any(is_disconnect), "{}", pings(&outputs).len());
    }
}
