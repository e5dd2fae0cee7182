//! What a page downloads: the table of www/dist and the budget of www/size-budget.json.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::repo::Repo;
use crate::stamp::files_below;

const BUDGET: &str = "www/size-budget.json";

/// A file's sizes in bytes: as it is, and compressed where it has compressed copies.
struct Sizes {
    name: String,
    raw: u64,
    gzip: Option<u64>,
    brotli: Option<u64>,
}

/// What counts against the budget, in brotli bytes.
pub(crate) struct Weight {
    pub(crate) files: Vec<(String, u64)>,
    /// What a change may not go beyond: today's weight, and a little.
    pub(crate) budget: u64,
    /// What it is meant to come down to.
    pub(crate) bar: u64,
}

impl Weight {
    pub(crate) fn total(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    fn is_within_budget(&self) -> bool {
        self.total() <= self.budget
    }
}

/// Prints the sizes of what is in www/dist.
pub(crate) fn print_table(repo: &Repo) -> Result<()> {
    let dist = repo.dist();
    let rows: Vec<Sizes> = files_below(&dist)?
        .iter()
        .filter_map(|file| row(&dist, file))
        .filter(|row| !row.name.starts_with("types"))
        .collect();
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    println!("{:width$} {:>10} {:>10} {:>10}", "www/dist", "bytes", "gzip", "brotli");
    for row in rows {
        let cell = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), |size| size.to_string());
        println!("{:width$} {:>10} {:>10} {:>10}", row.name, row.raw, cell(row.gzip), cell(row.brotli));
    }
    Ok(())
}

fn row(dist: &Path, file: &Path) -> Option<Sizes> {
    let name = file.strip_prefix(dist).ok()?.to_string_lossy().replace('\\', "/");
    if name.starts_with('.') || name.ends_with(".br") || name.ends_with(".gz") {
        return None;
    }
    let size = |path: PathBuf| fs::metadata(path).ok().map(|found| found.len());
    let copy = |suffix: &str| size(PathBuf::from(format!("{}.{suffix}", file.display())));
    Some(Sizes { name, raw: size(file.to_owned())?, gzip: copy("gz"), brotli: copy("br") })
}

/// Weighs the files of the budget.
pub(crate) fn weigh(repo: &Repo) -> Result<Weight> {
    let text = fs::read_to_string(repo.path(BUDGET)).with_context(|| format!("cannot read {BUDGET}"))?;
    let budget: Value = serde_json::from_str(&text).with_context(|| format!("{BUDGET} is not JSON"))?;
    let number = |key: &str| budget[key].as_u64().with_context(|| format!("{BUDGET} needs a number {key}"));
    let names = budget["files"].as_array().with_context(|| format!("{BUDGET} needs a list of files"))?;
    let files = names
        .iter()
        .filter_map(Value::as_str)
        .map(|name| {
            let copy = repo.dist().join(format!("{name}.br"));
            let found = fs::metadata(&copy).with_context(|| format!("no www/dist/{name}.br: run `cargo xtask web`"))?;
            Ok((name.to_owned(), found.len()))
        })
        .collect::<Result<_>>()?;
    Ok(Weight { files, budget: number("brotliBytes")?, bar: number("barBytes")? })
}

/// Fails where a page downloads more than the budget.
pub(crate) fn check(repo: &Repo) -> Result<()> {
    let weight = weigh(repo)?;
    for (name, bytes) in &weight.files {
        println!("{name}: {bytes} bytes brotli");
    }
    println!("together {} of {} bytes", weight.total(), weight.budget);
    ensure!(
        weight.is_within_budget(),
        "{} bytes over the budget of {BUDGET}: make the client smaller, or say in the change why it may grow",
        weight.total() - weight.budget
    );
    Ok(())
}
