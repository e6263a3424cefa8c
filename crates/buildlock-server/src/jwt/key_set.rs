//! The keys that an issuer publishes (JWKS, RFC 7517).

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::key::{Jwk, Key};

/// How long the text of a set may be. An issuer has two or three keys of less than 1 KiB.
pub(crate) const MAX_BYTES: usize = 64 << 10;

/// An issuer's keys, by their names.
#[derive(Debug, Default)]
pub(crate) struct KeySet(HashMap<String, Arc<Key>>);

/// The text is no set of keys.
#[derive(Debug, thiserror::Error)]
#[error("it is no set of keys, such as {{\"keys\": [\u{2026}]}}: {0}")]
pub(crate) struct NoKeySet(#[from] serde_json::Error);

impl KeySet {
    /// Reads a set. Keys that are of no use here are left out, whatever they look like: an issuer may publish
    /// some for others.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, NoKeySet> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<Value>,
        }
        let Jwks { keys } = serde_json::from_slice(text)?;
        let keys = keys.into_iter().filter_map(|value| {
            let jwk = Jwk::deserialize(value).ok()?;
            let key = Key::published(&jwk)?;
            Some((jwk.kid?, Arc::new(key)))
        });
        Ok(Self(keys.collect()))
    }

    pub(super) fn get(&self, kid: &str) -> Option<&Arc<Key>> {
        self.0.get(kid)
    }

    /// How many keys can be used.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Algorithm;
    use super::*;

    #[test]
    fn keys_of_no_use_are_left_out_and_the_others_are_known_by_their_names() {
        // The key of RFC 8037, appendix A.2, and the public part of that of RFC 7515, appendix A.3.
        let set = KeySet::parse(
            br#"{"keys": [
                {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig",
                 "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
                {"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "key_ops": ["verify"],
                 "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                 "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
                {"kty": "OKP", "crv": "Ed25519", "kid": "for another purpose", "use": "enc",
                 "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
                {"kty": "OKP", "crv": "Ed25519", "kid": "only signs", "key_ops": ["sign"],
                 "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
                {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
                {"kty": "OKP", "crv": "Ed25519", "kid": "of another algorithm", "alg": "RS256",
                 "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
                {"kty": "OKP", "crv": "Ed25519", "kid": "short", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUQ"},
                {"kty": "OKP", "crv": "X25519", "kid": "another curve", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
                {"kty": "EC", "crv": "P-384", "kid": "another curve too", "x": "AA", "y": "AA"},
                {"kty": "oct", "kid": "secret", "alg": "HS256", "k": "c2VjcmV0"},
                {"kty": "RSA", "kid": "half", "n": "AQAB"},
                {"kty": 7}, 7, null, "key", {}
            ], "more": true}"#,
        )
        .unwrap();
        assert_eq!(set.len(), 2, "{set:?}");
        assert_eq!(set.get("ed").unwrap().algorithm(), Algorithm::EdDsa);
        assert_eq!(set.get("ec").unwrap().algorithm(), Algorithm::Es256);
    }

    #[test]
    fn what_is_no_set_is_said_to_be_none() {
        for bad in ["", "null", "[]", "{}", r#"{"keys": 7}"#, "<html>", "\u{1}"] {
            let error = KeySet::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("it is no set of keys"), "{bad}: {error}");
        }
        assert_eq!(KeySet::parse(br#"{"keys": []}"#).unwrap().len(), 0);
    }
}
