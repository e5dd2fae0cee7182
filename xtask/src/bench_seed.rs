//! `cargo xtask bench seed`: what a seed's connections carry, measured by seed-node's example `bench-seed`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::Measured;
use crate::repo::Repo;

/// What the example measures in.
const UNITS: [&str; 6] = ["MB/s", "s", "x", "%", "ms", "KiB"];

/// Builds and runs the example; with a real Chromium where www/node_modules has what drives one.
pub(crate) fn seed(repo: &Repo, only: Option<&str>, stack: &str) -> Result<Vec<Measured>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(repo.path("."));
    cargo.args(["run", "--release", "--quiet", "--package", "headwater-seed", "--example", "bench-seed"]);
    if stack != "webrtc" {
        cargo.args(["--features", stack]);
    }
    cargo.env("HEADWATER_STACK", stack);
    cargo.arg("--");
    if repo.path("www/node_modules/playwright-core").exists() {
        cargo.arg("--browser");
    } else {
        println!("no www/node_modules: the rows with a real Chromium are left out; `cargo xtask web` installs it");
    }
    cargo.args(only);
    let output = cargo.stderr(std::process::Stdio::inherit()).output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{}", text.lines().filter(|line| !line.starts_with('[')).fold(String::new(), |all, line| all + line + "\n"));
    ensure!(output.status.success(), "the bench did not run to its end");
    let last = text.lines().last().context("the bench said nothing")?;
    let rows: Value = serde_json::from_str(last).context("the bench's last line is not JSON")?;
    rows.as_array().context("the bench's last line is no list")?.iter().map(measured).collect()
}

fn measured(row: &Value) -> Result<Measured> {
    let number = |name: &str| row[name].as_f64().with_context(|| format!("a row has no {name}"));
    let (value, bar) = (number("value")?, number("bar")?);
    let met = if row["at_most"].as_bool().unwrap_or_default() { value <= bar } else { value >= bar };
    Ok(Measured {
        name: row["name"].as_str().unwrap_or_default().to_owned(),
        value,
        unit: UNITS.iter().copied().find(|unit| row["unit"] == **unit).unwrap_or_default(),
        bar,
        met,
    })
}
