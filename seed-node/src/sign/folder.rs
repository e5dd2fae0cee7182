//! Signing what lies in a folder: every stream in it gets its catalogue file beside its playlist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use headwater_wire::catalogue::FILE_SUFFIX;
use headwater_wire::id::track_key;
use headwater_wire::limits::MAX_SEGMENT_LEN;
use headwater_wire::{SegmentId, TrackId};
use url::Url;

use super::Signer;
use super::file::{CatalogueFile, WriteError};
use super::remote::add;
use crate::node::Location;
use crate::origin::dash::{self, IndexError, Manifest, Numbering};
use crate::origin::playlist::{self, Media, Playlist, PlaylistError};
use crate::origin::{self, MAX_PLAYLIST_LEN};
use crate::progress::Progress;

/// How deep below the folder playlists are looked for.
const MAX_DEPTH: usize = 16;

/// Why a stream of a folder was not signed, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file or folder cannot be read.
    #[error("cannot read {} ({cause})", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// No playlist at all.
    #[error("there is no playlist (.m3u8 or .mpd) in {}", .0.display())]
    NoPlaylist(PathBuf),
    /// A file is called a playlist and is none.
    #[error("{} {error}", .path.display())]
    Playlist {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: PlaylistError,
    },
    /// A playlist names something that does not lie here.
    #[error("{} names {url}, which is not in the folder; sign the stream by its URL instead", .playlist.display())]
    Elsewhere {
        /// Which.
        playlist: PathBuf,
        /// What it names.
        url: String,
    },
    /// A segment is listed and not there.
    #[error("{} lists {}, which cannot be read ({cause})", .playlist.display(), .segment.display())]
    Segment {
        /// Where it is listed.
        playlist: PathBuf,
        /// Which.
        segment: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// The catalogue cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The index of a file cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// What tells one state of a file from the next.
type Stamp = (Option<SystemTime>, u64);

/// A folder of streams, and what is signed of them.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    streams: BTreeMap<PathBuf, CatalogueFile>,
    /// The playlists read in the last pass, as they were then.
    playlists: BTreeMap<PathBuf, Option<Stamp>>,
    /// How the representations of each manifest are numbered.
    numberings: BTreeMap<PathBuf, BTreeMap<String, Numbering>>,
    /// The segments that are signed, as they were then.
    segments: BTreeMap<(PathBuf, SegmentId), Stamp>,
}

/// What a pass over a folder did.
#[derive(Debug, Default)]
pub struct Pass {
    /// Catalogue files written, with the number of segments in each.
    pub written: Vec<(PathBuf, usize)>,
    /// What went wrong. The rest was done.
    pub errors: Vec<FolderError>,
}

impl Folder {
    /// A folder of which nothing is signed yet.
    ///
    /// # Errors
    /// Where there is no such folder.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let root = fs::canonicalize(path).map_err(|cause| FolderError::Read { path: path.to_owned(), cause })?;
        let (streams, playlists, segments) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { root, streams, playlists, numberings: BTreeMap::new(), segments })
    }

    /// Whether a playlist that the last pass read is another one by now. Cheap enough to be asked often.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.playlists.is_empty() || self.playlists.iter().any(|(path, known)| stamp(path).ok() != *known)
    }

    /// Looks through the folder, signs what is new, and writes the catalogues that changed.
    pub fn pass(&mut self, signers: &[Signer], progress: &Progress) -> Pass {
        let mut pass = Pass::default();
        let mut paths = Vec::new();
        if let Err(error) = find_playlists(&self.root, 0, &mut paths) {
            pass.errors.push(error);
        }
        if paths.is_empty() && pass.errors.is_empty() {
            pass.errors.push(FolderError::NoPlaylist(self.root.clone()));
        }
        self.playlists = paths.iter().map(|path| (path.clone(), stamp(path).ok())).collect();
        let mut read = BTreeMap::new();
        for path in paths {
            match read_playlist(&path) {
                Ok(playlist) => drop(read.insert(path, playlist)),
                Err(error) => pass.errors.push(error),
            }
        }
        let parts: BTreeSet<PathBuf> = read.values().flat_map(renditions).collect();
        let sources: Vec<PathBuf> = read.keys().filter(|path| !parts.contains(*path)).cloned().collect();
        let all = sources.len();
        for (done, source) in (1..).zip(sources) {
            self.sign_stream(&source, &read, signers, &mut pass);
            progress.set(done, all);
        }
        pass
    }

    fn sign_stream(&mut self, source: &Path, read: &BTreeMap<PathBuf, Playlist>, signers: &[Signer], pass: &mut Pass) {
        let mut name = source.as_os_str().to_owned();
        name.push(FILE_SUFFIX);
        let mut file = self.streams.remove(source).unwrap_or_else(|| CatalogueFile::new(name.into()));
        if let Some(Playlist::Manifest(manifest)) = read.get(source) {
            let known = self.numberings.entry(source.to_owned()).or_default();
            let tracks = manifest_tracks(source, manifest, known);
            for (track, media) in tracks {
                self.sign_track(&mut file, track, source, source, &media, pass);
            }
        }
        for (path, media) in tracks_of(source, read, &mut pass.errors) {
            match track_of(source, &path) {
                Some(track) => self.sign_track(&mut file, track, source, &path, media, pass),
                None => pass
                    .errors
                    .push(FolderError::Elsewhere { playlist: source.to_owned(), url: path.display().to_string() }),
            }
        }
        // A stream of which nothing could be read has no catalogue, rather than an empty one.
        if !file.is_empty() {
            match file.write(signers) {
                Ok(true) => pass.written.push((file.path().to_owned(), file.len())),
                Ok(false) => {}
                Err(error) => pass.errors.push(error.into()),
            }
        }
        self.streams.insert(source.to_owned(), file);
    }

    fn sign_track(
        &mut self,
        file: &mut CatalogueFile,
        track: TrackId,
        source: &Path,
        playlist: &Path,
        media: &Media,
        pass: &mut Pass,
    ) {
        for listed in &media.segments {
            let segment = SegmentId { track, seq: listed.seq };
            let Some(path) = local_path(&listed.location.url) else {
                let url = listed.location.url.to_string();
                pass.errors.push(FolderError::Elsewhere { playlist: playlist.to_owned(), url });
                // The others are elsewhere too, most likely: one line is enough.
                return;
            };
            let stamped = stamp(&path);
            let known = self.segments.get(&(source.to_owned(), segment));
            if known.is_some() && known == stamped.as_ref().ok() && file.knows(segment) {
                continue;
            }
            match stamped.and_then(|stamp| Ok((stamp, read_segment(&path, &listed.location)?))) {
                Ok((stamp, bytes)) => {
                    add(file, segment, &bytes, media.live);
                    self.segments.insert((source.to_owned(), segment), stamp);
                }
                // A segment that is signed may be deleted before its playlist is written anew.
                Err(_) if file.knows(segment) => {}
                Err(cause) => {
                    pass.errors.push(FolderError::Segment { playlist: playlist.to_owned(), segment: path, cause });
                }
            }
        }
        if media.live {
            file.forget_before(track, media.first, media.segments.len() as u64);
            let forgotten = |source_: &PathBuf, segment: &SegmentId| {
                source_ == source && segment.track == track && !file.knows(*segment)
            };
            self.segments.retain(|(source, segment), _| !forgotten(source, segment));
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.modified().ok(), metadata.len()))
}

fn find_playlists(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), FolderError> {
    let read_error = |cause| FolderError::Read { path: folder.to_owned(), cause };
    let mut entries: Vec<_> = fs::read_dir(folder).and_then(Iterator::collect).map_err(read_error)?;
    entries.sort_unstable_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_playlist =
            path.extension().is_some_and(|end| end.eq_ignore_ascii_case("m3u8") || end.eq_ignore_ascii_case("mpd"));
        if is_folder && depth < MAX_DEPTH {
            find_playlists(&path, depth + 1, found)?;
        } else if !is_folder && is_playlist {
            found.push(path);
        }
    }
    Ok(())
}

fn file_url(path: &Path) -> Option<Url> {
    // Paths here are absolute, since the root is.
    Url::from_file_path(path).ok()
}

fn local_path(url: &Url) -> Option<PathBuf> {
    if url.scheme() == "file" { url.to_file_path().ok() } else { None }
}

fn read_playlist(path: &Path) -> Result<Playlist, FolderError> {
    let read_error = |cause| FolderError::Read { path: path.to_owned(), cause };
    let file = fs::File::open(path).map_err(read_error)?;
    let mut bytes = Vec::new();
    file.take(MAX_PLAYLIST_LEN as u64).read_to_end(&mut bytes).map_err(read_error)?;
    let url = file_url(path).ok_or_else(|| read_error(io::ErrorKind::InvalidInput.into()))?;
    let mut playlist =
        playlist::parse(&url, &bytes).map_err(|error| FolderError::Playlist { path: path.to_owned(), error })?;
    if let Playlist::Manifest(manifest) = &mut playlist {
        manifest.read_indexes(|url, range| {
            let file = local_path(url)
                .ok_or_else(|| FolderError::Elsewhere { playlist: path.to_owned(), url: url.to_string() })?;
            read_segment(&file, &Location { url: url.clone(), range: Some(range) })
                .map_err(|cause| FolderError::Read { path: file, cause })
        })?;
    }
    Ok(playlist)
}

/// The tracks of a manifest. How one is numbered is settled when it is seen first.
fn manifest_tracks(
    source: &Path,
    manifest: &Manifest,
    known: &mut BTreeMap<String, Numbering>,
) -> Vec<(TrackId, Media)> {
    let Some(url) = file_url(source) else { return Vec::new() };
    for track in origin::tracks_of(&url, manifest) {
        if let Some(numbering) = track.numbering {
            known.entry(track.name).or_insert(numbering);
        }
    }
    let track = |(id, numbering): (&String, &Numbering)| {
        let media = manifest.media(id, *numbering)?;
        Some((TrackId::of_key(&dash::track_key(id, *numbering)), media))
    };
    known.iter().filter_map(track).collect()
}

fn renditions(playlist: &Playlist) -> Vec<PathBuf> {
    match playlist {
        Playlist::Multivariant(renditions) => {
            renditions.iter().filter_map(|rendition| local_path(&rendition.url)).collect()
        }
        Playlist::Media(_) | Playlist::Manifest(_) => Vec::new(),
    }
}

/// The media playlists of a stream, by path.
fn tracks_of<'a>(
    source: &Path,
    read: &'a BTreeMap<PathBuf, Playlist>,
    errors: &mut Vec<FolderError>,
) -> Vec<(PathBuf, &'a Media)> {
    match read.get(source) {
        Some(Playlist::Media(media)) => vec![(source.to_owned(), media)],
        Some(Playlist::Multivariant(renditions)) => {
            let mut tracks = Vec::new();
            for rendition in renditions {
                let path = local_path(&rendition.url);
                match path.as_ref().and_then(|path| read.get(path)) {
                    Some(Playlist::Media(media)) => tracks.extend(path.map(|path| (path, media))),
                    // One that is here and cannot be read was complained of when it was read.
                    _ if path.as_ref().is_some_and(|path| path.exists()) => {}
                    _ => errors.push(FolderError::Elsewhere {
                        playlist: source.to_owned(),
                        url: path.map_or(rendition.url.to_string(), |path| path.display().to_string()),
                    }),
                }
            }
            tracks
        }
        Some(Playlist::Manifest(_)) | None => Vec::new(),
    }
}

/// The track of a media playlist; `None` where it lies outside the folder of the source, since its name would then
/// depend on where the folder is published.
fn track_of(source: &Path, playlist: &Path) -> Option<TrackId> {
    let key = track_key(file_url(source)?.as_str(), file_url(playlist)?.as_str());
    (!key.starts_with('/')).then(|| TrackId::of_key(&key))
}

fn read_segment(path: &Path, location: &Location) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let most = u64::from(MAX_SEGMENT_LEN) + 1;
    let mut bytes = Vec::new();
    match location.range {
        None => drop(file.take(most).read_to_end(&mut bytes)?),
        Some(range) => {
            file.seek(SeekFrom::Start(range.offset))?;
            file.take(range.len.min(most)).read_to_end(&mut bytes)?;
            if bytes.len() as u64 != range.len {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its byte range"));
            }
        }
    }
    Ok(bytes)
}
