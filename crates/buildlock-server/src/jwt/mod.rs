//! Tokens that a platform's own sign-in gives its users (JWT, RFC 7519), as Supabase does.
//!
//! Here is what makes a token good. `key.rs` is one key and its one algorithm, `key_set.rs` the keys that an
//! issuer publishes, `source.rs` how they are fetched and kept, `claims.rs` whom a token speaks for. No token,
//! and no part of one, is ever logged.

mod claims;
mod key;
mod key_set;
mod source;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::Instant;

use self::claims::Claims;
pub(crate) use self::claims::Subject;
use self::key::{Algorithm, Key};
pub(crate) use self::key_set::KeySet;
use self::source::{Missing, Source};
use crate::config::JwtConfig;

/// The longest token that is looked at. Supabase's have about 1 KiB; claims that a platform adds make them
/// longer.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// How far the issuer's clock and this machine's may differ.
const LEEWAY: Duration = Duration::from_secs(30);

/// Whether a credential has the shape of a token. No key of buildlock's own has a dot.
pub(crate) fn is_token(credential: &str) -> bool {
    credential.contains('.')
}

/// Knows whom a token speaks for.
#[derive(Debug)]
pub(crate) struct Jwts {
    config: JwtConfig,
    issuer: String,
    secret: Option<Arc<Key>>,
    published: Option<Source>,
}

/// A token that was found good.
#[derive(Debug)]
pub(crate) struct Good {
    pub(crate) subject: Subject,
    /// When it is good no longer.
    pub(crate) until: Instant,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// What is wrong with it, for whoever has sent it.
    Bad(&'static str),
    /// The issuer's keys cannot be had just now, so that nobody can tell.
    NoKeys,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood (RFC 7515, 4.1.11). None is.
    crit: Option<IgnoredAny>,
}

impl Jwts {
    /// None if no issuer is set: no token is taken then.
    pub(crate) fn new(config: &JwtConfig) -> Option<Self> {
        let issuer = config.issuer.clone()?;
        Some(Self {
            issuer,
            secret: config.secret.as_ref().map(|secret| Arc::new(Key::secret(secret.as_bytes()))),
            published: config.jwks.as_ref().map(Source::new),
            config: config.clone(),
        })
    }

    /// Begins to fetch the issuer's keys, so that the first user need not wait for them.
    pub(crate) fn prepare(&self) {
        if let Some(source) = &self.published {
            source.prepare();
        }
    }

    /// Whom a token speaks for. The signature is looked at before anything that it covers.
    pub(crate) async fn check(&self, token: &str) -> Result<Good, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::Bad("the token is too long; allowed: up to 16 KiB"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(UNREADABLE)?;
        let (header, claims) = signed.split_once('.').ok_or(UNREADABLE)?;
        let header: Header = decoded(header).ok_or(UNREADABLE)?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| UNREADABLE)?;
        if header.crit.is_some() {
            return Err(Refused::Bad("the token asks for an extension that is not known here"));
        }
        let key = self.key(&header).await?;
        if !key.verifies(signed.as_bytes(), &signature) {
            return Err(Refused::Bad("the token's signature is not its issuer's"));
        }
        let claims: Claims = decoded(claims).ok_or(Refused::Bad("the token's claims cannot be read"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let subject = claims.subject(&self.config, &self.issuer, key.algorithm()).map_err(Refused::Bad)?;
        let left = claims.time_left(now, LEEWAY).map_err(Refused::Bad)?;
        Ok(Good { subject, until: Instant::now() + left })
    }

    /// The key that a token says it is signed with. It is used with its own algorithm: what the token's header
    /// says of that can only make the token be refused.
    async fn key(&self, header: &Header) -> Result<Arc<Key>, Refused> {
        const NOT_ACCEPTED: Refused = Refused::Bad("the token is signed in a way that is not accepted here");
        let algorithm = Algorithm::named(&header.alg).ok_or(NOT_ACCEPTED)?;
        if algorithm == Algorithm::Hs256 {
            return self.secret.clone().ok_or(NOT_ACCEPTED);
        }
        let source = self.published.as_ref().ok_or(NOT_ACCEPTED)?;
        let kid = header.kid.as_deref().ok_or(Refused::Bad("the token does not say which key it is signed with"))?;
        let key = source.key(kid).await.map_err(|missing| match missing {
            Missing::Unknown => Refused::Bad("the token is signed with a key that its issuer does not publish"),
            Missing::Unavailable => Refused::NoKeys,
        })?;
        if key.algorithm() == algorithm { Ok(key) } else { Err(NOT_ACCEPTED) }
    }
}

const UNREADABLE: Refused = Refused::Bad("this is neither a key nor a token that can be read");

/// A part of a token: JSON, as base64.
fn decoded<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
