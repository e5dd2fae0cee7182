//! `cargo xtask bench sim`: the bars of the engine at a scale that no browser test reaches, in the simulator, beside HTTP
//! alone and with the limit of each figure.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::bench::Measured;
use crate::command::{cargo, program, run};
use crate::repo::Repo;

/// What the rows of single paths are called.
const PATHS: &str = "paths";

/// One scenario's runs: with the engine, and over HTTP alone where the bar compares.
struct Runs {
    engine: Value,
    http: Value,
    /// What the engine's run cost.
    cost: Value,
}

/// A scenario and its bars.
struct Row {
    scenario: &'static str,
    /// Whether HTTP alone is run too.
    compared: bool,
    bars: fn(&Runs) -> Vec<Bar>,
}

/// One figure with its bar and what bounds it.
struct Bar {
    what: &'static str,
    value: f64,
    unit: &'static str,
    bar: f64,
    /// Whether the value may not be above the bar; else not below.
    at_most: bool,
    limit: String,
}

const ROWS: [Row; 8] = [
    Row { scenario: "live-1000", compared: true, bars: live },
    Row { scenario: "live-1000-seed", compared: true, bars: with_seed },
    Row { scenario: "live-flash-2000", compared: true, bars: flash },
    Row { scenario: "vod-500", compared: true, bars: on_demand },
    Row { scenario: "mobile-30", compared: true, bars: mobile },
    Row { scenario: "origin-503", compared: true, bars: outage },
    Row { scenario: "origin-503-live", compared: true, bars: outage },
    Row { scenario: "live-10000", compared: false, bars: cost },
];

/// Runs the scenarios, or `only` one of them, and prints each figure with its bar and its limit.
pub(crate) fn sim(repo: &Repo, only: Option<&str>) -> Result<Vec<Measured>> {
    let is_chosen = |name: &str| only.is_none_or(|only| only == name);
    let rows: Vec<&Row> = ROWS.iter().filter(|row| is_chosen(row.scenario)).collect();
    if rows.is_empty() && !is_chosen(PATHS) {
        let names: Vec<&str> = ROWS.iter().map(|row| row.scenario).chain([PATHS]).collect();
        bail!("there is no such scenario: choose of {}", names.join(", "));
    }
    run(cargo(repo).args(["build", "--profile", "sim", "--package", "headwater-sim"]))?;
    let mut results = Vec::new();
    println!("{:18} {:42} {:>10} {:>10} {:>7}  limit", "scenario", "figure", "value", "bar", "");
    for row in rows {
        let (engine, cost) = simulate(repo, row.scenario, "headwater")?;
        let http = if row.compared { simulate(repo, row.scenario, "http-only")?.0 } else { Value::Null };
        for bar in (row.bars)(&Runs { engine, http, cost }) {
            results.push(bar.told(row.scenario));
        }
    }
    if is_chosen(PATHS) {
        results.extend(paths(repo)?.iter().map(|bar| bar.told(PATHS)));
    }
    Ok(results)
}

/// What a run came to, and what it cost.
fn simulate(repo: &Repo, scenario: &str, policy: &str) -> Result<(Value, Value)> {
    let folder = repo.scratch().join("sim");
    fs::create_dir_all(&folder)?;
    let (json, cost) = (folder.join(format!("{scenario}-{policy}.json")), folder.join("cost.json"));
    let mut command = program(repo, binary(repo));
    // Gigabytes of small things: with large pages, where the C library can, a fifteenth less time.
    command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    command.arg("run").arg(format!("sim/scenarios/{scenario}.toml")).args(["--quiet", "--policy", policy]);
    run(command.arg("--json").arg(&json).arg("--cost").arg(&cost))?;
    Ok((read(&json)?, read(&cost)?))
}

impl Bar {
    fn at_most(what: &'static str, value: f64, unit: &'static str, bar: f64, limit: impl Into<String>) -> Self {
        Self { what, value, unit, bar, at_most: true, limit: limit.into() }
    }

    fn at_least(what: &'static str, value: f64, unit: &'static str, bar: f64, limit: impl Into<String>) -> Self {
        Self { what, value, unit, bar, at_most: false, limit: limit.into() }
    }

    /// Prints it.
    fn told(&self, scenario: &str) -> Measured {
        let met = self.is_met();
        let verdict = if met { "met" } else { "MISSED" };
        let sign = if self.at_most { "<=" } else { ">=" };
        let (what, value, bar) = (format!("{} ({})", self.what, self.unit), number(self.value), number(self.bar));
        println!("{scenario:18} {what:42} {value:>10} {:>10} {verdict:>7}  {}", format!("{sign} {bar}"), self.limit);
        let name = format!("{scenario}: {}", self.what);
        Measured { name, value: self.value, unit: self.unit, bar: self.bar, met }
    }

    fn is_met(&self) -> bool {
        // Bars that come from a run over HTTP alone are met by being the same.
        const NOISE: f64 = 1e-9;
        if self.at_most { self.value <= self.bar + NOISE } else { self.value >= self.bar - NOISE }
    }
}

/// Paths of all sorts without loss, one background flow over each; then two over one of them.
fn paths(repo: &Repo) -> Result<Vec<Bar>> {
    let one = walk(repo, &[])?;
    let two = walk(repo, &["--flows", "bb", "--queue", "128000", "--rtt", "40", "--mbps", "10"])?;
    let share = |path: &Value| figure(path, "/outcome/shares/0");
    let is_let_go = |path: &&Value| figure(path, "/outcome/let_go") > 0.0;
    let let_go = one.iter().chain(&two).filter(is_let_go).count();
    let queued = |path: &Value| figure(path, "/outcome/queued_p95_ms");
    let slow = one.iter().filter(|path| share(path) < 0.85).count();
    let long = one.iter().filter(|path| queued(path) > 50.0).count();
    let unlike = two.iter().map(|path| {
        let (a, b) = (share(path), figure(path, "/outcome/shares/1"));
        a.max(b) / a.min(b).max(1e-9)
    });
    let all = format!("of {} paths; 0.92 of a link is payload", one.len());
    Ok(vec![
        Bar::at_most("paths of which less than 85 % is used", slow as f64, "paths", 0.0, all),
        Bar::at_most("paths where packets queue for 50 ms, p95", long as f64, "paths", 0.0, "0"),
        Bar::at_most("paths where a neighbour was let go", let_go as f64, "paths", 0.0, "0"),
        Bar::at_most("two flows, the larger by the smaller", unlike.fold(0.0, f64::max), "ratio", 2.0, "1"),
    ])
}

fn walk(repo: &Repo, options: &[&str]) -> Result<Vec<Value>> {
    let json = repo.scratch().join("sim").join("paths.json");
    fs::create_dir_all(repo.scratch().join("sim"))?;
    let mut command = program(repo, binary(repo));
    run(command.arg("path").args(options).arg("--json").arg(&json))?;
    serde_json::from_value(read(&json)?).context("headwater-sim wrote no list of paths")
}

fn read(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| format!("headwater-sim wrote no {}", file.display()))?;
    serde_json::from_str(&text).context("headwater-sim wrote no JSON")
}

fn binary(repo: &Repo) -> PathBuf {
    repo.target().join("sim").join(format!("headwater-sim{}", std::env::consts::EXE_SUFFIX))
}

fn live(runs: &Runs) -> Vec<Bar> {
    let engine = &runs.engine;
    let boot = figure(engine, "/copies_after/players");
    vec![
        Bar::at_most(
            "origin copies a segment, viewers",
            boot + figure(engine, "/copies_after/engines"),
            "copies",
            3.0,
            format!("1 and {boot:.2} before engines run"),
        ),
        Bar::at_least("offload", figure(engine, "/offload_after") * 100.0, "%", 99.7, offload_limit(engine)),
        behind(runs),
        stalls(runs),
    ]
}

fn with_seed(runs: &Runs) -> Vec<Bar> {
    let engine = &runs.engine;
    let boot = figure(engine, "/copies_after/players");
    let viewers = boot + figure(engine, "/copies_after/engines");
    let limit = format!("{boot:.2} before engines run");
    let sent = figure(engine, "/copies_after/from_seeds");
    vec![
        Bar::at_most("origin copies a segment, viewers", viewers, "copies", 0.05, limit),
        Bar::at_most("copies a segment sent by the seed", sent, "copies", 2.0, "1"),
        behind(runs),
        stalls(runs),
    ]
}

fn flash(runs: &Runs) -> Vec<Bar> {
    let engine = &runs.engine;
    // The ten seconds that end a minute after the last join.
    let series = engine["series"].as_array().map(Vec::as_slice).unwrap_or_default();
    let window = series.get(110..120).unwrap_or_default();
    let sum = |what: &str| window.iter().map(|moment| figure(moment, what)).sum::<f64>();
    let origin = sum("/bytes/player_http") + sum("/bytes/engine_http");
    let peers = sum("/bytes/seeds") + sum("/bytes/viewers");
    let offload = 100.0 * peers / (origin + peers).max(1.0);
    vec![
        Bar::at_least("offload a minute after the last join", offload, "%", 95.0, offload_limit(engine)),
        Bar::at_most("viewers that stall more than over HTTP", stall_more(runs), "viewers", 0.0, "0"),
        behind(runs),
    ]
}

fn on_demand(runs: &Runs) -> Vec<Bar> {
    let (engine, http) = (&runs.engine, &runs.http);
    let ratio = |what: &str| figure(engine, what) / figure(http, what).max(1e-9);
    vec![
        Bar::at_least("offload, whole run", figure(engine, "/offload") * 100.0, "%", 97.0, offload_limit(engine)),
        Bar::at_most("start-up by that over HTTP, median", ratio("/startup_ms/median"), "ratio", 1.05, "1"),
        Bar::at_most("seek by that over HTTP, median", ratio("/seek_ms/median"), "ratio", 1.05, "below 1: from peers"),
        Bar::at_most("seek by that over HTTP, p95", ratio("/seek_ms/p95"), "ratio", 1.05, "below 1: from peers"),
        stalls(runs),
    ]
}

fn mobile(runs: &Runs) -> Vec<Bar> {
    let offload = figure(&runs.engine, "/offload_after") * 100.0;
    vec![Bar::at_least("offload", offload, "%", 85.0, offload_limit(&runs.engine)), stalls(runs), behind(runs)]
}

fn outage(runs: &Runs) -> Vec<Bar> {
    let http = figure(&runs.http, "/stalled_viewers") * 100.0;
    let share = |field| figure(&runs.engine, field) * 100.0;
    let all = share("/stalled_viewers");
    let limit = format!("0 ({all:.1} % where nobody near holds it too, {http:.1} % over HTTP)");
    vec![Bar::at_most("viewers that stall beside a holder", share("/stalled_beside"), "%", 0.0, limit)]
}

fn cost(runs: &Runs) -> Vec<Bar> {
    let viewers = figure(&runs.engine, "/viewers");
    let (seconds, memory) = (figure(&runs.cost, "/seconds"), figure(&runs.cost, "/peak_mib"));
    vec![
        Bar::at_most("run of 120 s", seconds, "s", 600.0, format!("{viewers} viewers, 2 cores")),
        Bar::at_most("memory", memory, "MiB", 8192.0, ""),
        Bar::at_least(
            "offload",
            figure(&runs.engine, "/offload_after") * 100.0,
            "%",
            99.0,
            offload_limit(&runs.engine),
        ),
    ]
}

fn behind(runs: &Runs) -> Bar {
    let limit = format!(
        "{:.1} over HTTP; propagation {:.2}",
        figure(&runs.http, "/behind_after_s/median"),
        figure(&runs.engine, "/propagation_s")
    );
    Bar::at_most("behind live, median", figure(&runs.engine, "/behind_after_s/median"), "s", 8.0, limit)
}

fn stalls(runs: &Runs) -> Bar {
    let http = figure(&runs.http, "/stalls_per_viewer_hour");
    let value = figure(&runs.engine, "/stalls_per_viewer_hour");
    Bar::at_most("stalls a viewer-hour", value, "stalls", http, "as over HTTP")
}

/// How many viewers stall longer than the same viewers do over HTTP alone.
fn stall_more(runs: &Runs) -> f64 {
    let list = |value: &Value| value["stalled_ms"].as_array().cloned().unwrap_or_default();
    let pairs = list(&runs.engine).into_iter().zip(list(&runs.http));
    pairs.filter(|(engine, http)| engine.as_f64() > http.as_f64()).count() as f64
}

fn offload_limit(report: &Value) -> String {
    let uplinks = figure(report, "/uplink_to_demand");
    format!("{:.2} by viewers, uplinks carry {uplinks:.1} x", figure(report, "/offload_limit") * 100.0)
}

fn figure(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
