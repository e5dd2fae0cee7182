//! The signalling server is needed to meet, and for nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use headwater_seed::node::NodeEvent;
use headwater_swarm::Event;
use headwater_wire::SeqNo;
use support::{Origin, Signal, holds, key, seed, until, viewer};

const LEN: usize = 200_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_outlive_the_server_and_its_heir_brings_newcomers() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let segments = origin.put_vod(4, LEN);
    let source = origin.url("/v/a.m3u8");
    let seed = seed(&source, &signal, &key).await;
    holds(seed.handle(), 4 * LEN as u64).await;
    let (first, mut first_events) = viewer(&source, &signal, &key).await;
    let is_seed = |event: &NodeEvent| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }));
    until(&mut first_events, is_seed).await;
    let track = first.tracks()[0].id;
    // From here on it is known what the seed holds.
    assert!(first.segment(track, SeqNo(0)).await.unwrap().bytes == segments[0]);

    let port = signal.url.port().unwrap();
    signal.stop().await;
    let delivered = first.segment(track, SeqNo(1)).await.unwrap();
    assert!(delivered.bytes == segments[1]);
    assert_eq!(delivered.report.seed_bytes as usize, LEN);

    let mut seed_events = seed.handle().events();
    let heir = Signal::start_at(port).await;
    until(&mut seed_events, |event| matches!(event, NodeEvent::Joined(_))).await;
    until(&mut first_events, |event| matches!(event, NodeEvent::Joined(_))).await;
    let delivered = first.segment(track, SeqNo(2)).await.unwrap();
    assert_eq!(delivered.report.seed_bytes as usize, LEN, "the channel is still the old one");

    let (second, mut second_events) = viewer(&source, &heir, &key).await;
    until(&mut second_events, is_seed).await;
    assert!(second.segment(track, SeqNo(3)).await.unwrap().bytes == segments[3]);
    second.leave().await;
    first.leave().await;
    seed.shutdown().await;
    heir.stop().await;
}
