//! How far a job is: a bar that changes in place, where a person watches the terminal.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often the bar is drawn anew, at most.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Characters of the bar.
const WIDTH: usize = 30;

/// A bar on standard error, or nothing where that is no terminal.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    shown: bool,
    drawn: Mutex<Option<Instant>>,
}

impl Progress {
    /// A bar that counts these.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self { what, shown: std::io::stderr().is_terminal(), drawn: Mutex::new(None) }
    }

    /// One that is never shown.
    #[must_use]
    pub fn hidden() -> Self {
        Self { what: "", shown: false, drawn: Mutex::new(None) }
    }

    /// So many of all are done.
    pub fn set(&self, done: usize, of: usize) {
        if !self.shown {
            return;
        }
        // Nothing panics while it holds the lock.
        let mut drawn = self.drawn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if done < of && drawn.is_some_and(|drawn| drawn.elapsed() < DRAW_EVERY) {
            return;
        }
        *drawn = Some(Instant::now());
        // Where the terminal is gone, there is nobody to tell.
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "\r\x1b[2K{}\r", line(self.what, done, of));
        let _ = err.flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            // What follows begins on a clean line.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

fn line(what: &str, done: usize, of: usize) -> String {
    let of = of.max(done).max(1);
    let full = done * WIDTH / of;
    format!("[{}{}] {:3} % {done} of {of} {what}", "#".repeat(full), ".".repeat(WIDTH - full), done * 100 / of)
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_bar_fills_and_never_overflows() {
        assert_eq!(line("segments", 0, 10), format!("[{}]   0 % 0 of 10 segments", ".".repeat(30)));
        assert_eq!(line("segments", 5, 10), format!("[{}{}]  50 % 5 of 10 segments", "#".repeat(15), ".".repeat(15)));
        assert_eq!(line("segments", 12, 10), format!("[{}] 100 % 12 of 12 segments", "#".repeat(30)));
        assert_eq!(line("segments", 0, 0), format!("[{}]   0 % 0 of 1 segments", ".".repeat(30)));
    }
}
