//! WebSocket (RFC 6455) without a buffer a connection: the handshake, and frames read from whatever chunk was received.
//!
//! tungstenite writes and reads the frames' headers. Its stream type is not used: it allocates a read buffer for every
//! connection, and an idle connection must cost next to nothing here.

mod frame;
mod handshake;

pub(crate) use frame::{Decoder, FrameError, Incoming, write_close, write_ping, write_pong, write_text};
pub(crate) use handshake::{handshake, is_upgrade};
