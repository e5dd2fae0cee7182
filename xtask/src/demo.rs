//! `cargo xtask demo`: origin, signalling server and seed on this machine, and the page that shows them at work.

mod children;
mod viewers;

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::children::Children;
use crate::command::{capture, cargo, program, run as run_program, which};
use crate::repo::Repo;
use crate::{setup, web};

/// The port the page is served on, where it is free and no other is asked for.
const USUAL_PORT: u16 = 8765;

/// How long a server may take to listen.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How often the children are looked after.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// What `demo` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// An HLS playlist of your own instead of the bundled sample
    #[arg(long, value_name = "URL", conflicts_with = "live")]
    src: Option<String>,
    /// Shows the sample as an endless live stream
    #[arg(long)]
    live: bool,
    /// The page's port (8765, or any where that is taken)
    #[arg(long)]
    port: Option<u16>,
    /// Starts that many more viewers, in a Chromium without a window
    #[arg(long, value_name = "N", default_value_t = 0)]
    viewers: u8,
    /// Only prints the page's URL
    #[arg(long)]
    no_open: bool,
}

/// Sets everything up, starts it, and runs until Ctrl-C.
pub(crate) fn run(repo: &Repo, options: &Options) -> Result<()> {
    if let Some(src) = &options.src {
        ensure!(
            src.starts_with("http://") || src.starts_with("https://"),
            "--src {src}: name an HLS playlist by its http:// or https:// URL"
        );
    }
    let stop = on_interrupt()?;
    let mut steps = Steps { at: 0, count: 5, started: Instant::now() };

    steps.next("building the player");
    web::build(repo, web::Mode::Release)?;

    steps.next("building the signalling server and the seed (the first time takes minutes)");
    run_program(cargo(repo).args(["build", "--package", "headwater-signal", "--package", "headwater-seed"]))?;

    let scratch = repo.target().join("demo");
    fs::create_dir_all(&scratch)?;
    let mut children = Children::default();
    let running = start(repo, options, &mut steps, &mut children, &scratch, &stop);
    let result = match running {
        Ok(Some(())) => watch(&mut children, &stop),
        // Ctrl-C while it started.
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    println!("stopping");
    children.stop();
    result
}

/// Starts the three and shows the page. None: interrupted.
fn start(
    repo: &Repo,
    options: &Options,
    steps: &mut Steps,
    children: &mut Children,
    scratch: &Path,
    stop: &Receiver<()>,
) -> Result<Option<()>> {
    steps.next("starting the origin");
    let src = match &options.src {
        Some(src) => src.clone(),
        None => {
            let port = free_port()?;
            let mut origin = program(repo, "node");
            origin.args(["www/origin/origin.mjs", "--root", "www/sample", "--port", &port.to_string()]);
            if options.live {
                origin.arg("--live");
            }
            children.spawn("origin", &mut origin)?;
            if !answers(children, port, "/hls/master.m3u8", stop)? {
                return Ok(None);
            }
            format!("http://127.0.0.1:{port}/hls/master.m3u8")
        }
    };

    steps.next("starting the signalling server");
    let port = page_port(options.port)?;
    let mut signal = program(repo, repo.binary("headwater-signal"));
    children.spawn("signal", signal.arg("--listen").arg(format!("127.0.0.1:{port}")))?;
    if !answers(children, port, "/healthz", stop)? {
        return Ok(None);
    }

    steps.next("starting the seed");
    let (key_file, public_key) = key_pair(repo, scratch)?;
    start_seed(repo, children, "seed", &src, port, &key_file)?;

    let mut page = format!("http://127.0.0.1:{port}/demo/?src={}&key={}", escape(&src), escape(&public_key));
    if options.src.is_none() {
        let Some((libraries, dash)) = for_other_players(repo, children, port, &key_file, stop)? else {
            return Ok(None);
        };
        page.push_str(&format!("&dash={}&lib={}", escape(&dash), escape(&libraries)));
    }
    if options.viewers > 0 {
        viewers::start(repo, children, &setup::chromium(repo)?, &page, options.viewers)?;
    }
    println!(
        "\nready after {:.0} s. The page, with live figures:\n\n  {page}\n",
        steps.started.elapsed().as_secs_f64()
    );
    println!("Open it in more tabs to add viewers. Ctrl-C stops everything.\n");
    if !options.no_open {
        open(repo, &page);
    }
    Ok(Some(()))
}

/// What the page of other players needs besides: their libraries from this machine, and a DASH stream with a seed.
/// Returns where both are. None: interrupted.
fn for_other_players(
    repo: &Repo,
    children: &mut Children,
    signal: u16,
    key_file: &Path,
    stop: &Receiver<()>,
) -> Result<Option<(String, String)>> {
    const STREAM: &str = "/tests/fixtures/cmaf/stream.mpd";
    let port = free_port()?;
    let mut files = program(repo, "node");
    files.args(["www/origin/origin.mjs", "--root", "www", "--port", &port.to_string()]);
    children.spawn("players", &mut files)?;
    if !answers(children, port, STREAM, stop)? {
        return Ok(None);
    }
    let dash = format!("http://127.0.0.1:{port}{STREAM}");
    start_seed(repo, children, "seed of DASH", &dash, signal, key_file)?;
    Ok(Some((format!("http://127.0.0.1:{port}/node_modules/"), dash)))
}

/// A seed of the stream at `src`, in the swarm of the signalling server at this port.
fn start_seed(
    repo: &Repo,
    children: &mut Children,
    name: &'static str,
    src: &str,
    signal: u16,
    key_file: &Path,
) -> Result<()> {
    let mut seed = program(repo, repo.binary("headwater-seed"));
    seed.args(["run", "--src", src, "--signal", &format!("ws://127.0.0.1:{signal}/v1/signal"), "--key"]);
    children.spawn(name, seed.arg(key_file))
}

/// Waits for Ctrl-C; says once what died.
fn watch(children: &mut Children, stop: &Receiver<()>) -> Result<()> {
    loop {
        match stop.recv_timeout(WATCH_EVERY) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        for death in children.deaths() {
            println!("{death}; the others go on, Ctrl-C stops them");
        }
        if children.is_empty() {
            bail!("everything the demo started has stopped: what it said is above");
        }
    }
}

/// Numbered steps with the time since the start.
struct Steps {
    at: u8,
    count: u8,
    started: Instant,
}

impl Steps {
    fn next(&mut self, name: &str) {
        self.at += 1;
        println!("[{}/{}] {:4.0} s  {name}", self.at, self.count, self.started.elapsed().as_secs_f64());
    }
}

/// Gives a word for each Ctrl-C or request to end.
fn on_interrupt() -> Result<Receiver<()>> {
    let (sender, receiver) = channel();
    let mut asked = false;
    ctrlc::set_handler(move || {
        if asked {
            // Whoever asks twice does not want to wait for a build.
            std::process::exit(130);
        }
        asked = true;
        // The receiver lives as long as the demo.
        let _ = sender.send(());
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(receiver)
}

/// Makes a key pair, or takes that of the last demo. Returns the secret's file and the public key.
fn key_pair(repo: &Repo, scratch: &Path) -> Result<(PathBuf, String)> {
    let file = scratch.join("seed.key");
    let seed = || program(repo, repo.binary("headwater-seed"));
    if !file.exists() {
        capture(seed().arg("keygen").arg(&file))?;
    }
    let public = capture(seed().arg("public").arg(&file))
        .with_context(|| format!("remove {} and start the demo again", file.display()))?;
    Ok((file, public.trim().to_owned()))
}

/// Waits until a server answers a request. False: interrupted meanwhile.
fn answers(children: &mut Children, port: u16, path: &str, stop: &Receiver<()>) -> Result<bool> {
    let started = Instant::now();
    while started.elapsed() < START_LIMIT {
        if get(port, path).is_ok_and(|status| status.contains(" 200")) {
            return Ok(true);
        }
        if let Some(death) = children.deaths().into_iter().next() {
            bail!("{death}: what it said is above");
        }
        if stop.recv_timeout(WATCH_EVERY).is_ok() {
            return Ok(false);
        }
    }
    bail!("nothing answers http://127.0.0.1:{port}{path} after {} s", START_LIMIT.as_secs())
}

/// The status line of a GET on this machine.
fn get(port: u16, path: &str) -> std::io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")?;
    let mut start = [0; 32];
    let read = stream.read(&mut start)?;
    Ok(String::from_utf8_lossy(&start[..read]).into_owned())
}

fn page_port(asked: Option<u16>) -> Result<u16> {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    match asked {
        Some(0) => free_port(),
        Some(port) if is_free(port) => Ok(port),
        Some(port) => bail!("port {port} is taken: choose another, or leave --port out"),
        None if is_free(USUAL_PORT) => Ok(USUAL_PORT),
        None => free_port(),
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Percent-encodes a query value.
fn escape(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' | b'/' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Opens the page where there is a desktop; says nothing where there is none.
fn open(repo: &Repo, page: &str) {
    let opener = if cfg!(target_os = "macos") {
        Some(program(repo, "open"))
    } else if cfg!(windows) {
        let mut start = program(repo, "rundll32");
        start.arg("url.dll,FileProtocolHandler");
        Some(start)
    } else {
        let has_desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some());
        (has_desktop && which("xdg-open").is_some()).then(|| program(repo, "xdg-open"))
    };
    if let Some(mut opener) = opener {
        // The URL is printed: whether a browser opens by itself is a courtesy.
        let _ = opener.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(escape("http://127.0.0.1:1/a b?c=d&e"), "http://127.0.0.1:1/a%20b%3Fc%3Dd%26e");
    }
}
