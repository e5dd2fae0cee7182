//! What clients send, read leniently: many programs speak this protocol, each in its own way.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::binary::Binary;

/// The fields of all messages. Whatever is not needed as text stays the JSON that it came as.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    action: Option<&'a RawValue>,
    #[serde(borrow, default)]
    info_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    peer_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    to_peer_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    offer_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    answer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    offers: Option<Vec<RawOffer<'a>>>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    left: Option<&'a RawValue>,
    #[serde(borrow, default)]
    numwant: Option<&'a RawValue>,
}

/// One offer of an announce.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct RawOffer<'a> {
    #[serde(borrow)]
    pub(super) offer: &'a RawValue,
    #[serde(borrow)]
    pub(super) offer_id: &'a RawValue,
}

/// What a client wants.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Announce(Announce<'a>),
    Answer(Answer<'a>),
    Scrape(Scrape),
}

#[derive(Debug)]
pub(super) struct Announce<'a> {
    pub(super) info_hash: Binary,
    pub(super) peer_id: Binary,
    pub(super) event: Event,
    pub(super) is_seeder: bool,
    /// None where the client does not say, or says what is no number.
    pub(super) numwant: Option<usize>,
    pub(super) offers: Vec<RawOffer<'a>>,
}

#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) info_hash: Binary,
    pub(super) peer_id: Binary,
    pub(super) to_peer_id: Binary,
    pub(super) offer_id: &'a RawValue,
    pub(super) answer: &'a RawValue,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scrape {
    All,
    Some(Vec<Binary>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// started, update, paused, empty, absent: the peer is there.
    Present,
    Stopped,
    Completed,
}

/// Why a message cannot be served; the info hash is there where it could be read.
#[derive(Debug, Clone, Copy)]
pub struct Unserved {
    pub(super) action: &'static str,
    pub(super) reason: &'static str,
    pub(super) info_hash: Option<Binary>,
}

const ANNOUNCE: &str = "announce";
const SCRAPE: &str = "scrape";

const fn unserved(action: &'static str, reason: &'static str) -> Unserved {
    Unserved { action, reason, info_hash: None }
}

fn parse(text: &str) -> Result<Request<'_>, Unserved> {
    let fields: Fields<'_> = serde_json::from_str(text)
        .map_err(|_| unserved(ANNOUNCE, "not a message of this protocol: a JSON object with an action is expected"))?;
    match fields.action.map(RawValue::get) {
        Some("\"announce\"") => announce(fields),
        Some("\"scrape\"") => scrape(fields.info_hash),
        _ => Err(unserved(ANNOUNCE, "the action must be announce or scrape")),
    }
}

fn announce(fields: Fields<'_>) -> Result<Request<'_>, Unserved> {
    let bad = |reason| unserved(ANNOUNCE, reason);
    let info_hash = binary(fields.info_hash).ok_or(bad("info_hash must be 20 characters from U+0000 to U+00FF"))?;
    let known = |reason| Unserved { action: ANNOUNCE, reason, info_hash: Some(info_hash) };
    let peer_id = binary(fields.peer_id).ok_or(known("peer_id must be 20 characters from U+0000 to U+00FF"))?;
    if let Some(answer) = fields.answer {
        let to_peer_id =
            binary(fields.to_peer_id).ok_or(known("to_peer_id must be 20 characters from U+0000 to U+00FF"))?;
        let offer_id = fields.offer_id.ok_or(known("an answer needs the offer_id of its offer"))?;
        return Ok(Request::Answer(Answer { info_hash, peer_id, to_peer_id, offer_id, answer }));
    }
    let event = match fields.event.map(RawValue::get) {
        None | Some("\"started\"" | "\"update\"" | "\"paused\"" | "\"\"") => Event::Present,
        Some("\"stopped\"") => Event::Stopped,
        Some("\"completed\"") => Event::Completed,
        Some(_) => return Err(known("event must be started, stopped, completed, update, paused or empty")),
    };
    Ok(Request::Announce(Announce {
        info_hash,
        peer_id,
        event,
        is_seeder: fields.left.and_then(number) == Some(0.0),
        numwant: fields.numwant.and_then(number).filter(|want| *want >= 0.0).map(|want| want as usize),
        offers: fields.offers.unwrap_or_default(),
    }))
}

fn scrape(info_hash: Option<&RawValue>) -> Result<Request<'_>, Unserved> {
    let bad = unserved(SCRAPE, "info_hash must be 20 characters from U+0000 to U+00FF, or a list of such");
    let scrape = match info_hash.map(RawValue::get) {
        None => Scrape::All,
        Some(list) if list.starts_with('[') => Scrape::Some(serde_json::from_str(list).map_err(|_| bad)?),
        Some(one) => Scrape::Some(vec![Binary::from_json(one).map_err(|_| bad)?]),
    };
    Ok(Request::Scrape(scrape))
}

fn binary(value: Option<&RawValue>) -> Option<Binary> {
    Binary::from_json(value?.get()).ok()
}

/// A number, also one that is written as a string.
fn number(value: &RawValue) -> Option<f64> {
    value.get().trim_matches('"').parse().ok()
}

/// A message that was read, so that a shell can do that before it takes a lock.
#[derive(Debug)]
pub struct Message<'a>(pub(super) Result<Request<'a>, Unserved>);

impl<'a> Message<'a> {
    /// Reads a message. One that cannot be read is one that the tracker answers with an error.
    #[must_use]
    pub fn read(text: &'a str) -> Self {
        Self(parse(text))
    }

    /// How many offers it wants passed on.
    #[must_use]
    pub fn offers(&self) -> usize {
        match &self.0 {
            Ok(Request::Announce(announce)) => announce.offers.len().min(announce.numwant.unwrap_or(usize::MAX)),
            _ => 0,
        }
    }

    /// Leaves only the first offers. All else it says stays.
    pub fn keep_offers(&mut self, most: usize) {
        if let Ok(Request::Announce(announce)) = &mut self.0 {
            announce.offers.truncate(most);
        }
    }

    /// What a refusal of it has to name.
    const fn action(&self) -> &'static str {
        match &self.0 {
            Ok(Request::Announce(_) | Request::Answer(_)) => ANNOUNCE,
            Ok(Request::Scrape(_)) => SCRAPE,
            Err(unserved) => unserved.action,
        }
    }

    /// The answer to it where the shell does not let it through.
    #[must_use]
    pub fn refusal(&self, info_hash: Option<Binary>, reason: &'static str) -> Unserved {
        Unserved { action: self.action(), reason, info_hash }
    }

    /// What it is about, for a shell that restricts who may be in which swarm.
    #[must_use]
    pub fn intent(&self) -> Intent<'_> {
        match &self.0 {
            Ok(Request::Announce(announce)) => Intent::Swarm(announce.info_hash),
            Ok(Request::Answer(answer)) => Intent::Swarm(answer.info_hash),
            Ok(Request::Scrape(Scrape::Some(hashes))) => Intent::Scrape(hashes),
            Ok(Request::Scrape(Scrape::All)) => Intent::Scrape(&[]),
            Err(_) => Intent::Unknown,
        }
    }
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent<'a> {
    /// A peer of this swarm says something.
    Swarm(Binary),
    /// It asks for the figures of these swarms; of all, if there are none.
    Scrape(&'a [Binary]),
    /// The tracker will refuse it.
    Unknown,
}
