//! The `resume` secret of a welcome: proves that a peer had its name before, without the server remembering anything.

use headwater_wire::{PeerId, SwarmName};

use crate::quota::TokenId;

/// What a `resume` proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proven {
    pub(crate) peer: PeerId,
    /// Whether the peer came with the same token then: only so it uses nothing of it up.
    pub(crate) same_token: bool,
}

/// `PEER.MAC`, with the MAC a keyed BLAKE3 hash over the name and the swarm, cut to 128 bits; where the peer came with a token,
/// 128 bits follow that cover it too.
pub(crate) fn issue(key: &[u8; 32], swarm: &SwarmName, peer: PeerId, token: Option<TokenId>) -> String {
    let tag = token.map(|token| mac(key, swarm, peer, Some(token)));
    format!("{peer}.{}{}", mac(key, swarm, peer, None), tag.unwrap_or_default())
}

/// What `resume` proves, if it was issued with this key for this swarm, of a peer that comes with `token`.
pub(crate) fn verify(key: &[u8; 32], swarm: &SwarmName, resume: &str, token: Option<TokenId>) -> Option<Proven> {
    let (peer, given) = resume.split_once('.')?;
    let peer: PeerId = peer.parse().ok()?;
    let (name, tag) = given.split_at_checked(MAC_DIGITS)?;
    let same_token = token.is_some_and(|token| is_equal(tag, &mac(key, swarm, peer, Some(token))));
    is_equal(name, &mac(key, swarm, peer, None)).then_some(Proven { peer, same_token })
}

/// Hashed once more, the comparison is one of constant time and tells a guesser nothing.
fn is_equal(given: &str, expected: &str) -> bool {
    blake3::hash(given.as_bytes()) == blake3::hash(expected.as_bytes())
}

const MAC_DIGITS: usize = 32;

fn mac(key: &[u8; 32], swarm: &SwarmName, peer: PeerId, token: Option<TokenId>) -> String {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&peer.0.to_le_bytes());
    hasher.update(swarm.as_str().as_bytes());
    if let Some(token) = token {
        // No swarm's name has a control character: what is covered is never that of another.
        hasher.update(&[0]);
        hasher.update(&token.0.to_le_bytes());
    }
    hasher.finalize().to_hex()[..MAC_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_key_swarm_and_name_are_proven() {
        let (swarm, other) = (SwarmName::new("a").unwrap(), SwarmName::new("b").unwrap());
        let resume = issue(&[1; 32], &swarm, PeerId(9), None);
        let proven = Proven { peer: PeerId(9), same_token: false };
        assert_eq!(verify(&[1; 32], &swarm, &resume, None), Some(proven));
        assert_eq!(verify(&[2; 32], &swarm, &resume, None), None);
        assert_eq!(verify(&[1; 32], &other, &resume, None), None);
        let forged = format!("{}{}", PeerId(8), &resume[16..]);
        for bad in ["", ".", "é", "x.y", forged.as_str(), &resume[..resume.len() - 1]] {
            assert_eq!(verify(&[1; 32], &swarm, bad, None), None, "{bad}");
        }
    }

    #[test]
    fn whoever_comes_back_with_another_token_keeps_its_name_alone() {
        let swarm = SwarmName::new("a").unwrap();
        let resume = issue(&[1; 32], &swarm, PeerId(9), Some(TokenId(5)));
        let same_token = |resume: &str, token| verify(&[1; 32], &swarm, resume, token).unwrap().same_token;
        assert!(same_token(&resume, Some(TokenId(5))));
        assert!(!same_token(&resume, Some(TokenId(6))));
        assert!(!same_token(&resume, None));
        // Without what covers the token, or with that of another peer.
        let bare = issue(&[1; 32], &swarm, PeerId(9), None);
        assert!(!same_token(&bare, Some(TokenId(5))));
        let others = issue(&[1; 32], &swarm, PeerId(8), Some(TokenId(5)));
        assert!(!same_token(&format!("{bare}{}", &others[bare.len()..]), Some(TokenId(5))));
    }
}
