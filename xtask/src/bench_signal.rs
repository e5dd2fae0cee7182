//! `cargo xtask bench signal`: headwater-signal and npm's bittorrent-tracker under the same traffic in the same run, each
//! server on one core and the load on the other.
//!
//! Wall-clock rates are of whatever else the machine does; so announces are also counted by the server's own processor
//! time, which says what a core that is its alone can do.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::bench::Measured;
use crate::command::{capture, cargo, program, run};
use crate::repo::Repo;
use crate::setup;

const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// Both servers have their turn so many times; the middle one counts.
const ROUNDS: usize = 3;

/// A round counts if both servers had so much of their core: one that had less was held up by other programs, and its rate by the
/// clock says nothing.
const FULL: f64 = 0.9;

/// Rounds that may be held up before all are taken as they are.
const MOST_DISTURBED: usize = 6;

/// Lifts the limits that would slow a generator's few connections down; bittorrent-tracker has none.
const UNLIMITED: [&str; 16] = [
    "--messages-per-second",
    "1000000",
    "--message-burst",
    "1000000",
    "--bytes-per-second",
    "1000000000",
    "--byte-burst",
    "1000000000",
    "--offers-per-second",
    "1000000",
    "--offer-burst",
    "1000000",
    "--max-connections-per-address",
    "0",
    "--connections-per-second-per-address",
    "0",
];

/// A server under test, ended when dropped.
struct Running {
    child: Child,
    addr: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What can be measured alone.
const PARTS: [&str; 5] = ["announces", "exchange", "memory", "native", "churn"];

/// Measures all, in a quarter of an hour with ten minutes of `churn`, or one part.
pub(crate) fn signal(repo: &Repo, only: Option<&str>, minutes: u32) -> Result<Vec<Measured>> {
    if let Some(unknown) = only.filter(|only| !PARTS.contains(only)) {
        bail!("there is no part \"{unknown}\". There are: {}", PARTS.join(", "));
    }
    let is_wanted = |part: &str| only.is_none_or(|only| only == part);
    run(cargo(repo).args(["build", "--release", "--package", "headwater-signal", "--package", "headwater-load"]))?;
    setup::npm_packages_of_signal_tests(repo)?;
    let mut results = Vec::new();
    if is_wanted("announces") {
        for (connections, swarm) in [("500", "10"), ("5000", "10")] {
            compare(repo, connections, swarm, "0", 2.5, &mut results)?;
            compare(repo, connections, swarm, "5", 2.0, &mut results)?;
        }
    }
    if is_wanted("exchange") {
        exchange(repo, &mut results)?;
    }
    if is_wanted("memory") {
        memory(repo, &mut results)?;
    }
    if is_wanted("native") {
        native(repo, &mut results)?;
    }
    if is_wanted("churn") {
        churn(repo, minutes, &mut results)?;
    }
    Ok(results)
}

fn compare(repo: &Repo, connections: &str, swarm: &str, offers: &str, bar: f64, to: &mut Vec<Measured>) -> Result<()> {
    let (ours, theirs) = (headwater(repo, &UNLIMITED)?, bittorrent_tracker(repo)?);
    let (mut rates, mut costs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let arguments = ["--connections", connections, "--swarm", swarm, "--offers", offers];
    let (mut rounds, mut disturbed) = (0, 0);
    while rounds < ROUNDS {
        let mut reports = Vec::new();
        for server in [&ours, &theirs] {
            let report = load(repo, server, "announce", &[&arguments[..], &["--pid", &server.pid()]].concat())?;
            let lost = number(&report, "lost_messages")? + number(&report, "failures")?;
            ensure!(lost == 0.0, "{lost} messages of {} were lost or wrong: {report}", server.addr);
            reports.push(report);
        }
        let shares = reports.iter().map(|report| number(report, "server_cpu_share")).collect::<Result<Vec<_>>>()?;
        if shares.iter().any(|share| *share < FULL) && disturbed < MOST_DISTURBED {
            disturbed += 1;
            continue;
        }
        rounds += 1;
        for (report, (rates, costs)) in reports.iter().zip(rates.iter_mut().zip(&mut costs)) {
            rates.push(number(report, "announces_per_second")?);
            costs.push(number(report, "server_cpu_us_per_announce")?);
        }
    }
    if disturbed > 0 {
        println!("{disturbed} rounds did not count, as a server had less than {:.0} % of its core", FULL * 100.0);
    }
    let name = format!("{connections} connections, {offers} offers");
    let [our_rate, their_rate] = rates.map(middle);
    let [our_cost, their_cost] = costs.map(middle);
    println!(
        "{name}: {our_rate:.0}/s and {our_cost:.1} us of CPU each; bittorrent-tracker {their_rate:.0}/s, {their_cost:.1} us"
    );
    to.push(at_least(format!("{name}: announces/s against bittorrent-tracker"), our_rate / their_rate, "x", bar));
    to.push(at_least(
        format!("{name}: announces a second of CPU against bittorrent-tracker"),
        their_cost / our_cost,
        "x",
        bar,
    ));
    Ok(())
}

fn exchange(repo: &Repo, to: &mut Vec<Measured>) -> Result<()> {
    let (ours, theirs) = (headwater(repo, &UNLIMITED)?, bittorrent_tracker(repo)?);
    let (mut our, mut their) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        our.push(number(&load(repo, &ours, "pair", &[])?, "p50_us")?);
        their.push(number(&load(repo, &theirs, "pair", &[])?, "p50_us")?);
    }
    println!("two peers: {:.0} us; bittorrent-tracker {:.0} us", middle(our.clone()), middle(their));
    to.push(at_most("two peers, announce -> offer -> answer, p50".to_owned(), middle(our), "us", 100.0));
    Ok(())
}

fn memory(repo: &Repo, to: &mut Vec<Measured>) -> Result<()> {
    let folder = repo.scratch().join("bench-signal");
    fs::create_dir_all(&folder)?;
    let folder_name = folder.to_string_lossy().into_owned();
    capture(generator(repo).args(["certificate", &folder_name]))?;
    let (pem, key) = (folder.join("localhost.pem"), folder.join("localhost.key"));
    let (pem, key) = (pem.to_string_lossy(), key.to_string_lossy());
    let tls = ["--tls-certificate", &pem, "--tls-key", &key];
    for (name, options, ca, bar) in [("plain", &[][..], &[][..], 8.0), ("TLS", &tls[..], &["--ca", &pem][..], 24.0)] {
        let server = headwater(repo, &[&UNLIMITED[..], options].concat())?;
        let report = capture(generator(repo).args(["--server", &server.addr]).args(ca).args([
            "memory",
            "--pid",
            &server.pid(),
        ]))?;
        let bytes = number(&serde_json::from_str(&report)?, "bytes_per_connection")?;
        to.push(at_most(format!("memory a connection at 10,000, {name}"), bytes / 1024.0, "KiB", bar));
    }
    Ok(())
}

fn native(repo: &Repo, to: &mut Vec<Measured>) -> Result<()> {
    let server = headwater(repo, &UNLIMITED)?;
    let most = number(&load(repo, &server, "native", &[])?, "pairs_per_second")?;
    let half = format!("{:.0}", most / 2.0);
    let report = load(repo, &server, "native", &["--rate", &half])?;
    ensure!(number(&report, "failures")? == 0.0, "pairs failed: {report}");
    println!("native: {most:.0} pairs/s connect, join, are introduced and leave; at half of that: {report}");
    to.push(at_most(
        "native join -> both told to connect, p50 at half of saturation".to_owned(),
        number(&report, "p50_us")? / 1000.0,
        "ms",
        1.0,
    ));
    Ok(())
}

/// One swarm of ten thousand for some minutes, a fifth of it replaced every minute, with the limits that a server has by itself:
/// whoever comes is no stranger to them.
fn churn(repo: &Repo, minutes: u32, to: &mut Vec<Measured>) -> Result<()> {
    let server = headwater(repo, &["--max-connections-per-address", "0", "--connections-per-second-per-address", "0"])?;
    let mut command = generator(repo);
    let seconds = (minutes * 60).to_string();
    command.args(["--server", &server.addr, "--seconds", &seconds, "churn", "--pid", &server.pid()]);
    let report: Value = serde_json::from_str(&capture(&mut command)?)?;
    println!("churn: {report}");
    let errors = number(&report, "errors")? + number(&report, "closed_by_server")?;
    let missing = number(&report, "connections")? + number(&report, "replaced")? - number(&report, "welcomes")?;
    // Those of the last moment are still on their way.
    let lost = (missing - 10.0).max(0.0);
    let name = format!("10,000 in one swarm, 20 % churn a minute, {minutes} minutes: errors");
    to.push(at_most(name, errors + lost, "", 0.0));
    // Until everybody was replaced once, the holes that they leave in the allocator's memory fill up; a leak goes on after that.
    let by_minute = report["memory_by_minute"].as_array().context("there is no memory_by_minute")?;
    let middle = by_minute.get(by_minute.len() / 2).and_then(Value::as_f64).context("it ran for no minute")?;
    let growth = (number(&report, "memory_last_bytes")? / middle - 1.0) * 100.0;
    to.push(at_most("the same: memory at the end against the middle".to_owned(), growth, "% more", 5.0));
    Ok(())
}

impl Running {
    fn start(mut command: Command) -> Result<Self> {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("cannot start a server")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let addr = line.trim().rsplit('/').next().unwrap_or_default().to_owned();
        let server = Self { child, addr };
        ensure!(server.addr.starts_with("127."), "the server did not say where it listens, but: {line}");
        Ok(server)
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

fn pinned(repo: &Repo, core: &str) -> Command {
    let mut command = program(repo, "taskset");
    command.args(["-c", core]);
    command
}

fn headwater(repo: &Repo, options: &[&str]) -> Result<Running> {
    let mut command = pinned(repo, SERVER_CORE);
    command.arg(release(repo, "headwater-signal")).args(["--listen", "127.0.0.1:0", "--log", "error"]).args(options);
    Running::start(command)
}

fn bittorrent_tracker(repo: &Repo) -> Result<Running> {
    let mut command = pinned(repo, SERVER_CORE);
    command.args(["node", "bench-server.mjs"]).current_dir(repo.path("www/tests-signal"));
    Running::start(command)
}

fn generator(repo: &Repo) -> Command {
    let mut command = pinned(repo, LOAD_CORE);
    command.arg(release(repo, "headwater-load"));
    command
}

fn load(repo: &Repo, server: &Running, mode: &str, arguments: &[&str]) -> Result<Value> {
    let report = capture(generator(repo).args(["--seconds", "3", "--server", &server.addr, mode]).args(arguments))?;
    serde_json::from_str(&report).with_context(|| format!("headwater-load printed no JSON: {report}"))
}

fn release(repo: &Repo, name: &str) -> std::path::PathBuf {
    repo.target().join("release").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

fn number(report: &Value, key: &str) -> Result<f64> {
    report[key].as_f64().with_context(|| format!("there is no number {key} in {report}"))
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn at_least(name: String, value: f64, unit: &'static str, bar: f64) -> Measured {
    Measured { name, value: rounded(value), unit, bar, met: value >= bar }
}

fn at_most(name: String, value: f64, unit: &'static str, bar: f64) -> Measured {
    Measured { name, value: rounded(value), unit, bar, met: value <= bar }
}
