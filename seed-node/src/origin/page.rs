//! Web pages where media, playlists or manifests belong: some origins answer "not found" or "back soon" as if all were well,
//! and what is signed once stays.

/// How far into a file its first element is looked for: a page has it behind a few lines of declarations and comments.
const HEAD: usize = 2048;

/// Elements that only web pages begin with. (A subtitle file in XML has a `head` too, but inside its `tt`.)
const FIRST_ELEMENTS: [&[u8]; 5] = [b"html", b"head", b"body", b"title", b"meta"];

/// Whether a file is a web page: by its doctype, or the first element in it.
pub(super) fn is_web_page(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(HEAD)];
    let mut rest = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    loop {
        let end = if rest.starts_with(b"<!--") {
            find(rest, b"-->")
        } else if rest.starts_with(b"<?") {
            find(rest, b"?>")
        } else if let Some(doctype) = after(rest, b"<!doctype") {
            return after(doctype.trim_ascii_start(), b"html").is_some();
        } else {
            // Text from its first character on: what is inside media by chance does not count.
            let Some(name) = rest.strip_prefix(b"<") else { return false };
            let ends = |rest: &[u8]| rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric());
            return FIRST_ELEMENTS.iter().any(|element| after(name, element).is_some_and(ends));
        };
        let Some(end) = end else { return false };
        rest = rest[end..].trim_ascii_start();
    }
}

/// What follows a prefix, whatever the case of its letters.
fn after<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Where the first `part` ends.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part).map(|at| at + part.len())
}

#[cfg(test)]
mod tests {
    use super::is_web_page;

    #[test]
    fn web_pages_are_told_from_media_playlists_and_subtitles() {
        for page in [
            &b"<!DOCTYPE html><title>Not found</title>"[..],
            b"\n  <HTML lang=en>",
            b"\xef\xbb\xbf<html>",
            b"<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\">",
            b"<!-- cached --><!-- twice -->\n<head><title>Back soon</title>",
            b"<title>502</title>",
        ] {
            assert!(is_web_page(page), "{}", String::from_utf8_lossy(page));
        }
        for other in [
            &b""[..],
            b"<",
            b"<!--",
            b"\x47\x40\x11\x10<html>",
            b"\0\0\0\x18ftypcmf2<!doctype html>",
            b"WEBVTT\n\n00:00.000 --> 00:01.000\n<html>",
            b"<?xml version=\"1.0\"?><tt xmlns=\"http://www.w3.org/ns/ttml\"><head><title>x</title></head>",
            b"#EXTM3U\n#<html>",
            b"<?xml version=\"1.0\"?>\n<!-- not <html> --><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\">",
            b"<header>",
        ] {
            assert!(!is_web_page(other), "{}", String::from_utf8_lossy(other));
        }
    }
}
