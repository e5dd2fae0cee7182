//! Keeps what else runs on this machine from delaying a measurement.

use std::process::Command;

/// While it lasts, this process and those that it starts do not wait for the turns of what else runs on this machine, where
/// they may: both ends of a path have machines of their own. Otherwise a browser is late by more than its socket's buffer
/// now and then, which no path does.
#[derive(Debug)]
pub(crate) struct Undisturbed;

impl Undisturbed {
    /// From now on.
    pub(crate) fn start() -> Self {
        if !schedule(["-r", "1"]) {
            eprintln!("both ends have no priority over other programs: on a busy machine they are late, and lose more");
        }
        Self
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        schedule(["-o", "0"]);
    }
}

/// Sets how all threads of this process take their turns, and says whether it may.
fn schedule([policy, priority]: [&str; 2]) -> bool {
    let process = std::process::id().to_string();
    let set = Command::new("chrt").args(["-a", policy, "-p", priority, &process]).output();
    set.is_ok_and(|output| output.status.success())
}
