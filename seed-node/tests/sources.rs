//! Streams of all kinds: what of them is pulled, what is left alone, and that viewers get it byte for byte.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use headwater_seed::http::Http;
use headwater_seed::node::NodeEvent;
use headwater_seed::origin::{Source, SourceError};
use headwater_swarm::Event;
use headwater_wire::SeqNo;
use support::{Origin, Signal, holds, key, seed, seed_of, segment_bytes, until, viewer};
use url::Url;

const LEN: usize = 90_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_segments_are_passed_on_as_they_are_and_no_key_is_asked_for() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let mut playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
    playlist += "#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"secret.key\",IV=0x1\n";
    for seq in 0..4 {
        if seq == 2 {
            playlist += "#EXT-X-DISCONTINUITY\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"other.key\",IV=0x2\n";
        }
        playlist += &format!("#EXTINF:4,\n{seq}.m4s\n");
        origin.put(&format!("/e/{seq}.m4s"), segment_bytes(seq, LEN));
    }
    origin.put("/e/a.m3u8", playlist + "#EXT-X-ENDLIST\n");
    for path in ["/e/secret.key", "/e/other.key", "/e/init.mp4"] {
        origin.put(path, "not for seeds");
    }
    let source = origin.url("/e/a.m3u8");
    let seed = seed(&source, &signal, &key).await;
    holds(seed.handle(), 4 * LEN as u64).await;
    let (viewer, _events) = viewer(&source, &signal, &key).await;
    for seq in 0..4 {
        let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(seq)).await.unwrap();
        assert!(delivered.bytes == segment_bytes(seq as u32, LEN), "segment {seq} differs");
    }
    for path in ["/e/secret.key", "/e/other.key", "/e/init.mp4"] {
        assert_eq!(origin.requests(path), 0, "{path}");
    }
    viewer.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn byte_ranges_of_one_file_are_segments_of_their_own() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let file = segment_bytes(7, 3 * LEN);
    let mut playlist = "#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
    for part in 0..3 {
        let offset = if part == 0 { "@0" } else { "" };
        playlist += &format!("#EXTINF:4,\n#EXT-X-BYTERANGE:{LEN}{offset}\nall.mp4\n");
    }
    origin.put("/b/all.mp4", file.clone());
    origin.put("/b/a.m3u8", playlist + "#EXT-X-ENDLIST\n");
    let source = origin.url("/b/a.m3u8");
    let seed = seed(&source, &signal, &key).await;
    holds(seed.handle(), 3 * LEN as u64).await;
    let (viewer, _events) = viewer(&source, &signal, &key).await;
    for part in 0..3 {
        let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(part as u64)).await.unwrap();
        assert!(delivered.bytes == file[part * LEN..(part + 1) * LEN], "part {part} differs");
    }
    viewer.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}

fn put_multivariant(origin: &Origin) {
    origin.put(
        "/m/index.m3u8",
        "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"en\",URI=\"audio/en.m3u8\"\n\
         #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"en\",URI=\"text/en.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\",SUBTITLES=\"s\"\nv360/v.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=2,AUDIO=\"a\",SUBTITLES=\"s\"\nv720/v.m3u8\n",
    );
    for (place, path) in ["audio/en", "text/en", "v360/v", "v720/v"].iter().enumerate() {
        origin.put(&format!("/m/{path}.m3u8"), "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n0.bin\n#EXT-X-ENDLIST\n");
        let folder = path.split('/').next().unwrap();
        origin.put(&format!("/m/{folder}/0.bin"), segment_bytes(place as u32, LEN));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audio_and_subtitles_are_tracks_and_some_can_be_picked() {
    let origin = Origin::start().await;
    put_multivariant(&origin);
    let http = Http::new().unwrap();
    let url = origin.url("/m/index.m3u8");
    let mut source = Source::open(&http, &url).await.unwrap();
    assert_eq!(source.tracks.len(), 4);
    source.pick(&["v720/*".to_owned(), "audio/en.m3u8".to_owned()]).unwrap();
    let mut keys: Vec<_> = source.tracks.iter().map(|track| track.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["audio/en.m3u8", "v720/v.m3u8"]);
    let error = source.pick(&["v1080/*".to_owned()]).unwrap_err();
    assert!(matches!(error, SourceError::NoSuchTrack { .. }));
    assert!(error.to_string().contains("v720/v.m3u8"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn initialisations_are_left_alone_gaps_left_out_and_discontinuities_change_no_number() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let playlist = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-PLAYLIST-TYPE:VOD\n\
                    #EXT-X-MAP:URI=\"a.mp4\"\n#EXTINF:4,\n5.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"b.mp4\"\n\
                    #EXTINF:4,\n6.m4s\n#EXT-X-GAP\n#EXTINF:4,\n7.m4s\n#EXTINF:4,\n8.m4s\n#EXT-X-ENDLIST\n";
    origin.put("/f/a.m3u8", playlist);
    for seq in [5, 6, 8] {
        origin.put(&format!("/f/{seq}.m4s"), segment_bytes(seq, LEN));
    }
    let source = origin.url("/f/a.m3u8");
    let seed = seed(&source, &signal, &key).await;
    holds(seed.handle(), 3 * LEN as u64).await;
    let (viewer, mut events) = viewer(&source, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    for seq in [8, 6, 5] {
        let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(u64::from(seq))).await.unwrap();
        assert!(delivered.bytes == segment_bytes(seq, LEN), "segment {seq}");
    }
    for path in ["/f/a.mp4", "/f/b.mp4", "/f/7.m4s"] {
        assert_eq!(origin.requests(path), 0, "{path}");
    }
    viewer.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_stream_is_followed_on_all_of_its_tracks() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let put = |window: std::ops::Range<u32>| {
        for (track, first) in [("v", 0), ("a", 100)] {
            let mut playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{}\n", window.start);
            for seq in window.clone() {
                playlist += &format!("#EXTINF:1,\n{seq}.m4s\n");
                origin.put(&format!("/m/{track}/{seq}.m4s"), segment_bytes(first + seq, LEN));
            }
            origin.put(&format!("/m/{track}/i.m3u8"), playlist);
        }
    };
    origin.put(
        "/m/m.m3u8",
        "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"en\",URI=\"a/i.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nv/i.m3u8\n",
    );
    put(0..3);
    let source = origin.url("/m/m.m3u8");
    let seed = seed(&source, &signal, &key).await;
    holds(seed.handle(), 6 * LEN as u64).await;
    put(1..5);
    holds(seed.handle(), 10 * LEN as u64).await;
    let (viewer, _events) = viewer(&source, &signal, &key).await;
    for track in viewer.tracks() {
        let first = if track.key.starts_with('a') { 100 } else { 0 };
        let delivered = viewer.segment(track.id, SeqNo(4)).await.unwrap();
        assert!(delivered.bytes == segment_bytes(first + 4, LEN), "{}", track.key);
    }
    assert_eq!(viewer.tracks().len(), 2);
    viewer.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_grows_is_seeded_under_the_public_address() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let folder = tempfile::tempdir().unwrap();
    let write = |window: std::ops::Range<u32>, ended: bool| {
        let mut playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{}\n", window.start);
        for seq in window {
            playlist += &format!("#EXTINF:1,\n{seq}.ts\n");
            std::fs::write(folder.path().join(format!("{seq}.ts")), segment_bytes(seq, LEN)).unwrap();
        }
        let end = if ended { "#EXT-X-ENDLIST\n" } else { "" };
        std::fs::write(folder.path().join("a.m3u8"), playlist + end).unwrap();
    };
    write(0..3, false);
    origin.put_live(0..3, LEN, false);
    let public = origin.url("/l/a.m3u8");
    let from = Url::from_file_path(folder.path().join("a.m3u8")).unwrap();
    let source = Source::open_from(&Http::new().unwrap(), &public, &from).await.unwrap();
    let seed = seed_of(source, &signal, &key).await;
    holds(seed.handle(), 3 * LEN as u64).await;
    write(1..5, false);
    holds(seed.handle(), 5 * LEN as u64).await;
    origin.put_live(1..5, LEN, false);
    let (viewer, _events) = viewer(&public, &signal, &key).await;
    let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(4)).await.unwrap();
    assert!(delivered.bytes == segment_bytes(4, LEN));
    assert_eq!(origin.requests("/l/0.ts"), 0, "the seed has it all from the folder");
    viewer.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_watched_folder_that_change_at_their_address_are_seeded_as_they_were_signed() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let folder = tempfile::tempdir().unwrap();
    let put = |seq: u32, content: u32| {
        std::fs::write(folder.path().join(format!("{seq}.ts")), segment_bytes(content, LEN)).unwrap();
        // Who replaces a file uploads it too: what comes over HTTP from now on is not what was signed.
        origin.put(&format!("/l/{seq}.ts"), segment_bytes(content, LEN));
    };
    let list = |window: std::ops::Range<u32>| {
        let mut playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{}\n", window.start);
        window.for_each(|seq| playlist += &format!("#EXTINF:1,\n{seq}.ts\n"));
        origin.put("/l/a.m3u8", playlist.as_str());
        std::fs::write(folder.path().join("new"), playlist).unwrap();
        std::fs::rename(folder.path().join("new"), folder.path().join("a.m3u8")).unwrap();
    };
    (0..4).for_each(|seq| put(seq, seq));
    list(0..4);
    let public = origin.url("/l/a.m3u8");
    let from = Url::from_file_path(folder.path().join("a.m3u8")).unwrap();
    let source = Source::open_from(&Http::new().unwrap(), &public, &from).await.unwrap();
    let seed = seed_of(source, &signal, &key).await;
    holds(seed.handle(), 4 * LEN as u64).await;
    (0..4).for_each(|seq| put(seq, 90 + seq));
    put(4, 4);
    list(1..5);
    holds(seed.handle(), 5 * LEN as u64).await;
    let (viewer, mut events) = viewer(&public, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    for seq in 1..5 {
        let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(u64::from(seq))).await.unwrap();
        assert!(delivered.bytes == segment_bytes(seq, LEN), "segment {seq}");
    }
    assert_eq!(viewer.stats().await.unwrap().bad_chunks, 0);
    viewer.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}
