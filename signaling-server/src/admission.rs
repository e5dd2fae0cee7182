//! Who may connect and who may join: origins, addresses, swarms and tokens. The limits themselves are the core's.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use axum::http::header::ORIGIN;
use headwater_rendezvous::tracker::{Binary, Intent};
use headwater_rendezvous::{AddressLimits, Addresses, AllowList, Grant, Line, Now};
use headwater_wire::SwarmName;
use url::form_urlencoded;

use crate::follow::Followed;
use crate::proxy::{Network, ProxyHeader, client_addr};
use crate::token::{Claims, Keys, KeysError, TokenError};

/// What is asked of those who come.
#[derive(Debug, Clone)]
pub struct AdmissionOptions {
    /// Proxies whose word about the client's address is believed.
    pub trusted_proxies: Vec<Network>,
    /// Where they write it.
    pub proxy_header: ProxyHeader,
    /// Pages that may connect, as `https://video.example` or `https://*.example`. Whatever sends no Origin is no browser and
    /// may: it could say anything.
    pub origins: AllowList,
    /// Swarms that are served: names, or beginnings with a star. WebTorrent's are info hashes in hexadecimal digits.
    pub swarms: AllowList,
    /// The JWK set of the publishers whose tokens are asked for. Without it, anyone may join.
    pub token_keys: Option<PathBuf>,
    /// What one address may have.
    pub addresses: AddressLimits,
    /// Connections at once of one address that are no WebSockets, or not yet; none is no limit. Proxies are not counted.
    pub plain_connections: Option<u32>,
}

impl Default for AdmissionOptions {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::default(),
            origins: AllowList::default(),
            swarms: AllowList::default(),
            token_keys: None,
            addresses: AddressLimits { connections: None, opening: None },
            plain_connections: None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Admission {
    trusted_proxies: Vec<Network>,
    proxy_header: ProxyHeader,
    origins: AllowList,
    swarms: AllowList,
    keys: Option<Followed<Keys>>,
    addresses: Mutex<Addresses>,
    plain: Mutex<Addresses>,
    epoch: Instant,
}

/// What a tracker's client showed in its URL.
#[derive(Debug)]
pub(crate) struct Pass {
    claims: Claims,
    pub(crate) grant: Grant,
}

/// Why somebody may not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("this swarm is not served here")]
    Swarm,
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// The swarm that a message was about, and why it is not let through.
pub(crate) type Barred = (Option<Binary>, &'static str);

/// One of the connections of a line, until it is dropped.
#[derive(Debug)]
pub(crate) struct AddressPlace {
    admission: Arc<Admission>,
    line: Line,
}

/// One of the plain connections of a line, until it is dropped.
#[derive(Debug)]
pub(crate) struct PlainPlace {
    admission: Arc<Admission>,
    /// None for a proxy, which is not counted.
    line: Option<Line>,
}

impl Admission {
    pub(crate) fn new(options: AdmissionOptions) -> Result<Arc<Self>, KeysError> {
        let AdmissionOptions {
            trusted_proxies,
            proxy_header,
            origins,
            swarms,
            token_keys,
            addresses,
            plain_connections,
        } = options;
        let keys = token_keys
            .map(|file| Followed::new("token keys", vec![file.clone()], move || Keys::read(&file)))
            .transpose()?;
        let addresses = Mutex::new(Addresses::new(addresses));
        let plain = Mutex::new(Addresses::new(AddressLimits { connections: plain_connections, opening: None }));
        Ok(Arc::new(Self {
            trusted_proxies,
            proxy_header,
            origins,
            swarms,
            keys,
            addresses,
            plain,
            epoch: Instant::now(),
        }))
    }

    /// The keys, to be followed.
    pub(crate) const fn keys(&self) -> Option<&Followed<Keys>> {
        self.keys.as_ref()
    }

    /// The client's own address.
    pub(crate) fn client(&self, socket: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_addr(&self.trusted_proxies, self.proxy_header, socket, headers)
    }

    /// Whether a page of the request's origin may connect.
    pub(crate) fn allows_origin(&self, headers: &HeaderMap) -> bool {
        headers.get(ORIGIN).is_none_or(|origin| origin.to_str().is_ok_and(|origin| self.origins.allows(origin)))
    }

    /// A place for one more connection of an address, if it may have one.
    pub(crate) fn open(self: &Arc<Self>, addr: IpAddr) -> Option<AddressPlace> {
        let line = Line::of(addr);
        let open = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).open(self.now(), line);
        open.then(|| AddressPlace { admission: Arc::clone(self), line })
    }

    /// A place for one more connection of which nothing is known but the address, if that may have one.
    pub(crate) fn open_plain(self: &Arc<Self>, addr: IpAddr) -> Option<PlainPlace> {
        let is_proxy = self.trusted_proxies.iter().any(|network| network.contains(addr));
        let line = (!is_proxy).then(|| Line::of(addr));
        let open = |line| self.plain.lock().unwrap_or_else(PoisonError::into_inner).open(self.now(), line);
        line.is_none_or(open).then(|| PlainPlace { admission: Arc::clone(self), line })
    }

    fn now(&self) -> Now {
        Now(u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Whether somebody may join a swarm of the native protocol, and within which limits.
    pub(crate) fn join(&self, now: Now, swarm: &SwarmName, token: Option<&str>) -> Result<Option<Grant>, Denied> {
        if !self.swarms.allows(swarm.as_str()) {
            return Err(Denied::Swarm);
        }
        let Some(keys) = &self.keys else { return Ok(None) };
        let token = token.ok_or(TokenError::Missing)?;
        let claims = keys.get().check(token)?;
        claims.admits(swarm.as_str())?;
        Ok(Some(claims.grant(token, unix_now(), now)))
    }

    /// The token of a tracker's client, which is in the URL; none where none is asked for.
    pub(crate) fn tracker_pass(&self, now: Now, query: Option<&str>) -> Result<Option<Arc<Pass>>, TokenError> {
        let Some(keys) = &self.keys else { return Ok(None) };
        let token = token_of(query).ok_or(TokenError::Missing)?;
        let claims = keys.get().check(&token)?;
        let grant = claims.grant(&token, unix_now(), now);
        Ok(Some(Arc::new(Pass { claims, grant })))
    }

    /// Whether a tracker's client may say this; the info hash where not. Whether its token has room for one more peer is for the
    /// tracker to say.
    pub(crate) fn allows(&self, pass: Option<&Pass>, now: Now, intent: Intent<'_>) -> Result<(), Barred> {
        if self.swarms.is_empty() && pass.is_none() {
            return Ok(());
        }
        let check = |info_hash: &Binary| {
            let name = info_hash.to_string();
            if !self.swarms.allows(&name) {
                return Err("this swarm is not served here");
            }
            match pass.map(|pass| pass.claims.admits(&name)) {
                None | Some(Ok(())) => Ok(()),
                Some(Err(TokenError::Foreign)) => Err("the key of this token may not sign for this swarm"),
                Some(Err(_)) => Err("the token is for another swarm"),
            }
        };
        match intent {
            Intent::Unknown => Ok(()),
            Intent::Swarm(info_hash) => check(&info_hash).map_err(|why| (Some(info_hash), why)),
            // Nothing of these is counted by the tracker.
            Intent::Scrape(_) if pass.is_some_and(|pass| pass.grant.expires < now) => {
                Err((None, "the token has expired: get a new one"))
            }
            Intent::Scrape([]) => Err((None, "name the info_hash to scrape")),
            Intent::Scrape(hashes) => hashes.iter().try_for_each(check).map_err(|why| (None, why)),
        }
    }

    /// Whether a token lets its holder read a swarm's statistics. Without keys nobody may.
    pub(crate) fn stats(&self, swarm: &str, token: Option<&str>) -> Result<(), TokenError> {
        let keys = self.keys.as_ref().ok_or(TokenError::Missing)?;
        let claims = keys.get().check(token.ok_or(TokenError::Missing)?)?;
        claims.admits(swarm)?;
        if claims.stats { Ok(()) } else { Err(TokenError::NoStats) }
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut addresses = self.admission.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.close(self.admission.now(), self.line);
    }
}

impl Drop for PlainPlace {
    fn drop(&mut self) {
        let Some(line) = self.line else { return };
        let mut plain = self.admission.plain.lock().unwrap_or_else(PoisonError::into_inner);
        plain.close(self.admission.now(), line);
    }
}

/// The `token` of a query string.
pub(crate) fn token_of(query: Option<&str>) -> Option<String> {
    form_urlencoded::parse(query?.as_bytes()).find(|(key, _)| key == "token").map(|(_, value)| value.into_owned())
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
