//! One key, and the one algorithm that it is used with.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::UnparsedPublicKey;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde::Deserialize;

/// How a token is signed. What is not here is not accepted: `none` least of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// ECDSA with P-256: the default of Supabase.
    Es256,
    /// RSA, PKCS #1 v1.5.
    Rs256,
    /// Ed25519.
    EdDsa,
    /// A secret that is shared with the issuer.
    Hs256,
}

impl Algorithm {
    /// The algorithm with this name (RFC 7518, 8037, 9864).
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            "HS256" => Some(Self::Hs256),
            _ => None,
        }
    }
}

/// A key. It does not show itself.
pub(super) enum Key {
    /// A point on the curve, uncompressed.
    Es256([u8; 65]),
    Rs256(RsaPublicKeyComponents<Vec<u8>>),
    EdDsa([u8; 32]),
    Hs256(hmac::Key),
}

/// A key as an issuer publishes it (JWK, RFC 7517).
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    pub(super) kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Key {
    /// The secret that is shared with the issuer.
    pub(super) fn secret(secret: &[u8]) -> Self {
        Self::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A published key; none if it is of a kind that is not known here, for another purpose, or no key at all.
    ///
    /// A secret that somebody has published is none any more.
    pub(super) fn published(jwk: &Jwk) -> Option<Self> {
        let signs = jwk.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && jwk.key_ops.as_ref().is_none_or(|uses| uses.iter().any(|a_use| a_use == "verify"));
        let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("EC", Some("P-256")) => {
                let mut point = [4; 65];
                point[1..33].copy_from_slice(&number::<32>(&jwk.x)?);
                point[33..].copy_from_slice(&number::<32>(&jwk.y)?);
                Self::Es256(point)
            }
            ("OKP", Some("Ed25519")) => Self::EdDsa(number::<32>(&jwk.x)?),
            ("RSA", _) => Self::Rs256(RsaPublicKeyComponents { n: digits(&jwk.n)?, e: digits(&jwk.e)? }),
            _ => return None,
        };
        let named = jwk.alg.as_deref().is_none_or(|alg| Algorithm::named(alg) == Some(key.algorithm()));
        (signs && named).then_some(key)
    }

    /// The algorithm that it is used with.
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256(_) => Algorithm::Es256,
            Self::Rs256(_) => Algorithm::Rs256,
            Self::EdDsa(_) => Algorithm::EdDsa,
            Self::Hs256(_) => Algorithm::Hs256,
        }
    }

    /// Whether the signature of what is signed was made with this key.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
            Self::Rs256(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok(),
            Self::EdDsa(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok(),
            Self::Hs256(key) => hmac::verify(key, signed, signature).is_ok(),
        }
    }
}

/// A number of so many bytes.
fn number<const BYTES: usize>(text: &Option<String>) -> Option<[u8; BYTES]> {
    BASE64_URL_SAFE_NO_PAD.decode(text.as_ref()?).ok()?.try_into().ok()
}

/// A number of any size, without leading zeros.
fn digits(text: &Option<String>) -> Option<Vec<u8>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.as_ref()?).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Some(bytes[zeros..].to_vec())
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm().fmt(f)
    }
}
