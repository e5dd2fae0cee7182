//! DASH manifests, read into the same few facts as HLS playlists: which renditions there are, and which segments each has.
//!
//! A DASH segment has no number that every player shows, so that names are made of what all of them know: the
//! representation's id, and where a segment begins. docs/protocol.md has the rule.

mod addressing;
mod sidx;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dash_mpd::{AdaptationSet, MPD, Period, Representation};
use headwater_swarm::MediaKind;
use headwater_wire::SeqNo;
use url::Url;

use super::playlist::{Listed, MAX_DURATION, MIN_TARGET, Media, PlaylistError};
use crate::http::{Http, HttpError, Range};
use crate::node::Location;
use addressing::{Addressing, Window};

/// Most segments of one representation: a day of one-second segments. A repeat count may claim any number of them.
const MAX_SEGMENTS: usize = 100_000;

/// Most representations of a manifest: far more than any stream has.
const MAX_REPRESENTATIONS: usize = 64;

/// Largest index of a file.
const MAX_INDEX_LEN: usize = 4 * 1024 * 1024;

/// How often an index is tried.
const INDEX_ATTEMPTS: u32 = 3;

/// What a live segment's place is rounded with: a part of a segment that no usual alignment falls on.
const ROUNDING: f64 = 0.37;

/// How often a manifest without a period of its own is looked at.
const USUAL_PERIOD: Duration = Duration::from_secs(2);

/// A manifest, evaluated at some moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Whether more segments will come.
    pub live: bool,
    /// How often to look for more.
    pub target: Duration,
    /// Its renditions, each once, whatever number of periods it is in.
    pub renditions: Vec<Rendition>,
    /// What players need before segments.
    pub initializations: Vec<Url>,
}

/// A representation.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendition {
    /// Its id.
    pub id: String,
    /// What it holds.
    pub kind: MediaKind,
    /// Its segments, in order.
    pub segments: Vec<Part>,
    /// Files whose segments only their own index knows: each with when its period begins and the times it starts from.
    indexed: Vec<IndexedFile>,
}

/// A segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Seconds on the presentation's timeline.
    pub start: f64,
    /// Seconds.
    pub duration: f64,
    /// Where it is.
    pub location: Location,
}

/// A file with an index (`sidx`).
#[derive(Debug, Clone, PartialEq)]
struct IndexedFile {
    url: Url,
    index: Range,
    /// Seconds to add to the file's own times.
    offset: f64,
}

/// How the segments of a track are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// By their place among all: the whole list is known.
    Place,
    /// By where they begin, in units of so many milliseconds: only a window is known.
    Time(u32),
}

impl Manifest {
    /// Reads a manifest that came from `url`, as things are at `now`.
    ///
    /// # Errors
    /// See [`PlaylistError`].
    pub fn parse(url: &Url, text: &str, now: SystemTime) -> Result<Self, PlaylistError> {
        let mpd = dash_mpd::parse(text).map_err(|error| PlaylistError::Manifest(error.to_string()))?;
        let live = mpd.mpdtype.as_deref() == Some("dynamic");
        let base = base_of(url, &mpd.base_url)?;
        let mut manifest = Self { live, target: target_of(&mpd), renditions: Vec::new(), initializations: Vec::new() };
        let mut next_start = Duration::ZERO;
        for (place, period) in mpd.periods.iter().enumerate() {
            let start = period.start.unwrap_or(next_start);
            let following = mpd.periods.get(place + 1).and_then(|next| next.start);
            let last = place + 1 == mpd.periods.len();
            let whole = mpd.mediaPresentationDuration.filter(|_| last).map(|whole| whole.saturating_sub(start));
            let duration = period.duration.or(following.map(|next| next.saturating_sub(start))).or(whole);
            next_start = start + duration.unwrap_or_default();
            let window = Window::new(&mpd, live, now, start, duration);
            manifest.add_period(&base, period, &window)?;
        }
        if manifest.renditions.iter().all(|rendition| rendition.segments.is_empty() && rendition.indexed.is_empty()) {
            return Err(PlaylistError::NoSegments);
        }
        Ok(manifest)
    }

    /// Loads the indexes of files that have one.
    ///
    /// # Errors
    /// Where one cannot be had, or is none.
    pub async fn load_indexes(&mut self, http: &Http) -> Result<(), IndexError> {
        for rendition in &mut self.renditions {
            for file in std::mem::take(&mut rendition.indexed) {
                let fetched = http.get(&file.url, Some(file.index), MAX_INDEX_LEN, INDEX_ATTEMPTS).await?;
                rendition.take_index(&file, &fetched.bytes)?;
            }
        }
        Ok(())
    }

    /// The same, where they can be read at once.
    ///
    /// # Errors
    /// As [`Manifest::load_indexes`].
    pub fn read_indexes<E: From<IndexError>>(
        &mut self,
        read: impl Fn(&Url, Range) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        for rendition in &mut self.renditions {
            for file in std::mem::take(&mut rendition.indexed) {
                let bytes = read(&file.url, file.index)?;
                rendition.take_index(&file, &bytes)?;
            }
        }
        Ok(())
    }

    fn add_period(&mut self, base: &Url, period: &Period, window: &Window) -> Result<(), PlaylistError> {
        let base = base_of(base, &period.BaseURL)?;
        for set in &period.adaptations {
            let base = base_of(&base, &set.BaseURL)?;
            for representation in &set.representations {
                // Without an id there is no name; pictures for a seek bar are no media.
                let (Some(id), Some(kind)) = (&representation.id, kind_of(set, representation)) else { continue };
                let base = base_of(&base, &representation.BaseURL)?;
                let addressing = Addressing::of(period, set, representation, window, &base)?;
                self.initializations.extend(addressing.initialization);
                let rendition = match self.renditions.iter_mut().position(|known| known.id == *id) {
                    Some(place) => &mut self.renditions[place],
                    None if self.renditions.len() >= MAX_REPRESENTATIONS => continue,
                    None => {
                        let (segments, indexed) = (Vec::new(), Vec::new());
                        self.renditions.push(Rendition { id: id.clone(), kind, segments, indexed });
                        let last = self.renditions.len() - 1;
                        &mut self.renditions[last]
                    }
                };
                rendition.segments.extend(addressing.parts);
                rendition.segments.truncate(MAX_SEGMENTS);
                rendition.indexed.extend(addressing.indexed);
            }
        }
        Ok(())
    }

    /// The segments of a rendition under their numbers; `None` where it has none now.
    #[must_use]
    pub fn media(&self, id: &str, numbering: Numbering) -> Option<Media> {
        let rendition = self.renditions.iter().find(|rendition| rendition.id == id)?;
        let segments = numbered(&rendition.segments, numbering);
        let first = segments.first()?.seq;
        Some(Media { live: self.live, target: self.target, first, segments })
    }
}

impl Rendition {
    /// How its segments are to be numbered from now on.
    #[must_use]
    pub fn numbering(&self, live: bool) -> Numbering {
        if live { Numbering::Time(usual_ms(&self.segments)) } else { Numbering::Place }
    }

    fn take_index(&mut self, file: &IndexedFile, bytes: &[u8]) -> Result<(), IndexError> {
        let no_index = || IndexError::NoIndex { url: file.url.to_string() };
        let parts = sidx::read(bytes, file.index.offset).ok_or_else(no_index)?;
        self.segments.extend(parts.into_iter().map(|part| Part {
            start: part.start + file.offset,
            duration: part.duration,
            location: Location { url: file.url.clone(), range: Some(part.range) },
        }));
        self.segments.truncate(MAX_SEGMENTS);
        Ok(())
    }
}

/// Why the index of a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It cannot be had.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It is none.
    #[error("{url} has no segment index (sidx) where its manifest says")]
    NoIndex {
        /// The file.
        url: String,
    },
}

/// The key of a representation's track.
#[must_use]
pub fn track_key(id: &str, numbering: Numbering) -> String {
    match numbering {
        Numbering::Place => id.to_owned(),
        Numbering::Time(unit) => format!("{id}@{unit}"),
    }
}

/// Segments under their numbers, ascending.
fn numbered(parts: &[Part], numbering: Numbering) -> Vec<Listed> {
    let listed = |seq, part: &Part| {
        let duration = Duration::try_from_secs_f64(part.duration).unwrap_or_default().min(MAX_DURATION);
        Listed { seq: SeqNo(seq), location: part.location.clone(), duration }
    };
    match numbering {
        Numbering::Place => (0..).zip(parts).map(|(place, part)| listed(place, part)).collect(),
        Numbering::Time(unit) => {
            let number = |seconds: f64| {
                let place = seconds * 1000.0 / f64::from(unit) + ROUNDING;
                // Positive and below 2^53, as times are.
                place.max(0.0).floor() as u64
            };
            let mut all: Vec<Listed> = Vec::new();
            for part in parts {
                let (seq, next) = (number(part.start), number(part.start + part.duration));
                // One that ends in the unit it begins in would share its number with the next: it goes without.
                if next > seq && all.last().is_none_or(|last| last.seq.0 < seq) {
                    all.push(listed(seq, part));
                }
            }
            all
        }
    }
}

/// The duration in milliseconds that most segments have; of equally many, the longest.
fn usual_ms(parts: &[Part]) -> u32 {
    let mut counts = std::collections::BTreeMap::<u32, usize>::new();
    for part in parts {
        *counts.entry((part.duration * 1000.0).round().clamp(1.0, 1e9) as u32).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(duration, count)| (*count, *duration)).map_or(1, |(duration, _)| duration)
}

fn kind_of(set: &AdaptationSet, representation: &Representation) -> Option<MediaKind> {
    let kinds = [&representation.mimeType, &set.mimeType, &representation.contentType, &set.contentType];
    let kind = kinds.into_iter().flatten().next().map(String::as_str).unwrap_or_default();
    match kind.split('/').next().unwrap_or_default() {
        "audio" => Some(MediaKind::Audio),
        "text" | "application" => Some(MediaKind::Text),
        "image" => None,
        _ => Some(MediaKind::Main),
    }
}

/// The first of the base URLs: the others are the same content elsewhere.
fn base_of(base: &Url, given: &[dash_mpd::BaseURL]) -> Result<Url, PlaylistError> {
    given.first().map_or_else(|| Ok(base.clone()), |url| super::playlist::join(base, &url.base))
}

fn target_of(mpd: &MPD) -> Duration {
    let period = mpd.minimumUpdatePeriod.filter(|period| !period.is_zero());
    period.or(mpd.maxSegmentDuration).unwrap_or(USUAL_PERIOD).clamp(MIN_TARGET, MAX_DURATION)
}

/// Seconds since 1970.
fn since_epoch(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests;
