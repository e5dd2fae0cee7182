//! `cargo xtask`: set-up, builds, tests, the demo and the checks of this repository. What CI runs, anyone can run.
//!
//! Each command has a file of its own; `repo` and `command` are what they share.

mod bench;
mod bench_browser;
mod bench_engine;
mod bench_seed;
mod bench_signal;
mod bench_sim;
mod command;
mod demo;
mod fuzz;
mod panics;
mod repo;
mod sample;
mod setup;
mod sizes;
mod stamp;
mod test;
mod tidy;
mod web;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::repo::Repo;

/// Headwater's own commands: cargo xtask COMMAND
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sets everything up, plays the bundled sample (or your stream) through a swarm on this machine, prints the page's URL
    Demo(demo::Options),
    /// Sets everything up and runs every check and test; the last line counts them
    Test(test::Options),
    /// Builds the player, its WASM and the demo page into www/dist
    Web {
        /// Unoptimised and with source maps, for working on the player
        #[arg(long)]
        dev: bool,
    },
    /// Runs a benchmark and says whether it meets its bar
    Bench(bench::Options),
    /// Throws any bytes at what remote parties can reach, guided by coverage (needs Rust's nightly)
    Fuzz(fuzz::Options),
    /// Checks what a page downloads against www/size-budget.json
    Size,
    /// Checks the rules of the house: arrows between crates, file headers and lengths, nothing of one machine
    Tidy,
    /// Draws and encodes the bundled sample anew (with ffmpeg)
    Sample {
        /// Only checks that the committed sample is whole
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let repo = Repo::find()?;
    match command {
        Command::Demo(options) => demo::run(&repo, &options)?,
        Command::Test(options) => return test::run(&repo, &options),
        Command::Web { dev } => web::run(&repo, if dev { web::Mode::Dev } else { web::Mode::Release })?,
        Command::Bench(options) => bench::run(&repo, &options)?,
        Command::Fuzz(options) => fuzz::fuzz(&repo, &options)?,
        Command::Size => sizes::check(&repo)?,
        Command::Tidy => tidy::run(&repo)?,
        Command::Sample { check: true } => sample::check(&repo)?,
        Command::Sample { check: false } => sample::make(&repo)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_in_order() {
        super::Args::command().debug_assert();
    }
}
