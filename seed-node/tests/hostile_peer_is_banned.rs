//! A peer that sends other bytes than the publisher signed: nothing of it is used, and it is not spoken to again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use headwater_seed::key::Key;
use headwater_seed::node::{NodeEvent, Tamper};
use headwater_seed::sign::{Hashed, Signer};
use headwater_swarm::{DisconnectReason, Event};
use headwater_wire::catalogue::encode_file;
use headwater_wire::{ChunkId, Scope, SegmentId, SeqNo, TrackId};
use support::{Origin, Signal, clone_key, holds, hostile_seed, key, seed, until, viewer};
use url::Url;

const SEGMENTS: u32 = 8;
const LEN: usize = 400_000;

struct FlipFirstBit;

impl Tamper for FlipFirstBit {
    fn tamper(&mut self, _chunk: ChunkId, bytes: Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        bytes[0] ^= 1;
        bytes.into()
    }
}

/// The catalogue file beside the playlist, as `headwater-seed sign` writes it.
fn put_catalogue(origin: &Origin, source: &Url, key: &Key, segments: &[Vec<u8>]) {
    let signer = Signer::new(clone_key(key), Scope::Any);
    let track = TrackId::of_playlist(source.as_str(), source.as_str());
    let entries: Vec<_> = (0..)
        .zip(segments)
        .filter_map(|(seq, bytes)| Some(Hashed::of(SegmentId { track, seq: SeqNo(seq) }, bytes, false)?.entry))
        .collect();
    let batches = signer.sign(track, &entries).unwrap_or_default();
    origin.put("/v/a.m3u8.catalogue", encode_file(&batches));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_peer_is_banned_and_the_honest_seed_serves_on() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let segments = origin.put_vod(SEGMENTS, LEN);
    let source = origin.url("/v/a.m3u8");
    let honest = seed(&source, &signal, &key).await;
    let hostile = hostile_seed(&source, &signal, &key, FlipFirstBit).await;
    for seed in [&honest, &hostile] {
        holds(seed.handle(), u64::from(SEGMENTS) * LEN as u64).await;
    }

    let (viewer, mut events) = viewer(&source, &signal, &key).await;
    let mut ready = BTreeSet::new();
    until(&mut events, |event| {
        if let NodeEvent::Engine(Event::NeighbourReady { peer, .. }) = event {
            ready.insert(*peer);
        }
        ready.len() == 2
    })
    .await;
    let track = viewer.tracks()[0].id;
    for (seq, bytes) in (0..).zip(&segments) {
        let delivered = viewer.segment(track, SeqNo(seq)).await.unwrap();
        assert!(delivered.bytes == bytes, "segment {seq} differs");
    }
    let bad_data = DisconnectReason::BadData;
    until(
        &mut events,
        |event| matches!(event, NodeEvent::Engine(Event::PeerBanned { reason, .. }) if *reason == bad_data),
    )
    .await;
    let stats = viewer.stats().await.unwrap();
    assert!(stats.bad_chunks > 0, "{stats:?}");
    assert_eq!((stats.neighbours, stats.http_bytes), (1, 0), "{stats:?}");
    viewer.leave().await;
    hostile.shutdown().await;
    honest.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_hostile_peer_alone_the_origin_serves() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let segments = origin.put_vod(SEGMENTS, LEN);
    let source = origin.url("/v/a.m3u8");
    put_catalogue(&origin, &source, &key, &segments);
    let hostile = hostile_seed(&source, &signal, &key, FlipFirstBit).await;
    holds(hostile.handle(), u64::from(SEGMENTS) * LEN as u64).await;

    let (viewer, mut events) = viewer(&source, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { .. }))).await;
    let track = viewer.tracks()[0].id;
    for (seq, bytes) in (0..).zip(&segments) {
        let delivered = viewer.segment(track, SeqNo(seq)).await.unwrap();
        assert!(delivered.bytes == bytes, "segment {seq} differs");
    }
    let stats = viewer.stats().await.unwrap();
    assert!(stats.bad_chunks > 0, "{stats:?}");
    assert_eq!((stats.neighbours, stats.http_bytes), (0, u64::from(SEGMENTS) * LEN as u64), "{stats:?}");
    viewer.leave().await;
    hostile.shutdown().await;
    signal.stop().await;
}
