//! Several nodes as processes of their own, with a real nats-server between them: peers meet across nodes, and whatever dies
//! takes only its own with it.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Client, PATIENCE, http_get_from, join, offer};
use headwater_wire::signal::{ClientMessage, SIGNAL_VERSION, ServerMessage};
use headwater_wire::{PeerId, Role, SwarmName};
use serde_json::{Value, json};

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A real NATS server, or the place where one will be.
struct Nats {
    port: u16,
    server: Option<Process>,
}

impl Nats {
    fn absent() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { port, server: None }
    }

    fn running() -> Self {
        let mut nats = Self::absent();
        nats.start();
        nats
    }

    fn start(&mut self) {
        let server = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &self.port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs nats-server: apt-get install nats-server, or see https://nats.io");
        self.server = Some(Process(server));
    }

    fn stop(&mut self) {
        self.server = None;
    }
}

/// A node.
struct Node {
    process: Process,
    addr: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Node {
    fn start(nats: &Nats) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_headwater-signal"))
            .args(["--listen", "127.0.0.1:0", "--nats", &format!("nats://127.0.0.1:{}", nats.port)])
            .args(["--resume-secret", "the same secret on every node of the test"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().rsplit('/').next().unwrap().parse().expect(&line);
        let log = Arc::new(Mutex::new(String::new()));
        let (mut stderr, kept) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut chunk) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        Self { process: Process(child), addr, log }
    }

    /// Waits until a page of the node has this line.
    async fn says(&self, path: &str, line: &str) {
        let begin = Instant::now();
        loop {
            let page = http_get_from(self.addr, path, "").await;
            if page.lines().any(|found| found == line) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{line} did not come: {page}\n{}", self.log.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn knows_nodes(&self, count: usize) {
        self.says("/metrics", &format!("headwater_signal_other_nodes {count}")).await;
    }

    async fn join(&self, swarm: &str, role: Role, want: u16) -> Client {
        Client::join_as(self.addr, join(swarm, role, want)).await
    }

    async fn tracker(&self, text: &Value) -> (Client, Value) {
        let mut client = Client::connect(self.addr, "/announce").await;
        client.send_text(text.to_string()).await;
        let reply = client.next_json().await;
        (client, reply)
    }
}

async fn three(nats: &Nats) -> [Node; 3] {
    let nodes = [(); 3].map(|()| Node::start(nats));
    for node in &nodes {
        node.knows_nodes(2).await;
    }
    nodes
}

/// Whom a client is told to connect to, in the order of the ids.
async fn connects(client: &mut Client, count: usize) -> Vec<(PeerId, bool)> {
    let mut told = Vec::new();
    for _ in 0..count {
        let (peer, offer, _) = client.next_connect().await;
        told.push((peer, offer));
    }
    told.sort_unstable();
    told
}

/// A signal from one to the other arrives.
async fn speak(from: &mut Client, to: &mut Client, text: &str) {
    from.signal(to.peer, offer(text)).await;
    assert_eq!(to.next().await, ServerMessage::Signal { from: from.peer, data: offer(text) });
}

fn announcement(peer: &str, offers: usize) -> Value {
    let offers: Vec<Value> = (0..offers)
        .map(|nth| json!({ "offer_id": format!("{nth:020}"), "offer": { "type": "offer", "sdp": "v=0\r\n\u{e9}" } }))
        .collect();
    json!({
        "action": "announce", "info_hash": "\u{ff}\u{0}.*>aaaaaaaaaaaaaaa", "peer_id": peer.repeat(20), "left": 1,
        "numwant": offers.len(), "offers": offers,
    })
}

#[tokio::test]
async fn peers_of_three_nodes_meet_and_speak() {
    let nats = Nats::running();
    let [one, two, three] = three(&nats).await;
    one.says("/readyz", "nats: connected").await;
    let mut first = one.join("a.*.> swarm", Role::Viewer, 4).await;
    let mut second = two.join("a.*.> swarm", Role::Viewer, 4).await;
    let mut third = three.join("a.*.> swarm", Role::Viewer, 4).await;
    assert_eq!([first.swarm_size, second.swarm_size, third.swarm_size], [1, 2, 3]);
    let (a, b, c) = (first.peer, second.peer, third.peer);
    let told = [connects(&mut first, 2).await, connects(&mut second, 2).await, connects(&mut third, 2).await];
    // All are told of the others, and exactly one of two offers: whoever was first to hear of the other's node.
    for (peer, others) in [a, b, c].iter().zip(&told) {
        for (other, offers) in others {
            let place = [a, b, c].iter().position(|known| known == other).unwrap();
            assert!(told[place].contains(&(*peer, !offers)), "{told:?}");
        }
    }
    speak(&mut third, &mut first, "offer").await;
    speak(&mut first, &mut third, "answer").await;
    speak(&mut second, &mut third, "candidate").await;
    // A peer that leaves is gone on all nodes.
    first.send(&ClientMessage::Leave).await;
    while first.next_frame().await.is_some() {}
    second.signal(a, offer("late")).await;
    assert_eq!(second.next().await, ServerMessage::Gone { peer: a });
    // Nobody speaks to somebody it is not paired with. In the same swarm it might be: the two that are left want neighbours.
    let mut stranger = one.join("another swarm", Role::Viewer, 0).await;
    stranger.signal(c, offer("hello?")).await;
    assert_eq!(stranger.next().await, ServerMessage::Gone { peer: c });
}

#[tokio::test]
async fn webtorrent_peers_of_three_nodes_meet() {
    let nats = Nats::running();
    let [one, two, three] = three(&nats).await;
    let (mut first, reply) = one.tracker(&announcement("a", 0)).await;
    assert_eq!(reply["incomplete"], 1);
    let (mut second, reply) = two.tracker(&announcement("b", 5)).await;
    assert_eq!((&reply["complete"], &reply["incomplete"]), (&json!(0), &json!(2)));
    let offered = first.next_json().await;
    assert_eq!(offered["offer"]["sdp"], "v=0\r\n\u{e9}");
    let answer = json!({
        "action": "announce", "info_hash": offered["info_hash"], "peer_id": "a".repeat(20),
        "to_peer_id": offered["peer_id"], "offer_id": offered["offer_id"], "answer": { "sdp": "yes" },
    });
    first.send_text(answer.to_string()).await;
    let answered = second.next_json().await;
    assert_eq!((&answered["answer"]["sdp"], &answered["offer_id"]), (&json!("yes"), &offered["offer_id"]));
    // A node that has none of it knows.
    let hash = offered["info_hash"].as_str().unwrap();
    let (_, scraped) = three.tracker(&json!({ "action": "scrape", "info_hash": hash })).await;
    assert_eq!(scraped["files"][hash], json!({ "complete": 0, "incomplete": 2, "downloaded": 0 }));
}

#[tokio::test]
async fn a_node_that_is_killed_takes_only_its_sockets_along() {
    let nats = Nats::running();
    let [one, mut two, three] = three(&nats).await;
    let mut stays = one.join("s", Role::Viewer, 4).await;
    let moves = two.join("s", Role::Viewer, 4).await;
    assert_eq!(stays.next_connect().await.0, moves.peer);
    let beside = three.join("s", Role::Viewer, 0).await;
    assert_eq!(stays.next_connect().await.0, beside.peer);
    two.process.0.kill().unwrap();
    // The peer of the dead node comes back on another, with its data channel open all the time.
    let mut back = Client::join_as(
        three.addr,
        ClientMessage::Join {
            version: SIGNAL_VERSION,
            swarm: SwarmName::new("s").unwrap(),
            role: Role::Viewer,
            token: None,
            want: 0,
            resume: Some(moves.resume.clone()),
            connected: vec![stays.peer],
            position_s: None,
        },
    )
    .await;
    assert_eq!(back.peer, moves.peer);
    speak(&mut back, &mut stays, "restart").await;
    speak(&mut stays, &mut back, "answer").await;
    one.knows_nodes(1).await;
    let late = one.join("s", Role::Viewer, 0).await;
    assert_eq!(late.swarm_size, 4);
    one.says("/readyz", "nats: connected").await;
}

#[tokio::test]
async fn nodes_go_on_alone_without_nats_and_find_each_other_again() {
    let mut nats = Nats::running();
    let [one, two, _three] = three(&nats).await;
    let mut here = one.join("s", Role::Viewer, 4).await;
    nats.stop();
    for node in [&one, &two] {
        node.says("/readyz", "nats: not connected, peers of this node alone are paired").await;
        node.says("/metrics", "headwater_signal_nats_connected 0").await;
    }
    assert!(one.log.lock().unwrap().contains("NATS is lost: this node goes on alone"));
    // Each pairs its own.
    let mut beside = one.join("s", Role::Viewer, 4).await;
    assert_eq!(here.next_connect().await.0, beside.peer);
    assert_eq!(beside.next_connect().await.0, here.peer);
    let mut away = two.join("s", Role::Viewer, 4).await;
    assert_eq!(away.swarm_size, 1);
    nats.start();
    for node in [&one, &two] {
        node.says("/readyz", "nats: connected").await;
    }
    // Wishes that were left over are met as soon as the nodes hear of each other.
    let met = connects(&mut away, 2).await;
    assert_eq!(met.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), {
        let mut both = vec![here.peer, beside.peer];
        both.sort_unstable();
        both
    });
    assert_eq!(here.next_connect().await.0, away.peer);
    speak(&mut away, &mut here, "after all").await;
}

#[tokio::test]
async fn nats_may_come_after_the_nodes() {
    let mut nats = Nats::absent();
    let nodes = [(); 3].map(|()| Node::start(&nats));
    let [one, two, three] = &nodes;
    let mut first = one.join("s", Role::Viewer, 2).await;
    let mut second = two.join("s", Role::Viewer, 2).await;
    assert_eq!([first.swarm_size, second.swarm_size], [1, 1]);
    three.says("/readyz", "nats: not connected, peers of this node alone are paired").await;
    nats.start();
    for node in &nodes {
        node.knows_nodes(2).await;
    }
    let (peer, offers, _) = first.next_connect().await;
    let (other, other_offers, _) = second.next_connect().await;
    assert_eq!((peer, other, offers), (second.peer, first.peer, !other_offers));
    speak(&mut first, &mut second, "offer").await;
}

#[tokio::test]
async fn a_node_that_stops_says_goodbye() {
    let nats = Nats::running();
    let [one, two, three] = three(&nats).await;
    let pid = two.process.0.id().to_string();
    let begin = Instant::now();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    one.knows_nodes(1).await;
    three.knows_nodes(1).await;
    // Sooner than one is missed that says nothing.
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}
