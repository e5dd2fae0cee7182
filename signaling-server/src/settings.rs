//! The settings: one struct for the file, the command line and the environment, with the same names in all three.
//!
//! The command line wins over the environment, that over the file, that over the defaults. The defaults stand here as the
//! text of the sample file, which a test keeps true.

mod list;
mod resolve;
mod sample;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use url::Url;

pub use self::list::{List, LogFormat, NatsUrl, StunUrl, SubjectPrefix, TurnUrl};
pub use self::resolve::SettingsError;
pub use self::sample::sample;
use crate::proxy::{Network, ProxyHeader};

/// What a setting is in the sample file.
pub(crate) enum Shown {
    /// Its default.
    Default(&'static str),
    /// There is no default; this is how it looks.
    Example(&'static str),
}

macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $name:ident: $type:ty, $value:literal, $env:literal, $shown:ident($text:literal); )*) => {
        /// Every setting; see the sample file.
        #[derive(Debug, Clone, Default, PartialEq, Deserialize, Args)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Settings {
            $( $(#[doc = $doc])+ #[arg(long, value_name = $value, env = $env, hide_env_values = true)] pub $name: Option<$type>, )*
        }

        impl Settings {
            /// These, and for what is not set here, those.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $( $name: self.$name.or(other.$name), )* }
            }
        }

        /// Name (in Rust), documentation and sample of every setting, in order.
        pub(crate) const ALL: &[(&str, &[&str], Shown)] = &[
            $( (stringify!($name), &[$($doc),+], Shown::$shown($text)), )*
        ];
    };
}

settings! {
    /// Address to listen on; port 0 picks a free one
    listen: SocketAddr, "ADDR", "HEADWATER_SIGNAL_LISTEN", Default("\"127.0.0.1:8800\"");
    /// What to log: error, warn, info, debug or trace, also for single modules (headwater_signal=debug)
    log: String, "FILTER", "HEADWATER_SIGNAL_LOG", Default("\"info\"");
    /// How to log: text, or json with one object a line
    log_format: LogFormat, "FORMAT", "HEADWATER_SIGNAL_LOG_FORMAT", Default("\"text\"");

    /// Certificate chain (PEM) for TLS, the server's own first; needs tls-key. Read again when it changes
    tls_certificate: PathBuf, "FILE", "HEADWATER_SIGNAL_TLS_CERTIFICATE", Example("\"fullchain.pem\"");
    /// The certificate's private key (PEM)
    tls_key: PathBuf, "FILE", "HEADWATER_SIGNAL_TLS_KEY", Example("\"privkey.pem\"");
    /// Names of this server for which it fetches certificates by itself (ACME, TLS-ALPN-01), agreeing to the authority's terms:
    /// their port 443 must be this server. Needs acme-cache
    acme_domain: List<String>, "NAMES", "HEADWATER_SIGNAL_ACME_DOMAIN", Default("[]");
    /// Mail addresses that the authority may write to
    acme_contact: List<String>, "ADDRESSES", "HEADWATER_SIGNAL_ACME_CONTACT", Default("[]");
    /// The folder where the account, certificates and keys are kept
    acme_cache: PathBuf, "FOLDER", "HEADWATER_SIGNAL_ACME_CACHE", Example("\"/var/lib/headwater-signal\"");
    /// The authority's directory
    acme_directory: Url, "URL", "HEADWATER_SIGNAL_ACME_DIRECTORY", Default("\"https://acme-v02.api.letsencrypt.org/directory\"");
    /// A certificate (PEM) to check the authority's own server with, in place of the system's
    acme_ca: PathBuf, "FILE", "HEADWATER_SIGNAL_ACME_CA", Example("\"authority.pem\"");
    /// Proxies in front of this server, as networks: what they say in proxy-header is believed
    trusted_proxy: List<Network>, "NETWORKS", "HEADWATER_SIGNAL_TRUSTED_PROXY", Example("[\"10.0.0.0/8\"]");
    /// The header in which they write the client's address, x-forwarded-for or forwarded (RFC 7239): the one that all of them
    /// write, as they may pass on what a client wrote in the other
    proxy_header: ProxyHeader, "HEADER", "HEADWATER_SIGNAL_PROXY_HEADER", Default("\"x-forwarded-for\"");

    /// STUN servers handed to every peer, as stun:HOST:PORT
    stun: List<StunUrl>, "URLS", "HEADWATER_SIGNAL_STUN", Default("[]");
    /// TURN servers, as turn:HOST:PORT; needs turn-secret, with which every peer gets a credential of its own
    turn: List<TurnUrl>, "URLS", "HEADWATER_SIGNAL_TURN", Default("[]");
    /// The secret shared with the TURN servers (coturn: use-auth-secret, static-auth-secret)
    turn_secret: String, "SECRET", "HEADWATER_SIGNAL_TURN_SECRET", Example("\"the same as in turnserver.conf\"");
    /// How long a TURN credential is good, in seconds
    turn_lifetime: u32, "SECONDS", "HEADWATER_SIGNAL_TURN_LIFETIME", Default("86400");

    /// The keys of the publishers whose tokens are asked for: a JWK set with oct (HS256) and Ed25519 (EdDSA) keys, each with the
    /// swarms that it may sign for in a member "swarms". Read again when it changes. Without it anyone may join any swarm
    token_keys: PathBuf, "FILE", "HEADWATER_SIGNAL_TOKEN_KEYS", Example("\"keys.json\"");
    /// Pages that may connect, as origins; one star stands for any text. Empty: all
    origins: List<String>, "ORIGINS", "HEADWATER_SIGNAL_ORIGINS", Default("[]");
    /// Swarms that are served; one star stands for any text. WebTorrent's are info hashes in hexadecimal digits. Empty: all
    swarms: List<String>, "NAMES", "HEADWATER_SIGNAL_SWARMS", Default("[]");
    /// Makes peers known again after a restart, and on every server that has the same; by default they get new names then
    resume_secret: String, "SECRET", "HEADWATER_SIGNAL_RESUME_SECRET", Example("\"32 characters or more\"");

    /// MMDB files with autonomous systems (autonomous_system_number) and countries (country.iso_code or country_code), to pair
    /// near peers. Read again when they change
    geo_db: List<PathBuf>, "FILES", "HEADWATER_SIGNAL_GEO_DB", Default("[]");
    /// The directory of a carrier's ALTO server (RFC 7285), whose costs then decide who is near
    alto: Url, "URL", "HEADWATER_SIGNAL_ALTO", Example("\"https://alto.carrier.example/directory\"");

    /// NATS servers, as nats://HOST:PORT or tls://HOST:PORT, also with USER:PASSWORD@ or TOKEN@: all nodes that name the same ones
    /// pair each other's peers. Set resume-secret to the same on all
    nats: List<NatsUrl>, "URLS", "HEADWATER_SIGNAL_NATS", Default("[]");
    /// What this cluster's subjects in NATS begin with
    nats_prefix: SubjectPrefix, "NAME", "HEADWATER_SIGNAL_NATS_PREFIX", Default("\"headwater\"");
    /// Certificates (PEM) to check NATS servers with, besides the system's
    nats_ca: PathBuf, "FILE", "HEADWATER_SIGNAL_NATS_CA", Example("\"nats-ca.pem\"");

    /// Connections at once
    max_connections: usize, "COUNT", "HEADWATER_SIGNAL_MAX_CONNECTIONS", Default("100000");
    /// Connections at once from one IPv4 address or IPv6 /64; 0 is no limit. Large networks share addresses
    max_connections_per_address: u32, "COUNT", "HEADWATER_SIGNAL_MAX_CONNECTIONS_PER_ADDRESS", Default("2000");
    /// Connections a second from one address in the long run; 0 is no limit
    connections_per_second_per_address: u32, "COUNT", "HEADWATER_SIGNAL_CONNECTIONS_PER_SECOND_PER_ADDRESS", Default("50");
    /// Swarms at once, of either protocol
    max_swarms: usize, "COUNT", "HEADWATER_SIGNAL_MAX_SWARMS", Default("20000");
    /// Members of one swarm
    max_swarm_size: usize, "COUNT", "HEADWATER_SIGNAL_MAX_SWARM_SIZE", Default("50000");
    /// Messages a second from one connection in the long run, control frames included
    messages_per_second: u32, "COUNT", "HEADWATER_SIGNAL_MESSAGES_PER_SECOND", Default("50");
    /// Messages at once from one connection
    message_burst: u32, "COUNT", "HEADWATER_SIGNAL_MESSAGE_BURST", Default("512");
    /// Bytes a second from one connection in the long run
    bytes_per_second: u32, "BYTES", "HEADWATER_SIGNAL_BYTES_PER_SECOND", Default("65536");
    /// Bytes at once from one connection
    byte_burst: u32, "BYTES", "HEADWATER_SIGNAL_BYTE_BURST", Default("6291456");
    /// WebTorrent offers a second from one connection in the long run
    offers_per_second: u32, "COUNT", "HEADWATER_SIGNAL_OFFERS_PER_SECOND", Default("10");
    /// WebTorrent offers at once from one connection
    offer_burst: u32, "COUNT", "HEADWATER_SIGNAL_OFFER_BURST", Default("200");
    /// A connection is pinged so often, in seconds
    ping_every: u32, "SECONDS", "HEADWATER_SIGNAL_PING_EVERY", Default("30");
    /// A connection that was not heard for so long is closed, in seconds
    silence: u32, "SECONDS", "HEADWATER_SIGNAL_SILENCE", Default("90");

    /// Whether WebTorrent clients are served on /announce and /
    tracker: bool, "BOOL", "HEADWATER_SIGNAL_TRACKER", Default("true");
    /// When a WebTorrent client is asked to announce again, in seconds
    tracker_interval: u32, "SECONDS", "HEADWATER_SIGNAL_TRACKER_INTERVAL", Default("120");
    /// Offers of one announce that are passed on
    tracker_max_offers: usize, "COUNT", "HEADWATER_SIGNAL_TRACKER_MAX_OFFERS", Default("20");
    /// Whether a scrape without info hashes lists every swarm
    tracker_scrape_all: bool, "BOOL", "HEADWATER_SIGNAL_TRACKER_SCRAPE_ALL", Default("false");

    /// Whether /metrics is served. It names no peer and no address, but says how much there is to do
    metrics: bool, "BOOL", "HEADWATER_SIGNAL_METRICS", Default("true");
    /// Where peers are sent when this server stops, as wss://HOST/v1/signal
    drain_url: String, "URL", "HEADWATER_SIGNAL_DRAIN_URL", Example("\"wss://signal-2.example/v1/signal\"");
    /// How long peers have to go when this server stops, in seconds
    drain_seconds: u32, "SECONDS", "HEADWATER_SIGNAL_DRAIN_SECONDS", Default("3");
}

impl Settings {
    /// The defaults.
    ///
    /// # Errors
    /// Never, as a test shows: they are text of this program.
    pub fn defaults() -> Result<Self, SettingsError> {
        let lines = ALL.iter().filter_map(|(name, _, shown)| match shown {
            Shown::Default(value) => Some(format!("{} = {value}\n", kebab(name))),
            Shown::Example(_) => None,
        });
        Self::parse(Path::new("(defaults)"), &lines.collect::<String>())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or has a key that is none or a value of the wrong kind.
    pub fn read(file: &Path) -> Result<Self, SettingsError> {
        let text = fs::read_to_string(file).map_err(|error| SettingsError::Unreadable(file.to_owned(), error))?;
        Self::parse(file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, SettingsError> {
        toml::from_str(text).map_err(|error| SettingsError::Malformed(file.to_owned(), Box::new(error)))
    }
}

/// A setting's name as it is written everywhere but in Rust.
pub(crate) fn kebab(name: &str) -> String {
    name.replace('_', "-")
}
