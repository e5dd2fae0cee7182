//! How a connection ends: what it is told, the close frame, and the moment until the client has it.

use std::io;
use std::time::Duration;

use headwater_wire::limits::MAX_SIGNAL_MESSAGE_LEN;
use headwater_wire::signal::{ErrorCode, ServerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::connection::MAX_MESSAGE;
use crate::hub::Protocol;
use crate::metrics::Closed;
use crate::net::Stream;
use crate::ws::{self, Decoder, FrameError, Incoming};

/// How long a closed connection is still read, so that the client gets the last message before the socket goes.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Reads of a closed connection in that time.
const CLOSE_READS: usize = 1024;

/// Characters of a parser's complaint that are sent back.
const MAX_COMPLAINT_LEN: usize = 200;

/// What ends a conversation.
#[derive(Debug)]
pub(crate) enum End {
    /// The socket is gone or unusable.
    Gone,
    /// Send what is there, then the close frame.
    Close(Option<ErrorCode>),
    /// As above, after this error.
    Refuse(ErrorCode, String),
    /// The server stops.
    Drain,
}

impl End {
    /// For the metrics.
    pub(crate) const fn reason(&self) -> Closed {
        match self {
            Self::Gone => Closed::Gone,
            Self::Close(None) => Closed::Client,
            Self::Close(Some(_)) | Self::Refuse(..) => Closed::Error,
            Self::Drain => Closed::Drain,
        }
    }
}

pub(crate) fn too_many(what: &str) -> End {
    End::Refuse(ErrorCode::RateLimited, format!("{what}: slow down and join again"))
}

pub(crate) fn too_large() -> End {
    End::Refuse(ErrorCode::TooLarge, format!("a message has at most {MAX_SIGNAL_MESSAGE_LEN} bytes"))
}

pub(crate) fn unreadable(error: FrameError) -> End {
    match error {
        FrameError::TooLarge => too_large(),
        FrameError::Utf8 => End::Refuse(ErrorCode::BadMessage, error.to_string()),
        FrameError::Protocol => End::Gone,
    }
}

pub(crate) fn complaint(error: &serde_json::Error) -> String {
    format!("not a message of this protocol: {error}").chars().take(MAX_COMPLAINT_LEN).collect()
}

/// Says the last words and closes: the message, the close frame, then reading on for a moment, because a socket that
/// is dropped with unread bytes may take the last words with it.
pub(crate) async fn finish(mut stream: Stream, protocol: Protocol, unwritten: &[u8], end: End) -> io::Result<()> {
    let (words, code, reason) = match end {
        End::Gone => return Ok(()),
        End::Close(None) => (None, NORMAL, String::new()),
        End::Close(Some(code)) => (None, close_code(code), name(code)),
        End::Refuse(code, message) => (last_words(protocol, code, message), close_code(code), name(code)),
        End::Drain => (None, GOING_AWAY, "drain".to_owned()),
    };
    let mut bytes = unwritten.to_vec();
    if let Some(text) = words {
        ws::write_text(&mut bytes, &text);
    }
    ws::write_close(&mut bytes, code, &reason);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    let _ = timeout(CLOSE_WAIT, read_on(&mut stream)).await;
    stream.shutdown().await
}

/// Reads until the client has closed too. Its close frame is not waited for: a client that has it closes its socket.
async fn read_on(stream: &mut Stream) {
    let mut decoder = Decoder::new(MAX_MESSAGE);
    let mut chunk = [0; 1024];
    for _ in 0..CLOSE_READS {
        let Ok(count @ 1..) = stream.read(&mut chunk).await else { return };
        let mut closed = false;
        let fed = decoder.feed(&mut chunk[..count], |incoming| {
            closed = incoming == Incoming::Close;
            !closed
        });
        if closed || fed.is_err() {
            return;
        }
    }
}

fn last_words(protocol: Protocol, code: ErrorCode, message: String) -> Option<String> {
    let words = match protocol {
        Protocol::Native => serde_json::to_string(&ServerMessage::Error { code, message }),
        Protocol::Tracker => {
            serde_json::to_string(&serde_json::json!({ "action": "announce", "failure reason": message }))
        }
    };
    words.ok()
}

const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;

/// The WebSocket close code (RFC 6455, section 7.4.1) nearest to an error.
const fn close_code(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::BadMessage | ErrorCode::Version | ErrorCode::NotJoined | ErrorCode::Unauthorised => 1008,
        ErrorCode::TooLarge => 1009,
        ErrorCode::Internal => 1011,
        ErrorCode::RateLimited | ErrorCode::Full => 1013,
    }
}

/// The error's name as it stands in the JSON.
fn name(code: ErrorCode) -> String {
    serde_json::to_value(code).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
