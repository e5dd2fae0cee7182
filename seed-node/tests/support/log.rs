//! What a seed of this process logs.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::PATIENCE;

/// What the seed logs. Each test has a process of its own under nextest; under `cargo test` they share it, which does no
/// harm, since they look for what only they provoke.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn start() -> Self {
        static LOG: std::sync::OnceLock<Log> = std::sync::OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            let _ = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).try_init();
            log
        })
        .clone()
    }

    pub async fn says(&self, parts: &[&str]) {
        let waiting = async {
            loop {
                let text = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
                if text.lines().any(|line| parts.iter().all(|part| line.contains(part))) {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("no line with {parts:?} in:\n{}", String::from_utf8_lossy(&self.0.lock().unwrap()));
        }
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
