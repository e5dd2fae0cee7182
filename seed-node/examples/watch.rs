//! A native viewer: joins a stream's swarm and writes one rendition's segments to standard output, each verified.
//!
//! `cargo run -p headwater-seed --example watch -- SRC SIGNAL PUBLIC_KEY > film.ts`

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use headwater_seed::http::Http;
use headwater_seed::key::parse_public;
use headwater_seed::viewer::{Viewer, ViewerConfig};
use headwater_wire::SwarmName;

/// How long peers may take before the origin is asked.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = |what: &'static str| words.next().with_context(|| format!("usage: watch SRC SIGNAL KEY; no {what}"));
    let (source, signal, key) = (word("SRC")?.parse()?, word("SIGNAL")?.parse()?, word("KEY")?);
    let swarm = SwarmName::derive(url::Url::as_str(&source), Some(&key))?;
    let key = Some(parse_public(&key)?);
    let config = ViewerConfig { source, swarm, signal, token: None, key, patience: PATIENCE };
    let (viewer, _events) = Viewer::join(Http::new()?, config).await?;
    let track = viewer.tracks().first().context("a stream has a track")?.clone();
    let mut out = std::io::stdout().lock();
    for listed in &track.media.segments {
        let segment = viewer.segment(track.id, listed.seq).await?;
        out.write_all(&segment.bytes)?;
        let report = segment.report;
        eprintln!("{}: {} bytes, {} of them over HTTP", listed.seq, report.len.bytes(), report.http_bytes);
    }
    viewer.leave().await;
    Ok(())
}
