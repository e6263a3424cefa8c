//! What a token says of whom it speaks for, once its signature was found good.

use std::time::Duration;

use buildlock::{Holder, Role};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::key::Algorithm;
use crate::config::JwtConfig;

/// The claims that are looked at. What a user can write about itself (`user_metadata`) is not among them.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: Option<String>,
    aud: Option<Audience>,
    /// Seconds since 1970, as is `nbf`.
    exp: Option<f64>,
    nbf: Option<f64>,
    sub: Option<String>,
    role: Option<String>,
    app_metadata: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) holder: Holder,
    pub(crate) role: Role,
}

/// The role of Supabase's backends, and how they are named when their token does not say.
const SERVICE_ROLE: &str = "service_role";

/// Who has issued the keys that every Supabase project had before 2025, and those of `supabase start`. They name
/// no audience, and are signed with the project's own secret.
const LEGACY_ISSUERS: [&str; 2] = ["supabase", "supabase-demo"];

impl Claims {
    /// How long the token is good yet.
    pub(super) fn time_left(&self, now: Duration, leeway: Duration) -> Result<Duration, &'static str> {
        let (now, leeway) = (now.as_secs_f64(), leeway.as_secs_f64());
        let exp = self.exp.ok_or("the token does not say until when it is good (exp)")?;
        let left = exp + leeway - now;
        if left <= 0.0 {
            return Err("the token has expired; sign in again, or have it refreshed");
        }
        if self.nbf.is_some_and(|nbf| nbf - leeway > now) {
            return Err("the token is not good yet (nbf); is a clock wrong?");
        }
        Ok(Duration::from_secs_f64(left.min(LONGEST_LEFT.as_secs_f64())))
    }

    /// Whom it speaks for, if it was issued by whom and for whom it should be.
    pub(super) fn subject(&self, config: &JwtConfig, issuer: &str, signed: Algorithm) -> Result<Subject, &'static str> {
        if self.role.as_deref() == Some("anon") {
            return Err("this is an anon key, which is everybody's; sign in, and send the token that you get");
        }
        let is_service = self.role.as_deref() == Some(SERVICE_ROLE);
        let is_legacy = is_service
            && signed == Algorithm::Hs256
            && self.aud.is_none()
            && self.iss.as_deref().is_some_and(|iss| LEGACY_ISSUERS.contains(&iss));
        if !is_legacy {
            if self.iss.as_deref() != Some(issuer) {
                return Err("the token is from another issuer (iss)");
            }
            let meant = match &self.aud {
                None => false,
                Some(Audience::One(one)) => *one == config.audience,
                Some(Audience::Several(all)) => all.contains(&config.audience),
            };
            if !meant {
                return Err("the token is meant for others (aud)");
            }
        }
        let named = self.sub.as_deref().map(|sub| Holder::new(sub).map_err(|_| "the token's sub is no holder's name"));
        let named = named.transpose()?;
        let unnamed = "the token does not say whose it is (sub)";
        match self.role.as_deref() {
            Some(SERVICE_ROLE) => {
                let holder = named.map_or_else(|| Holder::new(SERVICE_ROLE).map_err(|_| unnamed), Ok)?;
                Ok(Subject { holder, role: Role::Service })
            }
            None | Some("authenticated") => {
                let role = if self.is_operators(config) { Role::Operator } else { Role::User };
                Ok(Subject { holder: named.ok_or(unnamed)?, role })
            }
            Some(_) => Err("the token's role is not known here; known: authenticated, service_role"),
        }
    }

    /// Whether the platform says that this user is an operator.
    fn is_operators(&self, config: &JwtConfig) -> bool {
        let said = self.app_metadata.as_ref().and_then(|metadata| metadata.get(&config.operator_claim));
        let is_it = |value: &Value| value.as_str() == Some(&config.operator_value);
        match said {
            Some(Value::Array(values)) => values.iter().any(is_it),
            Some(value) => is_it(value),
            None => false,
        }
    }
}

/// Whatever a token says, it is not taken as good for longer than this without being looked at again.
const LONGEST_LEFT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
