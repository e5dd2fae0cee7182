//! Pulling from an origin: as little as possible, again where it may help, and what viewers are near before the rest.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_seed::cache::DiskCache;
use headwater_seed::http::{Http, HttpError};
use headwater_seed::node::{Location, NodeEvent};
use headwater_seed::origin::Source;
use headwater_seed::origin::pull::Puller;
use headwater_swarm::Event;
use headwater_wire::SeqNo;
use support::log::Log;
use support::{Fault, Origin, PATIENCE, Signal, frugal_seed, holds, key, seed, segment_bytes, until, viewer};
use tokio::time::{sleep, timeout};
use url::Url;

const LEN: usize = 80_000;

fn segment(origin: &Origin, seq: u32) -> Location {
    Location { url: origin.url(&format!("/v/{seq}.ts")), range: None }
}

/// One that has just been started, with what its predecessors left on the disk.
fn puller_with_disk(folder: &Path, live: bool) -> Puller {
    let cache = DiskCache::open(folder, 1 << 30).unwrap();
    Puller::new(Http::new().unwrap(), Some(cache), live)
}

/// Waits until something is so.
async fn until_it_is(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_origin_in_trouble_refuses_is_asked_for_again_and_what_is_not_there_is_not() {
    let origin = Origin::start().await;
    let segments = origin.put_vod(2, LEN);
    let puller = Puller::new(Http::new().unwrap(), None, false);
    for (seq, fault) in [(0, Fault::Status(503)), (1, Fault::Status(429))] {
        let location = segment(&origin, seq);
        origin.fail_for(location.url.path(), fault, 2);
        assert!(puller.pull(&location).await.unwrap() == segments[seq as usize]);
        assert_eq!(origin.requests(location.url.path()), 3, "segment {seq}");
    }
    assert!(puller.pull(&segment(&origin, 2)).await.is_err());
    assert_eq!(origin.requests("/v/2.ts"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_playlist_without_news_costs_no_body() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    origin.tag();
    origin.put_live(0..3, LEN, false);
    let seed = seed(&origin.url("/l/a.m3u8"), &signal, &key).await;
    until_it_is("the playlist is not looked at", || origin.requests("/l/a.m3u8") >= 6).await;
    assert_eq!(origin.bodies("/l/a.m3u8"), 2, "when the stream was opened, and the first look");
    origin.put_live(0..4, LEN, false);
    holds(seed.handle(), 4 * LEN as u64).await;
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_a_segment_comes_anew_only_where_it_changed_whatever_state_the_origin_is_in() {
    let origin = Origin::start().await;
    origin.tag();
    let segments = origin.put_vod(2, LEN);
    let folder = tempfile::tempdir().unwrap();
    let location = segment(&origin, 0);
    let path = location.url.path();
    let started = |live| puller_with_disk(folder.path(), live);
    started(false).pull(&location).await.unwrap();
    assert!(started(false).pull(&location).await.unwrap() == segments[0]);
    assert_eq!((origin.requests(path), origin.bodies(path)), (2, 1));
    // A finished stream's segments stay good while the origin has nothing to say of them.
    for fault in [Fault::Page, Fault::Status(500)] {
        origin.fail(path, Some(fault));
        assert!(started(false).pull(&location).await.unwrap() == segments[0]);
    }
    // A live one's may be others by now: without the origin's word they are not taken, nor lost.
    origin.fail(path, Some(Fault::Page));
    assert!(matches!(started(true).pull(&location).await, Err(HttpError::Page { .. })));
    origin.fail(path, None);
    assert!(started(true).pull(&location).await.unwrap() == segments[0]);
    assert_eq!(origin.bodies(path), 1);
    origin.put(path, segments[1].clone());
    assert!(started(false).pull(&location).await.unwrap() == segments[1]);
    assert!(started(false).pull(&location).await.unwrap() == segments[1]);
    assert_eq!(origin.bodies(path), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_finished_stream_lacks_at_first_comes_later() {
    let log = Log::start();
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    origin.put_vod(4, LEN);
    origin.fail("/v/1.ts", Some(Fault::Status(404)));
    origin.fail("/v/2.ts", Some(Fault::Page));
    let source = origin.url("/v/a.m3u8");
    let seed = seed(&source, &signal, &key).await;
    holds(seed.handle(), 2 * LEN as u64).await;
    log.says(&["cannot pull a segment", "/v/1.ts", "404", "trying again later"]).await;
    log.says(&["cannot pull a segment", "/v/2.ts", "web page"]).await;
    origin.fail("/v/1.ts", None);
    origin.fail("/v/2.ts", None);
    holds(seed.handle(), 4 * LEN as u64).await;
    let (viewer, mut events) = viewer(&source, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(2)).await.unwrap();
    assert!(delivered.bytes == segment_bytes(2, LEN));
    viewer.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}

/// A viewer gets all of a stream from the seed alone.
async fn all_comes_from_the_seed(source: &Url, signal: &Signal, key: &headwater_seed::key::Key, count: u32) {
    let (viewer, mut events) = viewer(source, signal, key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    for seq in (0..count).chain([0]) {
        let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(u64::from(seq))).await.unwrap();
        assert!(delivered.bytes == segment_bytes(seq, LEN), "segment {seq}");
    }
    let stats = viewer.stats().await.unwrap();
    assert_eq!((stats.http_bytes, stats.seed_bytes), (0, u64::from(count) * LEN as u64));
    viewer.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_larger_than_the_memory_is_seeded_whole_from_the_disk() {
    const COUNT: u32 = 12;
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    origin.put_vod(COUNT, LEN);
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 1 << 30).unwrap();
    let address = origin.url("/v/a.m3u8");
    let source = Source::open(&Http::new().unwrap(), &address).await.unwrap();
    let seed = frugal_seed(source, &signal, &key, 3 * LEN as u64, Some(cache)).await;
    holds(seed.handle(), u64::from(COUNT) * LEN as u64).await;
    all_comes_from_the_seed(&address, &signal, &key, COUNT).await;
    for seq in 0..COUNT {
        assert_eq!(origin.requests(&format!("/v/{seq}.ts")), 1, "segment {seq}");
    }
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_in_a_folder_is_seeded_whole_with_little_memory_and_never_otherwise_than_it_was_signed() {
    const COUNT: u32 = 8;
    let log = Log::start();
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let segments = origin.put_vod(COUNT, LEN);
    let folder = tempfile::tempdir().unwrap();
    for (seq, bytes) in segments.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{seq}.ts")), bytes).unwrap();
    }
    let playlist = folder.path().join("a.m3u8");
    std::fs::write(&playlist, origin.take("/v/a.m3u8")).unwrap();
    origin.put_vod(COUNT, LEN);
    let address = origin.url("/v/a.m3u8");
    let from = Url::from_file_path(playlist).unwrap();
    let source = Source::open_from(&Http::new().unwrap(), &address, &from).await.unwrap();
    let seed = frugal_seed(source, &signal, &key, 2 * LEN as u64, None).await;
    holds(seed.handle(), u64::from(COUNT) * LEN as u64).await;
    all_comes_from_the_seed(&address, &signal, &key, COUNT).await;

    std::fs::write(folder.path().join("3.ts"), segment_bytes(99, LEN)).unwrap();
    // The last ones are in memory now.
    let (viewer, mut events) = viewer(&address, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    for seq in [3, 4] {
        let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(u64::from(seq))).await.unwrap();
        assert!(delivered.bytes == segment_bytes(seq, LEN), "segment {seq}");
    }
    assert_eq!(viewer.stats().await.unwrap().bad_chunks, 0);
    log.says(&["changed after it was signed", "over HTTP"]).await;
    viewer.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_cannot_be_had_for_a_while_comes_back() {
    const COUNT: u32 = 8;
    let log = Log::start();
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    origin.put_vod(COUNT, LEN);
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 1 << 30).unwrap();
    let address = origin.url("/v/a.m3u8");
    let source = Source::open(&Http::new().unwrap(), &address).await.unwrap();
    let seed = frugal_seed(source, &signal, &key, 3 * LEN as u64, Some(cache)).await;
    holds(seed.handle(), u64::from(COUNT) * LEN as u64).await;
    // The disk fails, and the origin does not answer either.
    for file in std::fs::read_dir(folder.path()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    origin.fail("/v/0.ts", Some(Fault::Status(503)));
    let (first, mut events) = viewer(&address, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    let track = first.tracks()[0].id;
    // Over HTTP it fails; it may do so before the seed has said what it holds.
    let asking = async {
        loop {
            let _ = first.segment(track, SeqNo(0)).await;
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = log.says(&["cannot get a segment again"]) => {}
    }
    log.says(&["cannot pull a segment", "/v/0.ts", "503", "trying again later"]).await;
    origin.fail("/v/0.ts", None);
    first.leave().await;
    holds(seed.handle(), u64::from(COUNT) * LEN as u64).await;
    all_comes_from_the_seed(&address, &signal, &key, COUNT).await;
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_that_the_origin_gives_no_more_comes_from_the_disk() {
    let origin = Origin::start().await;
    origin.tag();
    let segments = origin.put_vod(1, LEN);
    let folder = tempfile::tempdir().unwrap();
    let range = headwater_seed::http::Range { offset: 100, len: 5000 };
    let location = Location { range: Some(range), ..segment(&origin, 0) };
    let started = |live| puller_with_disk(folder.path(), live);
    let bytes = started(false).pull(&location).await.unwrap();
    assert!(bytes == segments[0][100..5100]);
    origin.fail(location.url.path(), Some(Fault::NoRanges));
    assert!(started(false).pull(&location).await.unwrap() == bytes);
    assert!(matches!(started(true).pull(&location).await, Err(HttpError::NoRanges { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_for_all_what_viewers_come_near_is_pulled() {
    let log = Log::start();
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    origin.put_vod(40, LEN);
    let address = origin.url("/v/a.m3u8");
    let source = Source::open(&Http::new().unwrap(), &address).await.unwrap();
    let seed = frugal_seed(source, &signal, &key, 9 * LEN as u64, None).await;
    log.says(&["no room for the whole stream"]).await;
    assert_eq!(origin.requests("/v/20.ts"), 0);
    let (viewer, mut events) = viewer(&address, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    let track = viewer.tracks()[0].id;
    // Nobody has it: it comes from the origin, and the seed gets what comes next.
    viewer.segment(track, SeqNo(20)).await.unwrap();
    let published = || seed.published().segments.load(Ordering::Relaxed);
    until_it_is("the seed does not pull what comes next", || published() >= 7 + 6).await;
    holds(seed.handle(), 7 * LEN as u64).await;
    assert_eq!(origin.requests("/v/39.ts"), 0);
    // One who comes now hears of it with the seed's first words.
    let (second, mut events) = self::viewer(&address, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    assert!(second.segment(track, SeqNo(23)).await.unwrap().bytes == segment_bytes(23, LEN));
    assert_eq!(second.stats().await.unwrap().http_bytes, 0);
    // What had to make room is pulled again for one who comes near it, and nothing else is.
    assert_eq!(origin.requests("/v/0.ts"), 1);
    second.segment(track, SeqNo(0)).await.unwrap();
    until_it_is("the seed does not pull again what it let go", || origin.requests("/v/0.ts") >= 3).await;
    viewer.leave().await;
    second.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}
