//! What happened, in the text format of Prometheus. No label names a peer, an address or a swarm.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::admission::unix_now;
use crate::bus::Bus;
use crate::hub::{HubCounts, Protocol};

/// Why a connection ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Closed {
    /// The client closed it properly.
    Client,
    /// The socket died, or was silent or stuck for too long.
    Gone,
    /// The client did something wrong.
    Error,
    /// The server stops.
    Drain,
}

/// Why a WebSocket was not opened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refused {
    /// Its page may not.
    Origin,
    /// Its address has too many, or too fast.
    Address,
    /// Its token is missing or bad.
    Token,
    /// The server has as many as it may.
    Full,
}

/// Counters that no core keeps.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: u64,
    opened: [AtomicU64; 2],
    closed: [AtomicU64; 4],
    refused: [AtomicU64; 4],
    denied: AtomicU64,
    offers_dropped: AtomicU64,
}

const PROTOCOLS: [&str; 2] = ["native", "tracker"];
const CLOSED: [&str; 4] = ["client", "gone", "error", "drain"];
const REFUSED: [&str; 4] = ["origin", "address", "token", "full"];

impl Metrics {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            started: unix_now(),
            opened: std::array::from_fn(|_| zero()),
            closed: std::array::from_fn(|_| zero()),
            refused: std::array::from_fn(|_| zero()),
            denied: zero(),
            offers_dropped: zero(),
        }
    }

    pub(crate) fn opened(&self, protocol: Protocol) {
        count(&self.opened[protocol as usize]);
    }

    pub(crate) fn closed(&self, why: Closed) {
        count(&self.closed[why as usize]);
    }

    pub(crate) fn refused(&self, why: Refused) {
        count(&self.refused[why as usize]);
    }

    /// A join or an announce without permission.
    pub(crate) fn denied(&self) {
        count(&self.denied);
    }

    /// Offers of a connection that had more than it may.
    pub(crate) fn offers_dropped(&self, count: usize) {
        self.offers_dropped.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// All of it as text.
    pub(crate) fn render(&self, counts: &HubCounts, bus: Option<&Bus>) -> String {
        let HubCounts { connections, messages, dropped, core, tracker, is_draining, nodes } = counts;
        let mut page = Page(String::new());
        let version = env!("CARGO_PKG_VERSION");
        page.one("build_info", "gauge", "The version of this server.", &[(&format!("version=\"{version}\""), 1)]);
        page.one("start_time_seconds", "gauge", "When it started, in seconds since 1970.", &[("", self.started)]);
        page.one("draining", "gauge", "Whether it is about to stop.", &[("", u64::from(*is_draining))]);
        let by_protocol = |values: [u64; 2]| PROTOCOLS.iter().zip(values).map(|(name, value)| (*name, value)).collect();
        page.labelled(
            "connections",
            "gauge",
            "WebSockets now.",
            "protocol",
            by_protocol(connections.map(|n| n as u64)),
        );
        page.labelled(
            "connections_opened_total",
            "counter",
            "WebSockets opened.",
            "protocol",
            by_protocol(load(&self.opened)),
        );
        page.labelled(
            "connections_closed_total",
            "counter",
            "WebSockets ended, by why.",
            "reason",
            pairs(&CLOSED, &self.closed),
        );
        page.labelled(
            "connections_refused_total",
            "counter",
            "WebSockets not opened, by why.",
            "reason",
            pairs(&REFUSED, &self.refused),
        );
        page.labelled("messages_received_total", "counter", "Messages read.", "protocol", by_protocol(*messages));
        page.labelled(
            "relays_dropped_total",
            "counter",
            "Descriptions, candidates, offers and answers for clients that do not read fast enough.",
            "protocol",
            by_protocol(*dropped),
        );
        let swarms = [core.swarms as u64, tracker.swarms as u64];
        page.labelled("swarms", "gauge", "Swarms with members now.", "protocol", by_protocol(swarms));
        let peers = [core.members as u64, tracker.peers as u64];
        page.labelled("peers", "gauge", "Members of swarms now.", "protocol", by_protocol(peers));
        for (name, help, value) in [
            ("denied_total", "Joins and announces without permission.", self.denied.load(Ordering::Relaxed)),
            ("joins_total", "Joins of the native protocol that were welcomed.", core.joins),
            ("introductions_total", "Pairs of peers told to connect.", core.introductions),
            ("signals_total", "Descriptions and candidates passed on.", core.signals),
            ("errors_total", "Connections refused or closed with an error by the core.", core.refusals),
            ("tracker_announces_total", "WebTorrent announces served.", tracker.announces),
            ("tracker_offers_total", "WebTorrent offers passed on.", tracker.offers),
            (
                "tracker_offers_dropped_total",
                "WebTorrent offers beyond what a connection may send.",
                self.offers_dropped.load(Ordering::Relaxed),
            ),
            ("tracker_answers_total", "WebTorrent answers passed on.", tracker.answers),
            ("tracker_scrapes_total", "WebTorrent scrapes served.", tracker.scrapes),
            ("tracker_errors_total", "WebTorrent messages refused.", tracker.errors),
        ] {
            page.one(name, "counter", help, &[("", value)]);
        }
        if let Some(bus) = bus {
            page.cluster(bus, *nodes);
        }
        page.0
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn load<const N: usize>(counters: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|place| counters[place].load(Ordering::Relaxed))
}

fn pairs<const N: usize>(names: &[&'static str; N], counters: &[AtomicU64; N]) -> Vec<(&'static str, u64)> {
    names.iter().copied().zip(load(counters)).collect()
}

/// The page under construction.
struct Page(String);

impl Page {
    fn cluster(&mut self, bus: &Bus, nodes: usize) {
        let connected = u64::from(bus.is_connected());
        self.one("nats_connected", "gauge", "Whether NATS is reached.", &[("", connected)]);
        self.one("other_nodes", "gauge", "Other nodes of the cluster that live.", &[("", nodes as u64)]);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &bus.counts;
        self.labelled(
            "node_messages_total",
            "counter",
            "Messages between nodes, by what became of them.",
            "outcome",
            vec![
                ("sent", load(&counts.sent)),
                ("received", load(&counts.received)),
                ("dropped", load(&counts.dropped)),
                ("unreadable", load(&counts.unreadable)),
            ],
        );
    }

    fn labelled(&mut self, name: &str, kind: &str, help: &str, label: &str, values: Vec<(&str, u64)>) {
        let values: Vec<(String, u64)> =
            values.into_iter().map(|(value, count)| (format!("{label}=\"{value}\""), count)).collect();
        let values: Vec<(&str, u64)> = values.iter().map(|(label, count)| (label.as_str(), *count)).collect();
        self.one(name, kind, help, &values);
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, values: &[(&str, u64)]) {
        let name = format!("headwater_signal_{name}");
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}
