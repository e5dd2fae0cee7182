//! The handshake (RFC 6455, section 4.2): what the request must say, and the answer that opens the connection.

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Why a request cannot become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotWebSocket {
    #[error("this is a WebSocket: connect to it with ws: or wss:\n")]
    NoUpgrade,
    #[error("only version 13 of the WebSocket protocol is spoken here\n")]
    Version,
    #[error("the request has no Sec-WebSocket-Key\n")]
    Key,
}

impl IntoResponse for NotWebSocket {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key => StatusCode::BAD_REQUEST,
        };
        let mut response = (status, self.to_string()).into_response();
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        response
    }
}

/// Whether a request asks for a WebSocket.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, header::UPGRADE, "websocket")
}

/// The answer that opens the connection.
pub(crate) fn handshake(method: &Method, version: Version, headers: &HeaderMap) -> Result<Response, NotWebSocket> {
    let asks = *method == Method::GET
        && version == Version::HTTP_11
        && is_upgrade(headers)
        && has_token(headers, header::CONNECTION, "upgrade");
    if !asks {
        return Err(NotWebSocket::NoUpgrade);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(NotWebSocket::Version);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or(NotWebSocket::Key)?;
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
        .body(Body::empty())
        .map_err(|_| NotWebSocket::Key)
}

/// Whether a header that lists words has this one.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(&'static str, &'static str)]) -> Result<Response, NotWebSocket> {
        let headers = lines
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        handshake(&Method::GET, Version::HTTP_11, &headers)
    }

    const GOOD: [(&str, &str); 4] = [
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_example_of_the_rfc_is_answered_as_it_says() {
        let response = request(&GOOD).unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(request(&GOOD[1..]).err(), Some(NotWebSocket::NoUpgrade));
        assert_eq!(request(&GOOD[..2]).err(), Some(NotWebSocket::Version));
        assert_eq!(request(&GOOD[..3]).err(), Some(NotWebSocket::Key));
    }
}
