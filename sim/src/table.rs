//! The figures of one or more runs as a table for people.

use std::fmt::Write as _;

use crate::report::{Copies, Report, Spread};

/// One line of a table: what it says, and how it is read off a report.
struct Line {
    label: &'static str,
    value: fn(&Report) -> String,
}

const LINES: [Line; 28] = [
    Line { label: "viewers (sessions)", value: |r| format!("{} ({})", r.viewers, r.sessions) },
    Line { label: "origin copies a segment, viewers", value: |r| viewers(&r.copies) },
    Line { label: "  after the ramp", value: |r| viewers(&r.copies_after) },
    Line { label: "  of these before the engine", value: |r| format!("{:.3}", r.copies_after.players) },
    Line { label: "origin copies a segment, seeds", value: |r| format!("{:.3}", r.copies_after.seeds) },
    Line { label: "copies a segment sent by seeds", value: |r| format!("{:.3}", r.copies_after.from_seeds) },
    Line { label: "offload, whole run", value: |r| percent(r.offload) },
    Line {
        label: "  after the ramp (limit)",
        value: |r| format!("{} ({})", percent(r.offload_after), percent(r.offload_limit)),
    },
    Line { label: "uplinks by demand (limit)", value: |r| format!("{:.1} (>= 1)", r.uplink_to_demand) },
    Line { label: "propagation bound, s", value: |r| format!("{:.2}", r.propagation_s) },
    Line { label: "MB from origin, before engine", value: |r| megabytes(r.bytes.player_http) },
    Line { label: "MB from origin, by engine", value: |r| megabytes(r.bytes.engine_http) },
    Line { label: "MB from seeds", value: |r| megabytes(r.bytes.seeds) },
    Line { label: "MB from viewers", value: |r| megabytes(r.bytes.viewers) },
    Line { label: "MB of catalogue files", value: |r| megabytes(r.bytes.catalogue) },
    Line { label: "stalls a viewer-hour", value: |r| format!("{:.2}", r.stalls_per_viewer_hour) },
    Line {
        label: "viewers that stalled / time",
        value: |r| format!("{} / {}", percent(r.stalled_viewers), percent(r.stalled_time)),
    },
    Line { label: "… though a neighbour held it", value: |r| percent(r.stalled_beside) },
    Line { label: "start-up ms, median / p95", value: |r| spread(&r.startup_ms, 0) },
    Line { label: "seek ms, median / p95", value: |r| spread(&r.seek_ms, 0) },
    Line { label: "s behind live, median / p95", value: |r| spread(&r.behind_after_s, 2) },
    Line { label: "upload / download, median / p95", value: |r| spread(&r.upload_ratio, 2) },
    Line { label: "control messages a peer-second", value: |r| format!("{:.1}", r.control.messages) },
    Line { label: "control bytes a peer-second", value: |r| format!("{:.0}", r.control.bytes) },
    Line { label: "wasted bytes", value: |r| percent(r.wasted) },
    Line { label: "neighbours at the end", value: |r| format!("{:.1}", r.neighbours) },
    Line {
        label: "fetches a segment: duty/rescue/lone",
        value: |r| r.fetches.map(|count| format!("{count:.2}")).join(" / "),
    },
    Line { label: "segments given up by engines", value: |r| r.failed.to_string() },
];

/// A table with a column for each run.
#[must_use]
pub fn render(reports: &[Report]) -> String {
    let mut text = String::new();
    if let Some(first) = reports.first() {
        let (name, seconds, seed) = (&first.scenario, first.duration_s, first.seed);
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{name}: {seconds} s of virtual time, seed {seed}");
    }
    let _ = write!(text, "{:36}", "");
    for report in reports {
        let _ = write!(text, "  {:>22}", report.policy);
    }
    text.push('\n');
    for line in LINES {
        let _ = write!(text, "{:36}", line.label);
        for report in reports {
            let _ = write!(text, "  {:>22}", (line.value)(report));
        }
        text.push('\n');
    }
    text
}

/// The control messages of a run by kind: how many, and how many bytes, a peer and second.
#[must_use]
pub fn render_control(report: &Report) -> String {
    let mut text = String::from("control messages a peer-second by kind (bytes):\n");
    for (name, count, bytes) in &report.control.kinds {
        let _ = writeln!(text, "  {name:14} {count:8.2} {bytes:9.0}");
    }
    text
}

fn viewers(copies: &Copies) -> String {
    format!("{:.3}", copies.viewers())
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn spread(spread: &Spread, digits: usize) -> String {
    if spread.count == 0 {
        return "-".to_owned();
    }
    format!("{:.digits$} / {:.digits$}", spread.median, spread.p95)
}
