//! Embeds the built player: every file of `www/dist`, or of the folder that HEADWATER_WEB_DIST names.
//!
//! Writes `assets.rs` with a list of (path, bytes). Without the folder the list is empty, and the server says so.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=HEADWATER_WEB_DIST");
    let dist = match env::var_os("HEADWATER_WEB_DIST") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../www/dist"),
    };
    // While the folder is missing, Cargo runs this on every build: that is how it notices the first player.
    println!("cargo::rerun-if-changed={}", dist.display());

    let mut files = Vec::new();
    if dist.is_dir() {
        collect(&dist.canonicalize()?, "", &mut files)?;
    }
    files.sort();

    let mut source = String::from("&[\n");
    for (path, file) in &files {
        let _ = writeln!(source, "    ({path:?}, include_bytes!({:?})),", file.display().to_string());
    }
    source.push_str("]\n");
    fs::write(Path::new(&variable("OUT_DIR")?).join("assets.rs"), source)
}

fn variable(name: &str) -> io::Result<std::ffi::OsString> {
    env::var_os(name).ok_or_else(|| io::Error::other(format!("Cargo has not set {name}")))
}

/// Adds the files below `folder`, as (path from the root of the server, file). Hidden ones and links are left out.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let path = format!("{prefix}/{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), &path, files)?;
        } else if kind.is_file() {
            files.push((path, entry.path()));
        }
    }
    Ok(())
}
