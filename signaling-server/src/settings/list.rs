//! The kinds of values that settings have of their own.

use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// Several values: an array in the file, separated by commas on the command line and in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl<'de, T: FromStr<Err: std::fmt::Display>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let values = texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom));
        values.collect::<Result<_, _>>().map(Self)
    }
}

/// How to log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one object a line.
    Json,
}

/// The URL of a STUN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunUrl(pub String);

impl FromStr for StunUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        url(text, &["stun:", "stuns:"]).map(Self).ok_or("a STUN server is written stun:HOST or stun:HOST:PORT")
    }
}

/// The URL of a TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnUrl(pub String);

impl FromStr for TurnUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let written = "a TURN server is written turn:HOST:PORT or turns:HOST:PORT, also with ?transport=tcp";
        url(text, &["turn:", "turns:"]).map(Self).ok_or(written)
    }
}

/// The URL of a NATS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsUrl(pub async_nats::ServerAddr);

impl FromStr for NatsUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let written =
            "a NATS server is written nats://HOST:PORT or tls://HOST:PORT, also with USER:PASSWORD@ or TOKEN@";
        let text = url(text, &["nats://", "tls://"]).ok_or(written)?;
        text.parse().map(Self).map_err(|_| written)
    }
}

/// The beginning of NATS subjects: one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectPrefix(pub String);

impl FromStr for SubjectPrefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err("nats-prefix has letters, digits, - and _");
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for SubjectPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn url(text: &str, schemes: &[&str]) -> Option<String> {
    let host = schemes.iter().find_map(|scheme| text.strip_prefix(scheme))?;
    (!host.is_empty()).then(|| text.to_owned())
}
