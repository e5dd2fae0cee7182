//! The `resume` secret of a welcome: proves that a peer had its name before, without the server remembering anything.

use headwater_wire::{PeerId, SwarmName};

/// `PEER.MAC`, with the MAC a keyed BLAKE3 hash over the name and the swarm, cut to 128 bits.
pub(crate) fn issue(key: &[u8; 32], swarm: &SwarmName, peer: PeerId) -> String {
    format!("{peer}.{}", mac(key, swarm, peer).to_hex().split_at(MAC_DIGITS).0)
}

/// The name that `resume` proves, if it was issued with this key for this swarm.
pub(crate) fn verify(key: &[u8; 32], swarm: &SwarmName, resume: &str) -> Option<PeerId> {
    let (peer, given) = resume.split_once('.')?;
    let peer: PeerId = peer.parse().ok()?;
    let hex = mac(key, swarm, peer).to_hex();
    let expected = hex.split_at(MAC_DIGITS).0;
    // Hashed once more, the comparison is one of constant time and tells a guesser nothing.
    (blake3::hash(given.as_bytes()) == blake3::hash(expected.as_bytes())).then_some(peer)
}

const MAC_DIGITS: usize = 32;

fn mac(key: &[u8; 32], swarm: &SwarmName, peer: PeerId) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&peer.0.to_le_bytes());
    hasher.update(swarm.as_str().as_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_key_swarm_and_name_are_proven() {
        let (swarm, other) = (SwarmName::new("a").unwrap(), SwarmName::new("b").unwrap());
        let resume = issue(&[1; 32], &swarm, PeerId(9));
        assert_eq!(verify(&[1; 32], &swarm, &resume), Some(PeerId(9)));
        assert_eq!(verify(&[2; 32], &swarm, &resume), None);
        assert_eq!(verify(&[1; 32], &other, &resume), None);
        let forged = format!("{}{}", PeerId(8), &resume[16..]);
        for bad in ["", ".", "é", "x.y", forged.as_str(), &resume[..resume.len() - 1]] {
            assert_eq!(verify(&[1; 32], &swarm, bad), None, "{bad}");
        }
    }
}
