//! `headwater-signal`: the command line of the signalling server.

use std::io::{self, IsTerminal as _, Write as _};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use headwater_signal::Server;
use headwater_signal::settings::{LogFormat, Settings, SettingsError, sample};
use tokio::runtime::{Builder, Runtime};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// Pairs browsers and seeds that want the same video, and serves the player.
#[derive(Debug, Parser)]
#[command(name = "headwater-signal", version)]
struct Arguments {
    /// File with settings, TOML; what is given here or in the environment wins over it
    #[arg(long, value_name = "FILE", env = "HEADWATER_SIGNAL_CONFIG")]
    config: Option<PathBuf>,

    /// Prints a file with every setting, its meaning and its default, and ends
    #[arg(long)]
    sample: bool,

    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ran = runtime()
        .map_err(|error| format!("cannot start: {error}"))
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("headwater-signal: {message}");
            ExitCode::FAILURE
        }
    }
}

/// One thread a core; on a single core, none but this: handing tasks to a second thread would only cost.
fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut builder = if cores == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().build()
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let Arguments { config, sample: only_sample, settings } = arguments;
    if only_sample {
        let written = io::stdout().write_all(sample().as_bytes());
        return written.map_err(|error| error.to_string());
    }
    let say = |error: SettingsError| error.to_string();
    let file = config.as_deref().map(Settings::read).transpose().map_err(say)?.unwrap_or_default();
    let settings = settings.or(file).or(Settings::defaults().map_err(say)?);
    log(&settings)?;
    let options = settings.resolve().map_err(say)?;
    let has_player = !options.assets.is_empty();
    let is_open = options.admission.token_keys.is_none();
    let stop = stop_signal().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let server = Server::bind(options).await.map_err(|error| error.to_string())?;
    if is_open {
        warn!("NO SECRET IS CONFIGURED: anyone who reaches this server may join any swarm. Fine for a demo or a LAN");
    }
    if !has_player {
        warn!("this build has no player: run \"cargo xtask web\" and build again to serve it");
    }
    let (scheme, addr) = (server.scheme(), server.local_addr());
    info!("listening on {scheme}://{addr}");
    // Scripts wait for this line. A closed stdout is no reason not to serve.
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "headwater-signal listening on {scheme}://{addr}").and_then(|()| stdout.flush());
    server.run(stop).await;
    info!("stopped");
    Ok(())
}

fn log(settings: &Settings) -> Result<(), String> {
    let named = settings.log.as_deref().unwrap_or("info");
    // What its events mean is said here, in words; its own are for whoever asks for them.
    let filter = if named.contains("async_nats") { named.to_owned() } else { format!("{named},async_nats=off") };
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {named}: {error}"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match settings.log_format.unwrap_or_default() {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
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
