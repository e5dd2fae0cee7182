//! Resources that lie on this machine's disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use url::Url;

use super::{Fetched, HttpError, Range};

/// The file that a `file:` address names.
pub(super) fn path(url: &Url) -> Option<PathBuf> {
    if url.scheme() == "file" { url.to_file_path().ok() } else { None }
}

/// Reads a file, or a part of it, of at most `limit` bytes.
pub(super) async fn read(url: &Url, path: PathBuf, range: Option<Range>, limit: usize) -> Result<Fetched, HttpError> {
    let shown = path.display().to_string();
    let reading = tokio::task::spawn_blocking(move || read_blocking(&path, range, limit));
    let result = reading.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
    let bytes = result.map_err(|cause| HttpError::File { path: shown, cause })?;
    if bytes.len() > limit {
        return Err(HttpError::TooLong { url: url.to_string(), limit });
    }
    Ok(Fetched { url: url.clone(), bytes: bytes.into() })
}

fn read_blocking(path: &Path, range: Option<Range>, limit: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    let Some(Range { offset, len }) = range else {
        // One more than fits, to tell that it does not.
        file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        return Ok(bytes);
    };
    file.seek(SeekFrom::Start(offset))?;
    file.take(len.min(limit as u64 + 1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == len {
        Ok(bytes)
    } else {
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its byte range"))
    }
}
