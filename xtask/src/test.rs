//! `cargo xtask test`: sets the machine up and runs every check and test, in order, going on after a failure.
//! The last line counts: a check is one, a suite is as many as its tests.

mod counts;
mod parts;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use self::parts::{Need, PARTS, Part};
use crate::repo::Repo;
use crate::{setup, web};

/// What `test` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these parts, with what they need (may be repeated; an unknown name lists them)
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<String>,
    /// Leaves out what takes longest: browsers, WASM and documentation
    #[arg(long)]
    quick: bool,
}

/// Tests or checks that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

impl Tally {
    const PASSED: Self = Self { passed: 1, failed: 0 };
    const FAILED: Self = Self { passed: 0, failed: 1 };
}

/// The machine that the parts run on.
pub(crate) struct Machine<'a> {
    repo: &'a Repo,
    /// Programs that were found or installed, by the variables that tests know them by.
    programs: Vec<(&'static str, PathBuf)>,
}

/// Runs the chosen parts.
pub(crate) fn run(repo: &Repo, options: &Options) -> Result<ExitCode> {
    let chosen = choose(options)?;
    let mut machine = Machine { repo, programs: Vec::new() };
    let mut total = Tally::default();
    let mut failed = Vec::new();
    let mut missing = Vec::new();
    let started = Instant::now();

    let needs: Vec<Need> =
        Need::ALL.into_iter().filter(|need| chosen.iter().any(|part| part.needs.contains(need))).collect();
    let count = needs.len() + chosen.len();
    let mut at = 0;
    for need in needs {
        at += 1;
        let step = Step::begin(at, count, &format!("set-up: {}", need.name()));
        let tally = match provide(&mut machine, need) {
            Ok(()) => Tally::PASSED,
            Err(error) => {
                println!("error: {error:#}");
                missing.push(need);
                failed.push(format!("set-up: {}", need.name()));
                Tally::FAILED
            }
        };
        step.end(tally);
        // Set-up that went well is no test that passed.
        total.failed += tally.failed;
    }
    for part in chosen {
        at += 1;
        let step = Step::begin(at, count, part.about);
        let tally = match part.needs.iter().find(|need| missing.contains(need)) {
            Some(need) => {
                println!("not run: its set-up failed ({})", need.name());
                Tally::FAILED
            }
            None => (part.run)(&machine).unwrap_or_else(|error| {
                println!("error: {error:#}");
                Tally::FAILED
            }),
        };
        step.end(tally);
        total.passed += tally.passed;
        total.failed += tally.failed;
        if tally.failed > 0 {
            failed.push(format!("{} (again: cargo xtask test --only {})", part.about, part.name));
        }
    }

    println!("\nall in {:.0} s", started.elapsed().as_secs_f64());
    for name in &failed {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn choose(options: &Options) -> Result<Vec<&'static Part>> {
    if let Some(unknown) = options.only.iter().find(|name| !PARTS.iter().any(|part| part.name == name.as_str())) {
        let names: Vec<String> = PARTS.iter().map(|part| format!("  {:10} {}", part.name, part.about)).collect();
        bail!("there is no part \"{unknown}\". There are:\n{}", names.join("\n"));
    }
    let is_chosen = |part: &&Part| {
        let named = options.only.is_empty() || options.only.iter().any(|name| part.name == name);
        named && !(options.quick && part.slow)
    };
    Ok(PARTS.iter().filter(is_chosen).collect())
}

fn provide(machine: &mut Machine<'_>, need: Need) -> Result<()> {
    let repo = machine.repo;
    match need {
        Need::Wasm => setup::rust_target(repo, setup::WASM)?,
        Need::Wasi => setup::rust_target(repo, setup::WASI)?,
        Need::Npm => setup::npm_packages(repo)?,
        Need::NpmSignal => setup::npm_packages_of_signal_tests(repo)?,
        Need::Servers => setup::test_servers(repo)?,
        Need::Chromium => machine.programs.push(("CHROMIUM", setup::chromium(repo)?)),
        Need::Firefox => machine.programs.push(("FIREFOX", setup::firefox(repo)?)),
        Need::Turn => machine.programs.push(("TURNSERVER", setup::turn_server(repo)?)),
        Need::Web => web::run(repo, web::Mode::Release)?,
        Need::Binaries => parts::build_binaries(repo)?,
    }
    Ok(())
}

/// A step under way: its name when it starts, its time when it ends.
struct Step {
    label: String,
    started: Instant,
}

impl Step {
    fn begin(at: usize, count: usize, name: &str) -> Self {
        println!("\n[{at}/{count}] {name}");
        Self { label: format!("[{at}/{count}] {name}"), started: Instant::now() }
    }

    fn end(self, tally: Tally) {
        let seconds = self.started.elapsed().as_secs_f64();
        let verdict = match tally {
            Tally { failed: 0, passed: 0 | 1 } => "ok".to_owned(),
            Tally { failed: 0, passed } => format!("ok, {passed} tests"),
            Tally { failed: 1, passed: 0 } => "FAILED".to_owned(),
            Tally { failed, passed } => format!("FAILED, {failed} of {}", failed + passed),
        };
        println!("{}: {verdict} ({seconds:.1} s)", self.label);
    }
}
