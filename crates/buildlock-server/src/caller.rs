//! Who sends a request, and what they may do.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use buildlock::{Holder, ProjectId, Role, Status};

use crate::app::App;
use crate::http::extract::percent_decoded;
use crate::problem::Problem;

/// The header in which a service or an operator names the user for whom it asks, percent-encoded.
const HOLDER_HEADER: &str = "buildlock-holder";

/// Who sends a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// In whose name: the key's owner, or for a service and an operator whom they name in the header
    /// `Buildlock-Holder`.
    pub(crate) holder: Holder,
    pub(crate) role: Role,
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

    /// # Errors
    ///
    /// [`Problem`] unless the caller is an operator.
    pub(crate) fn must_be_operator(&self) -> Result<(), Problem> {
        if self.role == Role::Operator { Ok(()) } else { Err(Problem::forbidden("only an operator may do this")) }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let shown = bearer(&parts.headers)?;
        let Some(key) = app.auth.key(shown).await? else {
            return Err(Problem::unauthenticated("this key is not known here, or was revoked"));
        };
        let holder = match named_holder(&parts.headers)? {
            None => key.owner,
            Some(_) if key.role == Role::User => {
                return Err(Problem::forbidden("a user's key speaks for its user only; leave out Buildlock-Holder"));
            }
            Some(holder) => holder,
        };
        Ok(Self { holder, role: key.role })
    }
}

/// The key that is shown as `Authorization: Bearer KEY`.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    const HOW: &str = "send a key as \"Authorization: Bearer KEY\"";
    let shown = headers.get(header::AUTHORIZATION).ok_or(Problem::unauthenticated(HOW))?;
    let (scheme, key) = shown.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") { Ok(key.trim()) } else { Err(Problem::unauthenticated(HOW)) }
}

/// The user whom a service names.
fn named_holder(headers: &HeaderMap) -> Result<Option<Holder>, Problem> {
    let Some(value) = headers.get(HOLDER_HEADER) else { return Ok(None) };
    let name = percent_decoded(value.as_bytes())
        .ok_or_else(|| Problem::invalid("Buildlock-Holder", "the header is not percent-encoded UTF-8"))?;
    Holder::new(name).map(Some).map_err(|error| Problem::invalid("Buildlock-Holder", error.to_string()))
}
