//! Sources that misbehave while a seed follows them: a line in the log says so, the rest goes on, and nothing wrong is
//! ever signed or served.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use headwater_seed::seed::Seed;
use headwater_wire::SeqNo;
use support::log::Log;
use support::{Fault, Origin, Signal, holds, impatient_seed, key, segment_bytes, viewer};

const LEN: usize = 80_000;

struct Live {
    log: Log,
    origin: Origin,
    signal: Signal,
    key: headwater_seed::key::Key,
    seed: Seed,
}

impl Live {
    /// A live stream of which the seed has the first segments.
    async fn start(window: std::ops::Range<u32>) -> Self {
        let log = Log::start();
        let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
        origin.put_live(window.clone(), LEN, false);
        let seed = impatient_seed(&origin.url("/l/a.m3u8"), &signal, &key).await;
        holds(seed.handle(), window.len() as u64 * LEN as u64).await;
        Self { log, origin, signal, key, seed }
    }

    async fn holds(&self, segments: u64) {
        holds(self.seed.handle(), segments * LEN as u64).await;
    }

    /// A viewer gets a segment with these bytes.
    async fn gives(&self, seq: u32) {
        let (viewer, _events) = viewer(&self.origin.url("/l/a.m3u8"), &self.signal, &self.key).await;
        let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(u64::from(seq))).await.unwrap();
        assert!(delivered.bytes == segment_bytes(seq, LEN), "segment {seq} differs");
        viewer.leave().await;
    }

    async fn stop(self) {
        self.seed.shutdown().await;
        self.signal.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_stalls_holds_up_nothing_else() {
    let live = Live::start(0..2).await;
    live.origin.fail("/l/2.ts", Some(Fault::Stall(LEN / 2)));
    live.origin.put_live(0..5, LEN, false);
    live.holds(4).await;
    live.log.says(&["cannot pull a segment", "/l/2.ts", "over HTTP"]).await;
    live.origin.fail("/l/2.ts", None);
    live.holds(5).await;
    live.gives(4).await;
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_in_trouble_is_asked_again_later() {
    let live = Live::start(0..2).await;
    live.origin.fail("/l/a.m3u8", Some(Fault::Status(503)));
    live.log.says(&["cannot load the live playlist", "503"]).await;
    live.origin.put_live(0..4, LEN, false);
    live.origin.fail("/l/a.m3u8", None);
    live.log.says(&["the playlist is back"]).await;
    live.holds(4).await;
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_playlist_that_stalls_is_named_and_asked_for_again() {
    let live = Live::start(0..2).await;
    live.origin.fail("/l/a.m3u8", Some(Fault::Stall(10)));
    live.log.says(&["cannot load the live playlist", "/l/a.m3u8"]).await;
    live.origin.put_live(0..4, LEN, false);
    live.origin.fail("/l/a.m3u8", None);
    live.log.says(&["the playlist is back"]).await;
    live.holds(4).await;
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_in_place_of_the_playlist_is_named_and_nothing_is_forgotten() {
    let live = Live::start(0..3).await;
    live.origin.put("/l/a.m3u8", "<!doctype html><p>Back soon</p>");
    live.log.says(&["cannot load the live playlist", "web page"]).await;
    live.origin.put_live(0..4, LEN, false);
    live.holds(4).await;
    live.gives(3).await;
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_in_place_of_a_segment_is_neither_signed_nor_served() {
    let live = Live::start(0..2).await;
    live.origin.fail("/l/2.ts", Some(Fault::Page));
    live.origin.put_live(0..5, LEN, false);
    live.log.says(&["cannot pull a segment", "/l/2.ts", "web page", "over HTTP"]).await;
    // Had it been signed, the segment itself would now be the one that changed.
    live.origin.fail("/l/2.ts", None);
    live.holds(5).await;
    live.gives(2).await;
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_the_origin_cannot_give_holds_up_nothing_else() {
    let live = Live::start(0..2).await;
    live.origin.fail("/l/2.ts", Some(Fault::Status(500)));
    live.origin.put_live(0..5, LEN, false);
    live.holds(4).await;
    live.log.says(&["cannot pull a segment", "/l/2.ts", "500", "over HTTP"]).await;
    live.origin.fail("/l/2.ts", None);
    live.holds(5).await;
    live.gives(2).await;
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_changes_after_it_was_signed_stays_as_it_was() {
    let live = Live::start(0..3).await;
    // Under the same number at another address: the first bytes are in viewers' hands already.
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\n0.ts\n#EXTINF:1,\n1-again.ts\n\
                    #EXTINF:1,\n2.ts\n#EXTINF:1,\n3.ts\n";
    live.origin.put("/l/1-again.ts", segment_bytes(99, LEN));
    live.origin.put("/l/3.ts", segment_bytes(3, LEN));
    live.origin.put("/l/a.m3u8", playlist);
    live.log.says(&["changed its address", "the first one stays"]).await;
    live.holds(4).await;
    assert_eq!(live.origin.requests("/l/1-again.ts"), 0);
    live.gives(3).await;
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_begin_again_are_named_and_not_taken_for_new_segments() {
    let live = Live::start(10..14).await;
    live.origin.put("/l/0.ts", segment_bytes(70, LEN));
    live.origin.put("/l/a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\n0.ts\n");
    live.log.says(&["numbers went back", "/l/a.m3u8"]).await;
    live.origin.put_live(12..16, LEN, false);
    live.holds(6).await;
    live.gives(15).await;
    live.stop().await;
}
