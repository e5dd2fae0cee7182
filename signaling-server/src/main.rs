//! `headwater-signal`: the command line of the signalling server.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use headwater_signal::{Options, Server};
use headwater_wire::signal::IceServer;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// Pairs browsers and seeds that want the same video, and serves the player.
#[derive(Debug, Parser)]
#[command(name = "headwater-signal", version)]
struct Arguments {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", env = "HEADWATER_SIGNAL_LISTEN", default_value = "127.0.0.1:8800")]
    listen: SocketAddr,

    /// STUN server handed to every peer, as stun:HOST:PORT. May be repeated; separated by commas in the environment.
    #[arg(
        long = "stun",
        value_name = "URL",
        env = "HEADWATER_SIGNAL_STUN",
        value_delimiter = ',',
        value_parser = stun_url
    )]
    stun: Vec<String>,

    /// What to log: error, warn, info, debug or trace, also for single modules (headwater_signal=debug).
    #[arg(long, value_name = "FILTER", env = "HEADWATER_SIGNAL_LOG", default_value = "info")]
    log: String,
}

fn stun_url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("stun:").or_else(|| text.strip_prefix("stuns:")).unwrap_or_default();
    if host.is_empty() {
        return Err("a STUN server is written stun:HOST or stun:HOST:PORT".to_owned());
    }
    Ok(text.to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("headwater-signal: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let Arguments { listen, stun, log } = arguments;
    let filter = EnvFilter::try_new(&log).map_err(|error| format!("--log {log}: {error}"))?;
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(io::stderr).init();
    let mut options = Options::new(listen).map_err(|error| format!("no random numbers: {error}"))?;
    if !stun.is_empty() {
        options.core.ice_servers = vec![IceServer { urls: stun, username: None, credential: None }];
    }
    let has_player = !options.assets.is_empty();
    let stop = stop_signal().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let server = Server::bind(options).await.map_err(|error| error.to_string())?;
    warn!("NO SECRET IS CONFIGURED: anyone who reaches this server may join any swarm. Fine for a demo or a LAN");
    if !has_player {
        warn!("this build has no player: run \"cargo xtask web\" and build again to serve it");
    }
    let addr = server.local_addr();
    info!("listening on http://{addr}");
    // Scripts wait for this line. A closed stdout is no reason not to serve.
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "headwater-signal listening on http://{addr}").and_then(|()| stdout.flush());
    server.run(stop).await;
    info!("stopped");
    Ok(())
}

/// Resolves on SIGINT or SIGTERM.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Resolves on Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
