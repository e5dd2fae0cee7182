//! `cargo xtask fuzz`: any bytes at what remote parties can reach, found by coverage. Needs Rust's nightly, as sanitizers do.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{capture, cargo, program, run, which};
use crate::repo::Repo;

/// The targets of fuzz/, each a file of fuzz/fuzz_targets.
const TARGETS: [&str; 6] = ["frame", "catalogue", "signal", "tracker", "node", "engine"];

/// Those that begin with the bytes of docs/protocol.md.
const SEEDED: [&str; 2] = ["frame", "catalogue"];

/// The runner, as it was tried.
const CARGO_FUZZ: &str = "0.13.2";

/// What `fuzz` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    seconds: u32,
}

/// Runs targets one after the other; fails at the first input that breaks one, and says where it is kept.
pub(crate) fn fuzz(repo: &Repo, options: &Options) -> Result<()> {
    let runner = runner(repo)?;
    seed(repo)?;
    let chosen = TARGETS.iter().filter(|name| options.targets.is_empty() || options.targets.iter().any(|t| t == *name));
    for name in chosen {
        println!("\n{name}, {} s", options.seconds);
        let mut fuzz = program(repo, &runner);
        fuzz.current_dir(repo.path("fuzz")).env("RUSTUP_TOOLCHAIN", "nightly").args(["fuzz", "run", name, "--"]);
        fuzz.args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=16384", "-verbosity=0", "-print_final_stats=1"]);
        run(fuzz.arg(format!("-max_total_time={}", options.seconds))).with_context(|| {
            format!("{name} broke: mend it, then `cargo +nightly fuzz run {name} FILE` in fuzz/ runs that input alone")
        })?;
    }
    Ok(())
}

/// Whether the targets still compile: what `cargo xtask test` asks, without nightly and without the sanitizers' C++.
pub(crate) fn check(repo: &Repo) -> Result<()> {
    run(cargo(repo).args(["fmt", "--check", "--manifest-path", "fuzz/Cargo.toml"]))?;
    let mut clippy = cargo(repo);
    clippy.args(["clippy", "--quiet", "--bins", "--no-default-features", "--manifest-path", "fuzz/Cargo.toml"]);
    run(clippy.arg("--locked").arg("--target-dir").arg(repo.target().join("fuzz")).args(["--", "-D", "warnings"]))
}

/// Where cargo-fuzz is, installed below the target folder where it is not there.
fn runner(repo: &Repo) -> Result<PathBuf> {
    ensure!(which("rustup").is_some(), "fuzzing needs Rust's nightly, and there is no rustup: https://rustup.rs");
    if capture(program(repo, "rustup").args(["run", "nightly", "rustc", "--version"])).is_err() {
        run(program(repo, "rustup").args(["toolchain", "install", "nightly", "--profile", "minimal"]))
            .context("rustup could not install the nightly toolchain, which fuzzing needs")?;
    }
    let root = repo.scratch();
    let binary = root.join("bin").join(format!("cargo-fuzz{}", std::env::consts::EXE_SUFFIX));
    if !binary.is_file() {
        println!("installing cargo-fuzz {CARGO_FUZZ} into {}", root.display());
        let install = ["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"];
        run(cargo(repo).args(install).arg(&root)).context("cargo-fuzz could not be installed")?;
    }
    Ok(binary)
}

/// Gives the targets that read the peers' protocol its test vectors to begin with.
fn seed(repo: &Repo) -> Result<()> {
    let text = fs::read_to_string(repo.path("docs/protocol.md")).context("docs/protocol.md has the vectors")?;
    let vectors: Vec<_> = text.lines().filter_map(vector).collect();
    if vectors.is_empty() {
        bail!("docs/protocol.md has no line like `| name | hex |` any more: mend `vector` in xtask/src/fuzz.rs");
    }
    for target in SEEDED {
        let corpus = repo.path("fuzz/corpus").join(target);
        fs::create_dir_all(&corpus)?;
        for (name, bytes) in &vectors {
            fs::write(corpus.join(format!("vector-{name}")), bytes)?;
        }
    }
    Ok(())
}

/// A test vector of docs/protocol.md: its name and bytes.
fn vector(line: &str) -> Option<(String, Vec<u8>)> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    let (name, hex) = (cells.next()?, cells.next()?.strip_prefix('`')?.strip_suffix('`')?);
    if hex.len() % 2 != 0 || !hex.is_ascii() {
        return None;
    }
    let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
    Some((name.replace(' ', "-"), bytes.collect::<Result<_, _>>().ok()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn vectors_are_read_from_the_table_of_the_protocol() {
        assert_eq!(super::vector("| have chunks | `00ff` |"), Some(("have-chunks".to_owned(), vec![0, 255])));
        for other in ["|---|---|", "| name | bytes |", "| a | `0` |", "| a | `zz` |", "text `00`"] {
            assert_eq!(super::vector(other), None, "{other}");
        }
    }
}
