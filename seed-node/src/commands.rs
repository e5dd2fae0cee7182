//! What the commands do: the library's parts, put together, and words for the person at the terminal.

mod run;
mod snippet;
mod verify;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_seed::http::{Http, HttpError};
use headwater_seed::key::{Key, KeyError, public_path};
use headwater_seed::origin::SourceError;
use headwater_seed::progress::Progress;
use headwater_seed::settings::SettingsError;
use headwater_seed::sign::Signer;
use headwater_seed::sign::check::CheckError;
use headwater_seed::sign::folder::{Folder, FolderError, Pass};
use headwater_seed::sign::remote::{RemoteSignError, sign_url};
use headwater_wire::id::SwarmNameError;
use headwater_wire::{Scope, SwarmName};
use tokio::time::{Instant, sleep};
use url::Url;

pub(crate) use self::run::run;
pub(crate) use self::snippet::snippet;
pub(crate) use self::verify::verify;
use crate::SignArgs;

/// How often a watched folder is looked at for changed playlists.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often it is looked through for new playlists and changed segments.
const PASS_EVERY: Duration = Duration::from_secs(2);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the swarm's name is of no use: {0}; give another with --swarm")]
    Swarm(#[from] SwarmNameError),
    #[error(transparent)]
    Remote(#[from] RemoteSignError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{0} things are wrong, see above; what could be signed is signed")]
    Several(usize),
    #[error("{0}; give another port with --udp-port or --tcp-port, or let the system choose with 0")]
    Bind(io::Error),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error("{0} things are wrong, see above")]
    Faults(usize),
    #[error("none of the streams can be opened, see above")]
    NothingOpened,
    #[error("cannot use {} for the cache: {cause}", .folder.display())]
    Cache { folder: PathBuf, cause: io::Error },
    #[error("cannot listen on {address}: {cause}; give another address")]
    Listen { address: SocketAddr, cause: io::Error },
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    #[error("the node stopped by itself; the log above says why")]
    Stopped,
}

impl CommandError {
    /// 2 where it was started wrongly, as for arguments that cannot be read; else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        if matches!(self, Self::Settings(_)) { 2 } else { 1 }
    }
}

fn say(line: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(CommandError::Output)
}

pub(crate) fn keygen(file: &Path) -> Result<(), CommandError> {
    let key = Key::generate()?;
    key.save(file)?;
    say(&key.public_text())?;
    eprintln!("secret key in {}, public key in {}", file.display(), public_path(file).display());
    Ok(())
}

pub(crate) fn public(file: &Path) -> Result<(), CommandError> {
    say(&Key::load(file)?.public_text())
}

fn swarm_name(given: Option<String>, source: &Url, key: Option<&Key>) -> Result<SwarmName, CommandError> {
    Ok(match given {
        Some(name) => SwarmName::new(name)?,
        None => SwarmName::derive(source.as_str(), key.map(Key::public_text).as_deref())?,
    })
}

pub(crate) async fn sign(args: SignArgs) -> Result<(), CommandError> {
    let keys = args.key.iter().map(|file| Key::load(file)).collect::<Result<Vec<_>, _>>()?;
    match Url::parse(&args.source) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => {
            let signer = |key: Key| {
                let swarm = swarm_name(args.swarm.clone(), &url, Some(&key))?;
                Ok(Signer::new(key, Scope::of_swarm(&swarm)))
            };
            let signers = keys.into_iter().map(signer).collect::<Result<Vec<_>, CommandError>>()?;
            let folder = args.out.unwrap_or_else(|| PathBuf::from("."));
            let http = Http::new()?;
            let progress = Progress::new("segments");
            tokio::select! {
                signed = sign_url(&http, &url, &signers, &folder, args.watch, &progress) => {
                    drop(progress);
                    let signed = signed?;
                    let (path, count) = (signed.file.path().display(), signed.file.len());
                    say(&format!("{path}: {count} segments signed; put it at {}", signed.belongs))
                }
                () = stopped() => Ok(()),
            }
        }
        _ => {
            let scope = match args.swarm {
                Some(name) => Scope::of_swarm(&SwarmName::new(name)?),
                None => Scope::Any,
            };
            let signers: Vec<Signer> = keys.into_iter().map(|key| Signer::new(key, scope)).collect();
            let folder = Folder::open(Path::new(&args.source))?;
            if args.watch { watch_folder(folder, signers).await } else { sign_folder(folder, &signers) }
        }
    }
}

fn sign_folder(mut folder: Folder, signers: &[Signer]) -> Result<(), CommandError> {
    let Pass { written, mut errors } = folder.pass(signers, &Progress::new("streams"));
    for (path, count) in written {
        say(&format!("{}: {count} segments signed", path.display()))?;
    }
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0).into()),
        count => {
            errors.iter().for_each(|error| eprintln!("headwater-seed: {error}"));
            Err(CommandError::Several(count))
        }
    }
}

/// Signs until stopped. What is wrong is said once, not at each pass: a playlist may be half written just now.
async fn watch_folder(folder: Folder, signers: Vec<Signer>) -> Result<(), CommandError> {
    let mut stop = std::pin::pin!(stopped());
    let mut state = (folder, signers);
    let mut said = Vec::new();
    let mut last_pass: Option<Instant> = None;
    loop {
        if last_pass.is_none_or(|last| last.elapsed() >= PASS_EVERY) || state.0.has_news() {
            let ((folder, signers), pass) = tokio::task::spawn_blocking(move || {
                let pass = state.0.pass(&state.1, &Progress::hidden());
                (state, pass)
            })
            .await
            .map_err(|_| CommandError::Stopped)?;
            state = (folder, signers);
            last_pass = Some(Instant::now());
            for (path, segments) in pass.written {
                tracing::info!(path = %path.display(), segments, "catalogue written");
            }
            let errors: Vec<String> = pass.errors.iter().map(ToString::to_string).collect();
            for error in errors.iter().filter(|error| !said.contains(*error)) {
                tracing::warn!("{error}");
            }
            said = errors;
        }
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// Waits until a person or a service manager wants the program to end.
async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
            }
            Err(_) => drop(tokio::signal::ctrl_c().await),
        }
    }
    #[cfg(not(unix))]
    drop(tokio::signal::ctrl_c().await);
}
