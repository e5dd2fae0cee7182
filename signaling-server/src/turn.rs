//! TURN credentials in coturn's REST form: made for one peer, good for a while, and no account anywhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headwater_wire::PeerId;
use headwater_wire::signal::IceServer;
use ring::hmac;

/// TURN servers that share a secret with this one (coturn: `use-auth-secret`, `static-auth-secret`).
#[derive(Debug, Clone)]
pub struct Turn {
    /// `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// What is shared.
    pub secret: String,
    /// How long a credential is good, in seconds: longer than anyone watches, as it cannot be renewed.
    pub lifetime: u64,
}

impl Turn {
    /// The entry of a welcome.
    #[must_use]
    pub fn ice_server(&self, peer: PeerId, unix_now: u64) -> IceServer {
        let username = format!("{}:{peer}", unix_now.saturating_add(self.lifetime));
        // SHA-1 is what the form prescribes; HMAC does not need what SHA-1 has lost.
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.secret.as_bytes());
        let credential = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
        IceServer { urls: self.urls.clone(), username: Some(username), credential: Some(credential) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_what_coturn_computes() {
        let turn = Turn { urls: vec!["turn:turn.example:3478".to_owned()], secret: "north".to_owned(), lifetime: 600 };
        let server = turn.ice_server(PeerId(0xab), 1_700_000_000);
        // echo -n 1700000600:00000000000000ab | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(server.username.as_deref(), Some("1700000600:00000000000000ab"));
        assert_eq!(server.credential.as_deref(), Some("umWTAQNIZtgli/ozaYso0edR5xI="));
    }
}
