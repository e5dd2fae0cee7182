//! More viewers for the demo: pages in a Chromium without a window, driven by www/origin/viewers.mjs.

use std::path::Path;

use anyhow::Result;

use super::children::Children;
use crate::command::program;
use crate::repo::Repo;

/// Opens the page that many times.
pub(super) fn start(repo: &Repo, children: &mut Children, chromium: &Path, page: &str, count: u8) -> Result<()> {
    let mut script = program(repo, "node");
    script.args(["www/origin/viewers.mjs", page, &count.to_string()]).env("CHROMIUM", chromium);
    children.spawn("viewers", &mut script)
}
