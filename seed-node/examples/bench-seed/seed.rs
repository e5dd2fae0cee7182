//! The seed of the measurements: data channels alone, in a process of their own, so that its memory and processor time
//! can be told from the viewers'. Commands and events are JSON, one a line.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::IpAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use headwater_seed::transport::{
    DataChannels, Link, LinkEvent, LinkId, LinkReport, LinkRequest, MuxOptions, OutgoingChunk, REPORT_QUEUE, Stack,
    Transport,
};
use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::signal::SignalData;
use headwater_wire::{ChunkId, ChunkIndex, PeerId, SegmentId, SeqNo, TrackId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Chunks with one connection at once, as an engine has them.
const OPEN_CHUNKS: usize = 4;

/// What the seed is to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Order {
    /// Make an offer to a new peer.
    Connect { id: u64 },
    /// From that peer.
    Signal { id: u64, data: SignalData },
    /// Send without end, or stop.
    Pour { id: u64, on: bool },
    /// Let go of the peer.
    Close { id: u64 },
    /// Say what has been used up.
    Usage,
}

/// What the seed says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Said {
    /// For a peer.
    Signal { id: u64, data: SignalData },
    /// The channel is open.
    Open { id: u64 },
    /// The connection is gone.
    Closed { id: u64 },
    /// Resident memory, and processor time since the start.
    Usage { rss_kib: u64, cpu_ms: u64 },
}

struct Peer {
    link: Link,
    pouring: bool,
    open: bool,
    ahead: usize,
}

/// Runs until its standard input ends.
pub(crate) async fn run(bind: Vec<IpAddr>) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let (orders_tx, mut orders) = mpsc::channel::<Order>(64);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { break };
            if orders_tx.blocking_send(order).is_err() {
                break;
            }
        }
    });
    let stack =
        std::env::var("HEADWATER_STACK").ok().map(|name| name.parse::<Stack>()).transpose()?.unwrap_or_default();
    let transport = DataChannels::new(MuxOptions { bind, ..MuxOptions::default() }, stack);
    let (reports_tx, mut reports) = mpsc::channel(REPORT_QUEUE);
    let mut peers: BTreeMap<u64, Peer> = BTreeMap::new();
    let bytes: Bytes = (0..CHUNK_LEN).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { return Ok(()) };
                match order {
                    Order::Connect { id } => {
                        let request =
                            LinkRequest { link: LinkId(id), peer: PeerId(id), offer: true, ice_servers: Vec::new() };
                        let link = transport.connect(request, reports_tx.clone());
                        peers.insert(id, Peer { link, pouring: false, open: false, ahead: 0 });
                    }
                    Order::Signal { id, data } => {
                        if let Some(peer) = peers.get(&id) {
                            let _ = peer.link.signals.send(data).await;
                        }
                    }
                    Order::Pour { id, on } => {
                        if let Some(peer) = peers.get_mut(&id) {
                            peer.pouring = on;
                            pour(peer, &bytes);
                        }
                    }
                    Order::Close { id } => drop(peers.remove(&id)),
                    Order::Usage => say(&usage()?)?,
                }
            }
            Some(LinkReport { peer, event, .. }) = reports.recv() => {
                let id = peer.0;
                match event {
                    LinkEvent::Signal(data) => say(&Said::Signal { id, data })?,
                    LinkEvent::Open => {
                        if let Some(peer) = peers.get_mut(&id) {
                            peer.open = true;
                            pour(peer, &bytes);
                        }
                        say(&Said::Open { id })?;
                    }
                    LinkEvent::ChunkSent(_) => {
                        if let Some(peer) = peers.get_mut(&id) {
                            peer.ahead -= 1;
                            pour(peer, &bytes);
                        }
                    }
                    LinkEvent::Closed => {
                        peers.remove(&id);
                        say(&Said::Closed { id })?;
                    }
                    LinkEvent::Frame(_) => {}
                }
            }
        }
    }
}

fn pour(peer: &mut Peer, bytes: &Bytes) {
    let segment = SegmentId { track: TrackId(1), seq: SeqNo(1) };
    let chunk = ChunkId { segment, index: ChunkIndex(0) };
    while peer.open && peer.pouring && peer.ahead < OPEN_CHUNKS {
        // As large as the protocol lets frames be.
        let outgoing = OutgoingChunk { chunk, bytes: bytes.clone(), piece_len: CHUNK_LEN - 64 };
        if peer.link.chunks.try_send(outgoing).is_err() {
            return;
        }
        peer.ahead += 1;
    }
}

fn say(said: &Said) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, said)?;
    out.write_all(b"\n")?;
    out.flush().context("nobody listens")
}

/// From /proc, so that the bench needs no library for it.
fn usage() -> Result<Said> {
    let status = std::fs::read_to_string("/proc/self/status").context("no /proc here")?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let rss_kib = rss.trim().trim_end_matches(" kB").trim().parse()?;
    let stat = std::fs::read_to_string("/proc/self/stat").context("no /proc here")?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("an odd stat")?.1.split_whitespace().collect();
    let ticks: u64 =
        fields.get(11).context("no utime")?.parse::<u64>()? + fields.get(12).context("no stime")?.parse::<u64>()?;
    Ok(Said::Usage { rss_kib, cpu_ms: ticks * 10 })
}
