//! Many viewers on one UDP port of a seed: nobody's datagrams are another's, and who is gone leaves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "../examples/bench-seed/path.rs"]
#[allow(dead_code, reason = "not every field is looked at")]
mod path;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use headwater_seed::transport::{
    DataChannels, Link, LinkEvent, LinkId, LinkReport, LinkRequest, MuxOptions, REPORT_QUEUE, Stack, Transport,
};
use headwater_wire::PeerId;
use headwater_wire::signal::{IceServer, SignalData};
use path::{Path, Shape};
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// The stack to try: `cargo xtask test --only stack` names another than the usual one.
fn stack() -> Stack {
    std::env::var("HEADWATER_STACK")
        .map_or_else(|_| Stack::default(), |name| name.parse().expect("a stack of this build"))
}

/// A seed and its viewers; links of the seed are even, of the viewer of the same connection odd.
struct Party {
    seed: DataChannels,
    links: BTreeMap<u64, Link>,
    reports_tx: mpsc::Sender<LinkReport>,
    reports: mpsc::Receiver<LinkReport>,
    told: BTreeSet<SocketAddr>,
    /// Viewers reach the seed through this alone, where it is there.
    path: Option<Path>,
    /// Nobody is told of UDP.
    tcp_only: bool,
    viewer_options: MuxOptions,
    ice_servers: Vec<IceServer>,
    /// What else the seed said of itself.
    reflexive: Vec<String>,
}

impl Party {
    fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into())
    }

    fn at(ip: IpAddr) -> Self {
        let (reports_tx, reports) = mpsc::channel(REPORT_QUEUE);
        let options = MuxOptions { bind: vec![ip], ..MuxOptions::default() };
        let (links, told) = (BTreeMap::new(), BTreeSet::new());
        let (seed, viewer_options) = (DataChannels::new(options.clone(), stack()), options);
        let (ice_servers, reflexive) = (Vec::new(), Vec::new());
        Self {
            seed,
            links,
            reports_tx,
            reports,
            told,
            path: None,
            tcp_only: false,
            viewer_options,
            ice_servers,
            reflexive,
        }
    }

    fn over_tcp() -> Self {
        let mut party = Self::new();
        let options = MuxOptions { tcp_port: Some(0), ..party.viewer_options };
        party.seed = DataChannels::new(options.clone(), stack());
        (party.tcp_only, party.viewer_options) = (true, options);
        party
    }

    fn connect(&mut self, connection: u64) {
        for link in [connection * 2, connection * 2 + 1] {
            let is_seed = link % 2 == 0;
            let ice_servers = if is_seed { self.ice_servers.clone() } else { Vec::new() };
            let request = LinkRequest { link: LinkId(link), peer: PeerId(link), offer: is_seed, ice_servers };
            let own = DataChannels::new(self.viewer_options.clone(), stack());
            let transport = if is_seed { &self.seed } else { &own };
            self.links.insert(link, transport.connect(request, self.reports_tx.clone()));
        }
    }

    /// The next event that is not signalling, which is passed on.
    async fn next(&mut self) -> (u64, LinkEvent) {
        loop {
            let report = timeout(PATIENCE, self.reports.recv()).await.expect("nothing happens").unwrap();
            let link = report.link.0;
            let LinkEvent::Signal(mut data) = report.event else { return (link, report.event) };
            if link % 2 == 0
                && let SignalData::Candidate { candidate, .. } = &mut data
            {
                let words: Vec<&str> = candidate.split(' ').collect();
                let Some(port) = words.get(5) else { continue };
                if words.contains(&"srflx") {
                    self.reflexive.push(candidate.clone());
                    continue;
                }
                if self.tcp_only && words[2] != "tcp" {
                    continue;
                }
                let address = SocketAddr::new(words[4].parse().unwrap(), port.parse().unwrap());
                self.told.insert(address);
                if let Some(path) = &self.path {
                    *candidate = candidate.replace(&format!(" {} ", address.port()), &format!(" {} ", path.far.port()));
                }
            } else if (self.path.is_some() || self.tcp_only) && matches!(data, SignalData::Candidate { .. }) {
                continue;
            }
            if let Some(other) = self.links.get(&(link ^ 1)) {
                let _ = other.signals.send(data).await;
            }
        }
    }

    async fn all_open(&mut self, links: impl Iterator<Item = u64>) {
        let mut closed: BTreeSet<u64> = links.collect();
        while !closed.is_empty() {
            if let (link, LinkEvent::Open) = self.next().await {
                closed.remove(&link);
            }
        }
    }

    /// So many viewers connect through one port, and each gets what is meant for it.
    async fn serves_each_its_own(&mut self, viewers: u64) {
        for connection in 0..viewers {
            self.connect(connection);
        }
        self.all_open(0..viewers * 2).await;
        assert_eq!(self.told.len(), 1, "one address and port for all: {:?}", self.told);
        for connection in 0..viewers {
            let frame = format!("\0for {connection}").into_bytes();
            self.links[&(connection * 2)].control.send(frame).await.unwrap();
        }
        let mut heard = BTreeSet::new();
        while (heard.len() as u64) < viewers {
            if let (link, LinkEvent::Frame(frame)) = self.next().await {
                assert_eq!(&frame[..], format!("\0for {}", link / 2).as_bytes());
                heard.insert(link);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_share_one_port_and_get_what_is_theirs() {
    Party::new().serves_each_its_own(12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_come_and_go_on_one_port() {
    let mut party = Party::new();
    for round in 0..8 {
        let connections = round * 4..round * 4 + 4;
        connections.clone().for_each(|connection| party.connect(connection));
        party.all_open(round * 8..round * 8 + 8).await;
        for connection in connections {
            party.links.remove(&(connection * 2));
        }
        let mut gone = 0;
        while gone < 8 {
            if let (_, LinkEvent::Closed) = party.next().await {
                gone += 1;
            }
        }
    }
    assert_eq!(party.told.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_vanishes_is_let_go_within_seconds() {
    let mut party = Party::new();
    let address = party.seed.bind().unwrap()[0];
    let shape = Shape { bits_a_second: 1e9, delay: Duration::from_millis(1), queue: 1 << 20, loss: 0.0 };
    party.path = Some(Path::start(shape, address).unwrap());
    party.connect(0);
    party.all_open(0..2).await;
    party.path = None;
    let vanished = Instant::now();
    while !matches!(party.next().await, (0, LinkEvent::Closed)) {}
    assert!(vanished.elapsed() < Duration::from_secs(10), "{:?}", vanished.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_udp_gets_through_viewers_connect_over_tcp_on_one_port() {
    let mut party = Party::over_tcp();
    party.serves_each_its_own(4).await;
    // Whoever says nothing that names a connection is closed, and nothing breaks.
    let address = *party.told.first().unwrap();
    let mut stranger = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stranger, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(std::io::Read::read(&mut stranger, &mut [0; 16]), Ok(0) | Err(_)));
    party.links[&0].control.send(b"\0again".to_vec()).await.unwrap();
    while !matches!(party.next().await, (1, LinkEvent::Frame(frame)) if &frame[..] == b"\0again") {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_of_version_six_work_like_the_others() {
    let loopback = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
    if std::net::UdpSocket::bind((loopback, 0)).is_err() {
        // A machine without IPv6.
        return;
    }
    let mut party = Party::at(loopback);
    party.connect(0);
    party.all_open(0..2).await;
    assert!(party.told.iter().all(SocketAddr::is_ipv6), "{:?}", party.told);
    party.links[&0].control.send(b"\0six".to_vec()).await.unwrap();
    while !matches!(party.next().await, (1, LinkEvent::Frame(frame)) if &frame[..] == b"\0six") {}
}

/// A STUN server (RFC 8489) that says everyone is at 203.0.113.9, port 4321.
async fn stun_server() -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut request = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut request).await {
            if len < 20 || request[..2] != [0, 1] {
                continue;
            }
            let mut answer = vec![1, 1, 0, 12];
            answer.extend_from_slice(&request[4..20]);
            answer.extend_from_slice(&[0, 0x20, 0, 8, 0, 1]);
            answer.extend_from_slice(&(4321_u16 ^ 0x2112).to_be_bytes());
            answer.extend([203 ^ 0x21, 0x12, 113 ^ 0xa4, 9 ^ 0x42]);
            let _ = socket.send_to(&answer, from).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_router_the_address_that_a_stun_server_sees_is_told_and_the_private_one_is_not_in_it() {
    let mut party = Party::new();
    let urls = vec![format!("stun:{}", stun_server().await)];
    party.ice_servers = vec![IceServer { urls, username: None, credential: None }];
    party.connect(0);
    party.all_open(0..2).await;
    let told = async {
        while party.reflexive.is_empty() {
            party.next().await;
        }
    };
    timeout(PATIENCE, told).await.expect("no reflexive candidate");
    let told = &party.reflexive[0];
    assert!(told.contains(" 203.0.113.9 4321 typ srflx"), "{told}");
    assert!(told.ends_with("raddr 0.0.0.0 rport 0"), "{told}");
}
