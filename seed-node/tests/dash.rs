//! DASH: the same path from origin to viewer, whatever way the manifest says where segments are.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater_seed::http::Http;
use headwater_seed::node::NodeEvent;
use headwater_seed::origin::Source;
use headwater_swarm::Event;
use headwater_wire::{SeqNo, TrackId};
use support::{Origin, PATIENCE, Signal, holds, key, seed, segment_bytes, until, viewer};
use tokio::time::{sleep, timeout};

const LEN: usize = 90_000;

fn manifest(attributes: &str, sets: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" {attributes}><Period>{sets}</Period></MPD>"
    )
}

/// A finished film: video by template, audio in one file with an index, encrypted; subtitles in a list.
fn put_film(origin: &Origin) -> Vec<u8> {
    let sets = "<AdaptationSet mimeType=\"video/mp4\"><ContentProtection schemeIdUri=\"urn:mpeg:dash:mp4protection:2011\" \
                value=\"cenc\"/><SegmentTemplate timescale=\"1000\" duration=\"2000\" initialization=\"init.mp4\" \
                media=\"$RepresentationID$/$Number$.m4s\"/><Representation id=\"v720\" bandwidth=\"1\"/></AdaptationSet>\
                <AdaptationSet mimeType=\"audio/mp4\"><Representation id=\"en\" bandwidth=\"1\"><BaseURL>en.mp4</BaseURL>\
                <SegmentBase indexRange=\"100-167\"/></Representation></AdaptationSet>\
                <AdaptationSet mimeType=\"text/vtt\"><Representation id=\"sub\" bandwidth=\"1\"><SegmentList duration=\"6\">\
                <SegmentURL media=\"sub.vtt\"/></SegmentList></Representation></AdaptationSet>";
    origin.put("/d/m.mpd", manifest("type=\"static\" mediaPresentationDuration=\"PT6S\"", sets));
    for seq in 0..3 {
        origin.put(&format!("/d/v720/{}.m4s", seq + 1), segment_bytes(seq, LEN));
    }
    origin.put("/d/sub.vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\nText\n");
    let mut file = segment_bytes(9, 100);
    file.extend_from_slice(&[0, 0, 0, 68, b's', b'i', b'd', b'x']);
    for number in [0, 1, 1000, 0, 0, 3] {
        file.extend_from_slice(&u32::to_be_bytes(number));
    }
    for _ in 0..3 {
        for number in [LEN as u32, 2000, 0x9000_0000] {
            file.extend_from_slice(&number.to_be_bytes());
        }
    }
    file.extend(segment_bytes(10, 3 * LEN));
    origin.put("/d/en.mp4", file.clone());
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_by_template_index_and_list_is_seeded_whole_and_its_initialisation_left_alone() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let file = put_film(&origin);
    let source = origin.url("/d/m.mpd");
    let seed = seed(&source, &signal, &key).await;
    let text = "WEBVTT\n\n00:00.000 --> 00:01.000\nText\n".len() as u64;
    holds(seed.handle(), 6 * LEN as u64 + text).await;
    let (viewer, mut events) = viewer(&source, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    for seq in 0..3_u64 {
        let video = viewer.segment(TrackId::of_key("v720"), SeqNo(seq)).await.unwrap();
        assert!(video.bytes == segment_bytes(seq as u32, LEN), "video {seq} differs");
        let audio = viewer.segment(TrackId::of_key("en"), SeqNo(seq)).await.unwrap();
        let start = 168 + seq as usize * LEN;
        assert!(audio.bytes == file[start..start + LEN], "audio {seq} differs");
    }
    let stats = viewer.stats().await.unwrap();
    assert!(stats.seed_bytes > 4 * LEN as u64, "{stats:?}");
    assert_eq!(origin.requests("/d/init.mp4"), 0);
    viewer.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn representations_are_picked_by_their_id_and_a_live_one_by_that_as_well() {
    let origin = Origin::start().await;
    put_film(&origin);
    let http = Http::new().unwrap();
    let mut source = Source::open(&http, &origin.url("/d/m.mpd")).await.unwrap();
    source.pick(&["v*".to_owned()]).unwrap();
    assert_eq!(source.tracks.iter().map(|track| track.key.as_str()).collect::<Vec<_>>(), ["v720"]);
    put_live(&origin, 0..3);
    let mut source = Source::open(&http, &origin.url("/t/m.mpd")).await.unwrap();
    source.pick(&["v".to_owned()]).unwrap();
    assert_eq!(source.tracks[0].key, "v@1000");
}

/// A live timeline of one-second segments, which was there long before its window.
fn put_live(origin: &Origin, window: std::ops::Range<u32>) {
    let at = |seq: u32| 1_000_000 + u64::from(seq) * 90_000;
    let set = format!(
        "<AdaptationSet contentType=\"video\"><Representation id=\"v\" bandwidth=\"1\"><SegmentTemplate timescale=\"90000\" \
         media=\"$Time$.m4s\"><SegmentTimeline><S t=\"{}\" d=\"90000\" r=\"{}\"/></SegmentTimeline></SegmentTemplate>\
         </Representation></AdaptationSet>",
        at(window.start),
        window.len() - 1
    );
    for seq in window {
        origin.put(&format!("/t/{}.m4s", at(seq)), segment_bytes(seq, LEN));
    }
    origin.put("/t/m.mpd", manifest("type=\"dynamic\" minimumUpdatePeriod=\"PT1S\"", &set));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_timeline_is_followed_and_who_comes_later_names_its_segments_alike() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    put_live(&origin, 0..3);
    let source = origin.url("/t/m.mpd");
    let seed = seed(&source, &signal, &key).await;
    holds(seed.handle(), 3 * LEN as u64).await;
    put_live(&origin, 2..6);
    holds(seed.handle(), 6 * LEN as u64).await;
    let (viewer, mut events) = viewer(&source, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    let track = viewer.tracks()[0].clone();
    for (listed, seq) in track.media.segments.iter().zip(2..) {
        let delivered = viewer.segment(track.id, listed.seq).await.unwrap();
        assert!(delivered.bytes == segment_bytes(seq, LEN), "segment {seq} differs");
    }
    let stats = viewer.stats().await.unwrap();
    assert!(stats.seed_bytes >= 2 * LEN as u64, "{stats:?}");
    viewer.leave().await;
    seed.shutdown().await;
    signal.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_template_without_a_timeline_grows_with_the_clock_alone() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 4;
    let began_at = dash_time(began);
    let set = "<AdaptationSet contentType=\"video\"><SegmentTemplate duration=\"1\" media=\"$Number$.m4s\"/>\
               <Representation id=\"v\" bandwidth=\"1\"/></AdaptationSet>";
    let attributes = format!("type=\"dynamic\" availabilityStartTime=\"{began_at}\" maxSegmentDuration=\"PT1S\"");
    origin.put("/t/m.mpd", manifest(&attributes, set));
    for number in 1..60 {
        origin.put(&format!("/t/{number}.m4s"), segment_bytes(number, LEN));
    }
    let seed = seed(&origin.url("/t/m.mpd"), &signal, &key).await;
    holds(seed.handle(), 8 * LEN as u64).await;
    let held = timeout(PATIENCE, async {
        while origin.requests("/t/9.m4s") == 0 {
            sleep(Duration::from_millis(20)).await;
        }
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - began as f64
    });
    assert!(held.await.unwrap() >= 9.0, "segment 9 is asked for once it has ended, and not before");
    assert_eq!(origin.requests("/t/40.m4s"), 0);
    seed.shutdown().await;
    signal.stop().await;
}

/// As manifests write times.
fn dash_time(seconds: u64) -> String {
    let output = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_with_a_manifest_is_signed_and_its_stream_verified() {
    let origin = Origin::start().await;
    put_film(&origin);
    let folder = tempfile::tempdir().unwrap();
    for path in ["m.mpd", "v720/1.m4s", "v720/2.m4s", "v720/3.m4s", "en.mp4", "sub.vtt"] {
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let bytes = Http::new().unwrap().get(&origin.url(&format!("/d/{path}")), None, 1 << 20, 1).await.unwrap().bytes;
        std::fs::write(file, bytes).unwrap();
    }
    let run = async |arguments: Vec<String>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater-seed"));
        command.args(arguments).current_dir(folder.path());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for name in ["old", "new"] {
        assert!(run(words(&format!("keygen {name}"))).await.status.success());
    }
    let signed = run(words("sign . --key old --key new")).await;
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    assert!(String::from_utf8_lossy(&signed.stdout).contains("m.mpd.catalogue: 7 segments signed"));
    origin.put("/d/m.mpd.catalogue", std::fs::read(folder.path().join("m.mpd.catalogue")).unwrap());
    for name in ["old", "new"] {
        let verified = run(words(&format!("verify {} --key {name}.pub", origin.url("/d/m.mpd")))).await;
        let (out, err) = (String::from_utf8_lossy(&verified.stdout), String::from_utf8_lossy(&verified.stderr));
        assert!(verified.status.success() && out.contains("7 segments are as they were signed"), "{out}{err}");
    }
    run(words("keygen other")).await;
    let verified = run(words(&format!("verify {} --key other.pub", origin.url("/d/m.mpd")))).await;
    assert_eq!(verified.status.code(), Some(1), "a third key signed nothing");
}
