//! Projects: to list, make, see and delete them, and what happened to one.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use buildlock::wire::{EventJson, HistoryJson, NewProjectJson, PAGE_LIMIT, ProblemJson, ProjectJson, ProjectsJson};
use buildlock::{Deleted, EventId, Invalid, ProjectId, Refusal, Role, Status};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::clock::told_at;
use super::extract::{Json, Project, Query};
use crate::app::App;
use crate::caller::Caller;
use crate::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, delete)).routes(routes!(history))
}

/// How many projects one call looks at for those of one user. Whoever has more asks on.
const SCAN_LIMIT: usize = 10_000;

/// How long a page is.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
pub(crate) struct PageLimit(usize);

impl PageLimit {
    pub(crate) fn get(self) -> usize {
        self.0
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(100)
    }
}

impl TryFrom<u64> for PageLimit {
    type Error = Invalid;

    fn try_from(limit: u64) -> Result<Self, Invalid> {
        match usize::try_from(limit) {
            Ok(limit @ 1..=PAGE_LIMIT) => Ok(Self(limit)),
            _ => Err(Invalid { field: "limit", problem: format!("is {limit}"), allowed: "1 to 1000" }),
        }
    }
}

/// Which page of the projects.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The project before the first of the page.
    #[param(value_type = Option<String>)]
    after: Option<ProjectId>,
    /// How many at most: 1 to 1,000; 100 if it is left out.
    #[serde(default)]
    #[param(value_type = Option<u64>)]
    limit: PageLimit,
}

/// Lists the projects that the caller sees, in the order of their ids.
#[utoipa::path(get, path = "/v1/projects", tag = "projects", params(ListQuery), responses(
    (status = 200, body = ProjectsJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn list(State(app): State<App>, caller: Caller, Query(query): Query<ListQuery>) -> Result<Response, Problem> {
    let limit = query.limit.get();
    let (statuses, next) = match caller.role {
        Role::User => own(&app, &caller, query.after, limit).await?,
        Role::Service | Role::Operator => {
            let statuses = app.store.projects(query.after.as_ref(), limit).await?;
            let next = statuses.last().filter(|_| statuses.len() == limit).map(|last| last.project.clone());
            (statuses, next)
        }
    };
    let now = statuses.first().map(|first| first.now);
    let projects = statuses.iter().map(|status| ProjectJson::seen_by(status, caller.viewer())).collect();
    let page = axum::Json(ProjectsJson { projects, next });
    Ok(match now {
        Some(now) => told_at(now, page),
        None => page.into_response(),
    })
}

/// The projects of a user, as far as one call looks.
async fn own(
    app: &App,
    caller: &Caller,
    mut after: Option<ProjectId>,
    limit: usize,
) -> Result<(Vec<Status>, Option<ProjectId>), Problem> {
    let mut own = Vec::new();
    let mut looked_at = 0;
    loop {
        let page = app.store.projects(after.as_ref(), PAGE_LIMIT).await?;
        let is_last = page.len() < PAGE_LIMIT;
        looked_at += page.len();
        for status in page {
            after = Some(status.project.clone());
            if caller.may_see(&status) {
                own.push(status);
            }
            if own.len() == limit {
                return Ok((own, after));
            }
        }
        if is_last {
            return Ok((own, None));
        }
        if looked_at >= SCAN_LIMIT {
            return Ok((own, after));
        }
    }
}

/// Makes a project, owned by the caller. A project that is locked for the first time is made as well.
#[utoipa::path(post, path = "/v1/projects", tag = "projects", request_body = NewProjectJson, responses(
    (status = 201, body = ProjectJson, description = "it was made"),
    (status = 200, body = ProjectJson, description = "it exists"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn create(State(app): State<App>, caller: Caller, Json(body): Json<NewProjectJson>) -> Result<Response, Problem> {
    let project = body.project;
    let is_new = app.store.create_project(&project, &caller.holder).await?;
    let status = caller.own(&project, app.store.status(&project).await?)?;
    let made = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(told_at(status.now, (made, axum::Json(ProjectJson::seen_by(&status, caller.viewer())))))
}

/// A project: whose it is, who holds it, who waits.
#[utoipa::path(get, path = "/v1/projects/{id}", tag = "projects", params(Project), responses(
    (status = 200, body = ProjectJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn get(State(app): State<App>, caller: Caller, Project(project): Project) -> Result<Response, Problem> {
    seen(&app, &caller, &project).await
}

/// A project as the caller sees it.
pub(super) async fn seen(app: &App, caller: &Caller, project: &ProjectId) -> Result<Response, Problem> {
    let status = caller.own(project, app.store.status(project).await?)?;
    Ok(told_at(status.now, axum::Json(ProjectJson::seen_by(&status, caller.viewer()))))
}

/// Deletes a project that is idle. What happened to it stays in the history.
#[utoipa::path(delete, path = "/v1/projects/{id}", tag = "projects", params(Project), responses(
    (status = 204, description = "it is gone"),
    (status = 409, body = ProblemJson, content_type = "application/problem+json", description = "somebody holds it"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn delete(State(app): State<App>, caller: Caller, Project(project): Project) -> Result<Response, Problem> {
    let status = caller.own(&project, app.store.status(&project).await?)?;
    match app.store.delete_project(&project, &caller.holder).await? {
        Deleted::Gone => Ok(StatusCode::NO_CONTENT.into_response()),
        Deleted::Locked(busy) => Err(Problem::of_answer(&project, Refusal::Locked(busy), caller.viewer(), status.now)),
        Deleted::Unknown => Err(Problem::project_not_found(&project)),
    }
}

/// Which page of a project's history.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// Only what happened before this event.
    #[param(value_type = Option<u64>)]
    before: Option<EventId>,
    /// How many at most: 1 to 1,000; 100 if it is left out.
    #[serde(default)]
    #[param(value_type = Option<u64>)]
    limit: PageLimit,
}

/// What happened to a project, newest first.
#[utoipa::path(get, path = "/v1/projects/{id}/history", tag = "projects", params(
    Project,
    HistoryQuery,
), responses(
    (status = 200, body = HistoryJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn history(
    State(app): State<App>,
    caller: Caller,
    Project(project): Project,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, Problem> {
    let status = caller.own(&project, app.store.status(&project).await?)?;
    let events = app.store.history(Some(&project), query.before, query.limit.get()).await?;
    let events = events.iter().map(|recorded| EventJson::seen_by(recorded, caller.viewer())).collect();
    Ok(told_at(status.now, axum::Json(HistoryJson { events })))
}
