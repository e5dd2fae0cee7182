//! `headwater-sim`: runs scenarios and prints what they came to.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use headwater_sim::path::{self, Flow};
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
    /// Sends through one drop-tail queue after the other, packet by packet, and prints what engines and data channels make of it
    Path(PathOptions),
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

#[derive(clap::Args)]
struct PathOptions {
    /// One path instead of all: its queue in bytes
    #[arg(long, requires = "rtt", requires = "mbps")]
    queue: Option<u32>,
    /// Its round trip in milliseconds
    #[arg(long, requires = "queue")]
    rtt: Option<f64>,
    /// Its narrowest link in Mbit/s
    #[arg(long, requires = "queue")]
    mbps: Option<f64>,
    /// The share of packets that is lost by chance
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Who sends: b for a flow in the background, u for an urgent one
    #[arg(long, default_value = "b")]
    flows: String,
    /// Where to write all figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
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
        Command::Path(options) => walk(&options)?,
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

/// Runs one path, or all of the grid.
fn walk(options: &PathOptions) -> Result<(), Failure> {
    let kind = |kind| match kind {
        'b' => Ok(Flow { urgent: false, from_s: 0.0 }),
        'u' => Ok(Flow { urgent: true, from_s: 0.0 }),
        _ => Err(format!("there is no flow of kind \"{kind}\": b is one in the background, u an urgent one")),
    };
    let flows = options.flows.chars().map(kind).collect::<Result<Vec<_>, _>>()?;
    let paths = match (options.queue, options.rtt, options.mbps) {
        (Some(queue), Some(rtt), Some(mbps)) => vec![path::Path::new(queue, rtt, mbps)],
        _ => path::grid(),
    };
    println!("   queue     ms Mbit/s   loss  queued, p95 ms dropped let go  shares of the link");
    let mut walked = Vec::new();
    for path in paths {
        let path = path::Path { loss: options.loss, flows: flows.clone(), ..path };
        let outcome = path.run()?;
        let shares: Vec<String> = outcome.shares.iter().map(|share| format!("{share:.3}")).collect();
        let (queued, p95, dropped) = (outcome.queued_ms, outcome.queued_p95_ms, outcome.dropped);
        print!("{:>8} {:>6} {:>6} {:>6} ", path.queue, path.rtt_ms, path.mbps, path.loss);
        println!("{queued:>7.1} {p95:>7.1} {dropped:>7} {:>6}  {}", outcome.let_go, shares.join(" "));
        walked.push(serde_json::json!({ "path": path, "outcome": outcome }));
    }
    if let Some(file) = &options.json {
        write_json(file, &walked)?;
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
