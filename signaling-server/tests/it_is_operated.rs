//! What an operator sees: health, readiness, metrics, settings from everywhere, logs, and a drain with a place to go.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{TestServer, http_get};
use headwater_wire::Role;
use headwater_wire::signal::ServerMessage;

#[tokio::test]
async fn metrics_follow_prometheus_and_name_nobody() {
    let server = TestServer::start().await;
    let mut first = server.join("secret-swarm", Role::Viewer, 1).await;
    let mut second = server.join("secret-swarm", Role::Viewer, 1).await;
    first.next_connect().await;
    second.next_connect().await;
    let page = http_get(&server, "/metrics").await;
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    for line in [
        "headwater_signal_connections{protocol=\"native\"} 2",
        "headwater_signal_connections_opened_total{protocol=\"native\"} 2",
        "headwater_signal_messages_received_total{protocol=\"native\"} 2",
        "headwater_signal_peers{protocol=\"native\"} 2",
        "headwater_signal_introductions_total 1",
        "headwater_signal_draining 0",
    ] {
        assert!(body.lines().any(|found| found == line), "{line} is not in {body}");
    }
    assert!(!body.contains("secret-swarm") && !body.contains("127.0.0.1") && !body.contains(&first.peer.to_string()));
    // Every sample has its help and its kind before it, counters end in _total, and no name comes twice.
    let mut seen = BTreeSet::new();
    let mut kinds = std::collections::BTreeMap::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(seen.insert(name.to_owned()), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            kinds.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(kinds.contains_key(name), "{line}");
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
    }
}

#[tokio::test]
async fn health_readiness_and_what_is_switched_off() {
    let server = TestServer::start().await;
    assert!(http_get(&server, "/healthz").await.ends_with("ok"));
    assert!(http_get(&server, "/readyz").await.starts_with("HTTP/1.1 200 "));
    let bare = TestServer::start_with(|options| {
        options.tracker = None;
        options.metrics = false;
    })
    .await;
    assert!(!http_get(&bare, "/metrics").await.contains("headwater_signal_"));
    assert!(!http_get(&bare, "/announce").await.contains("426"));
}

#[tokio::test]
async fn a_drain_says_where_to_go_and_data_channels_are_not_its_business() {
    let mut server = TestServer::start_with(|options| {
        options.drain_url = Some("wss://signal-2.example/v1/signal".to_owned());
    })
    .await;
    let mut client = server.join("s", Role::Viewer, 0).await;
    server.stop();
    let ServerMessage::Drain { url, .. } = client.next().await else { panic!("no drain") };
    assert_eq!(url.as_deref(), Some("wss://signal-2.example/v1/signal"));
}

#[cfg(unix)]
#[test]
fn settings_come_from_file_environment_and_command_line_in_this_order() {
    let folder = std::env::temp_dir().join(format!("headwater-settings-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("signal.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:1\"\nlog-format = \"text\"\nstun = [\"stun:a.example\"]\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_headwater-signal"))
        .arg("--config")
        .arg(&file)
        .args(["--listen", "127.0.0.1:0"])
        .env("HEADWATER_SIGNAL_LOG_FORMAT", "json")
        .env("HEADWATER_SIGNAL_LISTEN", "127.0.0.1:2")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("listening on http://127.0.0.1:") && !line.ends_with(":1\n") && !line.ends_with(":2\n"));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(entry["level"].is_string() && entry["message"].is_string(), "{entry}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_is_wrong_in_the_settings_is_one_clear_line() {
    let complaint = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_headwater-signal")).args(arguments).output().unwrap();
        assert_ne!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    for (arguments, said) in [
        (&["--config", "no-such.toml"][..], "no-such.toml"),
        (&["--tls-key", "key.pem"], "tls-certificate"),
        (&["--turn", "turn:a.example"], "turn-secret"),
        (&["--resume-secret", "short"], "32 characters"),
        (&["--token-keys", "no-such.json"], "no-such.json"),
        (&["--trusted-proxy", "everyone"], "192.0.2.0/24"),
        (&["--tls-certificate", "no.pem", "--tls-key", "no.key"], "no.pem"),
        (&["--nats", "tls://127.0.0.1:1", "--nats-ca", "no-ca.pem"], "no-ca.pem"),
        (&["--nats", "tls://127.0.0.1:1", "--nats-ca", "Cargo.toml"], "nats-ca Cargo.toml"),
    ] {
        let complaint = complaint(arguments);
        assert!(complaint.contains(said), "{complaint}");
    }
}
