//! The settings of `headwater-seed run`: the same names in the file and on the command line.
//!
//! A file names several streams; the command line names one. What stands beside the streams may be given in both, and the
//! command line wins. `sample.toml` beside this crate says it all, and a test keeps it true.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::transport::Stack;

/// Most viewers of a stream at once, where nothing else is said.
const VIEWERS: u16 = 256;

/// Most bytes of a stream in memory, where nothing else is said.
const MEMORY: u64 = 1 << 30;

/// Most bytes on disk, where nothing else is said.
const CACHE_SIZE: u64 = 10 << 30;

/// What the streams of a process share.
#[derive(Debug, Default, Clone, PartialEq, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The signalling server, such as wss://signal.example.org/v1/signal.
    #[arg(long, value_name = "URL", value_parser = websocket_url)]
    #[serde(deserialize_with = "optional_websocket_url")]
    pub signal: Option<Url>,
    /// The key file, made by `headwater-seed keygen`. While keys are changed, give the old one and the new one: viewers with
    /// the embed code of either are served and get what their key signed.
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Proof for a signalling server that asks for one.
    #[arg(long, env = "HEADWATER_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The UDP port for all viewers: open this one in the firewall. 0, the default, for any that is free.
    #[arg(long, value_name = "PORT")]
    pub udp_port: Option<u16>,
    /// A TCP port for viewers whose network lets no UDP through; none by default. It may have the same number.
    #[arg(long, value_name = "PORT")]
    pub tcp_port: Option<u16>,
    /// WebRTC stack: "webrtc", or "str0m" in builds with that feature
    #[arg(long, value_name = "STACK", hide = !cfg!(feature = "str0m"))]
    pub stack: Option<Stack>,
    /// An address of this machine to use; all of them where none is given.
    #[arg(long, value_name = "IP")]
    pub bind: Vec<IpAddr>,
    /// An address of this machine as viewers see it, where a router translates and hands the UDP port through.
    #[arg(long, value_name = "IP")]
    pub public_ip: Vec<IpAddr>,
    /// Where to answer /metrics and /healthz, such as 127.0.0.1:9110; nowhere by default.
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Where to serve the same content over HTTP, such as 0.0.0.0:8080: the streams' `src` then lead here, and `from` says
    /// where the origin is; nowhere by default.
    #[arg(long, value_name = "ADDR")]
    pub serve: Option<SocketAddr>,
    /// A folder for segments, so that they need not be pulled again after a restart; none by default.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Most bytes in that folder, for all streams in equal parts; 10 GiB by default.
    #[arg(long, value_name = "BYTES")]
    pub cache_size: Option<u64>,
    /// The streams, in a file.
    #[arg(skip)]
    pub stream: Vec<Stream>,
}

/// One stream.
#[derive(Debug, Default, Clone, PartialEq, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stream {
    /// The stream: the address of its HLS playlist, as the embed code's `src` names it.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    #[serde(deserialize_with = "optional_http_url")]
    pub src: Option<Url>,
    /// Pull it from here instead: a playlist on this machine's disk, which is watched, or another address. What lies beside
    /// it must lie there as it does in public.
    #[arg(long, value_name = "FILE|URL")]
    pub from: Option<String>,
    /// The swarm's name, where the embed code has one of its own; else made of the key and the path of the stream.
    #[arg(long, value_name = "NAME")]
    pub swarm: Option<String>,
    /// Renditions to seed, by the path of their playlist beside the stream's; a star stands for any text. All by default.
    #[arg(long, value_name = "PATH")]
    pub track: Vec<String>,
    /// Most bytes of the stream to keep in memory; 1 GiB by default.
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<u64>,
    /// Most bytes a second to send to all viewers together; no limit by default.
    #[arg(long, value_name = "BYTES")]
    pub upload_cap: Option<u64>,
    /// Most viewers connected at once; 256 by default.
    #[arg(long, value_name = "COUNT")]
    pub viewers: Option<u16>,
    /// `open` trusts whatever peers send, and needs no key: for networks where everybody may be trusted.
    #[arg(long, value_name = "open")]
    pub integrity: Option<OpenIntegrity>,
}

/// The one word that `integrity` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpenIntegrity {
    /// Nothing is signed or checked.
    Open,
}

impl Stream {
    /// The most bytes in memory.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(MEMORY)
    }

    /// The most viewers.
    #[must_use]
    pub fn viewers(&self) -> u16 {
        self.viewers.unwrap_or(VIEWERS)
    }

    /// Where to pull from.
    ///
    /// # Errors
    /// Where there is no such file, and it is no address either.
    pub fn origin(&self, src: &Url, folder: &Path) -> Result<Url, SettingsError> {
        let Some(from) = &self.from else { return Ok(src.clone()) };
        if let Ok(url) = http_url(from) {
            return Ok(url);
        }
        let no_file = |cause| SettingsError::From { from: from.clone(), cause };
        let path = std::fs::canonicalize(folder.join(from)).map_err(no_file)?;
        Url::from_file_path(path).map_err(|()| no_file(std::io::ErrorKind::InvalidInput.into()))
    }
}

/// Why settings are of no use.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {} ({cause})", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        cause: std::io::Error,
    },
    /// The file says something that no setting is.
    #[error("{}: {error}", .path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// What and where.
        error: Box<toml::de::Error>,
    },
    /// A port that the stack cannot use.
    #[error("the WebRTC stack \"{0}\" knows no TCP: leave --tcp-port out, or choose \"webrtc\"")]
    StackWithoutTcp(Stack),
    /// Nothing to seed.
    #[error("say which stream to seed: --src URL, or a file with a [[stream]] in it")]
    NoStream,
    /// Two ways at once.
    #[error("give either a file with streams or --src, not both")]
    TwoWays,
    /// A stream without an address.
    #[error("a [[stream]] has no src")]
    NoSource,
    /// No signalling server.
    #[error("say where viewers meet: --signal URL, or signal = \"wss://…\" in the file")]
    NoSignal,
    /// No key.
    #[error("say what to sign with: --key FILE (`headwater-seed keygen` makes one), or --integrity open")]
    NoKey,
    /// Nothing to pull from.
    #[error("cannot pull from {from} ({cause}): it must be a playlist file or an http:// address")]
    From {
        /// What was given.
        from: String,
        /// What went wrong.
        cause: std::io::Error,
    },
}

impl Settings {
    /// The most bytes on disk.
    #[must_use]
    pub fn cache_size(&self) -> u64 {
        self.cache_size.unwrap_or(CACHE_SIZE)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, or says something that no setting is.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let text =
            std::fs::read_to_string(path).map_err(|cause| SettingsError::Read { path: path.to_owned(), cause })?;
        let mut settings: Self = toml::from_str(&text)
            .map_err(|error| SettingsError::Parse { path: path.to_owned(), error: Box::new(error) })?;
        // Files named in a file lie beside it, wherever the program was started.
        let folder = path.parent().unwrap_or(Path::new(""));
        settings.key.iter_mut().chain(&mut settings.cache).for_each(|path| *path = folder.join(&*path));
        Ok(settings)
    }

    /// What was said on the command line, and for the rest, what the file says.
    ///
    /// # Errors
    /// Where there is no stream, or both name some.
    pub fn over(self, stream: Stream, file: Option<Self>) -> Result<Self, SettingsError> {
        let named = stream.src.is_some() || stream != Stream::default();
        let mut streams = file.as_ref().map(|file| file.stream.clone()).unwrap_or_default();
        if named && !streams.is_empty() {
            return Err(SettingsError::TwoWays);
        }
        if named {
            streams = vec![stream];
        }
        if streams.is_empty() {
            return Err(SettingsError::NoStream);
        }
        let file = file.unwrap_or_default();
        let or = |list: Vec<IpAddr>, other: Vec<IpAddr>| if list.is_empty() { other } else { list };
        Ok(Self {
            signal: self.signal.or(file.signal),
            key: if self.key.is_empty() { file.key } else { self.key },
            token: self.token.or(file.token),
            udp_port: self.udp_port.or(file.udp_port),
            tcp_port: self.tcp_port.or(file.tcp_port),
            stack: self.stack.or(file.stack),
            bind: or(self.bind, file.bind),
            public_ip: or(self.public_ip, file.public_ip),
            http: self.http.or(file.http),
            serve: self.serve.or(file.serve),
            cache: self.cache.or(file.cache),
            cache_size: self.cache_size.or(file.cache_size),
            stream: streams,
        })
    }
}

/// An address that a stream may have.
///
/// # Errors
/// What is wrong with it.
pub fn http_url(text: &str) -> Result<Url, String> {
    url_of(text, &["http", "https"])
}

/// An address that a signalling server may have.
///
/// # Errors
/// What is wrong with it.
pub fn websocket_url(text: &str) -> Result<Url, String> {
    url_of(text, &["ws", "wss"])
}

fn url_of(text: &str, schemes: &[&str]) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|error| format!("{error}; it must begin with {}://", schemes.join(":// or ")))?;
    if schemes.contains(&url.scheme()) && url.has_host() {
        Ok(url)
    } else {
        Err(format!("it must begin with {}://", schemes.join(":// or ")))
    }
}

fn optional_http_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    http_url(&String::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

fn optional_websocket_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    websocket_url(&String::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../sample.toml");

    #[test]
    fn the_sample_is_read_and_names_every_setting() {
        let plain: String = SAMPLE
            .lines()
            .map(|line| {
                line.strip_prefix("#").filter(|rest| rest.contains(" = ") && !rest.starts_with(' ')).unwrap_or(line)
            })
            .fold(String::new(), |all, line| all + line + "\n");
        for text in [SAMPLE, &plain] {
            let settings: Settings = toml::from_str(text).unwrap();
            assert_eq!(settings.stream.len(), 2);
        }
        let settings: toml::Table = plain.parse().unwrap();
        let names: Vec<&str> = settings.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "bind",
                "cache",
                "cache-size",
                "http",
                "key",
                "public-ip",
                "serve",
                "signal",
                "stream",
                "tcp-port",
                "token",
                "udp-port"
            ]
        );
        let stream = settings["stream"][0].as_table().unwrap();
        let names: Vec<&str> = stream.keys().map(String::as_str).collect();
        assert_eq!(names, ["from", "integrity", "memory", "src", "swarm", "track", "upload-cap", "viewers"]);
    }

    #[test]
    fn what_no_setting_is_called_is_refused_by_its_name() {
        for text in ["sginal = \"ws://a/\"", "[[stream]]\nscr = \"http://a/\""] {
            let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
        let error = toml::from_str::<Settings>("signal = \"http://a/\"").unwrap_err().to_string();
        assert!(error.contains("ws:// or wss://"), "{error}");
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file: Settings =
            toml::from_str("signal = \"ws://file/\"\nudp-port = 1\n[[stream]]\nsrc = \"http://a/\"").unwrap();
        let line = Settings { udp_port: Some(2), ..Settings::default() };
        let both = line.clone().over(Stream::default(), Some(file.clone())).unwrap();
        assert_eq!((both.udp_port, both.signal.unwrap().as_str(), both.stream.len()), (Some(2), "ws://file/", 1));
        let named = Stream { src: Url::parse("http://b/").ok(), ..Stream::default() };
        assert!(matches!(line.clone().over(named, Some(file)), Err(SettingsError::TwoWays)));
        assert!(matches!(line.over(Stream::default(), None), Err(SettingsError::NoStream)));
    }
}
