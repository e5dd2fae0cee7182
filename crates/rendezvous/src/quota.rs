//! What tokens allow: how many members at once, and how many joins in all.

use std::collections::BTreeMap;

use crate::time::Now;

/// Tokens whose uses are remembered at most; those that have expired make room.
const MAX_TOKENS: usize = 200_000;

/// A token by the hash of what makes it unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u64);

/// What a token that the shell has checked grants to whoever holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Which token.
    pub token: TokenId,
    /// Members at once that came with it.
    pub max_peers: Option<u32>,
    /// Joins with it in all; coming back by `resume` is none.
    pub uses: Option<u32>,
    /// It is not accepted after that, so its uses need not be remembered longer.
    pub expires: Now,
}

/// Why a grant is not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// As many members as it allows are there.
    #[error("as many peers as this token allows are here")]
    Peers,
    /// It was used as often as it allows.
    #[error("this token was used as often as it allows")]
    Uses,
    /// Too many tokens are in use.
    #[error("this server cannot count the uses of more tokens")]
    Full,
}

#[derive(Debug, Clone, Copy)]
struct Used {
    joins: u32,
    expires: Now,
}

/// Counts by token.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    members: BTreeMap<TokenId, u32>,
    used: BTreeMap<TokenId, Used>,
}

impl Quotas {
    /// Counts a member, if the grant has room for it; [`Self::leave`] must follow. A peer that came back uses nothing up.
    pub(crate) fn join(&mut self, now: Now, grant: &Grant, came_back: bool) -> Result<(), QuotaError> {
        let members = self.members.get(&grant.token).copied().unwrap_or(0);
        if grant.max_peers.is_some_and(|most| members >= most) {
            return Err(QuotaError::Peers);
        }
        if let Some(most) = grant.uses.filter(|_| !came_back) {
            let joins = self.used.get(&grant.token).map_or(0, |used| used.joins);
            if joins >= most {
                return Err(QuotaError::Uses);
            }
            if self.used.len() >= MAX_TOKENS && !self.used.contains_key(&grant.token) {
                self.used.retain(|_, used| used.expires > now);
                if self.used.len() >= MAX_TOKENS {
                    return Err(QuotaError::Full);
                }
            }
            self.used.insert(grant.token, Used { joins: joins + 1, expires: grant.expires });
        }
        *self.members.entry(grant.token).or_insert(0) += 1;
        Ok(())
    }

    /// One member less.
    pub(crate) fn leave(&mut self, token: TokenId) {
        if let Some(members) = self.members.get_mut(&token) {
            *members = members.saturating_sub(1);
            if *members == 0 {
                self.members.remove(&token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_counted_already_needs_no_room() {
        let mut quotas = Quotas::default();
        let tokens = 0..u64::try_from(MAX_TOKENS).unwrap();
        quotas.used = tokens.map(|id| (TokenId(id), Used { joins: 1, expires: Now(100) })).collect();
        let grant = |id| Grant { token: TokenId(id), max_peers: None, uses: Some(2), expires: Now(100) };
        assert_eq!(quotas.join(Now(0), &grant(u64::MAX), false), Err(QuotaError::Full));
        assert_eq!(quotas.join(Now(0), &grant(7), false), Ok(()));
        assert_eq!(quotas.join(Now(0), &grant(7), false), Err(QuotaError::Uses));
        assert_eq!(quotas.join(Now(100), &grant(u64::MAX), false), Ok(()));
    }

    #[test]
    fn members_and_uses_are_counted_apart() {
        let grant = Grant { token: TokenId(1), max_peers: Some(2), uses: Some(3), expires: Now(100) };
        let mut quotas = Quotas::default();
        let join = |quotas: &mut Quotas, came_back| quotas.join(Now(0), &grant, came_back);
        assert_eq!((join(&mut quotas, false), join(&mut quotas, false)), (Ok(()), Ok(())));
        assert_eq!(join(&mut quotas, false), Err(QuotaError::Peers));
        quotas.leave(grant.token);
        assert_eq!(join(&mut quotas, true), Ok(()));
        quotas.leave(grant.token);
        assert_eq!(join(&mut quotas, false), Ok(()));
        quotas.leave(grant.token);
        assert_eq!(join(&mut quotas, false), Err(QuotaError::Uses));
        assert_eq!(join(&mut quotas, true), Ok(()));
        let other = Grant { token: TokenId(2), max_peers: None, uses: None, expires: Now(100) };
        assert_eq!(quotas.join(Now(0), &other, false), Ok(()));
        quotas.leave(other.token);
        assert!(!quotas.members.contains_key(&other.token) && !quotas.used.contains_key(&other.token));
    }
}
