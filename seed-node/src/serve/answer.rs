//! Answers: ranges, validators, caching, and who may read them.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

/// How long an answer stays true.
#[derive(Debug, Clone, Copy)]
pub(super) enum Freshness {
    /// It changes all the time: a live playlist, the catalogue.
    Soon,
    /// It may change: a finished stream's playlist.
    Later,
    /// What has this address never changes.
    Forever,
}

impl Freshness {
    const fn cache_control(self) -> &'static str {
        match self {
            Self::Soon => "public, max-age=1",
            Self::Later => "public, max-age=60",
            Self::Forever => "public, max-age=31536000, immutable",
        }
    }
}

/// Answers with `bytes`, or the part that is asked for.
pub(super) fn answer(request: &Parts, path: &str, bytes: Bytes, freshness: Freshness) -> Response {
    let tag = format!("\"{}\"", &blake3::hash(&bytes).to_hex()[..16]);
    let asked = |name| request.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let headers = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, freshness.cache_control().to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    let known = asked(header::IF_NONE_MATCH);
    if known
        .is_some_and(|known| known == "*" || known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag))
    {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    // A range of what has changed since is not what the other side means.
    let range = asked(header::RANGE).filter(|_| asked(header::IF_RANGE).is_none_or(|known| known == tag));
    let total = bytes.len();
    let (status, part, content_range) = match range.map(|range| parse_range(range, total)) {
        Some(Range::Part(first, last)) => {
            (StatusCode::PARTIAL_CONTENT, bytes.slice(first..=last), Some(format!("bytes {first}-{last}/{total}")))
        }
        Some(Range::OutOfBounds) => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{total}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, range).into_response();
        }
        Some(Range::Ignored) | None => (StatusCode::OK, bytes, None),
    };
    let body = if request.method == Method::HEAD { Body::empty() } else { Body::from(part.clone()) };
    let kinds =
        [(header::CONTENT_TYPE, content_type(path).to_owned()), (header::CONTENT_LENGTH, part.len().to_string())];
    let mut response = (status, headers, kinds, body).into_response();
    if let Some(value) = content_range.and_then(|range| HeaderValue::from_str(&range).ok()) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

/// Players run on pages of other hosts, and read what ranges and validators say.
pub(super) fn allow_all_pages(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Range, If-None-Match"));
    let readable = HeaderValue::from_static("Content-Length, Content-Range, ETag");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, readable);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Part(usize, usize),
    OutOfBounds,
    /// Several parts, or none that this program reads: the whole is a good answer.
    Ignored,
}

fn parse_range(text: &str, total: usize) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Range::Ignored;
    };
    match (first.parse::<usize>().ok(), last.parse::<usize>().ok()) {
        (Some(first), _) if first >= total => Range::OutOfBounds,
        (Some(first), Some(last)) if first <= last => Range::Part(first, last.min(total - 1)),
        (Some(first), None) if last.is_empty() => Range::Part(first, total - 1),
        (None, Some(0)) if first.is_empty() => Range::OutOfBounds,
        (None, Some(count)) if first.is_empty() && total > 0 => Range::Part(total.saturating_sub(count), total - 1),
        _ => Range::Ignored,
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("m3u8") => "application/vnd.apple.mpegurl",
        Some("mpd") => "application/dash+xml",
        Some("ts") => "video/mp2t",
        Some("mp4" | "m4s" | "m4v" | "cmfv") => "video/mp4",
        Some("m4a" | "cmfa") => "audio/mp4",
        Some("aac") => "audio/aac",
        Some("vtt") => "text/vtt",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::{Range, parse_range};

    #[test]
    fn ranges_are_read_as_browsers_write_them() {
        for (text, range) in [
            ("bytes=0-9", Range::Part(0, 9)),
            ("bytes=90-", Range::Part(90, 99)),
            ("bytes=90-500", Range::Part(90, 99)),
            ("bytes=-10", Range::Part(90, 99)),
            ("bytes=-500", Range::Part(0, 99)),
            ("bytes=100-", Range::OutOfBounds),
            ("bytes=-0", Range::OutOfBounds),
            ("bytes=9-0", Range::Ignored),
            ("bytes=0-1,4-5", Range::Ignored),
            ("pages=1-2", Range::Ignored),
        ] {
            assert_eq!(parse_range(text, 100), range, "{text}");
        }
        assert_eq!(parse_range("bytes=-5", 0), Range::Ignored);
    }
}
