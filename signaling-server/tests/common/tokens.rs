//! Keys and tokens of publishers, and a folder for them.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headwater_wire::Role;
use headwater_wire::signal::ClientMessage;
use ring::hmac;
use serde_json::{Value, json};

use super::{TestServer, join};

/// The key that is named `a`.
pub const SECRET: [u8; 32] = [7; 32];

/// Another publisher's, named `b`.
pub const OTHER_SECRET: [u8; 32] = [8; 32];

/// A folder of this test's own, gone when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("headwater-signal-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, content).unwrap();
        file
    }

    pub fn keys(&self) -> PathBuf {
        self.write("keys.json", &key_set(&[key("a", SECRET, None)]))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn key(kid: &str, secret: [u8; 32], swarms: Option<&[&str]>) -> Value {
    let mut key = json!({ "kty": "oct", "kid": kid, "k": URL_SAFE_NO_PAD.encode(secret) });
    if let Some(swarms) = swarms {
        key["swarms"] = json!(swarms);
    }
    key
}

pub fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Good for a minute, unless the claims say otherwise.
pub fn token(claims: Value) -> String {
    token_by("a", SECRET, claims)
}

pub fn token_by(kid: &str, secret: [u8; 32], mut claims: Value) -> String {
    if claims["exp"].is_null() {
        claims["exp"] = json!(unix_now() + 60);
    }
    let head = URL_SAFE_NO_PAD.encode(json!({ "alg": "HS256", "kid": kid }).to_string());
    let text = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub fn join_with(swarm: &str, token: Option<String>) -> ClientMessage {
    let mut message = join(swarm, Role::Viewer, 0);
    if let ClientMessage::Join { token: slot, .. } = &mut message {
        *slot = token;
    }
    message
}

pub async fn with_keys(folder: &Folder) -> TestServer {
    let keys = folder.keys();
    TestServer::start_with(|options| options.admission.token_keys = Some(keys)).await
}
