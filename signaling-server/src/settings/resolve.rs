//! From settings to what the server is started with.

use std::path::PathBuf;
use std::time::Duration;

use headwater_rendezvous::tracker::TrackerConfig;
use headwater_rendezvous::{AddressLimits, AllowList, Rate};
use headwater_wire::signal::IceServer;

use super::{List, Settings};
use crate::acme::Acme;
use crate::admission::AdmissionOptions;
use crate::nats::Nats;
use crate::options::{Limits, Options, Timing};
use crate::tls::{TlsFiles, TlsSource};
use crate::turn::Turn;

/// Fewest characters of the secret that makes peers known again.
const MIN_RESUME_SECRET: usize = 32;

/// A burst of connections that one address may open, as seconds of its rate: a hall of viewers behind one line reloads.
const ADDRESS_BURST_SECONDS: u32 = 20;

/// Connections of one address that are no WebSockets, or not yet: a hall of viewers behind one line loads the player, and it
/// takes sixteen such lines to fill the server.
const PLAIN_PER_ADDRESS: u32 = 256;

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// It is not as it should be.
    #[error("{0}: {1}")]
    Malformed(PathBuf, #[source] Box<toml::de::Error>),
    /// One of two that belong together is missing.
    #[error("{0} needs {1} too")]
    Needs(&'static str, &'static str),
    /// Two that exclude each other.
    #[error("{0} and {1} exclude each other: leave one of them out")]
    Either(&'static str, &'static str),
    /// A secret that can be guessed.
    #[error("resume-secret must have {MIN_RESUME_SECRET} characters at least")]
    ShortSecret,
    /// No random key.
    #[error("the operating system gives no random numbers: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

impl Settings {
    /// What these settings, completed by the defaults, start a server with.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn resolve(self) -> Result<Options, SettingsError> {
        let all = self.or(Self::defaults()?);
        let mut options = Options::new(all.listen.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()))?;
        if let Some(secret) = &all.resume_secret {
            if secret.len() < MIN_RESUME_SECRET {
                return Err(SettingsError::ShortSecret);
            }
            options.core.resume_key = blake3::derive_key("headwater-signal resume secret", secret.as_bytes());
        }
        set(&mut options.core.max_connections, all.max_connections);
        set(&mut options.core.max_swarms, all.max_swarms);
        set(&mut options.core.max_swarm_size, all.max_swarm_size);
        let stun: Vec<String> = all.stun.clone().unwrap_or_default().0.into_iter().map(|url| url.0).collect();
        if !stun.is_empty() {
            options.core.ice_servers = vec![IceServer { urls: stun, username: None, credential: None }];
        }
        options.turn = turn(&all)?;
        options.tls = tls(&all)?;
        options.limits = Limits {
            messages: rate(all.message_burst, all.messages_per_second),
            bytes: rate(all.byte_burst, all.bytes_per_second),
            offers: rate(all.offer_burst, all.offers_per_second),
        };
        options.timing = Timing {
            ping_every: Duration::from_secs(all.ping_every.unwrap_or(30).max(1).into()),
            silence: Duration::from_secs(all.silence.unwrap_or(90).max(1).into()),
            ..Timing::default()
        };
        options.tracker = all.tracker.unwrap_or(true).then(|| tracker(&all));
        options.metrics = all.metrics.unwrap_or(true);
        options.drain_url = all.drain_url.clone();
        options.drain_time = Duration::from_secs(all.drain_seconds.unwrap_or(3).into());
        options.geo_db = all.geo_db.clone().unwrap_or_default().0;
        options.alto = all.alto.clone();
        options.nats = nats(&all);
        options.admission = admission(all);
        Ok(options)
    }
}

fn set(to: &mut usize, value: Option<usize>) {
    if let Some(value) = value {
        *to = value;
    }
}

fn rate(burst: Option<u32>, per_second: Option<u32>) -> Rate {
    // One message must fit, or nobody could say anything.
    Rate { burst: burst.unwrap_or(1).max(1), per_second: per_second.unwrap_or(1).max(1) }
}

fn turn(all: &Settings) -> Result<Option<Turn>, SettingsError> {
    let urls: Vec<String> = all.turn.clone().unwrap_or_default().0.into_iter().map(|url| url.0).collect();
    if urls.is_empty() {
        return Ok(None);
    }
    let secret = all.turn_secret.clone().ok_or(SettingsError::Needs("turn", "turn-secret"))?;
    Ok(Some(Turn { urls, secret, lifetime: all.turn_lifetime.unwrap_or(86_400).into() }))
}

fn tls(all: &Settings) -> Result<Option<TlsSource>, SettingsError> {
    let domains = all.acme_domain.clone().unwrap_or_default().0;
    match (all.tls_certificate.clone(), all.tls_key.clone()) {
        (Some(_), Some(_)) if !domains.is_empty() => Err(SettingsError::Either("tls-certificate", "acme-domain")),
        (Some(certificate), Some(key)) => Ok(Some(TlsSource::Files(TlsFiles { certificate, key }))),
        (Some(_), None) => Err(SettingsError::Needs("tls-certificate", "tls-key")),
        (None, Some(_)) => Err(SettingsError::Needs("tls-key", "tls-certificate")),
        (None, None) if domains.is_empty() => Ok(None),
        (None, None) => Ok(Some(TlsSource::Acme(Acme {
            domains,
            contacts: all.acme_contact.clone().unwrap_or_default().0,
            cache: all.acme_cache.clone().ok_or(SettingsError::Needs("acme-domain", "acme-cache"))?,
            directory: all.acme_directory.as_ref().map(ToString::to_string).unwrap_or_default(),
            ca: all.acme_ca.clone(),
        }))),
    }
}

fn nats(all: &Settings) -> Option<Nats> {
    let servers: Vec<_> = all.nats.clone().unwrap_or_default().0.into_iter().map(|url| url.0).collect();
    let prefix = all.nats_prefix.clone()?.0;
    (!servers.is_empty()).then(|| Nats { servers, prefix, ca: all.nats_ca.clone() })
}

fn tracker(all: &Settings) -> TrackerConfig {
    let mut config = TrackerConfig::default();
    set(&mut config.max_swarms, all.max_swarms);
    set(&mut config.max_swarm_size, all.max_swarm_size);
    set(&mut config.max_offers, all.tracker_max_offers);
    config.scrape_all = all.tracker_scrape_all.unwrap_or(false);
    if let Some(seconds) = all.tracker_interval {
        config.announce_interval = headwater_rendezvous::Duration::from_secs(seconds.max(1).into());
    }
    config
}

fn admission(all: Settings) -> AdmissionOptions {
    let per_second = all.connections_per_second_per_address.unwrap_or(0);
    let opening =
        (per_second > 0).then(|| Rate { burst: per_second.saturating_mul(ADDRESS_BURST_SECONDS), per_second });
    let list = |list: Option<List<String>>| AllowList::new(list.unwrap_or_default().0);
    let connections = all.max_connections_per_address.filter(|most| *most > 0);
    AdmissionOptions {
        trusted_proxies: all.trusted_proxy.unwrap_or_default().0,
        proxy_header: all.proxy_header.unwrap_or_default(),
        origins: list(all.origins),
        swarms: list(all.swarms),
        token_keys: all.token_keys,
        addresses: AddressLimits { connections, opening },
        plain_connections: connections.map(|most| most.min(PLAIN_PER_ADDRESS)),
    }
}
