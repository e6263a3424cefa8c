//! Signing in to the page, by a link that works once, and out of it.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use buildlock::wire::SignInLinkJson;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::caller::{Caller, Shown};
use crate::http::extract::Query;
use crate::problem::Problem;
use crate::session::{LINK_LIFE, SESSION_LIFE};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(make_link)).routes(routes!(sign_in)).routes(routes!(sign_out))
}

/// Makes a link with which somebody signs in to the page, once, as the caller. The operator's to do.
#[utoipa::path(post, path = "/v1/sign-in-links", tag = "sign-in", responses(
    (status = 201, body = SignInLinkJson),
    (status = 401, description = "UNAUTHENTICATED"),
    (status = 403, description = "FORBIDDEN"),
))]
async fn make_link(State(app): State<App>, caller: Caller) -> Result<impl IntoResponse, Problem> {
    caller.must_be_operator()?;
    let Shown::Key(key) = caller.shown else {
        return Err(Problem::forbidden("a link stands for a key; ask for it with one"));
    };
    let url = app.sign_in_link(key).map_err(|error| {
        tracing::error!(%error, "no random bytes for a link");
        Problem::internal()
    })?;
    Ok((StatusCode::CREATED, axum::Json(SignInLinkJson { url, expires_at: Timestamp::now() + LINK_LIFE })))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Code {
    /// What the link brought.
    code: String,
}

/// Signs in with a link's code, and leads to the page.
#[utoipa::path(get, path = "/sign-in", tag = "sign-in", params(Code), responses(
    (status = 303, description = "signed in, by a cookie"),
    (status = 403, description = "the link was used, is too old, or never was one"),
))]
async fn sign_in(State(app): State<App>, Query(Code { code }): Query<Code>) -> Result<Response, Problem> {
    let secret = app.sessions.sign_in(&code).map_err(|error| {
        tracing::error!(%error, "no random bytes for a session");
        Problem::internal()
    })?;
    let Some(secret) = secret else {
        // For a person, in a browser.
        const TEXT: &str = "This link has been used, is too old, or was made before the server started.\n\
                            `buildlock sign-in` makes a new one.\n";
        return Ok((StatusCode::FORBIDDEN, TEXT).into_response());
    };
    Ok((
        StatusCode::SEE_OTHER,
        [(header::LOCATION, "/".to_owned()), (header::SET_COOKIE, cookie(&app, &secret, SESSION_LIFE.as_secs()))],
    )
        .into_response())
}

/// Signs out.
#[utoipa::path(post, path = "/v1/sign-out", tag = "sign-in", responses((status = 204, description = "signed out")))]
async fn sign_out(State(app): State<App>, _: Caller, headers: HeaderMap) -> impl IntoResponse {
    if let Some(secret) = session_secret(&app, &headers) {
        app.sessions.sign_out(secret);
    }
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie(&app, "", 0))])
}

/// The cookie that a browser is to keep: no script sees it, and no other site's page makes a browser send it.
fn cookie(app: &App, secret: &str, seconds: u64) -> String {
    format!("{}={secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}", app.cookie_name)
}

/// The session's secret that a browser has sent.
pub(crate) fn session_secret<'a>(app: &App, headers: &'a HeaderMap) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == app.cookie_name).then_some(value))
}
