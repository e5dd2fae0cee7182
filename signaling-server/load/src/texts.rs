//! The messages of the WebTorrent protocol that are sent, and a look at those that come.

use memchr::memmem;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// The reply to an announce.
    Reply,
    /// An offer of this peer with this id.
    Offer { peer: &'a [u8], offer_id: &'a [u8] },
    /// An answer to the offer of this id.
    Answer { offer_id: &'a [u8] },
    /// An error or anything else.
    Other,
}

/// Looks at a message without parsing it: ids here are 20 ASCII characters.
pub(crate) fn hear(text: &[u8]) -> Heard<'_> {
    if memmem::find(text, b"\"interval\":").is_some() {
        return Heard::Reply;
    }
    let (Some(peer), Some(offer_id)) = (string(text, b"\"peer_id\":\""), string(text, b"\"offer_id\":\"")) else {
        return Heard::Other;
    };
    if memmem::find(text, b"\"answer\":").is_some() {
        Heard::Answer { offer_id }
    } else {
        Heard::Offer { peer, offer_id }
    }
}

/// The 20 characters after a key.
fn string<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let start = memmem::find(text, key)? + key.len();
    text.get(start..start + 20)
}

pub(crate) fn info_hash(swarm: usize) -> String {
    format!("swarm{swarm:015}")
}

pub(crate) fn peer_id(peer: usize) -> String {
    format!("-HL0001-{peer:012}")
}

/// Offer ids tell the connection and the round apart.
pub(crate) fn offer_id(peer: usize, round: u64, nth: usize) -> String {
    format!("{peer:08}{:08}{nth:04}", round % 100_000_000)
}

pub(crate) fn announce(swarm: usize, peer: usize, offers: &[(String, &str)]) -> String {
    let (hash, id) = (info_hash(swarm), peer_id(peer));
    let mut text = format!(
        r#"{{"numwant":{},"uploaded":0,"downloaded":0,"left":10,"action":"announce","info_hash":"{hash}","peer_id":"{id}""#,
        offers.len()
    );
    if !offers.is_empty() {
        text.push_str(r#","offers":["#);
        for (nth, (offer_id, sdp)) in offers.iter().enumerate() {
            let comma = if nth > 0 { "," } else { "" };
            text.push_str(comma);
            text.push_str(r#"{"offer":{"type":"offer","sdp":""#);
            text.push_str(sdp);
            text.push_str(r#""},"offer_id":""#);
            text.push_str(offer_id);
            text.push_str(r#""}"#);
        }
        text.push(']');
    }
    text.push('}');
    text
}

pub(crate) fn answer(swarm: usize, peer: usize, to: &str, offer_id: &str, sdp: &str) -> String {
    let (hash, id) = (info_hash(swarm), peer_id(peer));
    format!(
        r#"{{"action":"announce","info_hash":"{hash}","peer_id":"{id}","to_peer_id":"{to}","offer_id":"{offer_id}","answer":{{"type":"answer","sdp":"{sdp}"}}}}"#
    )
}

/// Something of this length that looks like an SDP to a parser of JSON: line ends are escaped.
pub(crate) fn sdp(len: usize) -> String {
    let mut sdp = "a=candidate:1 1 udp 2122260223 192.0.2.7 54400 typ host\\r\\n".repeat(len / 59 + 1);
    sdp.truncate(len);
    while sdp.ends_with('\\') {
        sdp.pop();
    }
    sdp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_json() {
        for len in 1000..1100 {
            let offers = [(offer_id(1, 2, 3), sdp(len))];
            let offers: Vec<(String, &str)> = offers.iter().map(|(id, sdp)| (id.clone(), sdp.as_str())).collect();
            let value: serde_json::Value = serde_json::from_str(&announce(1, 2, &offers)).unwrap();
            assert_eq!(value["offers"][0]["offer_id"].as_str().unwrap().len(), 20);
            assert_eq!(value["info_hash"].as_str().unwrap().len(), 20);
            assert_eq!(value["peer_id"].as_str().unwrap().len(), 20);
        }
        let value: serde_json::Value =
            serde_json::from_str(&answer(1, 2, &peer_id(3), &offer_id(1, 2, 3), "x")).unwrap();
        assert_eq!(value["answer"]["type"], "answer");
    }

    #[test]
    fn messages_are_told_apart_whatever_the_order_of_their_keys() {
        let id = offer_id(1, 2, 3);
        let peer = peer_id(9);
        let offer = format!(r#"{{"offer":{{}},"offer_id":"{id}","peer_id":"{peer}"}}"#);
        assert_eq!(hear(offer.as_bytes()), Heard::Offer { peer: peer.as_bytes(), offer_id: id.as_bytes() });
        let answer = format!(r#"{{"peer_id":"{peer}","offer_id":"{id}","answer":{{}}}}"#);
        assert_eq!(hear(answer.as_bytes()), Heard::Answer { offer_id: id.as_bytes() });
        assert_eq!(hear(br#"{"action":"announce","interval":120}"#), Heard::Reply);
        assert_eq!(hear(br#"{"failure reason":"x"}"#), Heard::Other);
    }
}
