//! `headwater-seed run`, as scripts and service managers see it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use headwater_seed::node::NodeEvent;
use headwater_swarm::{DisconnectReason, Event};
use headwater_wire::SeqNo;
use support::{Origin, PATIENCE, Signal, key, swarm, until, viewer};
use tokio::time::timeout;

/// Waits for something elsewhere than on the runtime.
async fn blocking<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> T {
    timeout(PATIENCE, tokio::task::spawn_blocking(wait)).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_one_line_when_it_serves_and_leaves_politely() {
    let (origin, signal, key) = (Origin::start().await, Signal::start().await, key());
    let segments = origin.put_vod(3, 100_000);
    let source = origin.url("/v/a.m3u8");
    let folder = tempfile::tempdir().unwrap();
    key.save(&folder.path().join("key")).unwrap();
    let mut seed = Command::new(env!("CARGO_BIN_EXE_headwater-seed"))
        .args(["run", "--src", source.as_str(), "--signal", signal.url.as_str(), "--key", "key"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(seed.stdout.take().unwrap());
    let mut line = String::new();
    let (mut stdout, line) = blocking(move || {
        stdout.read_line(&mut line).unwrap();
        (stdout, line)
    })
    .await;
    assert_eq!(line, format!("headwater-seed serving {} (1 tracks)\n", swarm(&source, &key)));

    let (viewer, mut events) = viewer(&source, &signal, &key).await;
    until(&mut events, |event| matches!(event, NodeEvent::Engine(Event::NeighbourReady { seed: true, .. }))).await;
    let delivered = viewer.segment(viewer.tracks()[0].id, SeqNo(1)).await.unwrap();
    assert!(delivered.bytes == segments[1]);

    Command::new("kill").arg(seed.id().to_string()).status().unwrap();
    let left = Some(DisconnectReason::Left);
    until(&mut events, |event| matches!(event, NodeEvent::Disconnected { reason, .. } if *reason == left)).await;
    let (status, rest) = blocking(move || {
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        (seed.wait().unwrap(), rest)
    })
    .await;
    assert!(status.success());
    assert_eq!(rest, "", "standard output is one line");
    viewer.leave().await;
    signal.stop().await;
}
