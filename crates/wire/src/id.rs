//! The names of things. All are plain values: cheap to copy, ordered, printable.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::wire_struct;
use crate::geometry::ChunkIndex;
use crate::limits::MAX_SWARM_NAME_LEN;

/// A peer as the signalling server names it: 64 random bits, written as 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// A text that is not a [`PeerId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a peer id is 16 lower-case hexadecimal digits")]
pub struct PeerIdError;

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digits {
            return Err(PeerIdError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| PeerIdError)
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of a swarm: everyone on one piece of content, all renditions together.
///
/// By convention [`SwarmName::derive`] makes it of the publisher's public key and the path of the stream, so that
/// viewers meet whatever host, scheme or query string their copy of the URL has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SwarmName(String);

/// A text that cannot name a swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SwarmNameError {
    /// Nothing is left of it.
    #[error("a swarm name must not be empty")]
    Empty,
    /// Longer than [`MAX_SWARM_NAME_LEN`] bytes.
    #[error("a swarm name has at most {MAX_SWARM_NAME_LEN} bytes, this one has {0}")]
    TooLong(usize),
    /// It holds a control character.
    #[error("a swarm name must not hold control characters")]
    ControlCharacter,
}

impl SwarmName {
    /// Checks a name given by a person or a peer.
    ///
    /// # Errors
    /// See [`SwarmNameError`].
    pub fn new(name: impl Into<String>) -> Result<Self, SwarmNameError> {
        Self::check(name.into())
    }

    fn check(name: String) -> Result<Self, SwarmNameError> {
        if name.is_empty() {
            return Err(SwarmNameError::Empty);
        }
        if name.len() > MAX_SWARM_NAME_LEN {
            return Err(SwarmNameError::TooLong(name.len()));
        }
        if name.chars().any(char::is_control) {
            return Err(SwarmNameError::ControlCharacter);
        }
        Ok(Self(name))
    }

    /// The default name of the swarm on `source`, an absolute URL: `KEY/path`, with `KEY` the publisher's public key in
    /// unpadded base64url, or `open/host/path` where there is no key (then any host could claim a path).
    ///
    /// # Errors
    /// See [`SwarmNameError`].
    pub fn derive(source: &str, key: Option<&str>) -> Result<Self, SwarmNameError> {
        let url = UrlParts::split(source);
        let (first, second) = key.map_or(("open/", url.host), |key| (key, ""));
        let mut name = String::from(first);
        name.push_str(second);
        name.push_str(url.path);
        Self::check(name)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SwarmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SwarmName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(name).map_err(serde::de::Error::custom)
    }
}

/// A track (one rendition) of a swarm: the first eight bytes, little-endian, of the BLAKE3 hash of its track key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrackId(pub u64);

impl TrackId {
    /// The track that a track key names; see [`track_key`].
    #[must_use]
    pub fn of_key(key: &str) -> Self {
        let hash = crate::hash::hash(key.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        Self(u64::from_le_bytes(first))
    }

    /// The track whose media playlist is at `playlist`, in the stream that was opened at `source`; both absolute URLs.
    #[must_use]
    pub fn of_playlist(source: &str, playlist: &str) -> Self {
        Self::of_key(&track_key(source, playlist))
    }
}

impl fmt::Debug for TrackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrackId({:016x})", self.0)
    }
}

impl fmt::Display for TrackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The key of a track: the path of its media playlist relative to the folder of the stream's source, without query or
/// fragment; the whole path, from its slash, where the playlist lies outside that folder. Hosts and query strings do not
/// count, so that signed URLs and several CDNs meet.
#[must_use]
pub fn track_key(source: &str, playlist: &str) -> String {
    let source = UrlParts::split(source);
    let playlist = UrlParts::split(playlist);
    let folder_len = source.path.bytes().rposition(|byte| byte == b'/').map_or(0, |slash| slash + 1);
    let folder = source.path.get(..folder_len).unwrap_or_default();
    playlist.path.strip_prefix(folder).filter(|rest| !rest.is_empty()).unwrap_or(playlist.path).to_owned()
}

/// The parts of an absolute URL that names are made of. Not a URL parser: the shells hand in what theirs made.
struct UrlParts<'a> {
    host: &'a str,
    path: &'a str,
}

impl<'a> UrlParts<'a> {
    fn split(url: &'a str) -> Self {
        // By bytes, and without slicing that could panic: the searcher and the panic's message weigh kilobytes of WASM.
        let bytes = url.as_bytes();
        let end = bytes.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(bytes.len());
        let host_at = bytes[..end].windows(3).position(|three| three == b"://").map_or(0, |colon| colon + 3);
        let path_at = bytes[host_at..end].iter().position(|byte| *byte == b'/').map_or(end, |slash| host_at + slash);
        let host = url.get(host_at..path_at).unwrap_or_default();
        let path = url.get(path_at..end).unwrap_or_default();
        Self { host, path: if path.is_empty() { "/" } else { path } }
    }
}

/// A segment's number in its track: the media sequence number of HLS, the segment number of DASH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeqNo(pub u64);

impl SeqNo {
    /// The number `count` later, or the largest there is.
    #[must_use]
    pub fn saturating_add(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One media segment of a swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId {
    /// The rendition it belongs to.
    pub track: TrackId,
    /// Its number there.
    pub seq: SeqNo,
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.track, self.seq)
    }
}

/// One chunk of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId {
    /// The segment it is cut from.
    pub segment: SegmentId,
    /// Its place there.
    pub index: ChunkIndex,
}

wire_struct!(TrackId { 0 });
wire_struct!(SeqNo { 0 });
wire_struct!(SegmentId { track, seq });

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::rust_2024::*;

    #[test]
    fn peer_ids_are_sixteen_lower_case_digits() {
        assert_eq!(PeerId(0xab).to_string(), "00000000000000ab");
        assert_eq!("00000000000000ab".parse(), Ok(PeerId(0xab)));
        for bad in ["", "ab", "00000000000000AB", "+0000000000000ab", "00000000000000abc"] {
            assert_eq!(bad.parse::<PeerId>(), Err(PeerIdError), "{bad}");
        }
    }

    #[test]
    fn swarm_names_leave_host_and_query_out_where_a_key_says_whose_path_it_is() {
        let derive = |url, key| SwarmName::derive(url, key).unwrap().to_string();
        assert_eq!(derive("https://a.example/v/1.m3u8?token=x", Some("K")), "K/v/1.m3u8");
        assert_eq!(derive("http://b.example:8080/v/1.m3u8#t=3", Some("K")), "K/v/1.m3u8");
        assert_eq!(derive("https://a.example/v/1.m3u8?x", None), "open/a.example/v/1.m3u8");
        assert_eq!(derive("https://a.example", Some("K")), "K/");
    }

    #[test]
    fn track_keys_are_relative_to_the_source() {
        let source = "https://a.example/v/master.m3u8?u=1";
        assert_eq!(track_key(source, "https://cdn.example/v/720/index.m3u8?u=2"), "720/index.m3u8");
        assert_eq!(track_key(source, source), "master.m3u8");
        assert_eq!(track_key(source, "https://a.example/other/a.m3u8"), "/other/a.m3u8");
        assert_eq!(track_key("https://a.example/", "https://a.example/"), "/");
    }

    #[test]
    fn swarm_names_are_checked() {
        assert_eq!(SwarmName::new(""), Err(SwarmNameError::Empty));
        assert_eq!(SwarmName::new("a\nb"), Err(SwarmNameError::ControlCharacter));
        assert_eq!(SwarmName::new("x".repeat(513)), Err(SwarmNameError::TooLong(513)));
    }
}
