//! What is read from files and read again when they change: certificates, keys, maps.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::task::{JoinError, spawn_blocking};
use tracing::{info, warn};

/// How often the files are looked at: soon enough for whoever waits for a change, and free.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Something read from files.
pub(crate) struct Followed<T> {
    what: &'static str,
    files: Arc<[PathBuf]>,
    read: Arc<dyn Fn() -> Result<T, String> + Send + Sync>,
    current: RwLock<Arc<T>>,
    /// The files as they were when they were first read, or before.
    first: Vec<Stamp>,
}

impl<T: Send + 'static> Followed<T> {
    /// Reads it for the first time, where a failure is the caller's.
    pub(crate) fn new<E: fmt::Display>(
        what: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let first = files.iter().map(stamp).collect();
        let current = RwLock::new(Arc::new(read()?));
        let read = Arc::new(move || read().map_err(|error| error.to_string()));
        Ok(Self { what, files: files.into(), read, current, first })
    }

    /// What was read last.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the files for ever and takes what is new. What cannot be used is said and the old kept: a change that went
    /// wrong must not take the server down.
    pub(crate) async fn follow(&self) {
        let mut seen = self.first.clone();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(now) = self.stamps().await
                && now != seen
            {
                seen = now;
                self.read_again().await;
            }
        }
    }

    /// A database has tens of megabytes, and a disk may be slow: neither may hold up those who are served.
    pub(crate) async fn read_again(&self) {
        let read = Arc::clone(&self.read);
        match aside(move || read()).await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                info!(what = self.what, "read again");
            }
            Err(error) => warn!(what = self.what, error, "keeping what was read before"),
        }
    }

    async fn stamps(&self) -> Option<Vec<Stamp>> {
        let files = Arc::clone(&self.files);
        aside(move || files.iter().map(stamp).collect()).await.ok()
    }
}

/// When a file was last written and how long it is, while it is there.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(file: &PathBuf) -> Stamp {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Does work that takes its time on a thread of its own.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    spawn_blocking(work).await
}

/// Follows it, where there is something to follow. Never returns.
pub(crate) async fn follow_if_any<T: Send + 'static>(followed: Option<&Followed<T>>) {
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

    #[tokio::test]
    async fn what_cannot_be_used_leaves_the_old_in_place() {
        let file = std::env::temp_dir().join(format!("headwater-followed-{}", std::process::id()));
        fs::write(&file, "1").unwrap();
        let read = {
            let file = file.clone();
            move || fs::read_to_string(&file).unwrap().parse::<u32>()
        };
        let followed = Followed::new("number", vec![file.clone()], read).unwrap();
        assert_eq!(*followed.get(), 1);
        let before = followed.stamps().await;
        fs::write(&file, "twenty").unwrap();
        assert_ne!(followed.stamps().await, before);
        followed.read_again().await;
        assert_eq!(*followed.get(), 1);
        fs::write(&file, "20").unwrap();
        followed.read_again().await;
        assert_eq!(*followed.get(), 20);
        fs::remove_file(&file).unwrap();
    }
}
