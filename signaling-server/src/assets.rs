//! The files of the built player, held in memory, and how they are answered over HTTP.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode, response};
use axum::response::Response;
use bytes::Bytes;

/// What a build without a player answers.
pub const NO_PLAYER: &str = "this build has no player: run \"cargo xtask web\" and build again\n";

static EMBEDDED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The files, by path.
#[derive(Debug, Clone, Default)]
pub struct Assets {
    files: BTreeMap<String, Asset>,
}

#[derive(Debug, Clone, Default)]
struct Asset {
    /// In the order in which a client that takes several is served; the plain one last.
    variants: Vec<Variant>,
}

#[derive(Debug, Clone)]
struct Variant {
    encoding: Encoding,
    etag: HeaderValue,
    body: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Encoding {
    Brotli,
    Gzip,
    Plain,
}

impl Assets {
    /// The player that this binary was built with; empty where it was built without.
    #[must_use]
    pub fn embedded() -> Self {
        Self::from_files(EMBEDDED.iter().map(|&(path, body)| (path, Bytes::from_static(body))))
    }

    /// These files, each with its path from the slash on. `x.br` and `x.gz` are taken for compressed forms of `x`,
    /// where there is an `x`.
    pub fn from_files<P: Into<String>>(files: impl IntoIterator<Item = (P, Bytes)>) -> Self {
        let files: BTreeMap<String, Bytes> = files.into_iter().map(|(path, body)| (path.into(), body)).collect();
        let mut assets = Self::default();
        for (path, body) in &files {
            let (path, encoding) = [(".br", Encoding::Brotli), (".gz", Encoding::Gzip)]
                .into_iter()
                .find_map(|(end, encoding)| {
                    path.strip_suffix(end).filter(|plain| files.contains_key(*plain)).map(|plain| (plain, encoding))
                })
                .unwrap_or((path, Encoding::Plain));
            let hash = blake3::hash(body).to_hex();
            let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", hash.split_at(32).0)) else { continue };
            let variants = &mut assets.files.entry(path.to_owned()).or_default().variants;
            variants.push(Variant { encoding, etag, body: body.clone() });
            variants.sort_by_key(|variant| variant.encoding);
        }
        assets
    }

    /// Whether there is no player.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Answers a request for a file.
    pub(crate) fn respond(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "files are read with GET or HEAD\n");
        }
        if self.is_empty() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, NO_PLAYER);
        }
        let index = if path.ends_with('/') { "index.html" } else { "" };
        let file = format!("{path}{index}");
        let Some(asset) = self.files.get(&file) else {
            if self.files.contains_key(&format!("{path}/index.html")) {
                return moved(path);
            }
            return plain(StatusCode::NOT_FOUND, "there is no such file here\n");
        };
        let accepted = Accepted::of(headers);
        let Some(variant) = asset.variants.iter().find(|variant| accepted.takes(variant.encoding)) else {
            return plain(StatusCode::NOT_FOUND, "there is no such file here\n");
        };
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| names(value, &variant.etag));
        let mut response = file_headers(&file, asset, variant);
        let body = match (known, method) {
            (true, _) => {
                response = response.status(StatusCode::NOT_MODIFIED);
                Body::empty()
            }
            // The length is said as GET would say it.
            (false, &Method::HEAD) => {
                response = response.header(header::CONTENT_LENGTH, variant.body.len());
                Body::empty()
            }
            (false, _) => Body::from(variant.body.clone()),
        };
        response.body(body).unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "could not answer\n"))
    }
}

fn file_headers(file: &str, asset: &Asset, variant: &Variant) -> response::Builder {
    let mut response = open_headers(Response::builder())
        .header(header::CONTENT_TYPE, content_type(file))
        .header(header::ETAG, variant.etag.clone());
    if asset.variants.len() > 1 {
        response = response.header(header::VARY, "accept-encoding");
    }
    match variant.encoding {
        Encoding::Plain => response,
        Encoding::Brotli => response.header(header::CONTENT_ENCODING, "br"),
        Encoding::Gzip => response.header(header::CONTENT_ENCODING, "gzip"),
    }
}

/// Any page may load these: ES modules and `fetch` need the first, pages isolated by COEP the second.
fn open_headers(response: response::Builder) -> response::Builder {
    response
        .header(header::CACHE_CONTROL, "no-cache")
        .header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
        .header("cross-origin-resource-policy", "cross-origin")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// A folder asked for without its slash: the relative links of its page need it.
fn moved(path: &str) -> Response {
    // By its last part alone, so that the answer is right behind any proxy and never leads to another host.
    let folder = path.rsplit('/').next().unwrap_or_default();
    Response::builder()
        .status(StatusCode::PERMANENT_REDIRECT)
        .header(header::LOCATION, format!("./{folder}/"))
        .body(Body::empty())
        .unwrap_or_else(|_| plain(StatusCode::NOT_FOUND, "there is no such file here\n"))
}

/// The compressed forms that a request takes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Accepted {
    brotli: bool,
    gzip: bool,
}

impl Accepted {
    fn of(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        for coding in values.flat_map(|value| value.split(',')) {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
            let taken = quality.is_ok_and(|quality| quality > 0.0);
            if name.eq_ignore_ascii_case("br") {
                accepted.brotli = taken;
            } else if name.eq_ignore_ascii_case("gzip") {
                accepted.gzip = taken;
            }
        }
        accepted
    }

    const fn takes(&self, encoding: Encoding) -> bool {
        match encoding {
            Encoding::Brotli => self.brotli,
            Encoding::Gzip => self.gzip,
            Encoding::Plain => true,
        }
    }
}

/// Whether an `If-None-Match` names this ETag.
fn names(value: &HeaderValue, etag: &HeaderValue) -> bool {
    let Ok(value) = value.to_str() else { return false };
    value.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn content_type(file: &str) -> &'static str {
    match file.rsplit_once('.').map_or("", |(_, end)| end) {
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "wasm" => "application/wasm",
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "ts" if file.ends_with(".d.ts") => "text/plain; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "ico" => "image/x-icon",
        "m3u8" => "application/vnd.apple.mpegurl",
        "mpd" => "application/dash+xml",
        "mp4" | "m4s" => "video/mp4",
        "ts" => "video/mp2t",
        "vtt" => "text/vtt; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &'static str) -> Accepted {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        Accepted::of(&headers)
    }

    #[test]
    fn compressed_forms_are_taken_as_the_request_says() {
        assert_eq!(accepted("gzip, deflate, BR"), Accepted { brotli: true, gzip: true });
        assert_eq!(accepted("br;q=0, gzip;q=0.5"), Accepted { brotli: false, gzip: true });
        assert_eq!(accepted("br;q=x, *"), Accepted::default());
    }

    #[test]
    fn a_declaration_file_is_text_and_a_transport_stream_is_video() {
        assert_eq!(content_type("/headwater.d.ts"), "text/plain; charset=utf-8");
        assert_eq!(content_type("/a/1.ts"), "video/mp2t");
        assert_eq!(content_type("/LICENSE"), "application/octet-stream");
    }
}
