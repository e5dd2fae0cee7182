//! Tokens, origins, allow-lists, addresses and TLS over real sockets.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::tokens::{Folder, join_with, token, with_keys};
use common::{PATIENCE, TestServer, http_get_with, join};
use futures_util::{SinkExt, StreamExt};
use headwater_signal::{AddressLimits, AllowList, ProxyHeader, TlsFiles, TlsSource, Turn};
use headwater_wire::Role;
use headwater_wire::signal::{ErrorCode, ServerMessage};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{client_async, connect_async};

#[tokio::test]
async fn a_token_opens_its_swarm_and_no_other() {
    let folder = Folder::new("tokens");
    let server = with_keys(&folder).await;
    for (swarm, claims) in [
        ("K/live", Some(json!({ "swarm": "K/live" }))),
        ("K/live", Some(json!({ "swarm_prefix": "K/", "max_peers": 1 }))),
    ] {
        server.join_as(join_with(swarm, claims.map(token))).await;
    }
    for bad in [None, Some("garbage".to_owned()), Some(token(json!({ "swarm": "other" }))), Some(token(json!({})))] {
        let mut client = server.connect().await;
        client.send(&join_with("K/live", bad)).await;
        client.expect_refusal(ErrorCode::Unauthorised).await;
    }
}

#[tokio::test]
async fn a_token_for_one_peer_admits_one_at_a_time() {
    let folder = Folder::new("quota");
    let server = with_keys(&folder).await;
    let token = token(json!({ "swarm": "s", "max_peers": 1, "jti": "x" }));
    let first = server.join_as(join_with("s", Some(token.clone()))).await;
    let mut second = server.connect().await;
    second.send(&join_with("s", Some(token.clone()))).await;
    second.expect_refusal(ErrorCode::Full).await;
    drop(first);
    let admitted = async {
        loop {
            let mut next = server.connect().await;
            next.send(&join_with("s", Some(token.clone()))).await;
            if matches!(next.next().await, ServerMessage::Welcome { .. }) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, admitted).await.unwrap();
}

/// The status of a handshake that is refused.
async fn refused_with(server: &TestServer, path: &str, origin: Option<&str>) -> Option<u16> {
    let mut request = format!("ws://{}{path}", server.addr).into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    match connect_async(request).await {
        Ok(_) => None,
        Err(Error::Http(response)) => Some(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_tracker_client_has_its_token_in_the_url() {
    let folder = Folder::new("tracker");
    let server = with_keys(&folder).await;
    assert_eq!(refused_with(&server, "/announce", None).await, Some(401));
    assert_eq!(refused_with(&server, "/announce?token=x", None).await, Some(401));
    // The info hash in hexadecimal digits, as in a magnet link.
    let token = token(json!({ "swarm": "61".repeat(20) }));
    let (mut socket, _) = connect_async(format!("ws://{}/announce?token={token}", server.addr)).await.unwrap();
    for (hash, failure) in [("a", None), ("b", Some("the token is for another swarm"))] {
        let announce = json!({ "action": "announce", "info_hash": hash.repeat(20), "peer_id": "p".repeat(20) });
        socket.send(Message::text(announce.to_string())).await.unwrap();
        let Message::Text(reply) = socket.next().await.unwrap().unwrap() else { panic!("no text") };
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(reply["failure reason"].as_str(), failure);
        assert_eq!(reply["info_hash"], json!(hash.repeat(20)));
    }
}

#[tokio::test]
async fn only_listed_origins_and_swarms_are_served() {
    let server = TestServer::start_with(|options| {
        options.admission.origins = AllowList::new(vec!["https://*.video.example".to_owned()]);
        options.admission.swarms = AllowList::new(vec!["K/*".to_owned()]);
    })
    .await;
    for path in ["/v1/signal", "/announce"] {
        assert_eq!(refused_with(&server, path, Some("https://evil.example")).await, Some(403));
        assert_eq!(refused_with(&server, path, Some("https://www.video.example")).await, None);
        assert_eq!(refused_with(&server, path, None).await, None);
    }
    server.join("K/live", Role::Viewer, 0).await;
    let mut client = server.connect().await;
    client.send(&join("other", Role::Viewer, 0)).await;
    client.expect_refusal(ErrorCode::Unauthorised).await;
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_a_trusted_proxy_tells_them_apart() {
    let server = TestServer::start_with(|options| {
        options.admission.addresses = AddressLimits { connections: Some(2), opening: None };
        options.admission.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let _first = server.connect().await;
    let second = server.connect().await;
    assert_eq!(refused_with(&server, "/v1/signal", None).await, Some(429));
    let mut request = format!("ws://{}/v1/signal", server.addr).into_client_request().unwrap();
    request.headers_mut().insert("x-forwarded-for", "198.51.100.1".parse().unwrap());
    assert!(connect_async(request).await.is_ok());
    drop(second);
    let freed = async { while refused_with(&server, "/v1/signal", None).await.is_some() {} };
    tokio::time::timeout(PATIENCE, freed).await.expect("the place is free again");
    let metrics = common::http_get(&server, "/metrics").await;
    assert!(!metrics.contains("connections_refused_total{reason=\"address\"} 0"), "{metrics}");
}

#[tokio::test]
async fn clients_behind_proxies_are_told_apart_by_what_a_trusted_proxy_wrote_and_nothing_else() {
    let connect = async |server: &TestServer, lines: &[(&'static str, &str)]| {
        let mut request = format!("ws://{}/v1/signal", server.addr).into_client_request().unwrap();
        for (name, value) in lines {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        match connect_async(request).await {
            Ok((socket, _)) => Some(socket),
            Err(Error::Http(response)) if response.status().as_u16() == 429 => None,
            Err(error) => panic!("{error}"),
        }
    };
    for (header, own, other) in [
        (ProxyHeader::XForwardedFor, "x-forwarded-for", "forwarded"),
        (ProxyHeader::Forwarded, "forwarded", "x-forwarded-for"),
    ] {
        let server = TestServer::start_with(|options| {
            options.admission.addresses = AddressLimits { connections: Some(1), opening: None };
            options.admission.trusted_proxies = ["127.0.0.0/8", "10.0.0.0/8"].map(|text| text.parse().unwrap()).into();
            options.admission.proxy_header = header;
        })
        .await;
        let write = |addr: &str| if header == ProxyHeader::Forwarded { format!("for={addr}") } else { addr.to_owned() };
        let mut kept = Vec::new();
        for addr in ["198.51.100.1", "198.51.100.2", "2001:db8:0:1::1"] {
            let quoted = if addr.contains(':') { format!("\"[{addr}]:4711\"") } else { format!("{addr}:4711") };
            let written =
                if header == ProxyHeader::Forwarded { format!("proto=https;for={quoted}") } else { addr.to_owned() };
            kept.push(connect(&server, &[(own, &written)]).await.expect(addr));
            assert!(connect(&server, &[(own, &write(addr))]).await.is_none(), "{addr} has its one connection");
            // Nothing that the client wrote itself makes it another: not before the proxy's word, not in the other header.
            let spoofed = format!("{}, {}, {}", write("203.0.113.7"), write(addr), write("10.1.2.3"));
            assert!(connect(&server, &[(own, &spoofed)]).await.is_none(), "{spoofed}");
            let lines = [(own, write("203.0.113.7")), (own, write(addr)), (other, write("203.0.113.8"))];
            let lines: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert!(connect(&server, &lines).await.is_none(), "{lines:?}");
        }
        // Another address of the same customer's network is the same line; another network is not.
        let quote = if header == ProxyHeader::Forwarded { "\"" } else { "" };
        let write_six = |addr: &str| write(&format!("{quote}[{addr}]{quote}"));
        assert!(connect(&server, &[(own, &write_six("2001:db8:0:1:ffff::9"))]).await.is_none());
        assert!(connect(&server, &[(own, &write_six("2001:db8:0:2::1"))]).await.is_some());
    }
}

/// Whether a plain request is answered.
async fn is_answered(server: &TestServer) -> bool {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await;
    let mut answer = Vec::new();
    asked.is_ok() && stream.read_to_end(&mut answer).await.is_ok() && answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn sockets_that_say_nothing_take_only_the_places_of_their_own_address() {
    for (proxies, expected) in [("192.0.2.0/24", false), ("127.0.0.0/8", true)] {
        let server = TestServer::start_with(|options| {
            options.admission.plain_connections = Some(3);
            options.admission.trusted_proxies = vec![proxies.parse().unwrap()];
        })
        .await;
        // WebSockets do not count.
        let _clients = [server.connect().await, server.connect().await, server.connect().await];
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(TcpStream::connect(server.addr).await.unwrap());
        }
        assert_eq!(is_answered(&server).await, expected, "{proxies}");
        silent.clear();
        let freed = async { while !is_answered(&server).await {} };
        tokio::time::timeout(PATIENCE, freed).await.expect("the places are free again");
    }
}

#[tokio::test]
async fn every_peer_gets_a_turn_credential_of_its_own() {
    let server = TestServer::start_with(|options| {
        let urls = vec!["turn:turn.example:3478".to_owned()];
        options.turn = Some(Turn { urls, secret: "north".to_owned(), lifetime: 60 });
    })
    .await;
    let mut names = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send(&join("s", Role::Viewer, 0)).await;
        let ServerMessage::Welcome { peer, ice_servers, .. } = client.next().await else { panic!("no welcome") };
        let username = ice_servers[0].username.clone().unwrap();
        assert!(username.ends_with(&format!(":{peer}")), "{username}");
        assert!(ice_servers[0].credential.is_some());
        names.push(username);
    }
    assert_ne!(names[0], names[1]);
}

fn certificate(folder: &Folder) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    TlsFiles {
        certificate: folder.write("cert.pem", &made.cert.pem()),
        key: folder.write("key.pem", &made.signing_key.serialize_pem()),
    }
}

/// Joins over TLS, trusting one certificate only.
async fn join_over_tls(server: &TestServer, certificate: &Path) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tls = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await;
    let tls = tls.map_err(|error| error.to_string())?;
    let (mut socket, _) = client_async("wss://localhost/v1/signal", tls).await.unwrap();
    socket.send(Message::text(serde_json::to_string(&join("s", Role::Viewer, 0)).unwrap())).await.unwrap();
    let Message::Text(text) = socket.next().await.unwrap().unwrap() else { panic!("no text") };
    assert!(matches!(serde_json::from_str(&text).unwrap(), ServerMessage::Welcome { .. }));
    Ok(())
}

#[tokio::test]
async fn tls_is_spoken_and_a_new_certificate_is_taken_while_it_runs() {
    let folder = Folder::new("tls");
    let files = certificate(&folder);
    let server = TestServer::start_with(|options| options.tls = Some(TlsSource::Files(files.clone()))).await;
    assert_eq!(join_over_tls(&server, &files.certificate).await, Ok(()));
    let old = folder.write("old.pem", &fs::read_to_string(&files.certificate).unwrap());
    // A broken renewal changes nothing, a good one is taken.
    fs::write(&files.certificate, "nonsense").unwrap();
    assert_eq!(join_over_tls(&server, &old).await, Ok(()));
    certificate(&folder);
    let taken = async {
        while join_over_tls(&server, &files.certificate).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("the new certificate is served");
    assert!(join_over_tls(&server, &old).await.is_err());
}

#[tokio::test]
async fn statistics_need_a_token_that_says_so() {
    let folder = Folder::new("stats");
    let server = with_keys(&folder).await;
    let path = "/v1/swarms/K%2Flive/stats";
    let status = async |token: Option<String>| {
        let header = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        http_get_with(&server, path, &header).await
    };
    assert!(status(None).await.starts_with("HTTP/1.1 401 "));
    assert!(status(Some(token(json!({ "swarm": "K/live" })))).await.starts_with("HTTP/1.1 403 "));
    assert!(status(Some(token(json!({ "swarm": "other", "stats": true })))).await.starts_with("HTTP/1.1 403 "));
    let publisher = token(json!({ "swarm_prefix": "K/", "stats": true }));
    let answer = status(Some(publisher.clone())).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"viewers\":0"), "{answer}");
    let mut viewer = server.join_as(join_with("K/live", Some(token(json!({ "swarm": "K/live" }))))).await;
    let report = json!({ "type": "stats", "http_bytes": 5, "viewer_bytes": 7, "neighbours": 2 });
    viewer.send_text(report.to_string()).await;
    viewer.flush().await;
    let answer = status(Some(publisher)).await;
    assert!(answer.contains("\"viewers\":1") && answer.contains("\"viewer_bytes\":7"), "{answer}");
}

#[tokio::test]
async fn a_page_of_another_origin_may_ask_for_statistics_with_a_header() {
    let server = TestServer::start().await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = "OPTIONS /v1/swarms/K%2Flive/stats HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
                origin: https://publisher.example\r\naccess-control-request-method: GET\r\n\
                access-control-request-headers: authorization\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    for line in ["access-control-allow-origin: *", "access-control-allow-methods: GET"] {
        assert!(answer.lines().any(|found| found == line), "{answer}");
    }
    let headers = answer.lines().find_map(|line| line.strip_prefix("access-control-allow-headers: ")).unwrap();
    assert!(headers.split(", ").any(|name| name == "authorization"), "{answer}");
    // What goes wrong can be read by the page, too.
    for (path, status) in [("s", "401"), ("%00", "401")] {
        let answer = http_get_with(&server, &format!("/v1/swarms/{path}/stats"), "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("access-control-allow-origin: *"), "{answer}");
    }
}

#[tokio::test]
async fn statistics_come_as_events_until_the_server_stops() {
    let folder = Folder::new("events");
    let mut server = with_keys(&folder).await;
    let token = token(json!({ "swarm": "s", "stats": true }));
    let path = format!("/v1/swarms/s/stats?token={token}");
    let addr = server.addr;
    let events = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    });
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    server.stop();
    let text = tokio::time::timeout(PATIENCE, events).await.unwrap().unwrap();
    assert!(text.contains("text/event-stream") && text.contains("event: stats\ndata: {"), "{text}");
}
