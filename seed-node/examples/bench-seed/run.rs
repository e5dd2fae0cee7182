//! One measurement: a seed, viewers, and paths between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use headwater_wire::signal::SignalData;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep_until, timeout};

use crate::kernel::{Lateness, Namespace, SEED, WayBack};
use crate::path::{Path, Shape};
use crate::seed::{Order, Said};
use crate::viewers::{Happened, Viewers};

/// Longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(40);

/// What one viewer received while it was measured.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Received {
    pub(crate) bytes: u64,
    pub(crate) longest_gap: Duration,
}

/// What the seed process has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) rss_kib: u64,
    pub(crate) cpu_ms: u64,
}

/// A seed process and viewers of one kind.
pub(crate) struct Run<V> {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) viewers: V,
    shape: Option<Shape>,
    paths: BTreeMap<u64, Path>,
    namespace: Option<Arc<Namespace>>,
    way_back: Option<WayBack>,
    received: BTreeMap<u64, Received>,
    open: BTreeMap<u64, [bool; 2]>,
    usage: Option<Usage>,
}

impl<V: Viewers> Run<V> {
    /// With viewers in a namespace, whose link is the path.
    pub(crate) async fn behind(viewers: V, shape: Shape, namespace: &Arc<Namespace>) -> Result<Self> {
        // At other addresses it could be reached around the path.
        let run = Self::start_at(viewers, Some(shape), Some(SEED)).await?;
        Ok(Self { namespace: Some(Arc::clone(namespace)), ..run })
    }

    pub(crate) async fn start(viewers: V, shape: Option<Shape>) -> Result<Self> {
        Self::start_at(viewers, shape, None).await
    }

    async fn start_at(viewers: V, shape: Option<Shape>, address: Option<Ipv4Addr>) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("seed")
            .args(address.map(|address| address.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the seed")?;
        let stdin = child.stdin.take().context("no stdin")?;
        let lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let (paths, received, open) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            child,
            stdin,
            lines,
            viewers,
            shape,
            paths,
            namespace: None,
            way_back: None,
            received,
            open,
            usage: None,
        })
    }

    /// Connects viewers, and waits until all channels are open.
    pub(crate) async fn connect(&mut self, ids: impl Iterator<Item = u64> + Clone) -> Result<()> {
        for id in ids.clone() {
            self.open.insert(id, [false; 2]);
            self.viewers.connect(id).await?;
            self.order(&Order::Connect { id }).await?;
        }
        let deadline = Instant::now() + PATIENCE;
        while ids.clone().any(|id| self.open.get(&id) != Some(&[true; 2])) {
            if !self.step(deadline).await? {
                bail!("not all channels open in time");
            }
        }
        Ok(())
    }

    pub(crate) async fn close(&mut self, id: u64) -> Result<()> {
        self.viewers.close(id).await?;
        self.order(&Order::Close { id }).await?;
        self.paths.remove(&id);
        self.open.remove(&id);
        Ok(())
    }

    pub(crate) async fn pour(&mut self, ids: impl Iterator<Item = u64>, on: bool) -> Result<()> {
        for id in ids {
            self.order(&Order::Pour { id, on }).await?;
        }
        Ok(())
    }

    /// Lets time pass and gives what came meanwhile.
    pub(crate) async fn measure(&mut self, lasting: Duration) -> Result<(BTreeMap<u64, Received>, Duration)> {
        self.received.clear();
        let began = Instant::now();
        while self.step(began + lasting).await? {}
        Ok((std::mem::take(&mut self.received), began.elapsed()))
    }

    pub(crate) async fn usage(&mut self) -> Result<Usage> {
        self.usage = None;
        self.order(&Order::Usage).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(usage) = self.usage.take() {
                return Ok(usage);
            }
            if !self.step(deadline).await? {
                bail!("the seed does not answer");
            }
        }
    }

    /// Datagrams that found the queues of the paths full.
    pub(crate) fn overflowed(&self) -> u64 {
        let of_link = self.namespace.as_ref().map_or(0, |namespace| namespace.overflowed());
        self.paths.values().map(|path| path.overflowed.load(Ordering::Relaxed)).sum::<u64>() + of_link
    }

    /// How late the paths themselves were, in 99 of 100 datagrams at most, since this was asked last.
    pub(crate) fn late(&self) -> Duration {
        let taken = |late: &Lateness| std::mem::take(&mut *late.lock().unwrap_or_else(PoisonError::into_inner));
        let mut late: Vec<Duration> = self.paths.values().flat_map(|path| taken(&path.late)).collect();
        late.extend(self.way_back.as_ref().map(|way| taken(&way.late)).unwrap_or_default());
        late.sort_unstable();
        late.get(late.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// Datagrams that the kernel let go before any socket, for want of a turn of its own.
    pub(crate) fn dropped_by_kernel() -> u64 {
        let table = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
        let of_one = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
        table.lines().filter_map(of_one).sum()
    }

    /// Datagrams for which a socket's own buffer had no room, of all sockets here or in the namespace.
    pub(crate) fn dropped_by_sockets(&self) -> u64 {
        let table = match &self.namespace {
            Some(namespace) => {
                let told = namespace.inside("cat").arg("/proc/net/udp").output();
                told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
            }
            None => std::fs::read_to_string("/proc/net/udp").unwrap_or_default(),
        };
        table.lines().skip(1).filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
    }

    pub(crate) async fn stop(mut self) -> Result<V> {
        drop(self.stdin);
        timeout(PATIENCE, self.child.wait()).await??;
        Ok(self.viewers)
    }

    async fn order(&mut self, order: &Order) -> Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        self.stdin.write_all(line.as_bytes()).await.context("the seed is gone")
    }

    /// Handles what happens next; `false` where nothing does until the deadline.
    async fn step(&mut self, deadline: Instant) -> Result<bool> {
        tokio::select! {
            line = self.lines.next_line() => {
                let line = line?.context("the seed is gone")?;
                self.on_said(serde_json::from_str(&line)?).await?;
            }
            happened = self.viewers.next() => self.on_happened(happened?).await?,
            () = sleep_until(deadline.into()) => return Ok(false),
        }
        Ok(true)
    }

    async fn on_said(&mut self, said: Said) -> Result<()> {
        match said {
            Said::Signal { id, data } => {
                if let Some(data) = self.shaped(id, data).await? {
                    self.viewers.signal(id, data).await?;
                }
            }
            Said::Open { id } => self.note_open(id, 0),
            Said::Closed { id } => {
                self.open.remove(&id);
            }
            Said::Usage { rss_kib, cpu_ms } => self.usage = Some(Usage { rss_kib, cpu_ms }),
        }
        Ok(())
    }

    async fn on_happened(&mut self, happened: Happened) -> Result<()> {
        match happened {
            // Through a path, the seed learns of its viewer from what comes through it.
            Happened::Signal(_, SignalData::Candidate { .. }) if self.shape.is_some() => {}
            Happened::Signal(id, data) => self.order(&Order::Signal { id, data }).await?,
            Happened::Open(id) => self.note_open(id, 1),
            Happened::Bytes(id, bytes, gap) => {
                let received = self.received.entry(id).or_default();
                received.bytes += bytes;
                received.longest_gap = received.longest_gap.max(gap);
            }
            Happened::Closed(id) => {
                self.open.remove(&id);
            }
        }
        Ok(())
    }

    fn note_open(&mut self, id: u64, side: usize) {
        if let Some(open) = self.open.get_mut(&id) {
            open[side] = true;
        }
    }

    /// What the viewer is told of the seed: the far end of a path in place of its address, where there is a path.
    async fn shaped(&mut self, id: u64, data: SignalData) -> Result<Option<SignalData>> {
        let (Some(shape), SignalData::Candidate { candidate, sdp_mid, sdp_m_line_index }) = (self.shape, &data) else {
            return Ok(Some(data));
        };
        let mut words: Vec<&str> = candidate.split(' ').collect();
        let (Some(ip), Some(port)) = (words.get(4).copied(), words.get(5).copied()) else { return Ok(None) };
        let address: SocketAddr = format!("{ip}:{port}").parse().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
        if let Some(namespace) = &self.namespace {
            if address.ip() != SEED || self.way_back.is_some() {
                return Ok(None);
            }
            self.way_back = Some(WayBack::start(namespace, address.port(), shape.delay * 2)?);
            return Ok(Some(data));
        }
        let is_ours = address.is_ipv4() && !address.ip().is_loopback() && !address.ip().is_unspecified();
        if !is_ours || self.paths.contains_key(&id) {
            return Ok(None);
        }
        let path = Path::start(shape, address)?;
        let (far_ip, far_port) = (path.far.ip().to_string(), path.far.port().to_string());
        words[4] = &far_ip;
        words[5] = &far_port;
        let candidate = words.join(" ");
        let data = SignalData::Candidate { candidate, sdp_mid: sdp_mid.clone(), sdp_m_line_index: *sdp_m_line_index };
        self.paths.insert(id, path);
        Ok(Some(data))
    }
}
