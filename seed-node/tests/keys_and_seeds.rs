//! More than one key, and more than one seed: viewers of each are served, and what one seed cannot give the other does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::Instant;

use headwater_seed::node::NodeEvent;
use headwater_seed::viewer::Viewer;
use headwater_swarm::Event;
use headwater_wire::SeqNo;
use headwater_wire::catalogue::split_file;
use support::{Origin, Signal, capped_seed, holds, key, seed, seed_with_two_keys, small_seed, until, viewer};

const LEN: usize = 150_000;
const SEGMENTS: u32 = 6;

fn is_seed(event: &NodeEvent) -> bool {
    matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_keys_are_changed_the_embed_codes_of_both_are_served_and_the_origin_is_asked_once() {
    let (origin, signal, old, new) = (Origin::start().await, Signal::start().await, key(), key());
    let segments = origin.put_vod(SEGMENTS, LEN);
    let source = origin.url("/v/a.m3u8");
    let seed = seed_with_two_keys(&source, &signal, &old, &new).await;
    for node in seed.handles() {
        holds(node, u64::from(SEGMENTS) * LEN as u64).await;
    }
    for seq in 0..SEGMENTS {
        assert_eq!(origin.requests(&format!("/v/{seq}.ts")), 1, "segment {seq}");
    }
    for key in [&old, &new] {
        // It trusts this one key alone, and nothing unsigned.
        let (viewer, mut events) = viewer(&source, &signal, key).await;
        until(&mut events, is_seed).await;
        for (seq, bytes) in (0..).zip(&segments) {
            let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(seq)).await.unwrap();
            assert!(delivered.bytes == bytes, "segment {seq} differs");
        }
        let stats = viewer.stats().await.unwrap();
        assert!(stats.seed_bytes >= u64::from(SEGMENTS - 2) * LEN as u64, "{stats:?}");
        viewer.leave().await;
    }
    let batches = split_file(&seed.published().catalogue()).unwrap().len() as u64;
    assert!(batches >= 2, "the catalogue is signed with both: {batches}");
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_seeds_of_a_publisher_share_a_swarm_and_one_may_go() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let segments = origin.put_vod(SEGMENTS, LEN);
    let source = origin.url("/v/a.m3u8");
    let (first, second) = (seed(&source, &signal, &key).await, seed(&source, &signal, &key).await);
    for seed in [&first, &second] {
        holds(seed.handle(), u64::from(SEGMENTS) * LEN as u64).await;
    }
    let (viewer, mut events) = viewer(&source, &signal, &key).await;
    until(&mut events, is_seed).await;
    until(&mut events, is_seed).await;
    let track = viewer.tracks()[0].id;
    for seq in 0..3 {
        let delivered = viewer.segment(track, SeqNo(seq)).await.unwrap();
        assert!(delivered.bytes == segments[seq as usize], "segment {seq} differs");
    }
    first.shutdown().await;
    until(&mut events, |event| matches!(event, NodeEvent::Disconnected { .. })).await;
    let before = viewer.stats().await.unwrap();
    assert_eq!(before.bad_chunks, 0);
    for seq in 3..SEGMENTS {
        let delivered = viewer.segment(track, SeqNo(seq.into())).await.unwrap();
        assert!(delivered.bytes == segments[seq as usize], "segment {seq} differs");
    }
    let after = viewer.stats().await.unwrap();
    assert_eq!(after.http_bytes, before.http_bytes, "the other seed has it all: {after:?}");
    viewer.leave().await;
    second.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_cap_holds_for_all_viewers_together() {
    const CAP: u64 = 600_000;
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let segments = origin.put_vod(2, 600_000);
    let source = origin.url("/v/a.m3u8");
    let seed = capped_seed(&source, &signal, &key, CAP).await;
    holds(seed.handle(), 1_200_000).await;
    let mut viewers = Vec::new();
    for _ in 0..2 {
        let (viewer, mut events) = viewer(&source, &signal, &key).await;
        until(&mut events, is_seed).await;
        viewers.push(viewer);
    }
    let began = Instant::now();
    // Each wants another segment first, so that both want the seed.
    let watch = async |viewer: &Viewer, order: [usize; 2]| {
        for seq in order {
            let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(seq as u64)).await.unwrap();
            assert!(delivered.bytes == segments[seq], "segment {seq} differs");
        }
    };
    tokio::join!(watch(&viewers[0], [0, 1]), watch(&viewers[1], [1, 0]));
    let took = began.elapsed().as_secs_f64();
    let mut given = 0;
    for viewer in viewers {
        let stats = viewer.stats().await.unwrap();
        assert!(stats.seed_bytes > 0, "one has nothing of the seed");
        given += stats.seed_bytes;
        viewer.leave().await;
    }
    // A little may be sent ahead at the start.
    assert!((given as f64) < CAP as f64 * took + 200_000.0, "{given} bytes in {took} s");
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_too_many_is_sent_away_and_watches_all_the_same() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let segments = origin.put_vod(2, LEN);
    let source = origin.url("/v/a.m3u8");
    let seed = small_seed(&source, &signal, &key, 1).await;
    holds(seed.handle(), 2 * LEN as u64).await;
    let (first, mut first_events) = viewer(&source, &signal, &key).await;
    until(&mut first_events, is_seed).await;
    let (second, mut second_events) = viewer(&source, &signal, &key).await;
    until(&mut second_events, |event| matches!(event, NodeEvent::Disconnected { .. })).await;
    assert_eq!(seed.handle().stats().await.unwrap().neighbours, 1);
    for viewer in [&first, &second] {
        let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(1)).await.unwrap();
        assert!(delivered.bytes == segments[1]);
    }
    first.leave().await;
    second.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}
