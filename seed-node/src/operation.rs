//! What an operator sees of a running seed: metrics for Prometheus, and whether all is well.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use headwater_swarm::Stats;
use tokio::net::TcpListener;

use crate::node::{NodeEvent, NodeHandle};
use crate::seed::Published;

/// One stream, as an operator sees it.
#[derive(Debug)]
pub struct Watched {
    name: String,
    node: NodeHandle,
    published: Arc<Published>,
    joined: AtomicBool,
    disconnected: AtomicU64,
}

impl Watched {
    /// A stream under this name.
    #[must_use]
    pub fn new(name: String, node: NodeHandle, published: Arc<Published>) -> Self {
        Self { name, node, published, joined: AtomicBool::new(false), disconnected: AtomicU64::new(0) }
    }

    /// Takes note of what happened to its node.
    pub fn note(&self, event: &NodeEvent) {
        match event {
            NodeEvent::Joined(_) => self.joined.store(true, Ordering::Relaxed),
            NodeEvent::SignallingLost => self.joined.store(false, Ordering::Relaxed),
            NodeEvent::Disconnected { .. } => {
                self.disconnected.fetch_add(1, Ordering::Relaxed);
            }
            NodeEvent::Engine(_) => {}
        }
    }

    /// Whether the signalling server has it.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// What its node counts; `None` where it has stopped.
    pub async fn stats(&self) -> Option<Stats> {
        self.node.stats().await
    }
}

/// The streams of a process.
pub type Streams = Arc<Vec<Arc<Watched>>>;

/// Answers `/metrics` and `/healthz` at `address` from now on. Gives the address bound.
///
/// # Errors
/// Where it cannot be bound.
pub async fn serve(address: SocketAddr, streams: Streams) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let router = Router::new().route("/metrics", get(metrics)).route("/healthz", get(health)).with_state(streams);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are not answered any more");
        }
    });
    Ok(bound)
}

/// 200 where every stream is in its swarm; else 503 and a line for each that is not.
async fn health(State(streams): State<Streams>) -> Response {
    let mut wrong = String::new();
    for stream in streams.iter() {
        let complaint = if stream.stats().await.is_none() {
            "has stopped"
        } else if !stream.is_joined() {
            "is not at the signalling server"
        } else {
            continue;
        };
        // Writing to a String cannot fail.
        let _ = writeln!(wrong, "{} {complaint}", stream.name);
    }
    if wrong.is_empty() { "ok\n".into_response() } else { (StatusCode::SERVICE_UNAVAILABLE, wrong).into_response() }
}

/// A metric: name, type, what it says, and how it is read.
type Metric = (&'static str, &'static str, &'static str, fn(&Watched, &Stats) -> u64);

const METRICS: [Metric; 10] = [
    ("joined", "gauge", "Whether the signalling server has this seed.", |stream, _| u64::from(stream.is_joined())),
    ("viewers", "gauge", "Viewers and other peers connected now.", |_, stats| u64::from(stats.neighbours)),
    ("held_bytes", "gauge", "Bytes of segments that viewers can have, in memory or on disk.", |_, stats| {
        stats.held_bytes
    }),
    ("uploaded_bytes_total", "counter", "Bytes of segments sent to peers.", |_, stats| stats.uploaded_bytes),
    ("published_segments_total", "counter", "Segments pulled from the origin and published.", |stream, _| {
        stream.published.segments.load(Ordering::Relaxed)
    }),
    ("published_bytes_total", "counter", "Their bytes.", |stream, _| stream.published.bytes.load(Ordering::Relaxed)),
    (
        "refused_segments_total",
        "counter",
        "Segments that changed after they were signed, or cannot be one.",
        |stream, _| stream.published.refused.load(Ordering::Relaxed),
    ),
    ("signed_batches_total", "counter", "Batches of the catalogue signed.", |stream, _| {
        stream.published.batches.load(Ordering::Relaxed)
    }),
    ("bad_chunks_total", "counter", "Chunks from peers that were not what was signed.", |_, stats| stats.bad_chunks),
    ("disconnects_total", "counter", "Connections that ended.", |stream, _| {
        stream.disconnected.load(Ordering::Relaxed)
    }),
];

async fn metrics(State(streams): State<Streams>) -> Response {
    let mut all = Vec::new();
    for stream in streams.iter() {
        all.push((stream, stream.stats().await.unwrap_or_default()));
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP headwater_seed_info Which version runs.\n# TYPE headwater_seed_info gauge");
    let _ = writeln!(text, "headwater_seed_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    for (name, kind, help, read) in METRICS {
        let _ = writeln!(text, "# HELP headwater_seed_{name} {help}\n# TYPE headwater_seed_{name} {kind}");
        for (stream, stats) in &all {
            let label = escape(&stream.name);
            let _ = writeln!(text, "headwater_seed_{name}{{stream=\"{label}\"}} {}", read(stream, stats));
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// As the exposition format has it for label values.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
