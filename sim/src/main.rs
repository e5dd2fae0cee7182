//! `headwater-sim`: runs scenarios and prints what they came to.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use headwater_sim::{Policy, Report, Scenario, html, table};

/// Thousands of peers with the real engine, on virtual time
#[derive(Parser)]
#[command(name = "headwater-sim", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a scenario and prints its figures
    Run {
        #[command(flatten)]
        options: Options,
        /// Who decides for the viewers
        #[arg(long, default_value = "headwater")]
        policy: String,
        /// Where to write a page with plots
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Runs a scenario also over HTTP alone and with models of p2p-media-loader's policies, and prints all side by side
    Compare {
        #[command(flatten)]
        options: Options,
        /// Where to write a page with plots
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Options {
    /// A scenario file (sim/scenarios/*.toml)
    scenario: PathBuf,
    /// Another seed than the scenario's
    #[arg(long)]
    seed: Option<u64>,
    /// Another number of viewers
    #[arg(long, value_name = "N")]
    peers: Option<u32>,
    /// Another length of the run, in seconds
    #[arg(long, value_name = "S")]
    duration: Option<f64>,
    /// How many threads to use; the outcome is the same with any number
    #[arg(long, value_name = "N")]
    threads: Option<u32>,
    /// Print no table
    #[arg(long)]
    quiet: bool,
    /// Where to write all figures and their course as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to write what the run itself cost, as JSON: not in the other, which is the same at each run
    #[arg(long, value_name = "FILE")]
    cost: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run { options, policy, html } => {
            let policy = Policy::of_name(&policy).ok_or_else(|| {
                format!("there is no policy \"{policy}\": choose of {}", Policy::ALL.map(Policy::name).join(", "))
            })?;
            let report = simulate(&options, policy)?;
            if !options.quiet {
                print!("{}", table::render(std::slice::from_ref(&report)));
                print!("{}", table::render_control(&report));
            }
            if let Some(file) = &options.json {
                write_json(file, &report)?;
            }
            write_html(html.as_deref(), std::slice::from_ref(&report))?;
        }
        Command::Compare { options, html } => {
            let reports =
                Policy::ALL.into_iter().map(|policy| simulate(&options, policy)).collect::<Result<Vec<_>, _>>()?;
            if !options.quiet {
                print!("{}", table::render(&reports));
            }
            if let Some(file) = &options.json {
                write_json(file, &reports)?;
            }
            write_html(html.as_deref(), &reports)?;
        }
    }
    Ok(())
}

fn simulate(options: &Options, policy: Policy) -> Result<Report, Failure> {
    let mut scenario = Scenario::load(&options.scenario)?;
    scenario.seed = options.seed.unwrap_or(scenario.seed);
    scenario.audience.viewers = options.peers.unwrap_or(scenario.audience.viewers);
    scenario.duration_s = options.duration.unwrap_or(scenario.duration_s);
    // Below, threads cost more than they bring.
    let default = if scenario.audience.viewers < 300 { 1 } else { cores() };
    let threads = options.threads.unwrap_or(default);
    let began = Instant::now();
    let watched = std::io::stderr().is_terminal();
    let (name, duration) = (scenario.name.clone(), scenario.duration_s);
    let report = headwater_sim::run(&scenario, policy, threads, &|second| {
        if watched {
            let spent = began.elapsed().as_secs();
            let _ =
                write!(std::io::stderr(), "\r{name}, {}: {second} of {duration} s, {spent} s spent ", policy.name());
        }
    })?;
    if watched {
        eprintln!();
    }
    let (events, seconds) = (report.events, began.elapsed().as_secs_f64());
    let peak = peak_mebibytes();
    let memory = peak.map_or_else(String::new, |peak| format!(", {peak} MiB"));
    eprintln!("{}, {}: {events} events in {seconds:.1} s on {threads} threads{memory}", scenario.name, policy.name());
    if let Some(file) = &options.cost {
        write_json(file, &serde_json::json!({ "seconds": seconds, "peak_mib": peak, "threads": threads }))?;
    }
    Ok(report)
}

/// The most memory this process had so far, where the system says it.
fn peak_mebibytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1024)
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(8) as u32)
}

fn write_html(file: Option<&Path>, reports: &[Report]) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    fs::write(file, html::page(reports)).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(())
}

fn write_json(file: &Path, report: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report)?;
    fs::write(file, text + "\n").map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(())
}
