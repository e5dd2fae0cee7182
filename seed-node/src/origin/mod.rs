//! The publisher's stream at its origin: [`playlist`] and [`dash`] read playlists and manifests, [`Source`] is a stream with
//! all of its tracks, [`mirror`] pulls them.

pub mod dash;
mod finished;
pub mod mirror;
mod page;
pub mod playlist;
pub mod pull;
mod watch;

use std::collections::BTreeMap;

use headwater_swarm::MediaKind;
use headwater_wire::TrackId;
use headwater_wire::id::track_key;
use url::Url;

use crate::http::{Fetched, Http, HttpError};
use dash::{IndexError, Manifest, Numbering};
use playlist::{Media, Playlist, PlaylistError};
pub(crate) use watch::watch;

/// Largest playlist in bytes: a day of two-second segments with long addresses.
pub(crate) const MAX_PLAYLIST_LEN: usize = 16 * 1024 * 1024;

/// How often a playlist is tried at the start, where a person waits for the outcome.
const START_ATTEMPTS: u32 = 2;

/// Why a stream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Its playlist cannot be had.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// What is at its address is no playlist.
    #[error("{url} {error}")]
    Playlist {
        /// The address.
        url: String,
        /// What is wrong.
        error: PlaylistError,
    },
    /// Nothing is left of it.
    #[error("no rendition of {url} is called {wanted}; it has: {there}")]
    NoSuchTrack {
        /// The stream.
        url: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: String,
    },
    /// Multivariant playlists do not name each other.
    #[error("{0} is named as a media playlist and is none; if it is a multivariant one, give it as the source itself")]
    Nested(String),
    /// The index of a file cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// One rendition.
#[derive(Debug, Clone)]
pub struct Track {
    /// Its name in the swarm.
    pub id: TrackId,
    /// What its name is made of.
    pub key: String,
    /// What a person calls it: the path of its playlist, or the id of a DASH representation.
    pub name: String,
    /// Where its media playlist is, or the manifest that it is in.
    pub url: Url,
    /// How its segments are numbered, where it is in a manifest.
    pub numbering: Option<Numbering>,
    /// What it holds.
    pub kind: MediaKind,
    /// Its media playlist, as it was first loaded.
    pub media: Media,
}

/// A stream.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its address, as the publisher and the embed code give it.
    pub url: Url,
    /// Where it is pulled from.
    pub from: Url,
    /// Its tracks; at least one.
    pub tracks: Vec<Track>,
}

impl Source {
    /// Loads the playlist at `url` and those that it names.
    ///
    /// # Errors
    /// Where the playlist at `url`, or all that it names, cannot be used.
    pub async fn open(http: &Http, url: &Url) -> Result<Self, SourceError> {
        Self::open_from(http, url, url).await
    }

    /// Loads the playlist of the stream that viewers know as `public` from another place, such as a `file:` address. The
    /// playlists that it names must lie there as they lie in public.
    ///
    /// # Errors
    /// As for [`Source::open`].
    pub async fn open_from(http: &Http, public: &Url, url: &Url) -> Result<Self, SourceError> {
        let (base, playlist) = load(http, url, START_ATTEMPTS).await?;
        let renditions = match playlist {
            Playlist::Media(media) => {
                let track = track(url, url.clone(), MediaKind::Main, media);
                return Ok(Self { url: public.clone(), from: url.clone(), tracks: vec![track] });
            }
            Playlist::Multivariant(renditions) => renditions,
            Playlist::Manifest(mut manifest) => {
                manifest.load_indexes(http).await?;
                let tracks = tracks_of(url, &manifest);
                if tracks.is_empty() {
                    let error = PlaylistError::NoSegments;
                    return Err(SourceError::Playlist { url: url.to_string(), error });
                }
                return Ok(Self { url: public.clone(), from: url.clone(), tracks });
            }
        };
        tracing::debug!(url = %base, renditions = renditions.len(), "multivariant playlist");
        let mut tracks: BTreeMap<TrackId, Track> = BTreeMap::new();
        let mut failure = None;
        for rendition in renditions {
            match load_media(http, &rendition.url, START_ATTEMPTS).await {
                Ok(media) => {
                    let track = track(url, rendition.url, rendition.kind, media);
                    tracks.entry(track.id).or_insert(track);
                }
                Err(error) => {
                    if let Some(earlier) = failure.replace(error) {
                        tracing::warn!(error = %earlier, "leaving a rendition out");
                    }
                }
            }
        }
        if let Some(error) = failure {
            if tracks.is_empty() {
                return Err(error);
            }
            tracing::warn!(%error, "leaving a rendition out");
        }
        Ok(Self { url: public.clone(), from: url.clone(), tracks: tracks.into_values().collect() })
    }

    /// Keeps the tracks whose name (the path of their playlist, or the representation's id) is one of `wanted`; a star there
    /// stands for any text.
    ///
    /// # Errors
    /// Where one of `wanted` names none.
    pub fn pick(&mut self, wanted: &[String]) -> Result<(), SourceError> {
        if wanted.is_empty() {
            return Ok(());
        }
        for pattern in wanted {
            if !self.tracks.iter().any(|track| matches(pattern, &track.name)) {
                let there: Vec<&str> = self.tracks.iter().map(|track| track.name.as_str()).collect();
                let (url, there) = (self.url.to_string(), there.join(", "));
                return Err(SourceError::NoSuchTrack { url, wanted: pattern.clone(), there });
            }
        }
        self.tracks.retain(|track| wanted.iter().any(|pattern| matches(pattern, &track.name)));
        Ok(())
    }

    /// Whether more segments will come.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.tracks.iter().any(|track| track.media.live)
    }

    /// Where the stream's catalogue file belongs.
    #[must_use]
    pub fn catalogue_url(&self) -> Url {
        catalogue_url(&self.url)
    }
}

/// Where the catalogue file of the stream at `source` belongs: beside its playlist.
#[must_use]
pub fn catalogue_url(source: &Url) -> Url {
    let mut url = source.clone();
    url.set_path(&format!("{}{}", source.path(), headwater_wire::catalogue::FILE_SUFFIX));
    url
}

/// Whether a name fits a pattern, in which a star stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(before) else { return false };
    loop {
        if matches(after, rest) {
            return true;
        }
        let mut chars = rest.chars();
        if chars.next().is_none() {
            return false;
        }
        rest = chars.as_str();
    }
}

fn track(source: &Url, url: Url, kind: MediaKind, media: Media) -> Track {
    let key = track_key(source.as_str(), url.as_str());
    Track { id: TrackId::of_key(&key), name: key.clone(), key, url, numbering: None, kind, media }
}

/// The tracks of a manifest at `url` whose indexes are loaded. A rendition without any segment is none (yet).
pub(crate) fn tracks_of(url: &Url, manifest: &Manifest) -> Vec<Track> {
    let track = |rendition: &dash::Rendition| {
        let numbering = rendition.numbering(manifest.live);
        let media = manifest.media(&rendition.id, numbering)?;
        let key = dash::track_key(&rendition.id, numbering);
        let (id, name, kind) = (TrackId::of_key(&key), rendition.id.clone(), rendition.kind);
        Some(Track { id, key, name, url: url.clone(), numbering: Some(numbering), kind, media })
    };
    manifest.renditions.iter().filter_map(track).collect()
}

async fn load(http: &Http, url: &Url, attempts: u32) -> Result<(Url, Playlist), SourceError> {
    let file = http.get(url, None, MAX_PLAYLIST_LEN, attempts).await?;
    let playlist = read(url, &file)?;
    Ok((file.url, playlist))
}

fn read(url: &Url, file: &Fetched) -> Result<Playlist, SourceError> {
    playlist::parse(&file.url, &file.bytes).map_err(|error| SourceError::Playlist { url: url.to_string(), error })
}

/// Loads a media playlist.
///
/// # Errors
/// See [`SourceError`].
pub async fn load_media(http: &Http, url: &Url, attempts: u32) -> Result<Media, SourceError> {
    match load(http, url, attempts).await?.1 {
        Playlist::Media(media) => Ok(media),
        Playlist::Multivariant(_) | Playlist::Manifest(_) => Err(SourceError::Nested(url.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, fits) in [
            ("v720/index.m3u8", "v720/index.m3u8", true),
            ("v720", "v720/index.m3u8", false),
            ("v720*", "v720/index.m3u8", true),
            ("*720*", "v720/index.m3u8", true),
            ("*/index.m3u8", "v720/index.m3u8", true),
            ("*1080*", "v720/index.m3u8", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
