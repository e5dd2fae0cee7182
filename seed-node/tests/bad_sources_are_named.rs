//! What a person sees whose stream cannot be used: one line that says what was found and what to do, and a failure.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::process::{Command, Output};

use support::{Origin, key};
use tempfile::TempDir;
use url::Url;

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        key().save(&folder.path().join("key")).unwrap();
        Self { folder }
    }

    async fn run(&self, source: &Url) -> Output {
        self.seed(&["run", "--src", source.as_str(), "--signal", "ws://127.0.0.1:9/v1/signal", "--key", "key"]).await
    }

    async fn seed(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater-seed"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("RUST_LOG");
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

/// Asserts that the program failed, with one line that holds `parts`.
fn assert_one_line(output: &Output, code: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "`{part}` is not in: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_source_gets_its_line() {
    let (origin, bench) = (Origin::start().await, Bench::new());
    let vod = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:4,\n0.ts\n";
    origin.put("/html", "<!DOCTYPE html>\n<html><body>Not here</body></html>");
    origin.put("/text", "no such stream\n");
    origin.put("/empty", "");
    origin.put("/cut", vod);
    origin.put("/no-uri", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n");
    origin.put("/no-segments", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n");
    origin.put("/dash", "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"></MPD>");
    origin
        .put("/cut.mpd", "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"><Period start=\"PT0S");
    let cases: [(&str, &[&str]); 9] = [
        ("/absent.m3u8", &["/absent.m3u8", "404", "check it"]),
        ("/html", &["/html", "web page", ".m3u8"]),
        ("/text", &["no such stream", "#EXTM3U"]),
        ("/empty", &["is empty"]),
        ("/cut", &["cut off", "ENDLIST"]),
        ("/no-uri", &["cut off", "address is missing"]),
        ("/no-segments", &["without any segment"]),
        ("/dash", &["without any segment"]),
        ("/cut.mpd", &["DASH manifest", "cannot read"]),
    ];
    for (path, parts) in cases {
        assert_one_line(&bench.run(&origin.url(path)).await, 1, parts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_multivariant_playlist_whose_renditions_are_all_bad_fails_and_one_good_is_enough() {
    let (origin, bench) = (Origin::start().await, Bench::new());
    origin.put("/m.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n");
    assert_one_line(&bench.run(&origin.url("/m.m3u8")).await, 1, &["/a.m3u8", "404"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_is_not_there_is_named() {
    let bench = Bench::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = Url::parse(&format!("http://{closed}/a.m3u8")).unwrap();
    assert_one_line(&bench.run(&url).await, 1, &["cannot be reached", "/a.m3u8"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_usage_fails_with_two() {
    let bench = Bench::new();
    for arguments in [
        &["run", "--src", "ftp://x/y", "--signal", "ws://x", "--key", "key"][..],
        &["run", "--src", "http://x/y", "--signal", "http://x", "--key", "key"],
        &["run", "--src", "http://x/y", "--signal", "ws://x"],
        &["fly"],
    ] {
        assert_eq!(bench.seed(arguments).await.status.code(), Some(2), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_file_is_named() {
    let bench = Bench::new();
    std::fs::write(bench.folder.path().join("text"), "hello").unwrap();
    assert_one_line(&bench.seed(&["public", "text"]).await, 1, &["text", "not a key file"]);
    assert_one_line(&bench.seed(&["public", "absent"]).await, 1, &["absent", "keygen"]);
    assert_one_line(&bench.seed(&["keygen", "key"]).await, 1, &["key exists already"]);
}
