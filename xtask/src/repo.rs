//! Where things are in the repository.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// The repository that this xtask was started in.
pub(crate) struct Repo {
    root: PathBuf,
}

impl Repo {
    /// Finds the repository from what cargo says at run time, so that a moved clone works.
    pub(crate) fn find() -> Result<Self> {
        let xtask = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = xtask.parent().unwrap_or(&xtask).to_owned();
        ensure!(root.join("Cargo.toml").is_file(), "no repository at {}: start this as `cargo xtask`", root.display());
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the root, written with slashes.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Cargo's target folder.
    pub(crate) fn target(&self) -> PathBuf {
        // An absolute CARGO_TARGET_DIR replaces the root, a relative one is below it.
        self.root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
    }

    /// xtask's own folder below the target folder: stamps, the demo's keys.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.target().join("xtask")
    }

    /// What `cargo xtask web` makes.
    pub(crate) fn dist(&self) -> PathBuf {
        self.path("www/dist")
    }

    /// A binary that `cargo build` made.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.target().join("debug").join(format!("{name}{}", env::consts::EXE_SUFFIX))
    }
}
