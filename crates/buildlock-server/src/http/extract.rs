//! What a handler takes from a request. Whatever does not fit is a [`Problem`] that names the field.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use buildlock::wire::PATH_GUARD;
use buildlock::{BuildId, Invalid, ProjectId, RequestId};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use utoipa::IntoParams;

use crate::app::App;
use crate::limits::MAX_BODY_BYTES;
use crate::problem::Problem;

/// How long a call may stay open. Proxies and clients seldom let one live longer.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// The body, as JSON. One that is empty is an object without fields.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let body = body(request, app).await?;
        if body.is_empty() {
            return parsed(b"{}").map(Json);
        }
        if !is_json {
            return Err(Problem::wrong_content_type());
        }
        parsed(&body).map(Json)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// The whole body.
async fn body(request: Request, app: &App) -> Result<Bytes, Problem> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > MAX_BODY_BYTES as u64) {
        return Err(Problem::body_too_large());
    }
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    match timeout(app.limits.body_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::body_too_large()),
        // Nobody is there any more to read this.
        Ok(Err(_)) => Err(Problem::invalid("body", "the body broke off")),
        Err(_) => Err(Problem::too_slow()),
    }
}

fn parsed<T: DeserializeOwned>(json: &[u8]) -> Result<T, Problem> {
    // To serde, a list may be a record as well.
    if json.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::invalid("body", "the body is a list; it must be an object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let detail = error.inner().to_string();
        match (named_in(&detail), path.as_str()) {
            (Some(field), _) => Problem::invalid(field.to_owned(), detail),
            (None, "." | "?") => Problem::invalid("body", detail),
            (None, _) => Problem::invalid(path, detail),
        }
    })?;
    reader.end().map_err(|error| Problem::invalid("body", error.to_string()))?;
    Ok(value)
}

/// The field that a text names: unknown and missing ones are named nowhere else.
fn named_in(detail: &str) -> Option<&str> {
    detail.split_once("field `").and_then(|(_, rest)| rest.split_once('`')).map(|(name, _)| name)
}

/// What stands behind the `?`.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(error) => {
                // Such as "Failed to deserialize query string: limit: invalid digit found in string".
                let text = error.body_text();
                let detail = text.split_once(": ").map_or(text.as_str(), |(_, detail)| detail);
                let path = detail.split_once(": ").map_or("query", |(field, _)| field);
                Err(Problem::invalid(named_in(detail).unwrap_or(path).to_owned(), detail))
            }
        }
    }
}

/// The project that the path names as `{id}`.
#[derive(Debug, IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(crate) struct Project(
    /// The project's id, percent-encoded; `.` and `..` have `%7F` behind them.
    #[param(value_type = String)]
    pub(crate) ProjectId,
);

impl FromRequestParts<App> for Project {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let parameters = RawPathParams::from_request_parts(parts, app)
            .await
            .map_err(|_| Problem::invalid("project", "its percent-encoding in the path is not UTF-8"))?;
        let id = parameters.iter().find_map(|(name, value)| (name == "id").then_some(value)).unwrap_or_default();
        let id = match id.strip_suffix(PATH_GUARD) {
            Some(step @ ("." | "..")) => step,
            _ => id,
        };
        Ok(Self(ProjectId::new(id)?))
    }
}

/// The lock request that the path names as `{request}`.
#[derive(Debug, IntoParams)]
#[into_params(names("request"), parameter_in = Path)]
pub(crate) struct RequestInPath(
    /// The `Idempotency-Key` of the request, percent-encoded.
    #[param(value_type = String)]
    pub(crate) RequestId,
);

impl FromRequestParts<App> for RequestInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let parameters = RawPathParams::from_request_parts(parts, app)
            .await
            .map_err(|_| Problem::invalid("request", "its percent-encoding in the path is not UTF-8"))?;
        let request = parameters.iter().find_map(|(name, value)| (name == "request").then_some(value));
        Ok(Self(RequestId::from_key(request.unwrap_or_default())?))
    }
}

/// The build that the path names as `{id}`.
#[derive(Debug)]
pub(crate) struct PathBuild(pub(crate) BuildId);

impl FromRequestParts<App> for PathBuild {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let parameters = RawPathParams::from_request_parts(parts, app).await;
        let parameters = parameters.map_err(|_| Problem::build_not_found())?;
        let id = parameters.iter().find_map(|(name, value)| (name == "id").then_some(value));
        Ok(Self(id.unwrap_or_default().parse()?))
    }
}

/// The request id (rule 4) that the header `Idempotency-Key` chooses, or a fresh one.
#[derive(Debug)]
pub(crate) struct IdempotencyKey(pub(crate) RequestId);

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let ChosenRequest(request) = ChosenRequest::from_request_parts(parts, app).await?;
        Ok(Self(request.unwrap_or_else(RequestId::fresh)))
    }
}

/// The request id (rule 4) that the header `Idempotency-Key` chooses, if there is one: the caller can
/// repeat the request then.
#[derive(Debug)]
pub(crate) struct ChosenRequest(pub(crate) Option<RequestId>);

impl FromRequestParts<App> for ChosenRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let Some(key) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let named = |problem: String| Problem::invalid("Idempotency-Key", problem);
        let key = std::str::from_utf8(key.as_bytes()).map_err(|_| named("the header is not UTF-8".to_owned()))?;
        let request = RequestId::from_key(key).map_err(|Invalid { problem, allowed, .. }| {
            named(format!("Idempotency-Key {problem}; allowed: {allowed}"))
        })?;
        Ok(Self(Some(request)))
    }
}

/// Whether the caller wants an answer at once, and looks for what comes of it later (RFC 7240).
pub(crate) fn prefers_async(headers: &HeaderMap) -> bool {
    let mut wishes = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    wishes.any(|value| value.split([',', ';']).any(|wish| wish.trim().eq_ignore_ascii_case("respond-async")))
}

/// The text that a percent-encoded one stands for; none if that is not UTF-8.
pub(crate) fn percent_decoded(encoded: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(&byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(*rest.next()?).to_digit(16);
            bytes.push((digit()? * 16 + digit()?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
