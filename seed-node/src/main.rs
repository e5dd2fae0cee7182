//! `headwater-seed`: the command line around the library.

mod commands;

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use url::Url;

/// Fills a swarm with a stream, and signs it so that viewers can trust each other's bytes.
#[derive(Debug, Parser)]
#[command(name = "headwater-seed", version, about)]
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
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The stream: the address of its HLS playlist, as the embed code's `src` names it.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    src: Url,
    /// The signalling server, such as wss://signal.example.org/v1/signal.
    #[arg(long, value_name = "URL", value_parser = websocket_url)]
    signal: Url,
    /// The key file, made by `headwater-seed keygen`.
    #[arg(long, value_name = "FILE", required_unless_present = "integrity")]
    key: Option<PathBuf>,
    /// The swarm's name, where the embed code has one of its own; else made of the key and the path of the stream.
    #[arg(long, value_name = "NAME")]
    swarm: Option<String>,
    /// Most bytes of the stream to keep in memory.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    memory: u64,
    /// Most bytes a second to send to all viewers together.
    #[arg(long, value_name = "BYTES")]
    upload_cap: Option<u64>,
    /// Most viewers connected at once.
    #[arg(long, value_name = "COUNT", default_value_t = 256)]
    viewers: u16,
    /// The UDP port for all viewers: open this one in the firewall. 0 for any that is free.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    udp_port: u16,
    /// An address of this machine to use; all of them where none is given.
    #[arg(long, value_name = "IP")]
    bind: Vec<IpAddr>,
    /// An address of this machine as viewers see it, where a router translates and hands the UDP port through.
    #[arg(long, value_name = "IP")]
    public_ip: Vec<IpAddr>,
    /// `open` trusts whatever peers send, and needs no key: for networks where everybody may be trusted.
    #[arg(long, value_name = "open")]
    integrity: Option<OpenIntegrity>,
    /// Proof for a signalling server that asks for one.
    #[arg(long, env = "HEADWATER_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OpenIntegrity {
    Open,
}

#[derive(Debug, Args)]
struct SignArgs {
    /// A folder with HLS playlists and their segments, or the address of a playlist.
    #[arg(value_name = "FOLDER|URL")]
    source: String,
    /// The key file, made by `headwater-seed keygen`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
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

fn http_url(text: &str) -> Result<Url, String> {
    url_of(text, &["http", "https"])
}

fn websocket_url(text: &str) -> Result<Url, String> {
    url_of(text, &["ws", "wss"])
}

fn url_of(text: &str, schemes: &[&str]) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|error| format!("{error}; it must begin with {}://", schemes.join(":// or ")))?;
    if schemes.contains(&url.scheme()) && url.has_host() {
        Ok(url)
    } else {
        Err(format!("it must begin with {}://", schemes.join(":// or ")))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let result = match cli.command {
        Command::Keygen { file } => commands::keygen(&file),
        Command::Public { file } => commands::public(&file),
        Command::Run(args) => block_on(commands::run(*args)),
        Command::Sign(args) => block_on(commands::sign(args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater-seed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn block_on(command: impl Future<Output = Result<(), commands::CommandError>>) -> Result<(), commands::CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(commands::CommandError::Runtime)?.block_on(command)
}
