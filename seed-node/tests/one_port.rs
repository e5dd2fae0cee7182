//! Many viewers on one UDP port of a seed: nobody's datagrams are another's, and who is gone leaves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "../examples/bench-seed/path.rs"]
#[allow(dead_code, reason = "not every field is looked at")]
mod path;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use headwater_seed::transport::rtc::{MuxOptions, RtcTransport};
use headwater_seed::transport::{Link, LinkEvent, LinkId, LinkReport, LinkRequest, REPORT_QUEUE, Transport};
use headwater_wire::PeerId;
use headwater_wire::signal::SignalData;
use path::{Path, Shape};
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// A seed and its viewers; links of the seed are even, of the viewer of the same connection odd.
struct Party {
    seed: RtcTransport,
    links: BTreeMap<u64, Link>,
    reports_tx: mpsc::Sender<LinkReport>,
    reports: mpsc::Receiver<LinkReport>,
    told: BTreeSet<SocketAddr>,
    /// Viewers reach the seed through this alone, where it is there.
    path: Option<Path>,
}

impl Party {
    fn new() -> Self {
        let (reports_tx, reports) = mpsc::channel(REPORT_QUEUE);
        let options = MuxOptions { bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], ..MuxOptions::default() };
        let seed = RtcTransport::new(options);
        Self { seed, links: BTreeMap::new(), reports_tx, reports, told: BTreeSet::new(), path: None }
    }

    fn connect(&mut self, connection: u64) {
        for link in [connection * 2, connection * 2 + 1] {
            let is_seed = link % 2 == 0;
            let request =
                LinkRequest { link: LinkId(link), peer: PeerId(link), offer: is_seed, ice_servers: Vec::new() };
            let own = RtcTransport::default();
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
                let Some(address) = words.get(5).map(|port| format!("{}:{port}", words[4])) else { continue };
                let address = address.parse().unwrap();
                self.told.insert(address);
                if let Some(path) = &self.path {
                    *candidate = candidate.replace(&format!(" {} ", address.port()), &format!(" {} ", path.far.port()));
                }
            } else if self.path.is_some() && matches!(data, SignalData::Candidate { .. }) {
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_share_one_port_and_get_what_is_theirs() {
    const VIEWERS: u64 = 12;
    let mut party = Party::new();
    for connection in 0..VIEWERS {
        party.connect(connection);
    }
    party.all_open(0..VIEWERS * 2).await;
    assert_eq!(party.told.len(), 1, "one address and port for all: {:?}", party.told);
    for connection in 0..VIEWERS {
        let frame = format!("\0for {connection}").into_bytes();
        party.links[&(connection * 2)].control.send(frame).await.unwrap();
    }
    let mut heard = BTreeSet::new();
    while (heard.len() as u64) < VIEWERS {
        if let (link, LinkEvent::Frame(frame)) = party.next().await {
            assert_eq!(&frame[..], format!("\0for {}", link / 2).as_bytes());
            heard.insert(link);
        }
    }
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
    party.path = Some(Path::start(shape, address).await.unwrap());
    party.connect(0);
    party.all_open(0..2).await;
    party.path = None;
    let vanished = Instant::now();
    while !matches!(party.next().await, (0, LinkEvent::Closed)) {}
    assert!(vanished.elapsed() < Duration::from_secs(10), "{:?}", vanished.elapsed());
}
