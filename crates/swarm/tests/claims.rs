//! What a lying or foolish neighbour cannot do: keep a viewer waiting, have honest peers banned, or keep a swarm busy.

#![allow(clippy::unwrap_used, reason = "a test")]

mod bench;

use std::time::Duration;

use bench::*;
use headwater_swarm::*;
use headwater_wire::*;

#[test]
fn chunks_that_nobody_can_check_do_not_keep_the_rescue_away() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.say(1, &whole(8));
    bench.demand(8);
    let mut asked = bench.say(1, &batch(8));
    asked.extend(bench.wait(700));
    assert!(!asked_of(&asked, 1).is_empty(), "the neighbour was not asked: {asked:?}");
    // It sends all chunks but one and keeps their hashes for itself.
    for index in (1..CHUNKS).map(ChunkIndex) {
        bench.send_chunk(1, ChunkId { segment: segment(8), index }, ChunkHash::of(b"nonsense"));
    }
    // The player is at 12 s, the segment begins at 16 s: the rescue is a good second before.
    let outputs = bench.wait(3_200);
    assert_eq!(fetches(&outputs), [None], "one request for all of it, although chunks wait to be checked");
}

#[test]
fn a_fetch_of_a_stripe_grows_when_the_rest_would_be_late() {
    let mut bench = Bench::new();
    bench.connect(1);
    assert_eq!(fetches(&bench.demand(8)), []);
    let entry = Entry {
        seq: SeqNo(8),
        len: SegmentLen::new(12 * 65_536).unwrap(),
        root: RootHash::of_chunks(SegmentLen::new(12 * 65_536).unwrap(), &[ChunkHash::of(b"x"); 12]),
        hashes: vec![ChunkHash::of(b"x"); 12],
    };
    bench.say(1, &Message::Candidates { track: TRACK, epoch: 0, nonces: vec![1, 2, 3, 4, 5] });
    bench.say(1, &signed(entry));
    // Others say that they fetch two thirds of it, and never bring them; nor does the origin bring the last third.
    let rest = ChunkRange { first: ChunkIndex(0), count: 8 };
    bench.say(1, &Message::Fetching { segment: segment(8), chunks: Some(rest) });
    let outputs = bench.wait(3_200);
    assert_eq!(fetches(&outputs), [Some(ByteRange { start: 8 * 65_536, end: 12 * 65_536 }), None]);
}

#[test]
fn a_batch_of_a_key_that_is_not_known_costs_nobody_the_connection() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.verdict = Verdict::OtherKey;
    let outputs = bench.say(1, &batch(8));
    assert!(!outputs.iter().any(is_disconnect), "{outputs:?}");
    bench.verdict = Verdict::Forged;
    let outputs = bench.say(1, &batch(8));
    let banned = Output::Event(Event::PeerBanned { peer: PeerId(1), reason: DisconnectReason::BadData });
    assert!(outputs.contains(&banned), "{outputs:?}");
}

#[test]
fn hashes_that_were_not_asked_for_are_not_believed() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.connect(2);
    bench.say(1, &batch(8));
    bench.demand(8);
    // Neighbour 2 was asked nothing. Its wrong hashes would cost it the connection if they were looked at.
    let lie = Message::Hashes { segment: segment(8), len: len(), first: 0, hashes: vec![ChunkHash::of(b"lie"); 4] };
    assert!(!bench.say(2, &lie).iter().any(is_disconnect));
    bench.say(1, &whole(8));
    let told = Message::Hashes { segment: segment(8), len: len(), first: 0, hashes: hashes(8) };
    let outputs = bench.say(1, &told);
    assert!(!outputs.iter().any(is_disconnect), "{outputs:?}");
}

#[test]
fn claims_far_from_the_player_are_not_passed_on() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.connect(2);
    bench.demand(8);
    let near = bench.say(1, &Message::Fetching { segment: segment(9), chunks: None });
    assert_eq!(messages(&near, 2), [Message::Fetching { segment: segment(9), chunks: None }]);
    let again = bench.say(1, &Message::Fetching { segment: segment(9), chunks: None });
    assert_eq!(messages(&again, 2), [], "what is known is not told twice");
    for seq in (1_000..1_200).chain(1 << 40..(1 << 40) + 200) {
        let far = bench.say(1, &Message::Fetching { segment: segment(seq), chunks: None });
        assert_eq!(messages(&far, 2), []);
    }
    let stripes = (0..100).map(|i| ChunkRange { first: ChunkIndex(100 - i), count: 1 });
    let told: usize = stripes
        .map(|chunks| {
            let outputs = bench.say(1, &Message::Fetching { segment: segment(8), chunks: Some(chunks) });
            messages(&outputs, 2).len()
        })
        .sum();
    assert!(told <= 8, "{told} of 100 claims about one segment were passed on");
}

#[test]
fn candidates_of_other_times_are_not_passed_on() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.connect(2);
    bench.demand(8);
    bench.wait(1_500);
    for epoch in 100..200 {
        bench.say(1, &Message::Candidates { track: TRACK, epoch, nonces: (0..16).collect() });
        bench.say(1, &Message::Candidates { track: TrackId(epoch), epoch: 0, nonces: (0..16).collect() });
    }
    let told = messages(&bench.wait(2_000), 2);
    assert!(!told.iter().any(|message| matches!(message, Message::Candidates { .. })), "{told:?}");
    bench.say(1, &Message::Candidates { track: TRACK, epoch: 1, nonces: vec![77] });
    let told = messages(&bench.wait(2_000), 2);
    assert!(told.contains(&Message::Candidates { track: TRACK, epoch: 1, nonces: vec![77] }), "{told:?}");
}

#[test]
fn a_neighbour_that_never_stops_talking_is_let_go() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.connect(2);
    let pong = Message::Pong { nonce: 1 };
    let said = (0..10_000).take_while(|_| !bench.say(1, &pong).iter().any(is_disconnect)).count();
    assert!((1_000..10_000).contains(&said), "let go after {said}");
    // Who talks as busy peers do stays.
    for _ in 0..300 {
        bench.now = bench.now + Duration::from_millis(10);
        assert!(!bench.say(2, &pong).iter().any(is_disconnect));
    }
}

#[test]
fn a_newcomer_is_told_which_part_of_a_segment_is_being_fetched() {
    let mut bench = Bench::new();
    bench.connect(1);
    // A neighbour holds the first two chunks: at the rescue the rest is fetched.
    let half = ChunkRange { first: ChunkIndex(0), count: 2 };
    bench.say(1, &Message::HaveChunks { segment: segment(8), chunks: vec![half] });
    bench.demand(8);
    bench.say(1, &batch(8));
    let told = Message::Hashes { segment: segment(8), len: len(), first: 0, hashes: hashes(8) };
    bench.say(1, &told);
    for index in [0, 1].map(ChunkIndex) {
        bench.send_chunk(1, ChunkId { segment: segment(8), index }, hashes(8)[index.0 as usize]);
    }
    let outputs = bench.wait(3_000);
    assert_eq!(fetches(&outputs), [Some(ByteRange { start: 2 * 65_536, end: 4 * 65_536 })]);
    let told = messages(&bench.connect(5), 5);
    let rest = ChunkRange { first: ChunkIndex(2), count: 2 };
    assert!(told.contains(&Message::Fetching { segment: segment(8), chunks: Some(rest) }), "{told:?}");
}

/// What is said of a segment that a seed has, or is about to.
fn seeded(seq: u64) -> Message {
    let chunks = Some(ChunkRange { first: ChunkIndex(0), count: limits::MAX_CHUNKS });
    Message::Fetching { segment: segment(seq), chunks }
}

#[test]
fn whoever_is_next_to_a_seed_that_keeps_up_says_that_it_brings_what_is_live() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.connect_as(2, Role::Seed);
    bench.say(2, &whole(7));
    bench.wait(1_000);
    let mut outputs = bench.demand(8);
    outputs.extend(bench.wait(500));
    let told = messages(&outputs, 1);
    assert_eq!(told.iter().filter(|message| **message == seeded(8)).count(), 1, "{told:?}");
    assert_eq!(fetches(&outputs), []);
}

/// How long the candidate of an election leaves segment 9 alone after `said` of segment 8.
fn fetched_after(said: &[Message]) -> i64 {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.demand(8);
    bench.say(1, &Message::Candidates { track: TRACK, epoch: 0, nonces: vec![1, 2, 3] });
    for message in said {
        bench.say(1, message);
    }
    bench.wait(1_000);
    let is_fetched = |output: &Output| matches!(output, Output::Fetch { segment: id, .. } if *id == segment(9));
    let mut waited = 0;
    bench.demand(9);
    while !bench.wait(10).iter().any(is_fetched) {
        waited += 10;
    }
    waited
}

#[test]
fn a_candidate_takes_its_turn_when_the_catalogue_speaks_of_a_segment() {
    let mut bench = Bench::new();
    bench.connect(1);
    bench.demand(8);
    bench.say(1, &Message::Candidates { track: TRACK, epoch: 0, nonces: vec![1, 2, 3] });
    bench.say(1, &whole(8));
    let is_fetched = |output: &Output| matches!(output, Output::Fetch { segment: id, .. } if *id == segment(9));
    let outputs = bench.wait(1_000);
    assert!(!outputs.iter().any(is_fetched), "nothing is known of the next one");
    let mut outputs = bench.say(1, &batch(9));
    outputs.extend(bench.wait(1_000));
    assert!(outputs.iter().any(is_fetched), "its own player has not asked for it yet: {outputs:?}");
}

#[test]
fn a_segment_is_left_to_a_seed_far_away_for_a_moment_where_it_brought_the_last_one() {
    let (alone, seeded) = (fetched_after(&[whole(8)]), fetched_after(&[seeded(8), whole(8)]));
    assert!((1_000..1_400).contains(&(seeded - alone)), "{alone} ms, and {seeded} ms where there is a seed");
}

#[test]
fn a_seed_that_brings_nothing_is_not_waited_for() {
    let alone = fetched_after(&[whole(8)]);
    assert_eq!(fetched_after(&[whole(8), seeded(8)]), alone, "said of what is here");
    assert_eq!(fetched_after(&[seeded(8)]), alone, "nothing came");
    let fetched = Message::Fetching { segment: segment(8), chunks: None };
    assert_eq!(fetched_after(&[seeded(8), fetched, whole(8)]), alone, "somebody else brought it");
}

/// The chunks that these outputs ask of a neighbour.
fn asked_of(outputs: &[Output], peer: u64) -> Vec<ChunkId> {
    let asked = |message: Message| match message {
        Message::Request { segment, chunks, .. } => chunks.iter().map(|index| ChunkId { segment, index }).collect(),
        _ => Vec::new(),
    };
    messages(outputs, peer).into_iter().flat_map(asked).collect()
}

#[test]
fn a_neighbour_that_stands_still_once_is_kept_and_one_that_never_answers_is_let_go() {
    let mut bench = Bench::on_demand();
    bench.play(0.0, 4.0);
    bench.demand(2);
    bench.connect(1);
    let mut outputs = Vec::new();
    for seq in 2..20 {
        bench.say(1, &whole(seq));
        outputs.extend(bench.say(1, &batch(seq)));
    }
    // It is quick for a while, so that much is asked of it, at different times.
    let mut open = asked_of(&outputs, 1);
    for _ in 0..6 {
        let more = bench.wait(20);
        open.extend(asked_of(&more, 1));
        if !open.is_empty() {
            let chunk = open.remove(0);
            let sent = bench.send_chunk(1, chunk, hashes(chunk.segment.seq.0)[chunk.index.0 as usize]);
            open.extend(asked_of(&sent, 1));
        }
    }
    assert!(open.len() > 4, "{} chunks are asked for", open.len());
    let stall = bench.wait(5_000);
    assert!(!stall.iter().any(is_disconnect), "let go for one stall");
    let later = bench.wait(60_000);
    assert!(later.iter().any(is_disconnect), "asked for ever");
}

#[test]
fn a_chunk_that_waits_for_the_disk_keeps_nobody_else_waiting() {
    let mut bench = Bench::new();
    for peer in 1..=3 {
        bench.connect(peer);
    }
    let stored = bench.input(Input::SegmentStored { segment: segment(8), len: len(), hashes: hashes(8) });
    assert!(!stored.iter().any(is_disconnect));
    let ask = |bench: &mut Bench, peer: u64| {
        let chunks = ChunkRange::one(ChunkIndex(peer as u32));
        bench.say(peer, &Message::Request { segment: segment(8), chunks, time_left_ms: 1000 })
    };
    let to = |outputs: &[Output]| {
        let peer = |output: &Output| if let Output::SendChunk { peer, .. } = output { Some(peer.0) } else { None };
        outputs.iter().filter_map(peer).collect::<Vec<_>>()
    };
    assert_eq!(to(&ask(&mut bench, 1)), [1]);
    assert_eq!(to(&ask(&mut bench, 2)), [2]);
    assert!(to(&ask(&mut bench, 3)).is_empty(), "two at once are enough");
    let chunk = ChunkId { segment: segment(8), index: ChunkIndex(1) };
    bench.engine.suspend_sending(PeerId(1), chunk);
    assert_eq!(to(&bench.input(Input::Timeout)), [3]);
    bench.wait(5000);
    let now = bench.now;
    bench.engine.resume_sending(now, PeerId(1), chunk);
    bench.input(Input::ChunkSent { peer: PeerId(1), chunk });
    assert_eq!(bench.engine.stats().uploaded_bytes, 65_536);
}
