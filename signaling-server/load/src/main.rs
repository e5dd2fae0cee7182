//! `headwater-load`: puts load on a signalling server and measures what it does. Loopback only.
//!
//! One thread and one epoll that does not sleep while it measures: the generator must be leaner than any server. Every mode prints one JSON object.

mod announce;
mod churn;
mod figures;
mod frame;
mod memory;
mod native;
mod pair;
mod pool;
mod texts;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use crate::pool::Target;

/// Load for a signalling server on this machine.
#[derive(Debug, Parser)]
#[command(name = "headwater-load", version)]
struct Arguments {
    /// The server, which must be on a loopback address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8800")]
    server: SocketAddr,
    /// Speaks TLS and trusts this certificate (PEM), for the name localhost
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Measured for so long, after the warm-up
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// WebTorrent announces; with offers, every offer is answered and an announce is done when all its answers are there
    Announce {
        #[arg(long, default_value_t = 500)]
        connections: usize,
        /// Peers of one swarm
        #[arg(long, default_value_t = 10)]
        swarm: usize,
        /// Offers of an announce
        #[arg(long, default_value_t = 0)]
        offers: usize,
        /// Bytes of an offer and of an answer
        #[arg(long, default_value_t = 1024)]
        sdp: usize,
        /// The server's process, to tell what it used
        #[arg(long)]
        pid: Option<u32>,
    },
    /// Two WebTorrent peers: announce, offer, answer, one after the other
    Pair {
        #[arg(long, default_value_t = 1024)]
        sdp: usize,
    },
    /// Opens connections, lets each announce once, and reads how much the process of the server has grown
    Memory {
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        #[arg(long, default_value_t = 10)]
        swarm: usize,
        /// The server's process
        #[arg(long)]
        pid: u32,
    },
    /// Pairs of viewers that join a swarm of their own by the native protocol and leave
    Native {
        /// Pairs under way at once, where no rate is given: how fast the server can go
        #[arg(long, default_value_t = 32)]
        concurrency: usize,
        /// Pairs a second
        #[arg(long)]
        rate: Option<f64>,
    },
    /// Writes localhost.pem and localhost.key, a certificate to measure TLS with
    Certificate {
        /// The folder for them
        folder: PathBuf,
    },
    /// One native swarm whose members come and go
    Churn {
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        /// Share of the members replaced in a minute
        #[arg(long, default_value_t = 0.2)]
        churn: f64,
        /// The server's process
        #[arg(long)]
        pid: u32,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("headwater-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<serde_json::Value> {
    ensure!(arguments.server.ip().is_loopback(), "load is put on servers of this machine only: use a loopback address");
    let target = Target::new(arguments.server, arguments.ca.as_deref())?;
    let time = Duration::try_from_secs_f64(arguments.seconds)?;
    match &arguments.mode {
        &Mode::Announce { connections, swarm, offers, sdp, pid } => {
            announce::run(&target, time, &announce::Load { connections, swarm, offers, sdp, pid })
        }
        &Mode::Pair { sdp } => pair::run(&target, time, sdp),
        &Mode::Memory { connections, swarm, pid } => memory::run(&target, connections, swarm, pid),
        &Mode::Native { concurrency, rate } => native::run(&target, time, concurrency, rate),
        &Mode::Churn { connections, churn, pid } => churn::run(&target, time, connections, churn, pid),
        Mode::Certificate { folder } => certificate(folder),
    }
}

fn certificate(folder: &Path) -> Result<serde_json::Value> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (folder.join("localhost.pem"), folder.join("localhost.key"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    Ok(serde_json::json!({ "certificate": certificate, "key": key }))
}
