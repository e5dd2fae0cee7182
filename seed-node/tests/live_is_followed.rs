//! A live stream: the seed starts at its window, and pulls what appears, each segment once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use headwater_seed::http::Http;
use headwater_seed::node::NodeEvent;
use headwater_seed::origin::Source;
use headwater_seed::origin::mirror::{Mirror, MirrorEvent};
use headwater_seed::origin::pull::Puller;
use headwater_swarm::Event;
use headwater_wire::SeqNo;
use support::{Origin, PATIENCE, Signal, holds, key, seed, segment_bytes, until, viewer};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const LEN: usize = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_window_first_then_what_appears_each_segment_once() {
    let origin = Origin::start().await;
    origin.put_live(100..104, LEN, false);
    let http = Http::new().unwrap();
    let source = Source::open(&http, &origin.url("/l/a.m3u8")).await.unwrap();
    assert!(source.is_live());
    let (events_tx, mut events) = mpsc::channel(4);
    let puller = Puller::new(http, None, true);
    let mirror = tokio::spawn(Mirror { puller, budget: 1 << 20, needs: None, events: events_tx }.run(source));

    let mut pulled = Vec::new();
    let mut first_listed = SeqNo(0);
    while let Some(event) = timeout(PATIENCE, events.recv()).await.unwrap() {
        match event {
            MirrorEvent::Playlist { update, .. } => first_listed = update.first,
            MirrorEvent::Segment { segment, bytes, .. } => {
                assert_eq!(bytes, segment_bytes(segment.seq.0 as u32, LEN));
                pulled.push(segment.seq.0);
                match pulled.len() {
                    4 => {
                        origin.put_live(102..106, LEN, false);
                        // The playlist is gone for a while, as when a packager restarts.
                        let playlist = origin.take("/l/a.m3u8");
                        let back = origin.clone();
                        tokio::spawn(async move {
                            sleep(Duration::from_millis(1500)).await;
                            back.put("/l/a.m3u8", playlist);
                        });
                    }
                    6 => origin.put_live(104..108, LEN, true),
                    _ => {}
                }
            }
        }
    }
    mirror.await.unwrap();
    pulled.sort_unstable();
    assert_eq!(pulled, (100..108).collect::<Vec<_>>());
    assert_eq!(first_listed, SeqNo(104));
    for seq in 100..108 {
        assert_eq!(origin.requests(&format!("/l/{seq}.ts")), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_gets_live_segments_from_the_seed() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    origin.put_live(0..3, LEN, false);
    let source = origin.url("/l/a.m3u8");
    let seed = seed(&source, &signal, &key).await;
    let (viewer, mut events) = viewer(&source, &signal, &key).await;
    let track = viewer.tracks()[0].id;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { .. }))).await;
    origin.put_live(2..5, LEN, false);
    // The seed has it as soon as its playlist is looked at again, and the viewer asks as soon as its own is.
    holds(seed.handle(), 5 * LEN as u64).await;
    for seq in 2..5_u32 {
        let delivered = timeout(PATIENCE, viewer.segment(track, SeqNo(u64::from(seq)))).await.unwrap().unwrap();
        assert_eq!(delivered.bytes, segment_bytes(seq, LEN));
    }
    let stats = viewer.stats().await.unwrap();
    assert!(stats.seed_bytes > 0, "{stats:?}");
    viewer.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}
