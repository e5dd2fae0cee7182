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
    Peers,
    /// It was used as often as it allows.
    Uses,
    /// Its time has passed since the shell checked it.
    Expired,
    /// Too many tokens are in use.
    Full,
}

impl QuotaError {
    /// What is said to the client.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Peers => "as many peers as this token allows are here",
            Self::Uses => "this token was used as often as it allows",
            Self::Expired => "the token has expired: get a new one",
            Self::Full => "this server cannot count the uses of more tokens",
        }
    }
}

impl core::fmt::Display for QuotaError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}

/// Who comes with a grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Coming {
    /// It proved to have been here: it uses nothing up.
    pub(crate) came_back: bool,
    /// It takes the place of a member of the same token, who leaves after that.
    pub(crate) replaces: bool,
}

#[derive(Debug, Clone, Copy)]
struct Used {
    joins: u32,
    expires: Now,
}

/// Counts by token, of both protocols together.
#[derive(Debug, Default)]
pub struct Quotas {
    members: BTreeMap<TokenId, u32>,
    used: BTreeMap<TokenId, Used>,
}

impl Quotas {
    /// Counts a member, if the grant has room for it; [`Self::leave`] must follow.
    pub(crate) fn join(&mut self, now: Now, grant: &Grant, coming: Coming) -> Result<(), QuotaError> {
        if grant.expires < now {
            return Err(QuotaError::Expired);
        }
        let members = self.members.get(&grant.token).copied().unwrap_or(0);
        if grant.max_peers.is_some_and(|most| members.saturating_sub(coming.replaces.into()) >= most) {
            return Err(QuotaError::Peers);
        }
        if let Some(most) = grant.uses.filter(|_| !coming.came_back) {
            let (joins, expires) =
                self.used.get(&grant.token).map_or((0, grant.expires), |used| (used.joins, used.expires));
            if joins >= most {
                return Err(QuotaError::Uses);
            }
            if self.used.len() >= MAX_TOKENS && !self.used.contains_key(&grant.token) {
                self.used.retain(|_, used| used.expires > now);
                if self.used.len() >= MAX_TOKENS {
                    return Err(QuotaError::Full);
                }
            }
            self.used.insert(grant.token, Used { joins: joins + 1, expires: expires.max(grant.expires) });
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
        assert_eq!(quotas.join(Now(0), &grant(u64::MAX), Coming::default()), Err(QuotaError::Full));
        assert_eq!(quotas.join(Now(0), &grant(7), Coming::default()), Ok(()));
        assert_eq!(quotas.join(Now(0), &grant(7), Coming::default()), Err(QuotaError::Uses));
        assert_eq!(quotas.join(Now(100), &grant(u64::MAX), Coming::default()), Ok(()));
    }

    #[test]
    fn an_old_token_is_for_nobody_and_one_that_takes_a_place_over_needs_none() {
        let mut quotas = Quotas::default();
        let grant = Grant { token: TokenId(1), max_peers: Some(1), uses: None, expires: Now(100) };
        assert_eq!(quotas.join(Now(101), &grant, Coming::default()), Err(QuotaError::Expired));
        assert_eq!(quotas.join(Now(100), &grant, Coming::default()), Ok(()));
        assert_eq!(quotas.join(Now(100), &grant, Coming::default()), Err(QuotaError::Peers));
        assert_eq!(quotas.join(Now(100), &grant, Coming { replaces: true, ..Coming::default() }), Ok(()));
        quotas.leave(grant.token);
        assert_eq!(quotas.join(Now(100), &grant, Coming::default()), Err(QuotaError::Peers));
    }

    #[test]
    fn members_and_uses_are_counted_apart() {
        let grant = Grant { token: TokenId(1), max_peers: Some(2), uses: Some(3), expires: Now(100) };
        let mut quotas = Quotas::default();
        let join = |quotas: &mut Quotas, came_back| quotas.join(Now(0), &grant, Coming { came_back, replaces: false });
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
        assert_eq!(quotas.join(Now(0), &other, Coming::default()), Ok(()));
        quotas.leave(other.token);
        assert!(!quotas.members.contains_key(&other.token) && !quotas.used.contains_key(&other.token));
    }
}
