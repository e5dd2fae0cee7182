//! Stopping: in the process, and as the program that scripts start and stop.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use common::TestServer;
use headwater_wire::Role;
use headwater_wire::signal::ServerMessage;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

#[tokio::test]
async fn every_client_is_told_and_closed_when_the_server_stops() {
    let mut server = TestServer::start().await;
    let joined = server.join("s", Role::Viewer, 0).await;
    let new = server.connect().await;
    let idle = TcpStream::connect(server.addr).await.unwrap();
    let addr = server.addr;
    server.stop();
    for mut client in [joined, new] {
        match client.next().await {
            ServerMessage::Drain { url, after_ms } => assert!(url.is_none() && after_ms <= 10_000),
            other => panic!("expected a drain, got {other:?}"),
        }
        match client.next_frame().await {
            Some(Message::Close(Some(frame))) => assert_eq!(frame.code, CloseCode::Away),
            other => panic!("expected a close frame, got {other:?}"),
        }
        assert_eq!(client.next_frame().await, None);
    }
    server.stopped().await;
    assert!(TcpStream::connect(addr).await.is_err());
    drop(idle);
}

fn program(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_headwater-signal"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn address_of(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let addr = line.strip_prefix("headwater-signal listening on http://").unwrap();
    addr.strip_suffix('\n').unwrap().to_owned()
}

#[cfg(unix)]
#[test]
fn the_program_says_where_it_listens_and_ends_well_when_told_to() {
    for signal in ["-TERM", "-INT"] {
        let mut child = program(&["--listen", "127.0.0.1:0", "--stun", "stun:stun.example:3478"]);
        let addr = address_of(&mut child);
        assert!(std::net::TcpStream::connect(addr).is_ok());
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(status.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains("NO SECRET IS CONFIGURED"), "{log}");
        // The line that scripts wait for is the only one.
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn a_port_that_is_taken_is_one_clear_line_and_exit_code_one() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let mut child = program(&["--listen", &addr]);
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.contains(&addr) && complaint.contains("--listen"), "{complaint}");
}

#[test]
fn a_stun_server_must_be_one() {
    let mut child = program(&["--stun", "http://example.org"]);
    assert_eq!(child.wait().unwrap().code(), Some(2));
}
