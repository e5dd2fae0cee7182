//! What the tracker sends, written straight as JSON.

use std::fmt::Write as _;

use super::binary::Binary;

/// `complete`, `incomplete` and `downloaded` of a swarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) complete: usize,
    pub(super) incomplete: usize,
    pub(super) downloaded: u64,
}

/// The reply to an announce.
pub(super) fn announced(out: &mut String, info_hash: &Binary, figures: Figures, interval_secs: u64) {
    out.push_str(r#"{"action":"announce","info_hash":"#);
    info_hash.write_json(out);
    let Figures { complete, incomplete, .. } = figures;
    // Writing to a String cannot fail, here and below.
    let _ = write!(out, r#","complete":{complete},"incomplete":{incomplete},"interval":{interval_secs}}}"#);
}

/// An offer or an answer, as `what` says, on its way to another peer.
pub(super) fn forwarded(
    out: &mut String,
    info_hash: &Binary,
    peer_id: &Binary,
    offer_id: &str,
    what: &str,
    content: &str,
) {
    out.reserve(content.len() + 160);
    out.push_str(r#"{"action":"announce","info_hash":"#);
    info_hash.write_json(out);
    out.push_str(r#","peer_id":"#);
    peer_id.write_json(out);
    out.push_str(r#","offer_id":"#);
    out.push_str(offer_id);
    out.push_str(",\"");
    out.push_str(what);
    out.push_str("\":");
    out.push_str(content);
    out.push('}');
}

/// The reply to a scrape.
pub(super) fn scraped(out: &mut String, files: impl Iterator<Item = (Binary, Figures)>, interval_secs: u64) {
    out.push_str(r#"{"action":"scrape","files":{"#);
    for (nth, (info_hash, figures)) in files.enumerate() {
        if nth > 0 {
            out.push(',');
        }
        info_hash.write_json(out);
        let Figures { complete, incomplete, downloaded } = figures;
        let _ = write!(out, r#":{{"complete":{complete},"incomplete":{incomplete},"downloaded":{downloaded}}}"#);
    }
    let _ = write!(out, r#"}},"flags":{{"min_request_interval":{interval_secs}}}}}"#);
}

/// What was wrong, always with the action: clients drop a socket over an error without one. The reason is one of this
/// program's own, without a character that JSON would have to escape.
pub(super) fn failed(out: &mut String, action: &str, reason: &str, info_hash: Option<Binary>) {
    let _ = write!(out, r#"{{"action":"{action}","failure reason":"{reason}""#);
    if let Some(info_hash) = info_hash {
        out.push_str(r#","info_hash":"#);
        info_hash.write_json(out);
    }
    out.push('}');
}
