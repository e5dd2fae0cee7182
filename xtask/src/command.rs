//! Starting other programs: quietly, in the open, or both at once.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::repo::Repo;

/// A program that runs in the repository's root.
pub(crate) fn program(repo: &Repo, name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(repo.root());
    // What `cargo run` tells this process about xtask is not true of others; some build scripts would start over.
    for (key, _) in env::vars_os() {
        let key_text = key.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| key_text.starts_with(prefix)) {
            command.env_remove(&key);
        }
    }
    command
}

/// The cargo that started this process.
pub(crate) fn cargo(repo: &Repo) -> Command {
    program(repo, env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Node, in www/.
pub(crate) fn node(repo: &Repo) -> Command {
    let mut command = program(repo, "node");
    command.current_dir(repo.path("www"));
    command
}

/// Where a program is on the PATH.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(&file)).find(|path| path.is_file())
}

/// Runs a program in the open; its failure is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs a program and returns what it prints; its failure is an error that ends with its own last words.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", describe(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a program that ran in the open printed, and whether it succeeded.
pub(crate) struct Teed {
    pub(crate) success: bool,
    pub(crate) output: String,
}

/// Runs a program in the open and keeps what it prints, stdout and stderr together.
pub(crate) fn tee(command: &mut Command) -> Result<Teed> {
    if io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always").env("FORCE_COLOR", "1");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| cannot_start(command))?;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let copiers: Vec<_> = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ]
    .into_iter()
    .flatten()
    .map(|pipe| {
        let kept = Arc::clone(&kept);
        thread::spawn(move || copy_lines(pipe, &kept))
    })
    .collect();
    let status = child.wait()?;
    for copier in copiers {
        // A copier that panicked lost output, not the verdict.
        let _ = copier.join();
    }
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Teed { success: status.success(), output: String::from_utf8_lossy(&kept).into_owned() })
}

fn copy_lines(pipe: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // A closed stdout is no reason to stop the program.
        let _ = io::stdout().write_all(&line);
        kept.lock().unwrap_or_else(PoisonError::into_inner).append(&mut line);
    }
}

/// The command line, short: programs without their folders.
pub(crate) fn describe(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    command.get_args().fold(name, |line, argument| format!("{line} {}", argument.to_string_lossy()))
}

fn cannot_start(command: &Command) -> String {
    let name = command.get_program().to_string_lossy();
    format!("cannot start `{name}`: is it installed and on the PATH?")
}
