//! Who sends a request, and what they may do.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use buildlock::wire::{HOLDER_HEADER, Viewer};
use buildlock::{Holder, KeyHash, ProjectId, Role, Status};
use tokio::time::Instant;

use crate::app::App;
use crate::http::extract::percent_decoded;
use crate::http::guard::{Origin, is_safe};
use crate::http::sign_in::session_secret;
use crate::jwt::{self, Good, Refused};
use crate::problem::Problem;

/// Who sends a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// In whose name: whose the key or the token is, or for a service and an operator whom they name in the
    /// header `Buildlock-Holder`.
    pub(crate) holder: Holder,
    pub(crate) role: Role,
    pub(crate) shown: Shown,
}

/// What a caller has shown.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown {
    /// A key, or a session that was begun with it.
    Key(KeyHash),
    /// A token, which is good until then.
    Token(Instant),
}

impl Caller {
    /// Whether a project is the caller's to see and lock.
    pub(crate) fn may_see(&self, status: &Status) -> bool {
        self.role != Role::User || status.owner == self.holder
    }

    /// A project as the caller may see it: what is somebody else's is unknown.
    pub(crate) fn own(&self, project: &ProjectId, status: Option<Status>) -> Result<Status, Problem> {
        status.filter(|status| self.may_see(status)).ok_or_else(|| Problem::project_not_found(project))
    }

    /// What the caller is told.
    pub(crate) fn viewer(&self) -> Viewer<'_> {
        if self.role == Role::User { Viewer::Holder(&self.holder) } else { Viewer::All }
    }

    /// # Errors
    ///
    /// [`Problem`] if the caller sees its own projects only.
    pub(crate) fn must_see_all(&self) -> Result<(), Problem> {
        if self.role == Role::User {
            return Err(Problem::forbidden("this tells of all projects; ask for one of yours"));
        }
        Ok(())
    }

    /// # Errors
    ///
    /// [`Problem`] unless the caller is an operator.
    pub(crate) fn must_be_operator(&self) -> Result<(), Problem> {
        if self.role == Role::Operator { Ok(()) } else { Err(Problem::forbidden("only an operator may do this")) }
    }
}

impl Shown {
    /// Until when it is good, where that is known.
    pub(crate) fn until(self) -> Option<Instant> {
        match self {
            Shown::Key(_) => None,
            Shown::Token(until) => Some(until),
        }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let (owner, role, shown) = match bearer(&parts.headers)? {
            Some(token) if jwt::is_token(token) => by_token(token, app).await?,
            Some(key) => by_key(KeyHash::of(key), "this key is not known here, or was revoked", app).await?,
            None => by_key(signed_in(parts, app)?, "the key that you signed in with was revoked", app).await?,
        };
        let holder = match named_holder(&parts.headers)? {
            None => owner,
            Some(_) if role == Role::User => {
                return Err(Problem::forbidden("a user speaks for itself only; leave out Buildlock-Holder"));
            }
            Some(holder) => holder,
        };
        Ok(Self { holder, role, shown })
    }
}

async fn by_key(key: KeyHash, unknown: &'static str, app: &App) -> Result<(Holder, Role, Shown), Problem> {
    let on_record = app.auth.key(key).await?.ok_or_else(|| Problem::unauthenticated(unknown))?;
    Ok((on_record.owner, on_record.role, Shown::Key(key)))
}

async fn by_token(token: &str, app: &App) -> Result<(Holder, Role, Shown), Problem> {
    let Some(jwts) = &app.auth.jwts else {
        return Err(Problem::unauthenticated("this server takes keys only; it has no [auth.jwt] in its settings"));
    };
    match jwts.check(token).await {
        Ok(Good { subject, until }) => Ok((subject.holder, subject.role, Shown::Token(until))),
        Err(Refused::Bad(why)) => Err(Problem::unauthenticated(why)),
        Err(Refused::NoKeys) => Err(Problem::keys_unavailable()),
    }
}

/// The key or token that is shown as `Authorization: Bearer KEY`.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(shown) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let (scheme, key) = shown.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(key.trim())) } else { Err(Problem::unauthenticated(HOW)) }
}

const HOW: &str = "send a key as \"Authorization: Bearer KEY\", or sign in to the page";

/// The key that a browser has signed in with. The page asks for itself only: a browser adds the cookie to
/// whatever it sends.
fn signed_in(parts: &Parts, app: &App) -> Result<KeyHash, Problem> {
    let secret = session_secret(app, &parts.headers).ok_or_else(|| Problem::unauthenticated(HOW))?;
    match app.names.origin(&parts.headers) {
        Origin::Own => {}
        Origin::Unsaid if is_safe(&parts.method) => {}
        Origin::Unsaid | Origin::Foreign => return Err(Problem::foreign_origin()),
    }
    app.sessions.key(secret).ok_or_else(|| Problem::unauthenticated("your session is over; sign in again"))
}

/// The user whom a service names.
fn named_holder(headers: &HeaderMap) -> Result<Option<Holder>, Problem> {
    let Some(value) = headers.get(HOLDER_HEADER) else { return Ok(None) };
    let name = percent_decoded(value.as_bytes())
        .ok_or_else(|| Problem::invalid("Buildlock-Holder", "the header is not percent-encoded UTF-8"))?;
    Holder::new(name).map(Some).map_err(|error| Problem::invalid("Buildlock-Holder", error.to_string()))
}
