//! What nodes tell each other, and how that is written.

use core::fmt;
use core::str::FromStr;

use headwater_wire::signal::{SignalData, StatsReport};
use headwater_wire::{PeerId, Role, SwarmName};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::place::Place;
use crate::tracker::Binary;

/// Version of these messages. A node does not read those of another version: nodes are replaced one by one, and meanwhile the
/// old and the new ones are two clusters.
const VERSION: u16 = 1;

/// Most bytes of a message: what NATS carries unless it is told otherwise.
const MAX_LEN: usize = 1 << 20;

/// A node, by a number that it draws when it starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// A swarm of either protocol, by a hash of its name: names come from strangers, and these go into subjects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwarmHash(pub [u8; 16]);

impl SwarmHash {
    /// Of a swarm of the native protocol.
    #[must_use]
    pub fn of_name(name: &SwarmName) -> Self {
        Self::of("native", name.as_str().as_bytes())
    }

    /// Of a swarm of the tracker protocol.
    #[must_use]
    pub fn of_info_hash(info_hash: &Binary) -> Self {
        Self::of("tracker", &info_hash.0)
    }

    fn of(protocol: &str, name: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(protocol.as_bytes()).update(b"\0").update(name);
        let mut first = [0; 16];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(first)
    }
}

/// How much of a swarm a node has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Viewers, or peers of a tracker that are not complete.
    pub viewers: u32,
    /// Seeds, or peers of a tracker that are complete.
    pub seeds: u32,
    /// What a tracker counted as completed.
    #[serde(default)]
    pub downloaded: u64,
    /// What the members last said they carried.
    #[serde(default)]
    pub carried: StatsReport,
}

impl Figures {
    /// All members.
    #[must_use]
    pub const fn members(&self) -> u64 {
        self.viewers as u64 + self.seeds as u64
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            viewers: self.viewers.saturating_add(other.viewers),
            seeds: self.seeds.saturating_add(other.seeds),
            downloaded: self.downloaded.saturating_add(other.downloaded),
            carried: StatsReport {
                http_bytes: self.carried.http_bytes.saturating_add(other.carried.http_bytes),
                seed_bytes: self.carried.seed_bytes.saturating_add(other.carried.seed_bytes),
                viewer_bytes: self.carried.viewer_bytes.saturating_add(other.carried.viewer_bytes),
                uploaded_bytes: self.carried.uploaded_bytes.saturating_add(other.carried.uploaded_bytes),
                neighbours: self.carried.neighbours.saturating_add(other.carried.neighbours),
            },
        }
    }
}

/// An offer of a WebTorrent announce on its way to another node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Offered {
    /// The offer's id, as it came.
    pub id: Box<RawValue>,
    /// The offer, as it came.
    pub offer: Box<RawValue>,
}

/// From one node to others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeMessage {
    /// This node lives.
    Alive,
    /// This node stops.
    Leaving,
    /// What this node has of a swarm: nothing any more, where there are no members.
    Figures {
        /// Which one.
        swarm: SwarmHash,
        /// How much.
        figures: Figures,
        /// Whether whoever has members of it is asked to say the same.
        asks: bool,
    },
    /// A member looks for neighbours; a seed, for viewers that miss one.
    Seek {
        /// Of this swarm.
        swarm: SwarmHash,
        /// The member.
        peer: PeerId,
        /// What it is.
        role: Role,
        /// Where it is.
        place: Place,
        /// Where in content on demand it is, in seconds, if that is known. Nodes of before do not say so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position_s: Option<u32>,
        /// How many it looks for, seeds included.
        count: u16,
        /// How many of them may be seeds.
        seeds: u16,
        /// Nodes that were asked before.
        tried: Vec<NodeId>,
    },
    /// The answer: these have a place for it, and are told once it is taken.
    Found {
        /// Of this swarm.
        swarm: SwarmHash,
        /// The member that looked.
        peer: PeerId,
        /// Those that were found.
        found: Vec<(PeerId, Role)>,
        /// As it was asked.
        count: u16,
        /// As it was asked, with this node.
        tried: Vec<NodeId>,
    },
    /// The places are taken: tell them to connect.
    Accept {
        /// Of this swarm.
        swarm: SwarmHash,
        /// The member that looked.
        peer: PeerId,
        /// What it is.
        role: Role,
        /// Those that were found.
        others: Vec<PeerId>,
    },
    /// A member came back to this node, as it has proven: a member of its name is its dead socket. It says to whom it is connected.
    Claim {
        /// Of this swarm.
        swarm: SwarmHash,
        /// The member.
        peer: PeerId,
        /// What it is.
        role: Role,
        /// Its neighbours, wherever they are.
        connected: Vec<PeerId>,
    },
    /// The answer of a node that has some of them.
    Claimed {
        /// Of this swarm.
        swarm: SwarmHash,
        /// The member that came.
        peer: PeerId,
        /// Those that are here.
        found: Vec<(PeerId, Role)>,
    },
    /// A description or a candidate for a member of the other node.
    Signal {
        /// Of this swarm.
        swarm: SwarmHash,
        /// The member of this node.
        from: PeerId,
        /// The member of the other.
        to: PeerId,
        /// What it is.
        data: SignalData,
        /// Whether it goes to all nodes of the swarm, as the one that has `to` is not known yet.
        is_searching: bool,
    },
    /// These pairings ended.
    Unpaired {
        /// Of this swarm.
        swarm: SwarmHash,
        /// The member of this node.
        peer: PeerId,
        /// Members of the other node.
        others: Vec<PeerId>,
        /// Whether its data channel failed, so that others come first.
        lost: bool,
    },
    /// A signal was for a member that this node does not have, or that is not paired with the sender.
    Gone {
        /// Of this swarm.
        swarm: SwarmHash,
        /// For whom it was.
        peer: PeerId,
        /// Who sent it.
        to: PeerId,
    },
    /// Offers of a WebTorrent announce, for as many peers of the other node.
    Offers {
        /// The swarm.
        info_hash: Binary,
        /// Who offers.
        peer_id: Binary,
        /// The offers.
        offers: Vec<Offered>,
    },
    /// The answer to such an offer.
    Answer {
        /// The swarm.
        info_hash: Binary,
        /// Who answers.
        peer_id: Binary,
        /// Who offered.
        to_peer_id: Binary,
        /// As it came with the offer.
        offer_id: Box<RawValue>,
        /// The answer, as it came.
        answer: Box<RawValue>,
    },
}

/// To whom a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// Every node.
    Everyone,
    /// Every node that has members of this swarm.
    Swarm(SwarmHash),
    /// One node.
    Node(NodeId),
}

/// Why a message of another node is not read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableNode {
    /// It is longer than any is.
    #[error("it has {0} bytes, {MAX_LEN} are allowed")]
    TooLong(usize),
    /// It is not of this version, or nothing of this kind.
    #[error("it is no message of version {VERSION}: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is of another version.
    #[error("it is of version {0}, this node speaks version {VERSION}")]
    Version(u16),
}

#[derive(Serialize)]
struct Written<'a> {
    version: u16,
    node: NodeId,
    say: &'a NodeMessage,
}

#[derive(Deserialize)]
struct Read<'a> {
    version: u16,
    node: NodeId,
    #[serde(borrow)]
    say: &'a RawValue,
}

/// A message as it goes over the bus, with who sends it.
///
/// # Errors
/// Where it is longer than the bus takes.
pub fn write(node: NodeId, say: &NodeMessage) -> Result<Vec<u8>, UnreadableNode> {
    let bytes = serde_json::to_vec(&Written { version: VERSION, node, say })?;
    if bytes.len() > MAX_LEN { Err(UnreadableNode::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// Reads a message and who sent it.
///
/// # Errors
/// See [`UnreadableNode`].
pub fn read(bytes: &[u8]) -> Result<(NodeId, NodeMessage), UnreadableNode> {
    if bytes.len() > MAX_LEN {
        return Err(UnreadableNode::TooLong(bytes.len()));
    }
    let Read { version, node, say } = serde_json::from_slice(bytes)?;
    if version != VERSION {
        return Err(UnreadableNode::Version(version));
    }
    Ok((node, serde_json::from_str(say.get())?))
}

/// Lower-case hexadecimal digits of fixed number.
#[derive(Debug, thiserror::Error)]
#[error("{0} lower-case hexadecimal digits are expected")]
pub struct NotHex(usize);

fn digits(text: &str, count: usize) -> Result<&str, NotHex> {
    let is_hex = text.len() == count && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { Ok(text) } else { Err(NotHex(count)) }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for SwarmHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for NodeId {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        u64::from_str_radix(digits(text, 16)?, 16).map(Self).map_err(|_| NotHex(16))
    }
}

impl FromStr for SwarmHash {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        u128::from_str_radix(digits(text, 32)?, 16).map(|bits| Self(bits.to_be_bytes())).map_err(|_| NotHex(32))
    }
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text! { NodeId SwarmHash }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_went_whatever_is_in_them() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        let (swarm, binary) = (SwarmHash([0xab; 16]), Binary(*b"\0\x01\"\\\xff\x80 hash of swarm"));
        let place = Place { addr: "2001:db8::1".parse().ok(), asn: Some(7), ..Place::default() };
        for message in [
            NodeMessage::Alive,
            NodeMessage::Figures { swarm, figures: Figures { viewers: 1, ..Figures::default() }, asks: true },
            NodeMessage::Seek {
                swarm,
                peer: PeerId(1),
                role: Role::Seed,
                place,
                position_s: Some(90),
                count: 3,
                seeds: 1,
                tried: vec![NodeId(u64::MAX)],
            },
            NodeMessage::Offers {
                info_hash: binary,
                peer_id: binary,
                offers: vec![Offered { id: raw(r#""\u0000""#), offer: raw(r#"{"sdp" : "é\r\n"}"#) }],
            },
        ] {
            let bytes = write(NodeId(9), &message).unwrap();
            let (node, read) = read(&bytes).unwrap();
            assert_eq!(node, NodeId(9));
            assert_eq!(format!("{read:?}"), format!("{message:?}"));
        }
    }

    #[test]
    fn what_is_of_another_version_or_nothing_at_all_is_an_error() {
        let good = r#"{"version":1,"node":"0000000000000009","say":"alive"}"#;
        assert!(read(good.as_bytes()).is_ok());
        for bad in ["", "{}", "[", r#"{"version":1,"node":"9","say":"alive"}"#, &good.replace("alive", "what")] {
            assert!(matches!(read(bad.as_bytes()), Err(UnreadableNode::Malformed(_))), "{bad}");
        }
        // Another version may say what this one cannot read.
        let newer = good.replace("\"version\":1", "\"version\":2").replace("\"alive\"", "{\"new\":[]}");
        assert!(matches!(read(newer.as_bytes()), Err(UnreadableNode::Version(2))));
        assert!(matches!(read(&vec![b' '; MAX_LEN + 1]), Err(UnreadableNode::TooLong(_))));
    }

    #[test]
    fn swarms_of_the_two_protocols_never_meet_and_names_leave_no_trace() {
        let name = SwarmName::new("aaaaaaaaaaaaaaaaaaaa").unwrap();
        let (native, tracker) = (SwarmHash::of_name(&name), SwarmHash::of_info_hash(&Binary([b'a'; 20])));
        assert_ne!(native, tracker);
        let wild = SwarmHash::of_name(&SwarmName::new("a.*.> b").unwrap()).to_string();
        assert!(wild.len() == 32 && wild.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
