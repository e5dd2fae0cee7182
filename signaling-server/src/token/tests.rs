//! Tokens of both kinds, good and bad.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::*;

const SECRET: [u8; 32] = [7; 32];

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap()
}

fn keys() -> Keys {
    let set = json!({ "keys": [
        { "kty": "oct", "kid": "old", "k": b64(SECRET) },
        { "kty": "oct", "k": b64([8; 32]) },
        { "kty": "OKP", "crv": "Ed25519", "kid": "new", "x": b64(pair().public_key()) },
    ] });
    Keys::parse(Path::new("keys.json"), &set.to_string()).unwrap()
}

fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let text = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let signature = sign(text.as_bytes());
    format!("{text}.{}", b64(signature))
}

fn hs256(secret: &[u8], kid: Value, claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    token(&json!({ "alg": "HS256", "kid": kid }), claims, |text| hmac::sign(&key, text).as_ref().to_vec())
}

fn eddsa(claims: &Value) -> String {
    token(&json!({ "alg": "EdDSA", "kid": "new" }), claims, |text| pair().sign(text).as_ref().to_vec())
}

#[test]
fn both_kinds_are_read_with_the_key_that_they_name() {
    let claims = json!({ "swarm": "s", "exp": unix_now() + 60, "max_peers": 3, "uses": 9, "unknown": [] });
    for token in [hs256(&SECRET, json!("old"), &claims), hs256(&[8; 32], Value::Null, &claims), eddsa(&claims)] {
        let read = keys().check(&token).unwrap();
        assert_eq!((read.admits("s"), read.admits("other")), (Ok(()), Err(TokenError::Elsewhere)));
        assert!(read.covers("s") && !read.covers("other") && !read.covers("s2"));
        let grant = read.grant(&token, unix_now(), Now(0));
        assert_eq!((grant.max_peers, grant.uses), (Some(3), Some(9)));
        assert!(grant.expires > Now(59_000_000) && grant.expires <= Now(91_000_000));
    }
}

#[test]
fn whatever_is_wrong_is_refused() {
    let good = json!({ "swarm": "s", "exp": unix_now() + 60 });
    let check = |token: &str| keys().check(token).unwrap_err();
    let mut tampered = eddsa(&good);
    tampered.replace_range(40..41, if &tampered[40..41] == "A" { "B" } else { "A" });
    let none = token(&json!({ "alg": "none", "kid": "old" }), &good, |_| Vec::new());
    // An Ed25519 public key must not serve as a shared secret.
    let confused = hs256(pair().public_key().as_ref(), json!("new"), &good);
    let other_secret = hs256(&[1; 32], json!("old"), &good);
    let unknown_kid = hs256(&SECRET, json!("gone"), &good);
    let unnamed = hs256(&SECRET, Value::Null, &good);
    let no_exp = hs256(&SECRET, json!("old"), &json!({ "swarm": "s" }));
    let long = "x".repeat(5000);
    for bad in ["", "a", "a.b.c", &tampered, &none, &confused, &other_secret, &unknown_kid, &unnamed, &no_exp, &long] {
        assert_eq!(check(bad), TokenError::Invalid, "{bad}");
    }
    let at = |exp: u64, nbf: u64| check(&eddsa(&json!({ "swarm": "s", "exp": exp, "nbf": nbf })));
    assert_eq!(at(unix_now() - 60, 0), TokenError::Expired);
    assert_eq!(at(unix_now() + 900, unix_now() + 600), TokenError::NotYet);
}

#[test]
fn a_prefix_covers_what_begins_so_and_nothing_covers_nothing() {
    let read = |claims: Value| keys().check(&eddsa(&claims)).unwrap();
    let exp = unix_now() + 60;
    let prefix = read(json!({ "swarm_prefix": "KEY/", "exp": exp }));
    assert!(prefix.covers("KEY/live") && !prefix.covers("KEY") && !prefix.covers("OTHER/live"));
    assert!(read(json!({ "swarm_prefix": "", "exp": exp })).covers("any"));
    assert!(!read(json!({ "exp": exp })).covers("any"));
    let (a, b) = (json!({ "jti": "1", "exp": exp }), json!({ "jti": "1", "exp": exp + 1 }));
    let grant = |claims: &Value| read(claims.clone()).grant(&eddsa(claims), 0, Now(0)).token;
    assert_eq!(grant(&a), grant(&b));
    assert_ne!(grant(&json!({ "exp": exp })), grant(&json!({ "exp": exp + 1 })));
}

#[test]
fn a_key_signs_for_its_own_swarms_whatever_its_tokens_say() {
    let hash = "61".repeat(20);
    let set = json!({ "keys": [
        { "kty": "oct", "kid": "old", "k": b64(SECRET), "swarms": ["A/*", hash] },
        { "kty": "OKP", "crv": "Ed25519", "kid": "new", "x": b64(pair().public_key()), "swarms": ["B/*"] },
    ] });
    let keys = Keys::parse(Path::new("keys.json"), &set.to_string()).unwrap();
    let exp = unix_now() + 60;
    let all = json!({ "swarm_prefix": "", "exp": exp, "of_key": ["*"] });
    let (a, b) = (keys.check(&hs256(&SECRET, json!("old"), &all)).unwrap(), keys.check(&eddsa(&all)).unwrap());
    for (claims, own, foreign) in [(&a, ["A/live", hash.as_str()], "B/live"), (&b, ["B/live", "B/"], "A/live")] {
        assert_eq!(own.map(|swarm| claims.admits(swarm)), [Ok(()), Ok(())]);
        assert_eq!(claims.admits(foreign), Err(TokenError::Foreign));
    }
    let narrow = keys.check(&eddsa(&json!({ "swarm": "A/live", "exp": exp }))).unwrap();
    assert_eq!(narrow.admits("A/live"), Err(TokenError::Foreign));
    assert_eq!(narrow.admits("B/live"), Err(TokenError::Elsewhere));
}

#[test]
fn tokens_of_two_publishers_with_the_same_name_are_two() {
    let claims = json!({ "jti": "1", "kid": "new", "exp": unix_now() + 60 });
    let tokens = [hs256(&SECRET, json!("old"), &claims), hs256(&[8; 32], Value::Null, &claims), eddsa(&claims)];
    let ids = tokens.map(|token| keys().check(&token).unwrap().grant(&token, 0, Now(0)).token);
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
}

#[test]
fn bad_keys_are_named() {
    let parse = |text: &str| Keys::parse(Path::new("keys.json"), text).unwrap_err().to_string();
    assert!(parse("{").contains("no JWK set"));
    assert!(parse(r#"{"keys":[]}"#).contains("no key"));
    let short = json!({ "keys": [{ "kty": "oct", "kid": "a", "k": b64([1; 16]) }] });
    assert!(parse(&short.to_string()).contains("32 bytes"));
    let key = |kid: &str, more: Value| {
        let mut key = json!({ "kty": "oct", "kid": kid, "k": b64([1; 32]) });
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    };
    let keys = |a: Value, b: Value| parse(&json!({ "keys": [key("a", a), key("b", b)] }).to_string());
    let unbound = keys(json!({ "swarms": ["A/*"] }), json!({}));
    assert!(unbound.contains("\"b\"") && unbound.contains("swarms"), "{unbound}");
    assert!(keys(json!({ "swarms": [] }), json!({ "swarms": ["*"] })).contains("\"a\""));
    assert!(keys(json!({ "swarms": "A/*" }), json!({})).contains("no JWK set"));
    assert!(keys(json!({ "kid": "b" }), json!({})).contains("two keys with the kid \"b\""));
    let rsa = json!({ "keys": [{ "kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB" }] });
    assert!(parse(&rsa.to_string()).contains("\"r\""));
}
