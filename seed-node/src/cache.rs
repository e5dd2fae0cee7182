//! Segments on disk, so that a seed that starts again need not pull them again.
//!
//! A folder with one file a segment, named by the hash of its address, with the hash of its content in front: what the
//! disk garbled is pulled again. No crate for it: those that are kept up are stores of their own with an index that can
//! break (cacache, sled) or hybrid caches with their own threads (foyer), where a folder that anyone can look into and
//! delete from does.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use url::Url;

use crate::http::{Range, Validator};

/// What a file begins with.
const MAGIC: &[u8; 8] = b"HWSEG\0\0\x01";

/// Longest validator kept, either kind.
const MAX_VALIDATOR_LEN: usize = 1024;

/// One file.
#[derive(Debug, Clone, Copy)]
struct Held {
    len: u64,
    used: SystemTime,
}

#[derive(Debug)]
struct Shelf {
    files: BTreeMap<String, Held>,
    bytes: u64,
}

/// A folder of segments of at most so many bytes; the longest unused go first.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    limit: u64,
    shelf: Mutex<Shelf>,
    complained: AtomicBool,
}

/// A segment from the disk.
#[derive(Debug)]
pub struct Cached {
    /// Its bytes.
    pub bytes: Bytes,
    /// What the origin called this state of it.
    pub validator: Validator,
}

/// What the folder of one stream is called at the end.
const FOLDER_SUFFIX: &str = ".stream";

impl DiskCache {
    /// Opens a folder for several streams: one below it for each, with an equal part of `limit`, so that a live stream does
    /// not push a film out. What streams that are not among them left there is removed.
    ///
    /// # Errors
    /// Where it cannot be read, made or tidied.
    pub fn open_shared(folder: &Path, limit: u64, streams: &[String]) -> io::Result<Vec<Arc<Self>>> {
        fs::create_dir_all(folder)?;
        let mut names: Vec<String> = Vec::new();
        for stream in streams {
            // Two that are called the same are still two.
            let twins = names.len();
            let first = folder_name(stream);
            names.push(if names.contains(&first) { folder_name(&format!("{stream}#{twins}")) } else { first });
        }
        tidy(folder, &names)?;
        let share = limit / (names.len() as u64).max(1);
        names.iter().map(|name| Self::open(&folder.join(name), share)).collect()
    }

    /// Opens a folder, and makes it where it is not there. What a program that was killed left half is removed.
    ///
    /// # Errors
    /// Where it cannot be read or made.
    pub fn open(folder: &Path, limit: u64) -> io::Result<Arc<Self>> {
        fs::create_dir_all(folder)?;
        let mut shelf = Shelf { files: BTreeMap::new(), bytes: 0 };
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.ends_with(".part") {
                let _ = fs::remove_file(entry.path());
            } else if name.ends_with(".seg") {
                let metadata = entry.metadata()?;
                let held = Held { len: metadata.len(), used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH) };
                shelf.bytes += held.len;
                shelf.files.insert(name, held);
            }
        }
        let (folder, complained) = (folder.to_owned(), AtomicBool::new(false));
        Ok(Arc::new(Self { folder, limit, shelf: Mutex::new(shelf), complained }))
    }

    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        // Nothing panics while it holds the lock.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of segments that there is room for: heads of files take the rest.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.limit - self.limit / 32
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shelf().bytes
    }

    /// The segment at this address, where it is here and whole. Reads the disk: not for an async task.
    #[must_use]
    pub fn load(&self, url: &Url, range: Option<Range>) -> Option<Cached> {
        let name = name(url, range);
        self.shelf().files.get_mut(&name)?.used = SystemTime::now();
        let path = self.folder.join(&name);
        let cached = fs::File::open(&path).and_then(read);
        match cached {
            Ok(cached) => {
                // Only the order of removal after the next start depends on it.
                let _ =
                    fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(cached)
            }
            Err(error) if is_for_good(&error) => {
                tracing::warn!(path = %path.display(), %error, "a file of the disk cache is of no use; pulling it again");
                self.forget(&name);
                None
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a file of the disk cache now; pulling it again");
                None
            }
        }
    }

    /// Keeps a segment, if there is room on the disk. Writes the disk: not for an async task.
    pub fn store(&self, url: &Url, range: Option<Range>, validator: &Validator, bytes: &[u8]) {
        let name = name(url, range);
        match self.write(&name, validator, bytes) {
            Ok(len) => {
                self.complained.store(false, Ordering::Relaxed);
                self.take_in(name, len);
            }
            Err(error) => {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    let folder = self.folder.display();
                    tracing::error!(%folder, %error, "cannot write to the disk cache; going on without");
                }
            }
        }
    }

    fn write(&self, name: &str, validator: &Validator, bytes: &[u8]) -> io::Result<u64> {
        let path = self.folder.join(name);
        let part = path.with_extension("part");
        let write = || {
            let mut file = fs::File::create(&part)?;
            file.write_all(MAGIC)?;
            file.write_all(blake3::hash(bytes).as_bytes())?;
            for text in [validator.etag(), validator.modified()] {
                let text = text.filter(|text| text.len() <= MAX_VALIDATOR_LEN).unwrap_or_default();
                // Its length fits, being bounded.
                file.write_all(&(text.len() as u16).to_le_bytes())?;
                file.write_all(text)?;
            }
            file.write_all(bytes)?;
            fs::rename(&part, &path)?;
            file.metadata().map(|metadata| metadata.len())
        };
        write().inspect_err(|_| drop(fs::remove_file(&part)))
    }

    fn take_in(&self, name: String, len: u64) {
        let mut shelf = self.shelf();
        let held = Held { len, used: SystemTime::now() };
        let before = shelf.files.insert(name, held).map_or(0, |held| held.len);
        shelf.bytes = shelf.bytes + len - before;
        while shelf.bytes > self.limit {
            let Some(oldest) = shelf.files.iter().min_by_key(|(_, held)| held.used).map(|(name, _)| name.clone())
            else {
                break;
            };
            drop(fs::remove_file(self.folder.join(&oldest)));
            shelf.bytes -= shelf.files.remove(&oldest).map_or(0, |held| held.len);
        }
    }

    fn forget(&self, name: &str) {
        let mut shelf = self.shelf();
        shelf.bytes -= shelf.files.remove(name).map_or(0, |held| held.len);
        drop(fs::remove_file(self.folder.join(name)));
    }
}

/// Whether a file is of no use later either. Too many open files, or a disk that comes back, are no reason to delete it.
fn is_for_good(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound)
}

/// Removes what no stream of `names` uses any more: folders of others, and files of before there were folders.
fn tidy(folder: &Path, names: &[String]) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if name.ends_with(".seg") || name.ends_with(".part") {
            fs::remove_file(path)?;
        } else if name.ends_with(FOLDER_SUFFIX) && !names.contains(&name) {
            tidy(&path, &[])?;
            if let Err(error) = fs::remove_dir(&path) {
                // There is something of somebody else in it.
                tracing::warn!(path = %path.display(), %error, "cannot remove a folder of the disk cache that no stream uses");
            }
        }
    }
    Ok(())
}

fn name(url: &Url, range: Option<Range>) -> String {
    let range = range.map_or_else(String::new, |range| format!("#{}+{}", range.offset, range.len));
    format!("{}.seg", blake3::hash(format!("{url}{range}").as_bytes()).to_hex())
}

fn read(mut file: fs::File) -> io::Result<Cached> {
    let garbled = || io::Error::new(io::ErrorKind::InvalidData, "it is not what was written");
    let mut head = [0; 40];
    file.read_exact(&mut head)?;
    let hash = head.strip_prefix(MAGIC).ok_or_else(garbled)?.to_owned();
    let mut texts = [Vec::new(), Vec::new()];
    for text in &mut texts {
        let mut len = [0; 2];
        file.read_exact(&mut len)?;
        let len = usize::from(u16::from_le_bytes(len));
        if len > MAX_VALIDATOR_LEN {
            return Err(garbled());
        }
        text.resize(len, 0);
        file.read_exact(text)?;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if blake3::hash(&bytes).as_bytes()[..] != hash {
        return Err(garbled());
    }
    let [etag, modified] = &texts;
    Ok(Cached { bytes: bytes.into(), validator: Validator::new(etag, modified) })
}

fn folder_name(stream: &str) -> String {
    let hash = blake3::hash(stream.as_bytes()).to_hex();
    format!("{}{FOLDER_SUFFIX}", &hash[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn what_was_stored_is_there_after_a_restart_and_garbled_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (url("http://o/a.ts"), url("http://o/b.ts"));
        let validator = Validator::new(b"\"v1\"", b"");
        let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
        cache.store(&a, None, &validator, b"first");
        cache.store(&a, Some(Range { offset: 1, len: 2 }), &Validator::default(), b"ir");
        cache.store(&b, None, &Validator::default(), b"second");
        drop(cache);
        let garbled = folder.path().join(name(&b, None));
        let mut bytes = fs::read(&garbled).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&garbled, bytes).unwrap();
        fs::write(folder.path().join("x.part"), b"half").unwrap();

        let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
        let cached = cache.load(&a, None).unwrap();
        assert_eq!((&cached.bytes[..], cached.validator), (&b"first"[..], validator));
        assert_eq!(&cache.load(&a, Some(Range { offset: 1, len: 2 })).unwrap().bytes[..], b"ir");
        assert!(cache.load(&b, None).is_none());
        assert!(cache.load(&url("http://o/c.ts"), None).is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "what is of no use is removed");
    }

    #[test]
    fn it_stays_within_its_limit_and_keeps_what_was_used_last() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path(), 10_000).unwrap();
        let urls: Vec<Url> = (0..6).map(|place| url(&format!("http://o/{place}.ts"))).collect();
        for (place, url) in urls.iter().enumerate() {
            cache.store(url, None, &Validator::default(), &[place as u8; 3000]);
            assert!(cache.load(&urls[0], None).is_some(), "the first one is asked for all the time");
        }
        assert!(cache.bytes() <= 10_000);
        let there: Vec<bool> = urls.iter().map(|url| cache.load(url, None).is_some()).collect();
        assert_eq!(there, [true, false, false, false, true, true]);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_no_reason_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(&folder.path().join("cache"), 10_000).unwrap();
        fs::remove_dir(folder.path().join("cache")).unwrap();
        let a = url("http://o/a.ts");
        cache.store(&a, None, &Validator::default(), b"bytes");
        assert!(cache.load(&a, None).is_none());
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn streams_share_a_limit_and_none_takes_anothers_part() {
        let folder = tempfile::tempdir().unwrap();
        let streams = ["film".to_owned(), "live".to_owned(), "live".to_owned()];
        let open = |streams: &[String]| DiskCache::open_shared(folder.path(), 30_000, streams).unwrap();
        let caches = open(&streams);
        caches[0].store(&url("http://o/film.ts"), None, &Validator::default(), &[1; 3000]);
        for place in 0..20 {
            let url = url(&format!("http://o/{place}.ts"));
            caches[1].store(&url, None, &Validator::default(), &[2; 3000]);
        }
        assert!(caches[0].load(&url("http://o/film.ts"), None).is_some());
        assert!(caches[1].bytes() <= 10_000 && caches[1].bytes() > 6000);
        assert_eq!(caches[2].bytes(), 0, "two of one name are two");
        assert!(caches.iter().map(|cache| cache.room()).sum::<u64>() <= 30_000);

        fs::write(folder.path().join("of-an-earlier-version.seg"), b"x").unwrap();
        fs::write(folder.path().join("mine.txt"), b"x").unwrap();
        let caches = open(&streams[..1]);
        assert!(
            caches[0].load(&url("http://o/film.ts"), None).is_some(),
            "it survives a restart, and has all room now"
        );
        assert!(caches[0].room() > 20_000);
        let there = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(there, 2, "nothing is left of streams that are not seeded any more; what is not ours stays");
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_read_now_may_be_read_later() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path(), 10_000).unwrap();
        let a = url("http://o/a.ts");
        cache.store(&a, None, &Validator::default(), b"bytes");
        // Opening a path through a file fails as a disk does that is away: not for good.
        let (path, away) = (folder.path().join(name(&a, None)), folder.path().join("away"));
        fs::rename(&path, &away).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert!(cache.load(&a, None).is_none());
        fs::rename(&away, &path).unwrap();
        assert_eq!(&cache.load(&a, None).unwrap().bytes[..], b"bytes");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_without_space_keeps_nothing_half_and_seeding_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
        let (a, b) = (url("http://o/a.ts"), url("http://o/b.ts"));
        // Every write to it fails as on a full disk.
        let part = folder.path().join(name(&a, None)).with_extension("part");
        std::os::unix::fs::symlink("/dev/full", part).unwrap();
        cache.store(&a, None, &Validator::default(), &[1; 9000]);
        assert!(cache.load(&a, None).is_none());
        assert!(cache.complained.load(Ordering::Relaxed), "it is said once");
        assert_eq!((cache.bytes(), fs::read_dir(folder.path()).unwrap().count()), (0, 0));
        cache.store(&b, None, &Validator::default(), &[2; 9000]);
        assert_eq!(&cache.load(&b, None).unwrap().bytes[..], &[2; 9000], "as soon as there is room again");
        assert!(!cache.complained.load(Ordering::Relaxed));
    }
}
