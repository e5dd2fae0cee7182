//! Data channels, by the stack that was chosen.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::connection::Reporter;
use super::mux::{Mux, MuxOptions};
use super::{
    CHUNK_QUEUE, CONTROL_QUEUE, Link, LinkEvent, LinkReport, LinkRequest, OutgoingChunk, SIGNAL_QUEUE, Transport, rtc,
};

/// A WebRTC stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Stack {
    /// The `webrtc` crate: the quickest.
    #[default]
    Webrtc,
    /// The `str0m` crate, in builds with the feature `str0m`.
    #[cfg(feature = "str0m")]
    Str0m,
}

/// A stack that this build does not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no WebRTC stack {0:?} in this build: choose \"webrtc\", or build with `--features str0m` and choose \"str0m\""
)]
pub struct UnknownStack(String);

impl Stack {
    /// Whether viewers reach it over TCP too.
    #[must_use]
    pub const fn has_tcp(self) -> bool {
        matches!(self, Self::Webrtc)
    }
}

impl FromStr for Stack {
    type Err = UnknownStack;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "webrtc" => Ok(Self::Webrtc),
            #[cfg(feature = "str0m")]
            "str0m" => Ok(Self::Str0m),
            _ => Err(UnknownStack(name.to_owned())),
        }
    }
}

impl TryFrom<String> for Stack {
    type Error = UnknownStack;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<Stack> for String {
    fn from(stack: Stack) -> Self {
        stack.to_string()
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Webrtc => "webrtc",
            #[cfg(feature = "str0m")]
            Self::Str0m => "str0m",
        })
    }
}

/// Opens data channels, all on one UDP port. Clones share it.
#[derive(Debug, Clone)]
pub struct DataChannels {
    mux: Arc<Mux>,
    stack: Stack,
}

impl Default for DataChannels {
    fn default() -> Self {
        Self::new(MuxOptions::default(), Stack::default())
    }
}

impl DataChannels {
    /// A transport that binds its port when it is first used.
    #[must_use]
    pub fn new(options: MuxOptions, stack: Stack) -> Self {
        Self { mux: Arc::new(Mux::new(options)), stack }
    }

    /// Binds the port now, so that a person hears of a port that is taken. Gives the addresses. To be called on a Tokio
    /// runtime.
    ///
    /// # Errors
    /// Where it cannot be bound.
    pub fn bind(&self) -> io::Result<Vec<SocketAddr>> {
        self.mux.bind()
    }
}

/// What the node hands to a connection.
pub(super) struct Incoming {
    pub(super) signals: mpsc::Receiver<headwater_wire::signal::SignalData>,
    pub(super) control: mpsc::Receiver<Vec<u8>>,
    pub(super) chunks: mpsc::Receiver<OutgoingChunk>,
}

impl Transport for DataChannels {
    fn connect(&self, request: LinkRequest, reports: mpsc::Sender<LinkReport>) -> Link {
        let Self { mux, stack } = self.clone();
        let (signals, signals_rx) = mpsc::channel(SIGNAL_QUEUE);
        let (control, control_rx) = mpsc::channel(CONTROL_QUEUE);
        let (chunks, chunks_rx) = mpsc::channel(CHUNK_QUEUE);
        let id = request.link;
        let reporter = Reporter { link: request.link, peer: request.peer, reports };
        let incoming = Incoming { signals: signals_rx, control: control_rx, chunks: chunks_rx };
        let connection = async move {
            let ended = match stack {
                Stack::Webrtc => rtc::run(&mux, &request, incoming, &reporter).await.map_err(|error| error.to_string()),
                #[cfg(feature = "str0m")]
                Stack::Str0m => {
                    let ended = super::str0m::run(&mux, &request, incoming, &reporter).await;
                    ended.map_err(|error| error.to_string())
                }
            };
            if let Err(error) = ended {
                tracing::debug!(peer = %request.peer, %error, "connection failed");
            }
            // The node is gone where nobody listens.
            let _ = reporter.report(LinkEvent::Closed).await;
        };
        tokio::spawn(connection);
        Link { id, signals, control, chunks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_that_is_not_there_is_named() {
        let error = "libwebrtc".parse::<Stack>().unwrap_err().to_string();
        assert!(error.contains("\"libwebrtc\"") && error.contains("--features str0m"), "{error}");
        assert_eq!("webrtc".parse::<Stack>().unwrap().to_string(), "webrtc");
    }
}
