//! The processes of the demo: started, listened to, ended. Only its own, by their ids.

use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long a child may take to end by itself once it was asked.
const GRACE: Duration = Duration::from_secs(3);

/// What runs. Whatever still runs when this is dropped is killed.
#[derive(Default)]
pub(crate) struct Children(Vec<(&'static str, Child)>);

impl Children {
    /// Starts one; each line it prints is printed with its name in front.
    pub(crate) fn spawn(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if !io::stdout().is_terminal() {
            command.env("NO_COLOR", "1");
        }
        let mut child = command.spawn().with_context(|| format!("cannot start the {name}"))?;
        if let Some(pipe) = child.stdout.take() {
            thread::spawn(move || print_lines(name, pipe));
        }
        if let Some(pipe) = child.stderr.take() {
            thread::spawn(move || print_lines(name, pipe));
        }
        self.0.push((name, child));
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets those that ended since the last call; a line on each.
    pub(crate) fn deaths(&mut self) -> Vec<String> {
        let mut deaths = Vec::new();
        self.0.retain_mut(|(name, child)| match child.try_wait() {
            Ok(Some(status)) => {
                deaths.push(format!("the {name} stopped ({status})"));
                false
            }
            Ok(None) | Err(_) => true,
        });
        deaths
    }

    /// Asks all to end, waits a little, and ends those that did not.
    pub(crate) fn stop(&mut self) {
        for (_, child) in &mut self.0 {
            ask_to_end(child);
        }
        let asked = Instant::now();
        while !self.0.is_empty() && asked.elapsed() < GRACE {
            self.deaths();
            thread::sleep(Duration::from_millis(50));
        }
        for (_, child) in &mut self.0 {
            // One that ended meanwhile is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.0.clear();
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.stop();
    }
}

/// SIGTERM where there is such a thing; the standard library can only kill.
fn ask_to_end(child: &mut Child) {
    let asked = cfg!(unix)
        && Command::new("kill")
            .arg(child.id().to_string())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|sent| sent.success());
    if !asked {
        // It is dead already, or this is a system without signals.
        let _ = child.kill();
    }
}

fn print_lines(name: &str, pipe: impl Read) {
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        println!("{name:>7} | {line}");
    }
}
