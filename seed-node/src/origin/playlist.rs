//! HLS playlists (and, by way of [`dash`](super::dash), DASH manifests), read into the little that a seed needs of them, with an eye for those that are none or are cut off.
//!
//! Initialisation segments, keys and the playlists themselves are never shared (viewers fetch them over HTTP), so that
//! nothing here names them.

use std::time::{Duration, SystemTime};

use headwater_swarm::MediaKind;
use headwater_wire::SeqNo;
use m3u8_rs::{AlternativeMediaType, MasterPlaylist, MediaPlaylist, MediaPlaylistType, MediaSegment};
use url::Url;

use super::dash::Manifest;
use super::page::is_web_page;
use crate::http::Range;
use crate::node::Location;

/// The shortest target duration believed, so that a playlist cannot make a seed ask without pause.
pub(super) const MIN_TARGET: Duration = Duration::from_millis(500);

/// The longest segment believed.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(3600);

/// How much of a wrong file to show.
const SHOWN: usize = 40;

/// What a playlist file holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Playlist {
    /// The media playlists of a stream.
    Multivariant(Vec<Rendition>),
    /// The segments of one rendition.
    Media(Media),
    /// A DASH manifest: all renditions with their segments.
    Manifest(Box<Manifest>),
}

/// One rendition as a multivariant playlist names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// Of its media playlist.
    pub url: Url,
    /// What it holds.
    pub kind: MediaKind,
}

/// A media playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Whether more segments will come.
    pub live: bool,
    /// The longest duration of a segment, and the measure of how often to look.
    pub target: Duration,
    /// The number of the first segment listed.
    pub first: SeqNo,
    /// Its segments, numbers ascending. Gaps are left out.
    pub segments: Vec<Listed>,
}

/// A segment as a media playlist lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub seq: SeqNo,
    /// Where it is.
    pub location: Location,
    /// How long it plays.
    pub duration: Duration,
}

/// Why a file is no usable playlist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaylistError {
    /// Nothing in it.
    #[error("is empty")]
    Empty,
    /// A web page.
    #[error("is a web page, not a playlist: give the address of the .m3u8 or .mpd file itself")]
    Html,
    /// A DASH manifest that cannot be read.
    #[error("is a DASH manifest that this program cannot read: {0}")]
    Manifest(String),
    /// Something else.
    #[error("is neither an HLS playlist nor a DASH manifest: it begins with `{0}` where `#EXTM3U` or `<MPD` belongs")]
    Other(String),
    /// The end is missing.
    #[error("is cut off: {0}; upload it again, or look why the origin sends only a part")]
    Truncated(&'static str),
    /// A playlist of nothing.
    #[error("is a playlist without any segment or rendition")]
    NoSegments,
    /// It cannot be read though it begins well.
    #[error("is a playlist that this program cannot read")]
    Malformed,
    /// An address in it is none.
    #[error("names `{0}`, which is no address")]
    BadUri(String),
}

/// Reads a playlist that came from `url` (after redirects): relative addresses in it are relative to that.
///
/// # Errors
/// See [`PlaylistError`].
pub fn parse(url: &Url, bytes: &[u8]) -> Result<Playlist, PlaylistError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if check_beginning(bytes)? == Language::Dash {
        let manifest = Manifest::parse(url, &String::from_utf8_lossy(bytes), SystemTime::now())?;
        return Ok(Playlist::Manifest(Box::new(manifest)));
    }
    check_lines(bytes)?;
    if m3u8_rs::is_master_playlist(bytes) {
        let playlist = m3u8_rs::parse_master_playlist_res(bytes).map_err(|_| PlaylistError::Malformed)?;
        return Ok(Playlist::Multivariant(renditions(url, &playlist)?));
    }
    let playlist = m3u8_rs::parse_media_playlist_res(bytes).map_err(|_| PlaylistError::Malformed)?;
    Ok(Playlist::Media(media(url, &playlist)?))
}

#[derive(PartialEq, Eq)]
enum Language {
    Hls,
    Dash,
}

fn check_beginning(bytes: &[u8]) -> Result<Language, PlaylistError> {
    let trimmed = bytes.trim_ascii_start();
    if trimmed.is_empty() {
        return Err(PlaylistError::Empty);
    }
    if trimmed.starts_with(b"#EXTM3U") {
        return Ok(Language::Hls);
    }
    let start = String::from_utf8_lossy(&trimmed[..trimmed.len().min(2048)]).to_ascii_lowercase();
    if is_web_page(bytes) {
        return Err(PlaylistError::Html);
    }
    if start.contains("<mpd") {
        return Ok(Language::Dash);
    }
    let line = start.lines().next().unwrap_or_default();
    let shown: String = line.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    Err(PlaylistError::Other(shown))
}

/// Each tag that announces a URI must be followed by one; the parser would join it to the next in silence.
fn check_lines(bytes: &[u8]) -> Result<(), PlaylistError> {
    let mut announced = None;
    for line in bytes.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii) {
        let announces = if line.starts_with(b"#EXTINF") {
            Some("a segment is announced and its address is missing")
        } else if line.starts_with(b"#EXT-X-STREAM-INF") {
            Some("a rendition is announced and its address is missing")
        } else {
            None
        };
        let is_uri = !line.is_empty() && !line.starts_with(b"#");
        let is_end = line.starts_with(b"#EXT-X-ENDLIST");
        match announced {
            Some(what) if announces.is_some() || is_end => return Err(PlaylistError::Truncated(what)),
            Some(_) if is_uri => announced = None,
            _ => {}
        }
        announced = announces.or(announced);
    }
    announced.map_or(Ok(()), |what| Err(PlaylistError::Truncated(what)))
}

fn renditions(base: &Url, playlist: &MasterPlaylist) -> Result<Vec<Rendition>, PlaylistError> {
    let mut renditions: Vec<Rendition> = Vec::new();
    let variants = playlist.variants.iter().filter(|variant| !variant.is_i_frame);
    let variants = variants.map(|variant| (variant.uri.as_str(), MediaKind::Main));
    let alternatives = playlist.alternatives.iter().filter_map(|media| {
        let kind = match media.media_type {
            AlternativeMediaType::Audio => MediaKind::Audio,
            AlternativeMediaType::Subtitles => MediaKind::Text,
            _ => MediaKind::Main,
        };
        media.uri.as_deref().map(|uri| (uri, kind))
    });
    for (uri, kind) in variants.chain(alternatives) {
        let url = join(base, uri)?;
        // Several variants may share one playlist: the same video with different audio groups.
        if renditions.iter().all(|known| known.url != url) {
            renditions.push(Rendition { url, kind });
        }
    }
    if renditions.is_empty() { Err(PlaylistError::NoSegments) } else { Ok(renditions) }
}

fn media(base: &Url, playlist: &MediaPlaylist) -> Result<Media, PlaylistError> {
    if playlist.playlist_type == Some(MediaPlaylistType::Vod) && !playlist.end_list {
        return Err(PlaylistError::Truncated("it says that it is complete (VOD), and #EXT-X-ENDLIST is missing"));
    }
    let first = SeqNo(playlist.media_sequence);
    let mut segments = Vec::with_capacity(playlist.segments.len());
    let mut previous: Option<Location> = None;
    for (count, segment) in (0..).zip(&playlist.segments) {
        let location = locate(base, segment, previous.as_ref())?;
        previous = Some(location.clone());
        if segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP") {
            continue;
        }
        let duration = Duration::try_from_secs_f32(segment.duration).unwrap_or_default().min(MAX_DURATION);
        segments.push(Listed { seq: first.saturating_add(count), location, duration });
    }
    if segments.is_empty() {
        return Err(PlaylistError::NoSegments);
    }
    let target = Duration::from_secs(playlist.target_duration).clamp(MIN_TARGET, MAX_DURATION);
    Ok(Media { live: !playlist.end_list, target, first, segments })
}

fn locate(base: &Url, segment: &MediaSegment, previous: Option<&Location>) -> Result<Location, PlaylistError> {
    let url = join(base, &segment.uri)?;
    let range = segment.byte_range.as_ref().map(|range| {
        // Without an offset, the range follows the one before it in the same file.
        let following = previous.filter(|previous| previous.url == url).and_then(|previous| previous.range);
        let following = following.map_or(0, |range| range.offset.saturating_add(range.len));
        Range { offset: range.offset.unwrap_or(following), len: range.length }
    });
    Ok(Location { url, range })
}

pub(super) fn join(base: &Url, uri: &str) -> Result<Url, PlaylistError> {
    base.join(uri.trim()).map_err(|_| PlaylistError::BadUri(uri.chars().take(SHOWN).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Playlist, PlaylistError> {
        parse(&Url::parse("http://o.example/v/a.m3u8").unwrap(), text.as_bytes())
    }

    fn read_media(text: &str) -> Media {
        match read(text).unwrap() {
            Playlist::Media(media) => media,
            _ => panic!("a media playlist"),
        }
    }

    const HEAD: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n";

    #[test]
    fn segments_are_numbered_from_the_media_sequence_and_gaps_are_left_out() {
        let text = format!(
            "{HEAD}#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4,\na.ts\n#EXT-X-GAP\n#EXTINF:4,\nb.ts\n#EXTINF:2.5,\n/c.ts?x=1\n"
        );
        let media = read_media(&text);
        assert!(media.live);
        let seqs: Vec<u64> = media.segments.iter().map(|segment| segment.seq.0).collect();
        assert_eq!(seqs, [7, 9]);
        assert_eq!(media.segments[0].location.url.as_str(), "http://o.example/v/a.ts");
        assert_eq!(media.segments[1].location.url.as_str(), "http://o.example/c.ts?x=1");
        assert_eq!(media.segments[1].duration, Duration::from_millis(2500));
    }

    #[test]
    fn byte_ranges_without_an_offset_follow_each_other() {
        let text = format!(
            "{HEAD}#EXTINF:4,\n#EXT-X-BYTERANGE:100@20\na.mp4\n#EXTINF:4,\n#EXT-X-BYTERANGE:50\na.mp4\n#EXT-X-ENDLIST\n"
        );
        let ranges: Vec<_> = read_media(&text).segments.iter().filter_map(|segment| segment.location.range).collect();
        assert_eq!(ranges, [Range { offset: 20, len: 100 }, Range { offset: 120, len: 50 }]);
    }

    #[test]
    fn a_multivariant_playlist_names_each_rendition_once_and_no_trick_play() {
        let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"en\",URI=\"en.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nv.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2,AUDIO=\"b\"\nv.m3u8\n\
            #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n";
        let Playlist::Multivariant(renditions) = read(text).unwrap() else { panic!("a multivariant playlist") };
        let names: Vec<_> = renditions.iter().map(|rendition| (rendition.url.path(), rendition.kind)).collect();
        assert_eq!(names, [("/v/v.m3u8", MediaKind::Main), ("/v/en.m3u8", MediaKind::Audio)]);
    }

    #[test]
    fn what_is_no_playlist_is_named() {
        assert_eq!(read(""), Err(PlaylistError::Empty));
        assert_eq!(read(" <!DOCTYPE html><p>"), Err(PlaylistError::Html));
        assert!(matches!(read("<?xml version=\"1.0\"?><MPD>"), Err(PlaylistError::Manifest(_))));
        assert_eq!(read("not found\n"), Err(PlaylistError::Other("not found".to_owned())));
        assert_eq!(read(HEAD), Err(PlaylistError::NoSegments));
    }

    #[test]
    fn cut_playlists_are_found_out() {
        let whole = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:4,\na.ts\n#EXTINF:4,\nb.ts\n#EXT-X-ENDLIST\n";
        assert!(read(whole).is_ok());
        for end in ["a.ts", "#EXTINF:4,\nb.ts", "b.ts", "#EXT-X-ENDLIST"] {
            let cut = &whole[..whole.find(end).unwrap()];
            assert!(matches!(read(cut), Err(PlaylistError::Truncated(_))), "before {end}");
        }
        let missing = whole.replace("a.ts\n", "");
        assert!(matches!(read(&missing), Err(PlaylistError::Truncated(_))));
    }
}
