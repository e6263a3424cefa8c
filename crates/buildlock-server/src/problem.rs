//! How a request fails: problem details (RFC 9457) with a stable code.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use buildlock::wire::{BuildJson, EndedJson, LockJson, Viewer};
use buildlock::{
    Build, BuildStatus, Busy, Invalid, LockError, Loss, PastLease, Place, ProjectId, Refusal, StoreError, Timestamp,
};
use serde::Serialize;

use crate::http::clock::told_at;
use crate::limits::MAX_BODY_BYTES;

/// A failure as its caller is told of it. In a box: most calls have none.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<Details>);

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    /// Stable, for programs.
    code: &'static str,
    /// For people: what happened, to what, and what to do now.
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<ProjectId>,
    /// Who is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    lock: Option<LockJson>,
    /// The lease that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<EndedJson>,
    /// The build that has not succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<BuildJson>,
    /// The end of its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_tail: Option<Vec<String>>,
    #[serde(skip)]
    retry_after_s: Option<u64>,
    /// When the store decided, where it did.
    #[serde(skip)]
    decided_at: Option<Timestamp>,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

/// How soon a client may ask again when nothing better is known.
const RETRY_AFTER_S: u64 = 1;

/// How soon the keys of an issuer may be there again.
const KEYS_AFTER_S: u64 = 5;

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind: "about:blank",
            title,
            status,
            code,
            detail: detail.into(),
            field: None,
            project: None,
            lock: None,
            lease: None,
            build: None,
            log_tail: None,
            retry_after_s: None,
            decided_at: None,
        }))
    }

    pub(crate) fn locked(project: &ProjectId, busy: &Busy) -> Self {
        let lease = &busy.lease;
        let detail = format!(
            "{} holds this project for {:?}; try again later, or send \"wait\" to queue",
            lease.holder,
            lease.operation.as_str()
        );
        let mut problem = Self::new(StatusCode::CONFLICT, "PROJECT_LOCKED", "The project is busy", detail);
        problem.0.retry_after_s = Some(lease.ends_at().since(lease.acquired_at).as_secs().clamp(1, 30));
        problem.about(project).with_lock(Some(busy))
    }

    pub(crate) fn lease_lost(project: &ProjectId, lease: &PastLease, now: Option<&Busy>) -> Self {
        let how = EndedJson::from(lease);
        let detail = format!("the lease with token {} has ended", lease.token);
        let mut problem = Self::new(StatusCode::GONE, "LEASE_LOST", "The lease is lost", detail);
        problem.0.lease = Some(how);
        problem.about(project).with_lock(now)
    }

    pub(crate) fn project_not_found(project: &ProjectId) -> Self {
        let detail = "there is no such project, or it is not yours";
        Self::new(StatusCode::NOT_FOUND, "PROJECT_NOT_FOUND", "No such project", detail).about(project)
    }

    pub(crate) fn build_not_found() -> Self {
        let detail = "there is no such build, or it is not yours";
        Self::new(StatusCode::NOT_FOUND, "BUILD_NOT_FOUND", "No such build", detail)
    }

    /// A build that has ended and not succeeded.
    pub(crate) fn build_failed(build: &Build, log_tail: Vec<String>) -> Self {
        let what = match build.status {
            BuildStatus::Cancelled => "The build was cancelled",
            BuildStatus::Lost => "The build was lost",
            _ => "The build failed",
        };
        let detail = build.reason.clone().unwrap_or_else(|| "the builder did not say why".to_owned());
        let mut problem = Self::new(StatusCode::BAD_GATEWAY, "BUILD_FAILED", what, detail);
        problem.0.build = Some(build.into());
        problem.0.log_tail = Some(log_tail);
        problem.about(&build.project)
    }

    pub(crate) fn site_not_found(project: &ProjectId) -> Self {
        let detail = "no build of this project has made a site that can be shown";
        Self::new(StatusCode::NOT_FOUND, "SITE_NOT_FOUND", "No site", detail).about(project)
    }

    pub(crate) fn invalid(field: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::invalid_as(StatusCode::UNPROCESSABLE_ENTITY, field, detail)
    }

    fn invalid_as(status: StatusCode, field: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(status, "INVALID_REQUEST", "The request is not valid", detail);
        problem.0.field = Some(field.into());
        problem
    }

    pub(crate) fn wrong_content_type() -> Self {
        let detail = "the body is not announced as JSON; send \"Content-Type: application/json\"";
        Self::invalid_as(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type", detail)
    }

    pub(crate) fn body_too_large() -> Self {
        let detail = format!("the body is too large; allowed: up to {MAX_BODY_BYTES} bytes");
        Self::invalid_as(StatusCode::PAYLOAD_TOO_LARGE, "body", detail)
    }

    pub(crate) fn too_slow() -> Self {
        Self::invalid_as(StatusCode::REQUEST_TIMEOUT, "body", "the body did not come in time; send it again, faster")
    }

    pub(crate) fn no_such_route() -> Self {
        let detail = "there is nothing here; /openapi.json tells what there is";
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Nothing here", detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "this cannot be done here; the header Allow tells what can";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Not possible here", detail)
    }

    pub(crate) fn headers_too_large(allowed: usize) -> Self {
        let detail = format!("the headers are too large; allowed: up to {allowed} bytes together");
        Self::invalid_as(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers", detail)
    }

    pub(crate) fn wrong_host(host: &str) -> Self {
        Self::forbidden(format!(
            "this server is not known as {host:?}; if it should be, name that host with --allow-host, or in \
             allowed_hosts of its settings"
        ))
    }

    pub(crate) fn foreign_origin() -> Self {
        Self::forbidden("a page of another origin may not do this; if it should, name it in allowed_origins")
    }

    pub(crate) fn internal() -> Self {
        let detail = "this is a bug of the server; its log tells more under the answer's X-Request-Id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "The server failed", detail)
    }

    pub(crate) fn overloaded(what: &'static str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let detail = format!("there are too many {what}; nothing was changed; try again soon");
        let mut problem = Self::new(status, "OVERLOADED", "The server has too much to do", detail);
        problem.0.retry_after_s = Some(RETRY_AFTER_S);
        problem
    }

    /// The server is about to stop: the client is to ask the next one, which may be the same again.
    pub(crate) fn stopping() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let detail = "the server is about to stop; try again soon";
        let mut problem = Self::new(status, "STOPPING", "The server stops", detail);
        problem.0.retry_after_s = Some(RETRY_AFTER_S);
        problem
    }

    pub(crate) fn unauthenticated(detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "Who are you?", detail)
    }

    /// Nobody can tell whether a token is good.
    pub(crate) fn keys_unavailable() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let detail = "the keys of the token's issuer cannot be fetched; nothing was changed; try again soon";
        let mut problem = Self::new(status, "KEYS_UNAVAILABLE", "Nobody can tell who you are", detail);
        problem.0.retry_after_s = Some(KEYS_AFTER_S);
        problem
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", "Not allowed", detail)
    }

    pub(crate) fn of_refusal(project: &ProjectId, refusal: Refusal) -> Self {
        match refusal {
            Refusal::Locked(busy) => Self::locked(project, &busy),
            Refusal::QueueFull(busy) => {
                let mut problem = Self::locked(project, &busy);
                problem.0.detail = "the project is busy and its queue is full; try again later".to_owned();
                problem
            }
            Refusal::Lost { lease, now } => Self::lease_lost(project, &lease, now.as_ref()),
            Refusal::NotHolder(busy) => {
                let detail = format!("the lease is somebody else's: {} holds it", busy.lease.holder);
                Self::forbidden(detail).about(project).with_lock(Some(&busy))
            }
            Refusal::NeverGranted { token, now } => {
                let detail = format!("this project never had a lease with token {token}");
                Self::invalid("token", detail).about(project).with_lock(now.as_ref())
            }
            Refusal::RequestReused => Self::invalid(
                "Idempotency-Key",
                "the key was used before with another holder, operation, message or TTL; use a new one",
            )
            .about(project),
            Refusal::UnknownProject => Self::project_not_found(project),
        }
    }

    /// Why the store refused, as this viewer is told of it.
    pub(crate) fn of_answer(project: &ProjectId, refusal: Refusal, viewer: Viewer<'_>, now: Timestamp) -> Self {
        let (lock, lease) = match &refusal {
            Refusal::Locked(busy) | Refusal::QueueFull(busy) | Refusal::NotHolder(busy) => (Some(busy), None),
            Refusal::Lost { lease, now } => (now.as_ref(), Some(lease)),
            Refusal::NeverGranted { now, .. } => (now.as_ref(), None),
            Refusal::RequestReused | Refusal::UnknownProject => (None, None),
        };
        let lock = lock.map(|busy| LockJson::seen_by(busy, viewer));
        let lease = lease.map(|lease| EndedJson::seen_by(lease, viewer));
        let mut problem = Self::of_refusal(project, refusal);
        problem.0.lock = lock;
        problem.0.lease = lease;
        problem.0.decided_at = Some(now);
        problem
    }

    /// The wait is over. The place has been given up.
    pub(crate) fn wait_over(project: &ProjectId, place: &Place, viewer: Viewer<'_>, now: Timestamp) -> Self {
        let mut problem = Self::of_answer(project, Refusal::Locked(place.busy.clone()), viewer, now);
        problem.0.detail = format!("the wait is over; {} would have been before you", place.position - 1);
        problem
    }

    pub(crate) fn of_lock(project: &ProjectId, error: LockError) -> Self {
        match error {
            LockError::Locked(busy) => Self::locked(project, &busy),
            LockError::QueueFull(busy) => Self::of_refusal(project, Refusal::QueueFull(*busy)),
            LockError::WaitOver(place) => {
                let mut problem = Self::locked(project, &place.busy);
                problem.0.detail = format!("the wait is over; {} would have been before you", place.position - 1);
                problem
            }
            LockError::Lost(loss) => match *loss {
                Loss::Ended { lease, now } => Self::lease_lost(project, &lease, now.as_ref()),
                loss => Self::new(StatusCode::GONE, "LEASE_LOST", "The lease is lost", loss.to_string()).about(project),
            },
            LockError::Refused(refusal) => Self::of_refusal(project, *refusal),
            LockError::Store(error) => error.into(),
            error => Self::store_unavailable(error.to_string()),
        }
    }

    fn store_unavailable(detail: String) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut problem = Self::new(status, "STORE_UNAVAILABLE", "The store cannot answer now", detail);
        problem.0.retry_after_s = Some(RETRY_AFTER_S);
        problem
    }

    pub(crate) fn about(mut self, project: &ProjectId) -> Self {
        self.0.project = Some(project.clone());
        self
    }

    fn with_lock(mut self, busy: Option<&Busy>) -> Self {
        self.0.lock = busy.map(LockJson::from);
        self
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store cannot answer");
        // Where the store is, is not the client's to know.
        Self::store_unavailable("nothing was changed; try again soon".to_owned())
    }
}

impl From<Invalid> for Problem {
    fn from(error: Invalid) -> Self {
        Self::invalid(error.field, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.0.status;
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(now) = self.0.decided_at {
            response = told_at(now, response);
        }
        if let Some(seconds) = self.0.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
