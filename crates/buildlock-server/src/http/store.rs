//! The store as a whole: who the caller is to it, what happened in it, how it is kept.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use buildlock::EventId;
use buildlock::wire::{CheckupJson, EventJson, HistoryJson, MeJson, ProblemJson, RetentionJson, SettledJson};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Json, Query};
use super::projects::PageLimit;
use crate::app::App;
use crate::caller::Caller;
use crate::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(history))
        .routes(routes!(settle))
        .routes(routes!(retention, set_retention))
        .routes(routes!(checkup))
}

/// Who the caller is, and where the store stands.
#[utoipa::path(get, path = "/v1/me", tag = "store", responses(
    (status = 200, body = MeJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn me(State(app): State<App>, caller: Caller) -> Result<Response, Problem> {
    let newest_event = *app.store.newest_event().borrow();
    let Caller { holder, role, .. } = caller;
    Ok(axum::Json(MeJson { holder, role, store_version: app.store.version(), newest_event }).into_response())
}

/// Which page of the whole history.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// Only what happened after this event, oldest first.
    #[param(value_type = Option<u64>)]
    after: Option<EventId>,
    /// Only what happened before this event, newest first.
    #[param(value_type = Option<u64>)]
    before: Option<EventId>,
    /// How many at most: 1 to 1,000; 100 if it is left out.
    #[serde(default)]
    #[param(value_type = Option<u64>)]
    limit: PageLimit,
}

/// What happened to all projects: newest first, or oldest first with `after`. For services and operators.
#[utoipa::path(get, path = "/v1/history", tag = "store", params(HistoryQuery), responses(
    (status = 200, body = HistoryJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn history(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, Problem> {
    caller.must_see_all()?;
    let limit = query.limit.get();
    let events = match (query.after, query.before) {
        (None, before) => app.store.history(None, before, limit).await?,
        (Some(after), None) => app.store.events_after(after, limit).await?,
        (Some(_), Some(_)) => return Err(Problem::invalid("after", "after and before exclude each other")),
    };
    let events = events.iter().map(|recorded| EventJson::seen_by(recorded, caller.viewer())).collect();
    Ok(axum::Json(HistoryJson { events }).into_response())
}

/// Does what time alone has made due. The server does it by itself twice a second; this is for an
/// operator who does not want to wait.
#[utoipa::path(post, path = "/v1/settle", tag = "store", responses(
    (status = 200, body = SettledJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn settle(State(app): State<App>, caller: Caller) -> Result<Response, Problem> {
    caller.must_be_operator()?;
    let next_due_in = app.store.settle_due().await?;
    Ok(axum::Json(SettledJson { next_due_in }).into_response())
}

/// How long history is kept. For services and operators.
#[utoipa::path(get, path = "/v1/retention", tag = "store", responses(
    (status = 200, body = RetentionJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn retention(State(app): State<App>, caller: Caller) -> Result<Response, Problem> {
    caller.must_see_all()?;
    Ok(axum::Json(RetentionJson::from(app.store.retention().await?)).into_response())
}

/// Sets how long history is kept. The last day is kept whatever is set. For an operator.
#[utoipa::path(put, path = "/v1/retention", tag = "store", request_body = RetentionJson, responses(
    (status = 204, description = "it is set"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn set_retention(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<RetentionJson>,
) -> Result<StatusCode, Problem> {
    caller.must_be_operator()?;
    app.store.set_retention(body.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Looks the store over. For an operator.
#[utoipa::path(get, path = "/v1/checkup", tag = "store", responses(
    (status = 200, body = CheckupJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn checkup(State(app): State<App>, caller: Caller) -> Result<Response, Problem> {
    caller.must_be_operator()?;
    Ok(axum::Json(CheckupJson { findings: app.store.checkup().await? }).into_response())
}
