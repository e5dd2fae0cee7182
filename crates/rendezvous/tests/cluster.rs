//! Several nodes on one bus: their members are paired, speak, and are let go across nodes, whatever is lost.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use headwater_rendezvous::cluster::{self, DirectoryOutput, NodeId, NodeMessage, SwarmHash, Told};
use headwater_rendezvous::tracker::{Binary, Message, Tracker, TrackerConfig};
use headwater_rendezvous::{Config, ConnId, Duration, Input, Now, Output, Rendezvous};
use headwater_wire::signal::{ClientMessage, SIGNAL_VERSION, ServerMessage, SignalData};
use headwater_wire::{PeerId, Role, SwarmName};
use proptest::prelude::*;

/// A node as its shell sees it.
struct Node {
    core: Rendezvous,
    tracker: Tracker,
    watched: BTreeSet<SwarmHash>,
    is_up: bool,
}

/// Nodes, their clients, and the bus between them.
struct Cluster {
    nodes: Vec<Node>,
    now: Now,
    bus: VecDeque<(NodeId, Told, Vec<u8>)>,
    /// Decides about each message whether it is lost.
    loses: Box<dyn FnMut() -> bool>,
    got: BTreeMap<ConnId, Vec<ServerMessage>>,
    heard: BTreeMap<ConnId, Vec<serde_json::Value>>,
    closed: BTreeSet<ConnId>,
    /// Signals that went to all nodes of a swarm.
    searched: usize,
    next: u64,
}

/// A connection, and the node it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct At(usize, ConnId);

impl Cluster {
    fn new(count: usize) -> Self {
        let nodes = (0..count).map(|index| {
            let mut config = Config::new([7; 32]);
            config.node = Some(NodeId(index as u64));
            Node {
                core: Rendezvous::new(config, index as u64),
                tracker: Tracker::new(TrackerConfig::default(), index as u64),
                watched: BTreeSet::new(),
                is_up: true,
            }
        });
        let mut cluster = Self {
            nodes: nodes.collect(),
            now: Now(0),
            bus: VecDeque::new(),
            loses: Box::new(|| false),
            got: BTreeMap::new(),
            heard: BTreeMap::new(),
            closed: BTreeSet::new(),
            searched: 0,
            next: 0,
        };
        for index in 0..count {
            cluster.input(index, Input::Bus { is_connected: true });
        }
        cluster.pass(Duration::from_secs(2));
        cluster
    }

    fn input(&mut self, index: usize, input: Input) {
        let now = self.now;
        self.nodes[index].core.handle_input(now, input);
        self.settle(index);
        self.deliver();
    }

    /// Carries out what a node wants done.
    fn settle(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        loop {
            match node.core.poll_output() {
                Output::Send { conn, message } => self.got.entry(conn).or_default().push(message),
                Output::Close { conn } => {
                    self.closed.insert(conn);
                }
                Output::Timeout(_) => break,
            }
        }
        while let Some(output) = node.tracker.poll_output() {
            let value = serde_json::from_str(output.text).unwrap();
            self.heard.entry(output.conn).or_default().push(value);
        }
        while let Some(output) = node.core.directory_mut().poll_output() {
            match output {
                DirectoryOutput::Watch(swarm) => assert!(node.watched.insert(swarm), "watched twice"),
                DirectoryOutput::Unwatch(swarm) => assert!(node.watched.remove(&swarm), "was not watched"),
                DirectoryOutput::Tell(told, message) => {
                    let searches = matches!(*message, NodeMessage::Signal { is_searching: true, .. });
                    self.searched += usize::from(searches);
                    let own = NodeId(index as u64);
                    self.bus.push_back((own, told, cluster::write(own, &message).unwrap()));
                }
            }
        }
    }

    /// Carries what is on the bus, and what comes of it.
    fn deliver(&mut self) {
        while let Some((from, told, bytes)) = self.bus.pop_front() {
            for index in 0..self.nodes.len() {
                let node = &self.nodes[index];
                let is_for = match told {
                    Told::Everyone => true,
                    Told::Swarm(swarm) => node.watched.contains(&swarm),
                    Told::Node(to) => to == NodeId(index as u64),
                };
                if !is_for || from == NodeId(index as u64) || !node.is_up || (self.loses)() {
                    continue;
                }
                let (from, message) = cluster::read(&bytes).unwrap();
                let now = self.now;
                self.nodes[index].tracker.handle_node(from, &message);
                self.nodes[index].core.handle_input(now, Input::Node { from, message: Box::new(message) });
                self.settle(index);
            }
        }
    }

    /// Lets time pass, with all that is due in it.
    fn pass(&mut self, span: Duration) {
        let end = self.now.plus(span);
        while self.now < end {
            self.now = self.now.plus(Duration::from_millis(100));
            for index in 0..self.nodes.len() {
                if self.nodes[index].is_up {
                    self.input(index, Input::Timeout);
                }
            }
        }
    }

    fn open(&mut self, node: usize) -> At {
        self.next += 1;
        let conn = ConnId(self.next);
        self.input(node, Input::Opened { conn, fresh: PeerId(1000 + self.next) });
        At(node, conn)
    }

    fn say(&mut self, At(node, conn): At, message: ClientMessage) {
        self.input(node, Input::Message { conn, message });
    }

    /// A member, once it is known what the other nodes have.
    fn join(&mut self, node: usize, role: Role, want: u16) -> At {
        self.join_as(node, role, want, None, Vec::new())
    }

    fn join_as(&mut self, node: usize, role: Role, want: u16, resume: Option<String>, connected: Vec<PeerId>) -> At {
        let swarm = SwarmName::new("s").unwrap();
        let at = self.open(node);
        self.look(node, SwarmHash::of_name(&swarm));
        self.say(
            at,
            ClientMessage::Join {
                version: SIGNAL_VERSION,
                swarm,
                role,
                token: None,
                want,
                resume,
                connected,
                position_s: None,
            },
        );
        at
    }

    /// A viewer of content on demand, which is at this position.
    fn enter(&mut self, node: usize, position_s: u32, want: u16) -> At {
        let at = self.join(node, Role::Viewer, 0);
        self.say(at, ClientMessage::Watching { position_s });
        self.say(at, ClientMessage::Want { count: want });
        at
    }

    fn look(&mut self, node: usize, swarm: SwarmHash) {
        let now = self.now;
        self.nodes[node].core.directory_mut().look(now, swarm);
        self.settle(node);
        self.deliver();
    }

    fn announce(&mut self, node: usize, conn: ConnId, text: &serde_json::Value) -> Vec<serde_json::Value> {
        let now = self.now;
        let text = text.to_string();
        let Node { core, tracker, .. } = &mut self.nodes[node];
        tracker.handle_message_beside(conn, Message::read(&text), None, &mut core.beside(now));
        self.settle(node);
        self.deliver();
        self.heard.get_mut(&conn).map(std::mem::take).unwrap_or_default()
    }

    fn kill(&mut self, node: usize) {
        self.nodes[node].is_up = false;
    }

    fn welcome(&self, at: At) -> (PeerId, String, u32) {
        let welcome = self.got[&at.1].iter().find_map(|message| match message {
            ServerMessage::Welcome { peer, resume, swarm_size, .. } => Some((*peer, resume.clone(), *swarm_size)),
            _ => None,
        });
        welcome.expect("it was welcomed")
    }

    fn peer(&self, at: At) -> PeerId {
        self.welcome(at).0
    }

    fn connects(&self, at: At) -> Vec<(PeerId, bool, Role)> {
        let connect = |message: &ServerMessage| match message {
            ServerMessage::Connect { peer, offer, role } => Some((*peer, *offer, *role)),
            _ => None,
        };
        self.got[&at.1].iter().filter_map(connect).collect()
    }

    fn last(&self, at: At) -> &ServerMessage {
        self.got[&at.1].last().unwrap()
    }
}

fn offer() -> SignalData {
    SignalData::Offer { sdp: "v=0".to_owned() }
}

#[test]
fn members_of_three_nodes_are_paired_and_speak_and_know_how_many_they_are() {
    let mut cluster = Cluster::new(3);
    let first = cluster.join(0, Role::Viewer, 8);
    let second = cluster.join(1, Role::Viewer, 8);
    let third = cluster.join(2, Role::Viewer, 8);
    assert_eq!([first, second, third].map(|at| cluster.welcome(at).2), [1, 2, 3]);
    let peers = [first, second, third].map(|at| cluster.peer(at));
    for at in [first, second, third] {
        let told: BTreeSet<PeerId> = cluster.connects(at).iter().map(|(peer, ..)| *peer).collect();
        let others: BTreeSet<PeerId> = peers.into_iter().filter(|peer| *peer != cluster.peer(at)).collect();
        assert_eq!(told, others);
    }
    // Whoever asked offers.
    assert_eq!(cluster.connects(first)[0], (peers[1], false, Role::Viewer));
    assert_eq!(cluster.connects(second)[0], (peers[0], true, Role::Viewer));
    cluster.say(second, ClientMessage::Signal { to: peers[0], data: offer() });
    assert_eq!(*cluster.last(first), ServerMessage::Signal { from: peers[1], data: offer() });
    cluster.say(first, ClientMessage::Signal { to: peers[1], data: offer() });
    assert_eq!(*cluster.last(second), ServerMessage::Signal { from: peers[0], data: offer() });
    // Whoever leaves is gone for the others.
    cluster.say(first, ClientMessage::Leave);
    cluster.say(second, ClientMessage::Signal { to: peers[0], data: offer() });
    assert_eq!(*cluster.last(second), ServerMessage::Gone { peer: peers[0] });
    let name = SwarmName::new("s").unwrap();
    for node in 1..3 {
        assert_eq!(cluster.nodes[node].core.swarm_report(&name).unwrap().viewers, 2);
    }
}

#[test]
fn a_wish_waits_for_those_who_come_on_other_nodes() {
    let mut cluster = Cluster::new(2);
    let first = cluster.join(0, Role::Viewer, 3);
    // This one wants nobody, so that only the other's wish can bring them together.
    let second = cluster.join(1, Role::Viewer, 0);
    assert_eq!(cluster.connects(first), [(cluster.peer(second), true, Role::Viewer)]);
    assert_eq!(cluster.connects(second), [(cluster.peer(first), false, Role::Viewer)]);
}

#[test]
fn a_quarter_of_the_neighbours_is_on_other_nodes_so_that_a_swarm_does_not_fall_apart() {
    let mut cluster = Cluster::new(2);
    for _ in 0..20 {
        cluster.join(0, Role::Viewer, 0);
        cluster.join(1, Role::Viewer, 0);
    }
    cluster.pass(Duration::from_secs(2));
    let own: BTreeSet<PeerId> = (1..=40).filter(|n| n % 2 == 1).map(|n| PeerId(1000 + n)).collect();
    let asker = cluster.join(0, Role::Viewer, 8);
    let told = cluster.connects(asker);
    assert_eq!(told.len(), 8);
    assert_eq!(told.iter().filter(|(peer, ..)| own.contains(peer)).count(), 6);
}

#[test]
fn neighbours_on_other_nodes_are_those_who_hold_what_is_played_next() {
    let mut cluster = Cluster::new(2);
    for _ in 0..20 {
        cluster.enter(1, 100, 0);
    }
    let near: Vec<At> = (0..3).map(|_| cluster.enter(1, 3000, 0)).collect();
    let near: BTreeSet<PeerId> = near.into_iter().map(|at| cluster.peer(at)).collect();
    cluster.pass(Duration::from_secs(30));
    let asker = cluster.enter(0, 3010, 3);
    let met: BTreeSet<PeerId> = cluster.connects(asker).into_iter().map(|(peer, ..)| peer).collect();
    assert_eq!(met, near);
}

#[test]
fn a_seed_on_another_node_is_found_whoever_comes_first() {
    let mut cluster = Cluster::new(2);
    let viewers: Vec<At> = (0..3).map(|_| cluster.join(0, Role::Viewer, 0)).collect();
    cluster.pass(Duration::from_secs(2));
    let seed = cluster.join(1, Role::Seed, 0);
    let told = cluster.connects(seed);
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|(_, offer, role)| !offer && *role == Role::Viewer), "{told:?}");
    for viewer in viewers {
        assert_eq!(cluster.connects(viewer), [(cluster.peer(seed), true, Role::Seed)]);
    }
    // One that comes later gets it although there are viewers enough.
    let late = cluster.join(0, Role::Viewer, 2);
    assert!(cluster.connects(late).contains(&(cluster.peer(seed), true, Role::Seed)));
}

#[test]
fn two_nodes_that_seek_at_once_agree_who_offers() {
    let mut cluster = Cluster::new(2);
    let (first, second) = (cluster.join(0, Role::Viewer, 0), cluster.join(1, Role::Viewer, 0));
    cluster.pass(Duration::from_secs(2));
    // Both ask before either hears of the other's asking.
    for at in [first, second] {
        let now = cluster.now;
        let message = ClientMessage::Want { count: 2 };
        cluster.nodes[at.0].core.handle_input(now, Input::Message { conn: at.1, message });
    }
    for node in 0..2 {
        cluster.settle(node);
    }
    cluster.deliver();
    cluster.pass(Duration::from_secs(40));
    assert_eq!(cluster.connects(first), [(cluster.peer(second), true, Role::Viewer)]);
    assert_eq!(cluster.connects(second), [(cluster.peer(first), false, Role::Viewer)]);
    cluster.say(first, ClientMessage::Signal { to: cluster.peer(second), data: offer() });
    assert!(matches!(cluster.last(second), ServerMessage::Signal { .. }));
}

#[test]
fn members_of_a_dead_node_come_back_elsewhere_with_their_neighbours() {
    let mut cluster = Cluster::new(3);
    let stays = cluster.join(0, Role::Viewer, 4);
    let moves = cluster.join(1, Role::Viewer, 4);
    let (peer, resume, _) = cluster.welcome(moves);
    cluster.kill(1);
    let back = cluster.join_as(2, Role::Viewer, 4, Some(resume), vec![cluster.peer(stays)]);
    assert_eq!(cluster.peer(back), peer);
    // They are paired without being told to connect again.
    assert_eq!((cluster.connects(stays).len(), cluster.connects(back)), (1, Vec::new()));
    cluster.say(back, ClientMessage::Signal { to: cluster.peer(stays), data: offer() });
    assert_eq!(*cluster.last(stays), ServerMessage::Signal { from: peer, data: offer() });
    cluster.say(stays, ClientMessage::Signal { to: peer, data: offer() });
    assert_eq!(*cluster.last(back), ServerMessage::Signal { from: cluster.peer(stays), data: offer() });
    // Until the dead node is noticed it counts; then it does not.
    cluster.pass(Duration::from_secs(8));
    let name = SwarmName::new("s").unwrap();
    assert_eq!(cluster.nodes[0].core.swarm_report(&name).unwrap().viewers, 2);
    assert_eq!(cluster.nodes[0].core.directory().node_count(), 1);
}

#[test]
fn a_peer_that_comes_back_on_another_node_replaces_its_dead_socket() {
    let mut cluster = Cluster::new(2);
    let stays = cluster.join(0, Role::Viewer, 4);
    let old = cluster.join(0, Role::Viewer, 4);
    let (peer, resume, _) = cluster.welcome(old);
    let back = cluster.join_as(1, Role::Viewer, 4, Some(resume), vec![cluster.peer(stays)]);
    assert!(cluster.closed.contains(&old.1) && !cluster.closed.contains(&back.1));
    cluster.say(stays, ClientMessage::Signal { to: peer, data: offer() });
    assert!(matches!(cluster.last(back), ServerMessage::Signal { .. }));
    // Nobody without the secret can throw somebody out by naming it.
    let again = cluster.join_as(0, Role::Viewer, 0, Some(format!("{peer}.{}", "0".repeat(32))), Vec::new());
    assert!(cluster.peer(again) != peer && !cluster.closed.contains(&back.1));
}

#[test]
fn neighbours_are_claimed_only_by_who_was_here_and_for_a_moment() {
    let mut cluster = Cluster::new(2);
    let here = cluster.join(0, Role::Viewer, 0);
    let target = cluster.peer(here);
    let gone = ServerMessage::Gone { peer: target };
    // A stranger that has heard of its id.
    for node in 0..2 {
        let stranger = cluster.join_as(node, Role::Viewer, 0, None, vec![target]);
        cluster.say(stranger, ClientMessage::Signal { to: target, data: offer() });
        assert_eq!(*cluster.last(stranger), gone);
    }
    assert_eq!(cluster.got[&here.1].len(), 1, "only its welcome");
    // One that was here, while the word of the node that has its neighbour is lost.
    let was_here = cluster.join(1, Role::Viewer, 0);
    let (_, resume, _) = cluster.welcome(was_here);
    cluster.loses = Box::new(|| true);
    let back = cluster.join_as(1, Role::Viewer, 0, Some(resume), vec![target]);
    cluster.loses = Box::new(|| false);
    let say = |cluster: &mut Cluster| cluster.say(back, ClientMessage::Signal { to: target, data: offer() });
    for _ in 0..100 {
        say(&mut cluster);
    }
    // So many are sent to all nodes, and none of the rest.
    let refused = cluster.got[&back.1].iter().filter(|message| **message == gone).count();
    assert_eq!(refused, 100);
    let searched = cluster.searched;
    assert_eq!(searched, usize::from(headwater_rendezvous::config::MAX_SEARCHING));
    // What comes later than a claim stands is nobody's any more.
    let (_, resume, _) = cluster.welcome(back);
    cluster.loses = Box::new(|| true);
    let again = cluster.join_as(1, Role::Viewer, 0, Some(resume), vec![target]);
    cluster.loses = Box::new(|| false);
    cluster.pass(Duration::from_secs(6));
    let before = cluster.searched;
    cluster.say(again, ClientMessage::Signal { to: target, data: offer() });
    assert_eq!((cluster.last(again), cluster.searched), (&gone, before));
}

#[test]
fn a_pairing_that_is_lost_is_free_on_both_nodes() {
    let mut cluster = Cluster::new(2);
    let (first, second) = (cluster.join(0, Role::Viewer, 1), cluster.join(1, Role::Viewer, 1));
    let (one, two) = (cluster.peer(first), cluster.peer(second));
    cluster.say(first, ClientMessage::Lost { peer: two });
    cluster.say(second, ClientMessage::Signal { to: one, data: offer() });
    assert_eq!(*cluster.last(second), ServerMessage::Gone { peer: one });
    cluster.say(second, ClientMessage::Want { count: 1 });
    assert_eq!(cluster.connects(second).len(), 2);
    assert_eq!(cluster.connects(first).len(), 2);
}

#[test]
fn without_the_bus_a_node_serves_its_own_and_recovers() {
    let mut cluster = Cluster::new(2);
    let (first, second) = (cluster.join(0, Role::Viewer, 2), cluster.join(1, Role::Viewer, 2));
    cluster.loses = Box::new(|| true);
    for node in 0..2 {
        cluster.input(node, Input::Bus { is_connected: false });
    }
    cluster.say(first, ClientMessage::Signal { to: cluster.peer(second), data: offer() });
    assert_eq!(*cluster.last(first), ServerMessage::Gone { peer: cluster.peer(second) });
    let beside = cluster.join(0, Role::Viewer, 2);
    assert_eq!(cluster.connects(beside), [(cluster.peer(first), true, Role::Viewer)]);
    cluster.pass(Duration::from_secs(10));
    cluster.loses = Box::new(|| false);
    for node in 0..2 {
        cluster.input(node, Input::Bus { is_connected: true });
    }
    cluster.pass(Duration::from_secs(20));
    let name = SwarmName::new("s").unwrap();
    assert_eq!([0, 1].map(|node| cluster.nodes[node].core.swarm_report(&name).unwrap().viewers), [3, 3]);
    // The wish that was left over is met across nodes again.
    assert!(cluster.connects(second).iter().any(|(peer, ..)| *peer == cluster.peer(beside)));
}

#[test]
fn a_swarm_is_watched_only_while_it_has_members_or_was_asked_about() {
    let mut cluster = Cluster::new(2);
    let at = cluster.join(0, Role::Viewer, 0);
    assert_eq!(cluster.nodes[0].watched.len(), 1);
    cluster.say(at, ClientMessage::Leave);
    assert!(cluster.nodes[0].watched.is_empty());
    for n in 0..5000_u32 {
        let now = cluster.now;
        let swarm = SwarmHash(u128::from(n).to_be_bytes());
        cluster.nodes[1].core.directory_mut().look(now, swarm);
    }
    cluster.settle(1);
    assert_eq!(cluster.nodes[1].watched.len(), 1000);
    cluster.pass(Duration::from_secs(12));
    assert!(cluster.nodes[1].watched.is_empty());
}

fn announcement(peer: u8, offers: usize, left: u64) -> serde_json::Value {
    let offers: Vec<_> = (0..offers)
        .map(|nth| serde_json::json!({ "offer_id": format!("{nth:020}"), "offer": { "sdp": nth } }))
        .collect();
    let peer = char::from(peer).to_string().repeat(20);
    serde_json::json!({
        "action": "announce", "info_hash": "h".repeat(20), "peer_id": peer, "left": left, "numwant": 20, "offers": offers,
    })
}

#[test]
fn offers_of_an_announce_go_to_distinct_peers_of_all_nodes_and_answers_come_back() {
    let mut cluster = Cluster::new(3);
    let hash = SwarmHash::of_info_hash(&Binary([b'h'; 20]));
    for peer in 0..6_u8 {
        let node = usize::from(peer) % 3;
        cluster.look(node, hash);
        cluster.announce(node, ConnId(u64::from(peer)), &announcement(b'a' + peer, 0, u64::from(peer)));
    }
    cluster.pass(Duration::from_secs(3));
    let reply = cluster.announce(0, ConnId(0), &announcement(b'a', 5, 0));
    assert_eq!((reply[0]["complete"].as_u64(), reply[0]["incomplete"].as_u64()), (Some(1), Some(5)));
    for peer in 1..6_u64 {
        let heard = cluster.heard.remove(&ConnId(peer)).unwrap_or_default();
        let offers: Vec<_> = heard.iter().filter(|message| message["offer"].is_object()).collect();
        assert_eq!(offers.len(), 1, "peer {peer} got {heard:?}");
        assert_eq!(offers[0]["peer_id"], "a".repeat(20));
        let node = usize::try_from(peer % 3).unwrap();
        let letter = char::from(b'a' + u8::try_from(peer).unwrap()).to_string();
        let answer = serde_json::json!({
            "action": "announce", "info_hash": "h".repeat(20), "peer_id": letter.repeat(20),
            "to_peer_id": "a".repeat(20), "offer_id": offers[0]["offer_id"], "answer": { "sdp": peer },
        });
        cluster.announce(node, ConnId(peer), &answer);
        let back = cluster.heard.remove(&ConnId(0)).unwrap();
        assert_eq!((back.len(), &back[0]["answer"]["sdp"]), (1, &serde_json::json!(peer)));
    }
    // A node without peers of it knows the figures as well, and forgets those of a node that leaves.
    let scrape = serde_json::json!({ "action": "scrape", "info_hash": "h".repeat(20) });
    let files = cluster.announce(2, ConnId(99), &scrape)[0]["files"]["h".repeat(20)].clone();
    assert_eq!((files["complete"].as_u64(), files["incomplete"].as_u64()), (Some(1), Some(5)));
    cluster.nodes[1].core.directory_mut().leave();
    let own = NodeId(1);
    cluster.bus.push_back((own, Told::Everyone, cluster::write(own, &NodeMessage::Leaving).unwrap()));
    cluster.deliver();
    let files = cluster.announce(2, ConnId(99), &scrape)[0]["files"]["h".repeat(20)].clone();
    assert_eq!((files["complete"].as_u64(), files["incomplete"].as_u64()), (Some(1), Some(3)));
}

/// What happens to clients and nodes. Indexes are taken modulo what there is.
#[derive(Debug, Clone)]
enum Op {
    Join { node: usize, seed: bool, want: u16, resume: Option<usize>, connected: Vec<usize> },
    Want { at: usize, count: u16 },
    Signal { at: usize, to: usize },
    Lost { at: usize, to: usize },
    Close { at: usize },
    Bus { node: usize, is_connected: bool },
    Wait { tenths: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let index = || 0..64_usize;
    prop_oneof![
        6 => (0..3_usize, any::<bool>(), 0..10_u16, prop::option::of(index()), prop::collection::vec(index(), 0..3))
            .prop_map(|(node, seed, want, resume, connected)| Op::Join { node, seed, want, resume, connected }),
        4 => (index(), 0..10_u16).prop_map(|(at, count)| Op::Want { at, count }),
        4 => (index(), index()).prop_map(|(at, to)| Op::Signal { at, to }),
        2 => (index(), index()).prop_map(|(at, to)| Op::Lost { at, to }),
        2 => index().prop_map(|at| Op::Close { at }),
        1 => (0..3_usize, any::<bool>()).prop_map(|(node, is_connected)| Op::Bus { node, is_connected }),
        2 => (1..30_u64).prop_map(|tenths| Op::Wait { tenths }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every `connect` has its counterpart with the other side offering, also where some messages between nodes are lost; and
    /// while none is, nobody is told about somebody twice.
    #[test]
    fn whatever_is_done_and_lost_every_pairing_is_of_two(
        ops in prop::collection::vec(op(), 0..60),
        loss in prop_oneof![2 => Just(0_u64), 1 => 1..4_u64],
        seed in any::<u64>(),
    ) {
        let mut cluster = Cluster::new(3);
        let mut lot = seed;
        cluster.loses = Box::new(move || {
            lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (lot >> 33) % 10 < loss
        });
        let mut ats: Vec<At> = Vec::new();
        let mut lossless = loss == 0;
        for op in ops {
            let pick = |index: usize| ats.get(index.checked_rem(ats.len())?).copied();
            match op {
                Op::Join { node, seed, want, resume, connected } => {
                    let role = if seed { Role::Seed } else { Role::Viewer };
                    let resume = resume.and_then(pick).map(|at| cluster.welcome(at).1);
                    lossless &= resume.is_none() && connected.is_empty();
                    let connected = connected.into_iter().filter_map(pick).map(|at| cluster.peer(at)).collect();
                    let at = cluster.join_as(node, role, want, resume, connected);
                    ats.push(at);
                }
                Op::Want { at, count } => {
                    pick(at).into_iter().for_each(|at| cluster.say(at, ClientMessage::Want { count }));
                }
                Op::Signal { at, to } => {
                    if let Some((at, to)) = pick(at).zip(pick(to)) {
                        let to = cluster.peer(to);
                        cluster.say(at, ClientMessage::Signal { to, data: offer() });
                    }
                }
                Op::Lost { at, to } => {
                    lossless = false;
                    if let Some((at, to)) = pick(at).zip(pick(to)) {
                        let peer = cluster.peer(to);
                        cluster.say(at, ClientMessage::Lost { peer });
                    }
                }
                Op::Close { at } => {
                    if let Some(At(node, conn)) = pick(at) {
                        cluster.input(node, Input::Closed { conn });
                    }
                }
                Op::Bus { node, is_connected } => {
                    lossless = false;
                    cluster.input(node, Input::Bus { is_connected });
                }
                Op::Wait { tenths } => cluster.pass(Duration::from_millis(tenths * 100)),
            }
        }
        let names: BTreeMap<PeerId, Vec<At>> = ats.iter().fold(BTreeMap::new(), |mut names, at| {
            names.entry(cluster.peer(*at)).or_default().push(*at);
            names
        });
        if lossless {
            for at in &ats {
                let own = cluster.peer(*at);
                let told = cluster.connects(*at);
                let distinct: BTreeSet<PeerId> = told.iter().map(|(peer, ..)| *peer).collect();
                prop_assert_eq!(distinct.len(), told.len(), "somebody twice: {:?}", told);
                for (peer, offers, _) in told {
                    prop_assert!(peer != own);
                    let back = names[&peer].iter().flat_map(|other| cluster.connects(*other));
                    let back: Vec<bool> = back.filter(|(of, ..)| *of == own).map(|(_, offer, _)| offer).collect();
                    prop_assert_eq!(back, vec![!offers]);
                }
            }
        }
    }
}
