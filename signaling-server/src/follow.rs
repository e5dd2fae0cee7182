//! What is read from files and read again when they change: certificates, keys, maps.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

/// How often the files are looked at: soon enough for whoever waits for a change, and free.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Something read from files.
pub(crate) struct Followed<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    current: RwLock<Arc<T>>,
}

impl<T> Followed<T> {
    /// Reads it for the first time, where a failure is the caller's.
    pub(crate) fn new<E: fmt::Display>(
        what: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let current = RwLock::new(Arc::new(read()?));
        let read = Box::new(move || read().map_err(|error| error.to_string()));
        Ok(Self { what, files, read, current })
    }

    /// What was read last.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the files for ever and takes what is new. What cannot be used is said and the old kept: a change that went
    /// wrong must not take the server down.
    pub(crate) async fn follow(&self) {
        let mut seen = self.stamps();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.stamps();
            if now != seen {
                seen = now;
                self.read_again();
            }
        }
    }

    pub(crate) fn read_again(&self) {
        match (self.read)() {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                info!(what = self.what, "read again");
            }
            Err(error) => warn!(what = self.what, error, "keeping what was read before"),
        }
    }

    fn stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let stamp = |file: &PathBuf| {
            let metadata = fs::metadata(file).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        self.files.iter().map(stamp).collect()
    }
}

/// Follows it, where there is something to follow. Never returns.
pub(crate) async fn follow_if_any<T>(followed: Option<&Followed<T>>) {
    match followed {
        Some(followed) => followed.follow().await,
        None => std::future::pending().await,
    }
}

impl<T: fmt::Debug> fmt::Debug for Followed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed").field("what", &self.what).field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_leaves_the_old_in_place() {
        let file = std::env::temp_dir().join(format!("headwater-followed-{}", std::process::id()));
        fs::write(&file, "1").unwrap();
        let read = {
            let file = file.clone();
            move || fs::read_to_string(&file).unwrap().parse::<u32>()
        };
        let followed = Followed::new("number", vec![file.clone()], read).unwrap();
        assert_eq!(*followed.get(), 1);
        let before = followed.stamps();
        fs::write(&file, "twenty").unwrap();
        assert_ne!(followed.stamps(), before);
        followed.read_again();
        assert_eq!(*followed.get(), 1);
        fs::write(&file, "20").unwrap();
        followed.read_again();
        assert_eq!(*followed.get(), 20);
        fs::remove_file(&file).unwrap();
    }
}
