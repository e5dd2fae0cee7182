//! A client that breaks the protocol is told why and closed, and the others do not notice.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{Client, PATIENCE, TestServer, join, offer};
use futures_util::{SinkExt, StreamExt};
use headwater_wire::Role;
use headwater_wire::limits::MAX_SIGNAL_MESSAGE_LEN;
use headwater_wire::signal::{ClientMessage, ErrorCode, ServerMessage, StatsReport};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

/// Two peers that are paired and go on signalling whatever the others do.
struct Witnesses(Client, Client);

impl Witnesses {
    async fn new(server: &TestServer) -> Self {
        let mut first = server.join("witnesses", Role::Viewer, 1).await;
        let mut second = server.join("witnesses", Role::Viewer, 1).await;
        first.next_connect().await;
        second.next_connect().await;
        Self(first, second)
    }

    async fn are_undisturbed(&mut self) {
        let Self(first, second) = self;
        first.signal(second.peer, offer("still here")).await;
        let expected = ServerMessage::Signal { from: first.peer, data: offer("still here") };
        assert_eq!(second.next().await, expected);
    }
}

async fn refuses(text: &str, code: ErrorCode) {
    let server = TestServer::start().await;
    let mut witnesses = Witnesses::new(&server).await;
    let mut joined = server.join("s", Role::Viewer, 1).await;
    let mut new = server.connect().await;
    for client in [&mut joined, &mut new] {
        client.send_text(text).await;
        client.expect_refusal(code).await;
    }
    witnesses.are_undisturbed().await;
}

#[tokio::test]
async fn text_that_is_not_json() {
    refuses("hello", ErrorCode::BadMessage).await;
}

#[tokio::test]
async fn json_that_is_no_message() {
    refuses(r#"{"type":"make_me_a_sandwich"}"#, ErrorCode::BadMessage).await;
}

#[tokio::test]
async fn json_of_the_wrong_shape() {
    refuses(r#"{"type":"want","count":-1}"#, ErrorCode::BadMessage).await;
}

#[tokio::test]
async fn json_nested_too_deep() {
    let text = format!(r#"{{"type":"want","count":{}"#, "[".repeat(MAX_SIGNAL_MESSAGE_LEN - 100));
    refuses(&text, ErrorCode::BadMessage).await;
}

#[tokio::test]
async fn a_message_above_the_limit() {
    refuses(&" ".repeat(MAX_SIGNAL_MESSAGE_LEN + 1), ErrorCode::TooLarge).await;
}

#[tokio::test]
async fn a_message_far_above_the_limit_ends_the_connection() {
    let server = TestServer::start().await;
    let mut witnesses = Witnesses::new(&server).await;
    let mut client = server.join("s", Role::Viewer, 1).await;
    // Not read by the server: whether its last words arrive depends on the network.
    let _ = client.socket.send(Message::text(" ".repeat(1 << 20))).await;
    while client.next_frame().await.is_some() {}
    witnesses.are_undisturbed().await;
}

#[tokio::test]
async fn a_binary_message() {
    let server = TestServer::start().await;
    let mut witnesses = Witnesses::new(&server).await;
    let mut client = server.connect().await;
    client.socket.send(Message::binary(vec![0; 10])).await.unwrap();
    client.expect_refusal(ErrorCode::BadMessage).await;
    witnesses.are_undisturbed().await;
}

#[tokio::test]
async fn a_message_before_the_join() {
    let server = TestServer::start().await;
    let mut witnesses = Witnesses::new(&server).await;
    let mut client = server.connect().await;
    client.send(&ClientMessage::Want { count: 1 }).await;
    client.expect_refusal(ErrorCode::NotJoined).await;
    witnesses.are_undisturbed().await;
}

#[tokio::test]
async fn a_second_join() {
    let server = TestServer::start().await;
    let mut client = server.join("s", Role::Viewer, 1).await;
    client.send(&join("s", Role::Viewer, 1)).await;
    client.expect_refusal(ErrorCode::NotJoined).await;
}

#[tokio::test]
async fn a_join_of_another_version() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    client.send_text(r#"{"type":"join","version":99,"swarm":"s"}"#).await;
    client.expect_refusal(ErrorCode::Version).await;
}

#[tokio::test]
async fn no_join_in_time() {
    let server = TestServer::start_with(|options| {
        options.core.join_timeout = headwater_rendezvous::Duration::from_millis(50);
    })
    .await;
    let mut witnesses = Witnesses::new(&server).await;
    let mut client = server.connect().await;
    client.expect_refusal(ErrorCode::NotJoined).await;
    witnesses.are_undisturbed().await;
}

#[tokio::test]
async fn a_flood_of_messages() {
    let server = TestServer::start().await;
    let mut witnesses = Witnesses::new(&server).await;
    let mut client = server.join("s", Role::Viewer, 1).await;
    let text = serde_json::to_string(&ClientMessage::Stats { report: StatsReport::default() }).unwrap();
    for _ in 0..1000 {
        // The server may hang up before all is sent.
        if client.socket.send(Message::text(text.as_str())).await.is_err() {
            break;
        }
    }
    client.expect_refusal(ErrorCode::RateLimited).await;
    witnesses.are_undisturbed().await;
}

#[tokio::test]
async fn a_flood_of_pings() {
    let server = TestServer::start().await;
    let client = server.join("s", Role::Viewer, 1).await;
    let (mut sink, mut stream) = client.socket.split();
    let flood = async {
        while sink.send(Message::Ping(Vec::new().into())).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let refusal = async {
        loop {
            match stream.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str::<ServerMessage>(&text).unwrap(),
                Some(Ok(_)) => {}
                other => panic!("expected an error message, got {other:?}"),
            }
        }
    };
    tokio::select! {
        () = flood => unreachable!(),
        message = refusal => {
            assert!(matches!(message, ServerMessage::Error { code: ErrorCode::RateLimited, .. }), "{message:?}");
        }
    }
}

/// A WebSocket whose client leaves everything unread but little fits its buffers.
async fn connect_with_small_buffers(server: &TestServer) -> tokio_tungstenite::WebSocketStream<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.addr).await.unwrap();
    client_async(format!("ws://{}/v1/signal", server.addr), stream).await.unwrap().0
}

#[tokio::test]
async fn a_client_that_answers_no_pings_is_closed() {
    let server = TestServer::start_with(|options| {
        options.timing.ping_every = Duration::from_millis(50);
        options.timing.silence = Duration::from_millis(400);
    })
    .await;
    let mut alive = server.join("s", Role::Viewer, 1).await;
    let dead = connect_with_small_buffers(&server).await;
    let mut dead = {
        let mut dead = dead;
        let text = serde_json::to_string(&join("another", Role::Viewer, 1)).unwrap();
        dead.send(Message::text(text)).await.unwrap();
        dead.into_inner()
    };
    // Read as bytes: nothing answers the pings in them.
    let dead_ends = async {
        let mut bytes = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, dead.read_to_end(&mut bytes)).await.expect("the server hangs up");
    };
    // Reading is what answers pings, and there is nothing else to read.
    let alive_ends = async { while let Some(Ok(Message::Ping(_))) = alive.socket.next().await {} };
    tokio::select! {
        () = dead_ends => {}
        () = alive_ends => panic!("the one that answers was closed"),
    }
    alive.flush().await;
}
