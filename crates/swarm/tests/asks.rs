//! Whom a chunk is asked of after an ask came to nothing, and when: to the moment, without other inputs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bench;

use std::time::Duration;

use bench::*;
use headwater_swarm::*;
use headwater_wire::*;

/// A paused viewer with ten seconds to play, who wants what comes then: nothing is urgent, and the rescue never comes.
fn paused() -> Bench {
    let mut bench = Bench::on_demand();
    bench.input(Input::Playhead(Playhead {
        position: MediaTime::from_secs(0.0),
        buffered_to: MediaTime::from_secs(10.0),
        rate_permille: 0,
    }));
    bench
}

fn holds(bench: &mut Bench, peer: u64) -> Vec<Output> {
    let mut outputs = bench.connect(peer);
    outputs.extend(bench.say(peer, &batch(5)));
    outputs.extend(bench.say(peer, &whole(5)));
    outputs
}

fn asks(outputs: &[Output], peer: u64) -> usize {
    let is_ask = |message: &Message| matches!(message, Message::Request { segment: id, .. } if *id == segment(5));
    messages(outputs, peer).iter().filter(|message| is_ask(message)).count()
}

/// Lets time pass from wake to wake, as a shell does. Gives the moments, in milliseconds, at which `peer` was asked.
fn asked_at(bench: &mut Bench, peer: u64, seconds: u64) -> Vec<u64> {
    let began = bench.now;
    let end = began + Duration::from_secs(seconds);
    let mut moments = Vec::new();
    while let Output::Timeout { at: Some(at) } = bench.engine.poll_output()
        && at <= end
    {
        bench.now = at;
        let mut outputs = bench.input(Input::Timeout);
        // It is there; it only does not answer what it is asked.
        outputs.extend(bench.say(peer, &Message::Pong { nonce: 1 }));
        if asks(&outputs, peer) > 0 {
            moments.push(bench.now.since(began).as_millis() as u64);
        }
    }
    moments
}

#[test]
fn the_only_holder_is_asked_again_soon_and_later_each_time() {
    let mut bench = paused();
    bench.demand(5);
    assert!(asks(&holds(&mut bench, 1), 1) > 0);
    let moments = asked_at(&mut bench, 1, 40);
    assert!((2_000..5_000).contains(&moments[0]), "{moments:?}");
    assert!((3..20).contains(&moments.len()), "{moments:?}");
    let gaps: Vec<u64> = moments.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 1_000).collect();
    assert!(gaps.last() > gaps.first(), "{moments:?}");
}

#[test]
fn another_holder_goes_before_one_that_let_an_ask_run_out() {
    let mut bench = paused();
    bench.demand(5);
    assert!(asks(&holds(&mut bench, 1), 1) > 0);
    // Until the ask has run out.
    while !messages(&bench.wait(10), 1).iter().any(|message| matches!(message, Message::Cancel { .. })) {}
    assert!(asks(&holds(&mut bench, 2), 2) > 0);
    assert_eq!(asks(&bench.wait(1_500), 1), 0);
}

#[test]
fn what_is_demanded_again_after_a_seek_is_asked_of_the_only_holder_at_once() {
    let mut bench = paused();
    bench.demand(5);
    assert!(asks(&holds(&mut bench, 1), 1) > 0);
    let mut left = bench.input(Input::DemandCancelled { demand: DemandId(5) });
    left.extend(bench.demand(30));
    assert!(messages(&left, 1).iter().any(|message| matches!(message, Message::Cancel { .. })));
    assert!(asks(&bench.demand(5), 1) > 0);
}

#[test]
fn a_neighbour_that_falls_silent_is_let_go_to_the_moment() {
    let mut bench = paused();
    bench.connect(1);
    // Between two pings: neither theirs nor any other time falls together with the end of patience.
    bench.wait(3_330);
    bench.say(1, &Message::Pong { nonce: 1 });
    let heard = bench.now;
    let gone = loop {
        let Output::Timeout { at: Some(at) } = bench.engine.poll_output() else { panic!("no wake") };
        bench.now = at;
        if bench.input(Input::Timeout).iter().any(is_disconnect) {
            break bench.now.since(heard);
        }
    };
    assert_eq!(gone, Duration::from_secs(20));
}

#[test]
fn what_came_whole_before_its_request_failed_is_delivered_and_not_fetched_again() {
    let mut bench = Bench::new();
    bench.demand(8);
    let found = |output: &Output| if let Output::Fetch { fetch, .. } = output { Some(*fetch) } else { None };
    let fetch = bench.wait(5_000).iter().find_map(found).unwrap();
    bench.input(Input::FetchHead { fetch, ranged: false, total: Some(len()) });
    for (index, hash) in (0..).map(ChunkIndex).zip(hashes(8)) {
        bench.input(Input::FetchChunk { fetch, index, len: 65_536, hash });
    }
    let ended = bench.input(Input::FetchFailed { fetch, status: None });
    assert!(ended.iter().any(|output| matches!(output, Output::Deliver { .. })), "{ended:?}");
    assert_eq!(fetches(&ended), []);
    assert_eq!(fetches(&bench.wait(5_000)), []);
}

/// The chunks that `peer` is asked for.
fn asked_chunks(outputs: &[Output], peer: u64) -> Vec<u32> {
    let chunks = |message: &Message| match message {
        Message::Request { segment: id, chunks, .. } if *id == segment(15) => Some(chunks.iter().map(|index| index.0)),
        _ => None,
    };
    let mut all: Vec<u32> = messages(outputs, peer).iter().filter_map(chunks).flatten().collect();
    all.sort_unstable();
    all
}

fn cancels(outputs: &[Output], peer: u64) -> usize {
    let is_cancel = |message: &&Message| matches!(message, Message::Cancel { .. });
    messages(outputs, peer).iter().filter(is_cancel).count()
}

fn fetch_of(outputs: &[Output]) -> Option<FetchId> {
    outputs.iter().find_map(|output| if let Output::Fetch { fetch, .. } = output { Some(*fetch) } else { None })
}

#[test]
fn what_the_origin_fails_to_bring_is_asked_at_once_of_those_it_was_taken_back_from() {
    let mut bench = Bench::on_demand();
    bench.connect(1);
    bench.say(1, &batch(15));
    bench.say(1, &whole(15));
    assert_eq!(asked_chunks(&bench.demand(15), 1), [0, 1, 2, 3]);
    let chunk = ChunkId { segment: segment(15), index: ChunkIndex(2) };
    let header = DataHeader { chunk, offset: 0 };
    assert_eq!(bench.engine.handle_data(bench.now, PeerId(1), &header, 10_000), DataVerdict::Append);

    // A tenth of a second is left: HTTP takes over, and what the neighbour was bringing is cancelled.
    let outputs = bench.play(29.9, 0.1);
    assert_eq!(cancels(&outputs, 1), 4);
    let fetch = fetch_of(&outputs).unwrap();
    let outputs = bench.input(Input::FetchFailed { fetch, status: Some(503) });
    assert_eq!(asked_chunks(&outputs, 1), [0, 1, 2, 3]);

    // The next request says nothing until it is answered.
    let mut outputs = Vec::new();
    let fetch = loop {
        outputs.extend(bench.wait(10));
        if let Some(fetch) = fetch_of(&outputs) {
            break fetch;
        }
    };
    assert_eq!(cancels(&outputs, 1), 0);
    assert_eq!(cancels(&bench.input(Input::FetchHead { fetch, ranged: false, total: Some(len()) }), 1), 4);
}

/// When the origin is asked for what a neighbour holds that never sends it, in milliseconds.
fn asked_of_the_origin_after(says: impl Fn(&mut Bench)) -> u64 {
    let mut bench = Bench::on_demand();
    bench.connect(1);
    bench.say(1, &batch(15));
    bench.say(1, &whole(15));
    bench.demand(15);
    let began = bench.now;
    while fetch_of(&bench.wait(10)).is_none() {
        says(&mut bench);
    }
    bench.now.since(began).as_millis() as u64
}

#[test]
fn nobody_waits_for_a_holder_that_has_fallen_silent() {
    let after = asked_of_the_origin_after(|_| {});
    assert!((3_000..4_000).contains(&after), "{after} ms");
    let after = asked_of_the_origin_after(|bench| drop(bench.say(1, &Message::Pong { nonce: 1 })));
    assert!(after > 15_000, "{after} ms: it is there, and thirty seconds are left");
}
