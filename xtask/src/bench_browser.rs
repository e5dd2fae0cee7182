//! `cargo xtask bench browser`: real Chromium viewers over HTTP alone, with Headwater and with npm's p2p-media-loader, one
//! after the other on this machine; `bench player`: what Headwater costs a viewer's page. The benches themselves are
//! www/bench/bench.mjs and player.mjs; here is what they need.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::Measured;
use crate::command::{cargo, program, run, tee};
use crate::repo::Repo;
use crate::stamp::Fingerprint;
use crate::{setup, web};

/// What the bench measures in.
const UNITS: [&str; 6] = ["copies", "x", "stalls", "failures", "ms", "MB"];

/// What `bench browser` takes.
#[derive(clap::Args)]
pub(crate) struct BrowserOptions {
    /// Of `browser`: beside what else; p2pml is the only one
    #[arg(long, value_name = "OTHER", value_parser = ["p2pml"])]
    vs: Option<String>,
    /// Of `browser`: how many viewers
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(2..=32))]
    viewers: u8,
    /// Of `browser`: how often each is run; the median counts
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    runs: u8,
    /// Of `browser`: how many seconds of video
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u8).range(30..=130))]
    seconds: u8,
    /// Of `browser`: also prints who asked the origin for what, and what each viewer counted
    #[arg(long)]
    log: bool,
}

/// Sets up and runs the bench; `only` is live, vod or seed.
pub(crate) fn browser(repo: &Repo, options: &BrowserOptions, only: Option<&str>) -> Result<Vec<Measured>> {
    ensure!(only.is_none_or(|only| ["live", "vod", "seed"].contains(&only)), "--only takes live, vod or seed");
    // First what may be missing: the build takes minutes.
    setup::ffmpeg(repo)?;
    web::build(repo, web::Mode::Release)?;
    run(cargo(repo).args(["build", "--release", "--package", "headwater-signal", "--package", "headwater-seed"]))?;
    let chromium = setup::chromium(repo)?;
    if options.vs.is_some() {
        p2p_media_loader(repo)?;
    }
    let media = media(repo)?;
    let folder = repo.target().join("bench-browser");
    let mut bench = program(repo, "node");
    bench.arg("www/bench/bench.mjs").arg("--media").arg(&media);
    for (name, value) in [("--viewers", options.viewers), ("--runs", options.runs), ("--seconds", options.seconds)] {
        bench.args([name, &value.to_string()]);
    }
    for (name, value) in [("--vs", options.vs.as_deref()), ("--only", only)] {
        bench.args(value.map(|value| [name, value]).into_iter().flatten());
    }
    if options.log {
        bench.arg("--log");
    }
    bench.env("CHROMIUM", chromium).env("HEADWATER_BENCH_DIR", &folder);
    for (name, binary) in [("HEADWATER_SIGNAL_BIN", "headwater-signal"), ("HEADWATER_SEED_BIN", "headwater-seed")] {
        let file = format!("{binary}{}", std::env::consts::EXE_SUFFIX);
        bench.env(name, repo.target().join("release").join(file));
    }
    results(&mut bench)
}

/// What `bench player` is made of.
const PLAYER_PARTS: [&str; 4] = ["start", "tasks", "cpu", "memory"];

/// Sets up and runs what measures a single viewer's page; `only` is one of its parts.
pub(crate) fn player(repo: &Repo, only: Option<&str>) -> Result<Vec<Measured>> {
    ensure!(only.is_none_or(|only| PLAYER_PARTS.contains(&only)), "--only takes one of {}", PLAYER_PARTS.join(", "));
    web::build(repo, web::Mode::Release)?;
    // The servers' own speed is not what is measured.
    run(cargo(repo).args(["build", "--package", "headwater-signal", "--package", "headwater-seed"]))?;
    let chromium = setup::chromium(repo)?;
    let media = media(repo)?;
    let mut bench = program(repo, "node");
    bench.arg("www/bench/player.mjs").arg("--media").arg(&media);
    bench.args(only.map(|only| ["--only", only]).into_iter().flatten());
    bench.env("CHROMIUM", chromium).env("HEADWATER_BENCH_DIR", repo.target().join("bench-browser"));
    for (name, binary) in [("HEADWATER_SIGNAL_BIN", "headwater-signal"), ("HEADWATER_SEED_BIN", "headwater-seed")] {
        let file = format!("{binary}{}", std::env::consts::EXE_SUFFIX);
        bench.env(name, repo.target().join("debug").join(file));
    }
    results(&mut bench)
}

/// Runs a bench in the open; its last line is its results.
fn results(bench: &mut Command) -> Result<Vec<Measured>> {
    let ran = tee(bench.stdin(Stdio::null()))?;
    ensure!(ran.success, "the bench did not run to its end");
    let last = ran.output.lines().rfind(|line| line.starts_with("[{")).context("the bench has no result")?;
    let rows: Vec<Value> = serde_json::from_str(last).context("the bench's last line is not JSON")?;
    rows.iter().map(measured).collect()
}

/// Installs p2p-media-loader below www/bench; only its files for browsers are used, so that nothing is compiled.
fn p2p_media_loader(repo: &Repo) -> Result<()> {
    let folder = repo.path("www/bench");
    let stamp = folder.join("node_modules/.headwater-stamp");
    let inputs = Fingerprint::default().file(&folder.join("package-lock.json"));
    if inputs.is_in(&stamp) {
        return Ok(());
    }
    println!("installing p2p-media-loader into www/bench/node_modules");
    let mut npm = program(repo, if cfg!(windows) { "npm.cmd" } else { "npm" });
    run(npm.current_dir(&folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))
        .context("npm could not install p2p-media-loader: is the network there?")?;
    inputs.write_to(&stamp)
}

/// The stream, made where it is not there yet or would be another.
fn media(repo: &Repo) -> Result<PathBuf> {
    let script = repo.path("www/bench/make.sh");
    let folder = repo.target().join("bench-browser/media");
    let stamp = folder.join("made.stamp");
    let inputs = Fingerprint::default().file(&script);
    if !inputs.is_in(&stamp) {
        setup::ffmpeg(repo)?;
        println!("encoding the bench's stream");
        run(program(repo, "bash").arg(&script).arg(&folder))?;
        inputs.write_to(&stamp)?;
    }
    Ok(folder)
}

fn measured(row: &Value) -> Result<Measured> {
    let bar = row["bar"].as_f64().context("a row has no bar")?;
    let unit = UNITS.into_iter().find(|unit| row["unit"] == *unit).context("a row has an unknown unit")?;
    // What could not be measured is no figure, and has met nothing.
    let value = row["value"].as_f64();
    Ok(Measured {
        name: row["name"].as_str().unwrap_or_default().to_owned(),
        value: value.unwrap_or(f64::NAN),
        unit,
        bar,
        met: value.is_some_and(|value| value <= bar),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_figure_that_is_not_there_has_not_met_its_bar() {
        let row = |value| measured(&json!({ "name": "a", "value": value, "unit": "copies", "bar": 1.15 })).unwrap();
        assert!(row(json!(1.15)).met);
        assert!(!row(json!(1.16)).met);
        assert!(!row(Value::Null).met);
    }
}
