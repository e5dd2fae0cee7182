//! `cargo xtask bench engine`: what an input costs the engine, whatever the length of the stream.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::bench::Measured;
use crate::command::{capture, cargo};
use crate::repo::Repo;

/// The cost of an input with a hundred thousand segments against that with a hundred.
const BAR: f64 = 2.0;

pub(crate) fn engine(repo: &Repo) -> Result<Vec<Measured>> {
    let arguments = ["run", "--quiet", "--release", "--package", "headwater-swarm", "--example", "cost"];
    let output = capture(cargo(repo).args(arguments))?;
    let rows: Vec<Value> =
        serde_json::from_str(&output).context("crates/swarm/examples/cost.rs printed something else")?;
    println!("{:34} {:>14} {:>14}", "an input, median", "100 segments", "100,000");
    let mut results = Vec::new();
    for row in rows {
        let name = row["name"].as_str().unwrap_or_default().to_owned();
        let [Some(few_ns), Some(many_ns)] = ["few_ns", "many_ns"].map(|field| row[field].as_u64()) else {
            bail!("crates/swarm/examples/cost.rs printed no times for \"{name}\"");
        };
        println!("{name:34} {:>14} {:>14}", format!("{few_ns} ns"), format!("{many_ns} ns"));
        if row["has_bar"] == false {
            continue;
        }
        let value = many_ns as f64 / few_ns.max(1) as f64;
        results.push(Measured { name, value, unit: "times the cost", bar: BAR, met: value < BAR });
    }
    Ok(results)
}
