//! A seed and native viewers over real data channels, through a signalling server in this process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use headwater_seed::node::NodeEvent;
use headwater_swarm::Event;
use headwater_wire::SeqNo;
use support::{Origin, Signal, holds, key, seed, until, viewer};

const SEGMENTS: u32 = 6;
const LEN: usize = 300_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_gets_every_segment_byte_exact_from_the_seed() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let segments = origin.put_vod(SEGMENTS, LEN);
    let source = origin.url("/v/a.m3u8");
    let seed = seed(&source, &signal, &key).await;
    holds(seed.handle(), u64::from(SEGMENTS) * LEN as u64).await;

    let (viewer, mut events) = viewer(&source, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    let track = viewer.tracks()[0].id;
    for (seq, bytes) in (0..).zip(&segments) {
        let delivered = viewer.segment(track, SeqNo(seq)).await.unwrap();
        assert!(delivered.bytes == bytes, "segment {seq} differs");
    }
    let stats = viewer.stats().await.unwrap();
    // The first demands may come before the seed has said what it holds.
    assert!(stats.http_bytes <= 2 * LEN as u64, "{stats:?}");
    assert_eq!(stats.seed_bytes + stats.http_bytes, u64::from(SEGMENTS) * LEN as u64, "{stats:?}");
    assert_eq!(stats.bad_chunks, 0);
    viewer.leave().await;
    seed.shutdown().await;
    for seq in 2..SEGMENTS {
        assert_eq!(origin.requests(&format!("/v/{seq}.ts")), 1, "the seed pulls segment {seq} once, the viewer never");
    }
    signal.stop().await;
}
