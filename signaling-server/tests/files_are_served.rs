//! The player's files over HTTP: types, caching, compressed forms, and the answer of a server without a player.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use bytes::Bytes;
use common::{PATIENCE, TestServer};
use headwater_signal::{Assets, NO_PLAYER};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

async fn request(server: &TestServer, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

async fn get(server: &TestServer, path: &str, headers: &str) -> Answer {
    request(server, "GET", path, headers).await
}

async fn server_with(files: &[(&'static str, &'static str)]) -> TestServer {
    let files = files.iter().map(|&(path, body)| (path, Bytes::from_static(body.as_bytes())));
    let assets = Assets::from_files(files);
    TestServer::start_with(|options| options.assets = assets).await
}

#[tokio::test]
async fn the_health_check_answers() {
    let server = server_with(&[]).await;
    let answer = get(&server, "/healthz", "").await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"ok".as_slice()));
}

#[tokio::test]
async fn a_server_without_a_player_says_how_to_get_one() {
    let server = server_with(&[]).await;
    for path in ["/headwater.js", "/demo/", "/"] {
        let answer = get(&server, path, "").await;
        assert_eq!((answer.status, answer.body.as_slice()), (503, NO_PLAYER.as_bytes()));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
}

#[tokio::test]
async fn files_have_their_type_and_any_page_may_load_them() {
    let files = [
        ("/headwater.js", "text/javascript; charset=utf-8"),
        ("/hls.mjs", "text/javascript; charset=utf-8"),
        ("/headwater_bg.wasm", "application/wasm"),
        ("/demo/index.html", "text/html; charset=utf-8"),
        ("/demo/a.css", "text/css; charset=utf-8"),
        ("/a.json", "application/json"),
        ("/a.svg", "image/svg+xml"),
        ("/headwater.js.map", "application/json"),
        ("/headwater.d.ts", "text/plain; charset=utf-8"),
    ];
    let server = server_with(&files.map(|(path, _)| (path, "body"))).await;
    for (path, kind) in files {
        let answer = get(&server, &format!("{path}?v=1"), "origin: https://elsewhere.example\r\n").await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"body".as_slice()), "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("cross-origin"));
    }
    let answer = request(&server, "HEAD", "/headwater.js", "").await;
    assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, Some("4"), 0));
    let answer = request(&server, "POST", "/headwater.js", "").await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn a_folder_is_its_index_page() {
    let server = server_with(&[("/demo/index.html", "page")]).await;
    assert_eq!(get(&server, "/demo/", "").await.body, b"page");
    let answer = get(&server, "/demo", "").await;
    assert_eq!((answer.status, answer.header("location")), (308, Some("./demo/")));
    for path in ["/", "/other", "//demo", "/demo/../demo/index.html", "/%2e%2e/etc/passwd"] {
        assert_eq!(get(&server, path, "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again() {
    let server = server_with(&[("/a.js", "one"), ("/b.js", "two")]).await;
    let first = get(&server, "/a.js", "").await;
    let etag = first.header("etag").unwrap();
    assert_ne!(Some(etag), get(&server, "/b.js", "").await.header("etag"));
    for tags in [etag.to_owned(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let again = get(&server, "/a.js", &format!("if-none-match: {tags}\r\n")).await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{tags}");
        assert_eq!(again.header("etag"), Some(etag));
        assert_eq!(again.header("cache-control"), Some("no-cache"));
    }
    assert_eq!(get(&server, "/a.js", "if-none-match: \"x\"\r\n").await.status, 200);
}

#[tokio::test]
async fn compressed_forms_are_served_to_those_who_take_them() {
    let files = [("/a.js", "plain"), ("/a.js.br", "brotli"), ("/a.js.gz", "gzip"), ("/data.gz", "a file of its own")];
    let server = server_with(&files).await;
    for (accept, encoding, body) in [
        ("gzip, deflate, br", Some("br"), "brotli"),
        ("gzip", Some("gzip"), "gzip"),
        ("br;q=0, gzip;q=0", None, "plain"),
        ("identity", None, "plain"),
    ] {
        let answer = get(&server, "/a.js", &format!("accept-encoding: {accept}\r\n")).await;
        assert_eq!((answer.header("content-encoding"), answer.body.as_slice()), (encoding, body.as_bytes()));
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
    assert_eq!(get(&server, "/a.js", "").await.body, b"plain");
    assert_eq!(get(&server, "/a.js.br", "").await.status, 404);
    let answer = get(&server, "/data.gz", "accept-encoding: gzip\r\n").await;
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
}
