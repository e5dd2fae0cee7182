//! A seed that stands before an origin: the same content over HTTP, each part of it asked of the origin once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use headwater_seed::http::{Http, Range};
use headwater_seed::origin::Source;
use headwater_seed::seed::Seed;
use headwater_seed::serve::{Served, serve};
use headwater_wire::catalogue::split_file;
use support::{Origin, Signal, holds, key, seed_of, segment_bytes};
use tokio::task::JoinSet;
use url::Url;

const LEN: usize = 200_000;

struct Front {
    origin: Origin,
    signal: Signal,
    seed: Seed,
    address: SocketAddr,
}

impl Front {
    /// A seed of what the origin has at `path`, under the same path at an address of its own.
    async fn start(origin: Origin, path: &str) -> Self {
        let (signal, key) = (Signal::start().await, key());
        let from = origin.url(path);
        let public = Url::parse("http://seed.example/").unwrap().join(path).unwrap();
        let source = Source::open_from(&Http::new().unwrap(), &public, &from).await.unwrap();
        let seed = seed_of(source, &signal, &key).await;
        let served = Served::new(public, from, seed.puller().clone(), Arc::clone(seed.published()));
        let address = serve((Ipv4Addr::LOCALHOST, 0).into(), vec![served]).await.unwrap();
        Self { origin, signal, seed, address }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    async fn get(&self, path: &str) -> Vec<u8> {
        Http::new().unwrap().get(&self.url(path), None, 1 << 24, 1).await.unwrap().bytes.to_vec()
    }

    async fn stop(self) {
        self.seed.shutdown().await;
        self.signal.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn playlist_segments_and_catalogue_are_served_and_each_segment_is_pulled_once() {
    let origin = Origin::start().await;
    let segments = origin.put_vod(3, LEN);
    let front = Front::start(origin, "/v/a.m3u8").await;
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let url = front.url("/v/1.ts");
        asking.spawn(async move { Http::new().unwrap().get(&url, None, 1 << 24, 1).await.unwrap().bytes });
    }
    while let Some(bytes) = asking.join_next().await {
        assert!(bytes.unwrap() == segments[1]);
    }
    assert_eq!(front.get("/v/a.m3u8").await, front.origin.take("/v/a.m3u8"));
    holds(front.seed.handle(), 3 * LEN as u64).await;
    for (seq, bytes) in segments.iter().enumerate() {
        assert!(front.get(&format!("/v/{seq}.ts")).await == *bytes);
        assert_eq!(front.origin.requests(&format!("/v/{seq}.ts")), 1, "segment {seq}");
    }
    let catalogue = front.get("/v/a.m3u8.catalogue").await;
    assert!(!split_file(&catalogue).unwrap().is_empty());
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_validators_and_pages_of_other_hosts_are_answered_as_browsers_expect() {
    let origin = Origin::start().await;
    origin.put_vod(2, LEN);
    let front = Front::start(origin, "/v/a.m3u8").await;
    let http = Http::new().unwrap();
    let range = Range { offset: 1000, len: 500 };
    let part = http.get(&front.url("/v/0.ts"), Some(range), 1 << 24, 1).await.unwrap();
    assert!(part.bytes == segment_bytes(0, LEN)[1000..1500]);
    let response = http.request(&front.url("/v/0.ts"), None).await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("access-control-allow-origin"), "*");
    assert_eq!(header("content-type"), "video/mp2t");
    assert!(header("cache-control").contains("immutable"));
    let (_, mut validator) = http.get_valid(&front.url("/v/0.ts"), None, 1 << 24, 1).await.unwrap();
    assert!(http.get_changed(&front.url("/v/0.ts"), None, 1 << 24, &mut validator).await.unwrap().is_none());
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_strangers_are_left_to_the_origin_and_nothing_outside_the_folder_is_reached() {
    let origin = Origin::start().await;
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"k.key\"\n\
                    #EXTINF:4,\n0.m4s\n#EXT-X-ENDLIST\n";
    origin.put("/e/a.m3u8", playlist);
    origin.put("/e/0.m4s", segment_bytes(0, LEN));
    origin.put("/e/init.mp4", "init");
    origin.put("/e/k.key", "the key");
    origin.put("/secret", "elsewhere");
    let front = Front::start(origin, "/e/a.m3u8").await;
    assert_eq!(front.get("/e/init.mp4").await, b"init");
    // The client follows the redirect: it is the origin that gives the key.
    let key = Http::new().unwrap().get(&front.url("/e/k.key"), None, 100, 1).await.unwrap();
    assert_eq!((key.url, &key.bytes[..]), (front.origin.url("/e/k.key"), &b"the key"[..]));
    for path in ["/secret", "/e/../secret", "/e/%2e%2e/secret", "/e//etc/passwd", "/"] {
        let error = Http::new().unwrap().get(&front.url(path), None, 100, 1).await.unwrap_err();
        assert_eq!(error.status(), Some(404), "{path}: {error}");
    }
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_playlist_is_never_older_than_a_second() {
    let origin = Origin::start().await;
    origin.put_live(0..3, LEN, false);
    let front = Front::start(origin, "/l/a.m3u8").await;
    assert!(!String::from_utf8(front.get("/l/a.m3u8").await).unwrap().contains("3.ts"));
    front.origin.put_live(1..4, LEN, false);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(String::from_utf8(front.get("/l/a.m3u8").await).unwrap().contains("3.ts"));
    assert!(front.get("/l/3.ts").await == segment_bytes(3, LEN));
    assert!(front.get("/l/0.ts").await == segment_bytes(0, LEN), "it was listed a moment ago");
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dash_stream_is_served_with_what_its_manifest_names_and_nothing_else() {
    let origin = Origin::start().await;
    let manifest = "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
                    mediaPresentationDuration=\"PT6S\"><Period><AdaptationSet mimeType=\"video/mp4\"><SegmentTemplate \
                    timescale=\"1000\" duration=\"2000\" initialization=\"$RepresentationID$/init.mp4\" \
                    media=\"$RepresentationID$/$Number$.m4s\"/><Representation id=\"v\" bandwidth=\"1\"/></AdaptationSet>\
                    </Period></MPD>";
    origin.put("/d/m.mpd", manifest);
    origin.put("/d/v/init.mp4", "init");
    origin.put("/d/notes.txt", "of no concern");
    for seq in 0..3 {
        origin.put(&format!("/d/v/{}.m4s", seq + 1), segment_bytes(seq, LEN));
    }
    let front = Front::start(origin, "/d/m.mpd").await;
    assert_eq!(front.get("/d/m.mpd").await, manifest.as_bytes());
    assert_eq!(front.get("/d/v/init.mp4").await, b"init");
    holds(front.seed.handle(), 3 * LEN as u64).await;
    for seq in 0..3 {
        let path = format!("/d/v/{}.m4s", seq + 1);
        assert!(front.get(&path).await == segment_bytes(seq, LEN), "{path}");
        assert_eq!(front.origin.requests(&path), 1, "{path}");
    }
    assert!(!split_file(&front.get("/d/m.mpd.catalogue").await).unwrap().is_empty());
    let response = Http::new().unwrap().request(&front.url("/d/m.mpd"), None).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/dash+xml");
    // What the manifest does not name is the origin's to give.
    let stranger = Http::new().unwrap().get(&front.url("/d/notes.txt"), None, 100, 1).await.unwrap();
    assert_eq!(stranger.url, front.origin.url("/d/notes.txt"));
    front.stop().await;
}
