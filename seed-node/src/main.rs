//! `headwater-seed`: the command line around the library.

mod commands;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use headwater_seed::settings::{Settings, Stream, http_url, websocket_url};
use tracing_subscriber::EnvFilter;
use url::Url;

/// Fills a swarm with a stream, and signs it so that viewers can trust each other's bytes.
#[derive(Debug, Parser)]
#[command(name = "headwater-seed", version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pull a stream from its origin, sign it, and serve it to its viewers.
    Run(Box<RunArgs>),
    /// Make a key pair: the secret key in FILE, the public key in FILE.pub and on standard output.
    Keygen {
        /// The file to write. It must not exist.
        file: PathBuf,
    },
    /// Print the public key of a key file: it is what goes into the embed code's `key`.
    Public {
        /// The key file.
        file: PathBuf,
    },
    /// Write the catalogue beside the playlists, without seeding.
    Sign(SignArgs),
    /// Check a stream against the catalogue beside it, and say what is wrong.
    Verify(VerifyArgs),
    /// Print the embed code of a stream.
    Snippet(SnippetArgs),
}

const EXAMPLES: &str = "Examples:
  headwater-seed keygen publisher.key
  headwater-seed run --src https://cdn.example.org/live/index.m3u8 --signal wss://signal.example.org/v1/signal --key publisher.key
  headwater-seed run seed.toml
  headwater-seed sign ./film --key publisher.key
  headwater-seed verify https://cdn.example.org/film/index.m3u8 --key publisher.key.pub
  headwater-seed snippet --src https://cdn.example.org/live/index.m3u8 --signal wss://signal.example.org/v1/signal --key publisher.key";

#[derive(Debug, Args)]
struct RunArgs {
    /// A file with the settings and streams; `sample.toml` in the source says what may be in it.
    file: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    stream: Stream,
}

#[derive(Debug, Args)]
struct SnippetArgs {
    /// The stream's address.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    src: Url,
    /// The signalling server.
    #[arg(long, value_name = "URL", value_parser = websocket_url)]
    signal: Url,
    /// The publisher's public key, or the file of either half of the pair; several while keys are changed.
    #[arg(long, value_name = "KEY|FILE")]
    key: Vec<String>,
    /// The swarm's name, where it has one of its own.
    #[arg(long, value_name = "NAME")]
    swarm: Option<String>,
    /// Where the page loads the player from.
    #[arg(long, value_name = "URL", default_value = "headwater.js")]
    script: String,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// The stream's address.
    #[arg(value_name = "URL", value_parser = http_url)]
    url: Url,
    /// The publisher's public key, or the file of either half of the pair; several while keys are changed.
    #[arg(long, value_name = "KEY|FILE", required = true)]
    key: Vec<String>,
    /// The swarm's name, where the embed code has one of its own.
    #[arg(long, value_name = "NAME")]
    swarm: Option<String>,
}

#[derive(Debug, Args)]
struct SignArgs {
    /// A folder with HLS playlists or DASH manifests and their segments, or the address of one.
    #[arg(value_name = "FOLDER|URL")]
    source: String,
    /// The key file, made by `headwater-seed keygen`; the old one and the new one while keys are changed.
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// Keep signing what is new, until stopped.
    #[arg(long)]
    watch: bool,
    /// The swarm's name, where the embed code has one of its own.
    #[arg(long, value_name = "NAME")]
    swarm: Option<String>,
    /// Where to write the catalogue of a URL; else the current folder. A folder's catalogues lie beside its playlists.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A person reads lines; whatever gathers logs reads JSON.
    if std::io::stderr().is_terminal() {
        log.with_ansi(true).init();
    } else {
        log.json().flatten_event(true).init();
    }
    let result = match cli.command {
        Command::Keygen { file } => commands::keygen(&file),
        Command::Public { file } => commands::public(&file),
        Command::Run(args) => block_on(commands::run(*args)),
        Command::Sign(args) => block_on(commands::sign(args)),
        Command::Verify(args) => block_on(commands::verify(args)),
        Command::Snippet(args) => commands::snippet(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater-seed: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn block_on(command: impl Future<Output = Result<(), commands::CommandError>>) -> Result<(), commands::CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(commands::CommandError::Runtime)?.block_on(command)
}
