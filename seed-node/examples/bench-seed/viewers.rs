//! Viewers that receive and count: native ones in this process, or pages of a real Chromium.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use headwater_seed::transport::DataChannels;
use headwater_seed::transport::{Link, LinkEvent, LinkId, LinkReport, LinkRequest, REPORT_QUEUE, Transport};
use headwater_wire::PeerId;
use headwater_wire::signal::SignalData;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use crate::kernel::Namespace;

/// What happened at a viewer.
#[derive(Debug)]
pub(crate) enum Happened {
    /// For the seed.
    Signal(u64, SignalData),
    /// Its channel is open.
    Open(u64),
    /// Bytes came: how many, and the longest time without any since the last report.
    Bytes(u64, u64, Duration),
    /// Its connection is gone.
    Closed(u64),
}

/// Viewers of one kind.
pub(crate) trait Viewers {
    /// One more; it answers.
    async fn connect(&mut self, id: u64) -> Result<()>;
    /// From the seed.
    async fn signal(&mut self, id: u64, data: SignalData) -> Result<()>;
    /// One less.
    async fn close(&mut self, id: u64) -> Result<()>;
    /// What happened next. May be dropped while it waits.
    async fn next(&mut self) -> Result<Happened>;
}

/// Viewers in this process, each with a port of its own.
pub(crate) struct Native {
    links: BTreeMap<u64, (Link, Instant)>,
    reports_tx: mpsc::Sender<LinkReport>,
    reports: mpsc::Receiver<LinkReport>,
}

impl Native {
    pub(crate) fn new() -> Self {
        let (reports_tx, reports) = mpsc::channel(REPORT_QUEUE);
        Self { links: BTreeMap::new(), reports_tx, reports }
    }
}

impl Viewers for Native {
    async fn connect(&mut self, id: u64) -> Result<()> {
        let request = LinkRequest { link: LinkId(id), peer: PeerId(id), offer: false, ice_servers: Vec::new() };
        let link = DataChannels::default().connect(request, self.reports_tx.clone());
        self.links.insert(id, (link, Instant::now()));
        Ok(())
    }

    async fn signal(&mut self, id: u64, data: SignalData) -> Result<()> {
        if let Some((link, _)) = self.links.get(&id) {
            let _ = link.signals.send(data).await;
        }
        Ok(())
    }

    async fn close(&mut self, id: u64) -> Result<()> {
        self.links.remove(&id);
        Ok(())
    }

    async fn next(&mut self) -> Result<Happened> {
        let LinkReport { link: LinkId(id), event, .. } = self.reports.recv().await.context("never closed")?;
        Ok(match event {
            LinkEvent::Signal(data) => Happened::Signal(id, data),
            LinkEvent::Open => Happened::Open(id),
            LinkEvent::Frame(frame) => {
                let now = Instant::now();
                let since = self.links.get_mut(&id).map(|(_, last)| now - std::mem::replace(last, now));
                Happened::Bytes(id, frame.len() as u64, since.unwrap_or_default())
            }
            LinkEvent::Closed => Happened::Closed(id),
            LinkEvent::ChunkSent(_) => bail!("a viewer sent a chunk"),
        })
    }
}

/// Pages of a real Chromium, through a script in Node.
pub(crate) struct Browser {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    pub(crate) async fn start() -> Result<Self> {
        Self::started_by(std::process::Command::new("node")).await
    }

    /// In a namespace.
    pub(crate) async fn start_in(namespace: &Namespace) -> Result<Self> {
        Self::started_by(namespace.inside("node")).await
    }

    async fn started_by(node: std::process::Command) -> Result<Self> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/bench-seed/browser.mjs");
        let mut child = Command::from(node)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start node")?;
        let stdin = child.stdin.take().context("no stdin")?;
        let lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        Ok(Self { _child: child, stdin, lines })
    }

    async fn tell(&mut self, order: Value) -> Result<()> {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await.context("the browser is gone")
    }

    /// Chromium to Chromium, in bytes a second.
    pub(crate) async fn baseline(&mut self, seconds: f64) -> Result<f64> {
        self.tell(json!({ "do": "baseline", "seconds": seconds })).await?;
        loop {
            let line = self.lines.next_line().await?.context("the browser is gone")?;
            let said: Value = serde_json::from_str(&line)?;
            if said["is"] == "baseline" {
                return said["rate"].as_f64().context("no rate");
            }
        }
    }
}

impl Viewers for Browser {
    async fn connect(&mut self, id: u64) -> Result<()> {
        self.tell(json!({ "do": "connect", "id": id })).await
    }

    async fn signal(&mut self, id: u64, data: SignalData) -> Result<()> {
        self.tell(json!({ "do": "signal", "id": id, "data": data })).await
    }

    async fn close(&mut self, id: u64) -> Result<()> {
        self.tell(json!({ "do": "close", "id": id })).await
    }

    async fn next(&mut self) -> Result<Happened> {
        loop {
            let line = self.lines.next_line().await?.context("the browser is gone")?;
            let said: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            let id = said["id"].as_u64().context("no id")?;
            return Ok(match said["is"].as_str() {
                Some("signal") => Happened::Signal(id, serde_json::from_value(said["data"].clone())?),
                Some("open") => Happened::Open(id),
                Some("bytes") => {
                    let gap = Duration::from_secs_f64(said["gap_ms"].as_f64().unwrap_or(0.0).max(0.0) / 1000.0);
                    Happened::Bytes(id, said["bytes"].as_u64().unwrap_or(0), gap)
                }
                Some("closed") => Happened::Closed(id),
                _ => continue,
            });
        }
    }
}
