//! Tokens: JWTs by which a publisher says who may join which swarm. Keys come from a JWK set (RFC 7517) in a file.
//!
//! A key is either a shared secret (`oct`, used with HS256) or an Ed25519 public key (`OKP`, used with EdDSA). The key says
//! which algorithm is right, never the token. A token names its key by `kid`, so that a new key can be put beside the old
//! one, and the old one taken out when its last token has expired. A key may be bound to swarms by a member `swarms`, so that no
//! publisher of a host lets anybody into another's.

mod verifier;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_rendezvous::{AllowList, Duration, Grant, Now, TokenId};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

/// Longest token that is looked at.
const MAX_TOKEN_LEN: usize = 4096;

/// How far clocks may be apart, in seconds.
const LEEWAY: u64 = 30;

/// Fewest bytes of a shared secret: as many as SHA-256 gives, as RFC 7518 asks.
const MIN_SECRET: usize = 32;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// The swarm it is for; for WebTorrent, the info hash in hexadecimal digits.
    #[serde(default)]
    pub swarm: Option<String>,
    /// It is for every swarm whose name begins so.
    #[serde(default)]
    pub swarm_prefix: Option<String>,
    /// Until when, in seconds since 1970.
    pub exp: u64,
    /// Its own name: tokens with the same, by the same key, are one as far as limits go.
    #[serde(default)]
    pub jti: Option<String>,
    /// Most members at once that came with it.
    #[serde(default)]
    pub max_peers: Option<u32>,
    /// Most joins with it.
    #[serde(default)]
    pub uses: Option<u32>,
    /// Whether it lets its holder read the statistics of its swarms, too.
    #[serde(default)]
    pub stats: bool,
    /// The key that it was signed with, as [`Keys::check`] found it; no claim can say it.
    #[serde(skip)]
    pub kid: Option<String>,
    /// The swarms that this key may sign for; empty is all. No claim can say it.
    #[serde(skip)]
    pub of_key: Arc<AllowList>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("this server asks for a token of the publisher")]
    Missing,
    /// It is no JWT, or its key is not known here, or its signature is wrong.
    #[error("the token is not one of this server's publishers")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired: get a new one")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// It is for something else.
    #[error("the token is for another swarm")]
    Elsewhere,
    /// It is for joining this swarm, not for looking at it.
    #[error("the token does not let its holder read statistics: that needs the claim \"stats\": true")]
    NoStats,
    /// Its key may not sign for this swarm.
    #[error("the key of this token may not sign for this swarm: it is another publisher's")]
    Foreign,
}

impl TokenError {
    /// Whether a token was good, but not for this.
    #[must_use]
    pub const fn is_forbidden(&self) -> bool {
        matches!(self, Self::Elsewhere | Self::NoStats | Self::Foreign)
    }
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the token keys in {0}: {1}")]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// It is no JWK set.
    #[error("{0} is no JWK set: {1}. It looks like {{\"keys\":[{{\"kty\":\"oct\",\"kid\":\"1\",\"k\":\"…\"}}]}}")]
    Malformed(PathBuf, #[source] serde_json::Error),
    /// It holds a key of another kind.
    #[error("key {1:?} of {0} cannot be used: {2}")]
    Unusable(PathBuf, String, &'static str),
    /// Two keys have one name, so that one of them would be dead.
    #[error("{0} holds two keys with the kid {1:?}: every key needs its own")]
    Twice(PathBuf, String),
    /// Some keys are bound to swarms and this one is not: it would open all publishers' swarms.
    #[error(
        "key {1:?} of {0} names no swarms, while others do: add \"swarms\": [\"PREFIX/*\"] to it, or [\"*\"] if it may sign for all"
    )]
    Unbound(PathBuf, String),
    /// It holds no key.
    #[error("{0} holds no key: with it, nobody could join")]
    Empty(PathBuf),
}

struct Key {
    key: DecodingKey,
    validation: Validation,
    swarms: Arc<AllowList>,
}

/// A JWK set, each key still as it stands there.
#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// What this server reads of a key besides what RFC 7517 has.
#[derive(Deserialize)]
struct Binding {
    /// The swarms that it may sign for: names, or beginnings with a star; info hashes in hexadecimal digits.
    #[serde(default)]
    swarms: Option<Vec<String>>,
}

/// The keys of the publishers.
pub struct Keys {
    by_kid: BTreeMap<String, Key>,
    /// For tokens that name none.
    unnamed: Option<Key>,
}

impl Keys {
    /// Reads a JWK set.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn read(file: &Path) -> Result<Self, KeysError> {
        let text = fs::read_to_string(file).map_err(|error| KeysError::Unreadable(file.to_owned(), error))?;
        Self::parse(file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, KeysError> {
        verifier::install();
        let malformed = |error| KeysError::Malformed(file.to_owned(), error);
        let set: Set = serde_json::from_str(text).map_err(malformed)?;
        let mut keys = Self { by_kid: BTreeMap::new(), unnamed: None };
        for value in &set.keys {
            let jwk = &Jwk::deserialize(value).map_err(malformed)?;
            let Binding { swarms } = Binding::deserialize(value).map_err(malformed)?;
            let kid = jwk.common.key_id.clone();
            let bad = |why| KeysError::Unusable(file.to_owned(), kid.clone().unwrap_or_default(), why);
            let algorithm = match &jwk.algorithm {
                AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
                AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
                _ => return Err(bad("only kty oct (HS256) and OKP with crv Ed25519 (EdDSA) are")),
            };
            let key = DecodingKey::from_jwk(jwk).map_err(|_| bad("it is not as its kty says"))?;
            let bytes = key.try_get_as_bytes().map_err(|_| bad("it is not as its kty says"))?;
            match algorithm {
                Algorithm::HS256 if bytes.len() < MIN_SECRET => return Err(bad("a secret needs 32 bytes at least")),
                Algorithm::EdDSA if bytes.len() != 32 => return Err(bad("an Ed25519 key has 32 bytes")),
                _ => {}
            }
            if swarms.as_ref().is_some_and(Vec::is_empty) {
                return Err(bad("its swarms are none, so that it could sign for nothing"));
            }
            let swarms = Arc::new(AllowList::new(swarms.unwrap_or_default()));
            let key = Key { key, validation: validation(algorithm), swarms };
            let before = match kid.clone() {
                Some(kid) => keys.by_kid.insert(kid, key),
                None => keys.unnamed.replace(key),
            };
            if before.is_some() {
                return Err(KeysError::Twice(file.to_owned(), kid.unwrap_or_default()));
            }
        }
        keys.are_all_bound_or_none().map_err(|kid| KeysError::Unbound(file.to_owned(), kid))?;
        if keys.by_kid.is_empty() && keys.unnamed.is_none() {
            return Err(KeysError::Empty(file.to_owned()));
        }
        Ok(keys)
    }

    /// The name of a key that is bound to no swarms, where another is: most likely it was forgotten.
    fn are_all_bound_or_none(&self) -> Result<(), String> {
        let named = self.by_kid.iter().map(|(kid, key)| (kid.as_str(), key));
        let all = || named.clone().chain(self.unnamed.iter().map(|key| ("", key)));
        match all().find(|(_, key)| key.swarms.is_empty()) {
            Some((kid, _)) if all().any(|(_, key)| !key.swarms.is_empty()) => Err(kid.to_owned()),
            _ => Ok(()),
        }
    }

    /// Checks a token's signature and times.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn check(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let key = match &header.kid {
            Some(kid) => self.by_kid.get(kid),
            None => self.unnamed.as_ref(),
        };
        let Key { key, validation, swarms } = key.ok_or(TokenError::Invalid)?;
        let data = jsonwebtoken::decode::<Claims>(token, key, validation);
        data.map(|data| Claims { kid: header.kid, of_key: Arc::clone(swarms), ..data.claims }).map_err(|error| {
            match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => TokenError::Expired,
                jsonwebtoken::errors::ErrorKind::ImmatureSignature => TokenError::NotYet,
                _ => TokenError::Invalid,
            }
        })
    }
}

fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.validate_aud = false;
    validation
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("kids", &self.by_kid.keys()).finish_non_exhaustive()
    }
}

impl Claims {
    /// Whether it is for this swarm, and its key may say so.
    ///
    /// # Errors
    /// [`TokenError::Elsewhere`] and [`TokenError::Foreign`].
    pub fn admits(&self, swarm: &str) -> Result<(), TokenError> {
        if !self.covers(swarm) {
            return Err(TokenError::Elsewhere);
        }
        if self.of_key.allows(swarm) { Ok(()) } else { Err(TokenError::Foreign) }
    }

    /// One that names neither a swarm nor a prefix is for none.
    fn covers(&self, swarm: &str) -> bool {
        self.swarm.as_deref() == Some(swarm)
            || self.swarm_prefix.as_deref().is_some_and(|prefix| swarm.starts_with(prefix))
    }

    /// What the core holds its holder to. `unix_now` and `now` are the same moment.
    #[must_use]
    pub fn grant(&self, token: &str, unix_now: u64, now: Now) -> Grant {
        let unique = self.jti.as_deref().unwrap_or(token);
        // Another publisher's tokens may have the same names.
        let kid = self.kid.as_deref().unwrap_or_default();
        let hash = blake3::hash(format!("{kid}\0{unique}").as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&hash.as_bytes()[..8]);
        let left = self.exp.saturating_add(LEEWAY).saturating_sub(unix_now);
        Grant {
            token: TokenId(u64::from_le_bytes(id)),
            max_peers: self.max_peers,
            uses: self.uses,
            expires: now.plus(Duration::from_secs(left)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
