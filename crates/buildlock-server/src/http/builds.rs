//! Builds: to start one, to look at it and its log, to cancel it.
//!
//! A build's answer comes when it is done; with `Accept: text/event-stream` its log lines come first;
//! with `Prefer: respond-async` it comes as soon as the build runs.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use buildlock::wire::{BuildJson, BuildsJson, LogLineJson};
use buildlock::{Build, BuildId, BuildStatus, LogStream, Message, Operation, ProjectId, Role, StoreError, Wait};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{ChosenRequest, Json, LONGEST_WAIT, PathBuild, Query, prefers_async};
use super::sse;
use crate::app::App;
use crate::builds::{BuildOrder, Followed, StartError, Started, UpstreamAnswer};
use crate::caller::Caller;
use crate::problem::Problem;

/// How many lines of its log the answer of a failed build has.
const LOG_TAIL: u64 = 20;

/// How many builds a list has if nobody says how many, and at most.
const PAGE: usize = 50;
const PAGE_LIMIT: usize = 1_000;

/// How many lines of a log are read at once.
const LOG_PAGE: usize = 64;

/// The header with the build's id, also where the body is the upstream's.
const BUILD_HEADER: HeaderName = HeaderName::from_static("buildlock-build");

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(generate))
        .routes(routes!(edit))
        .routes(routes!(start, list))
        .routes(routes!(show))
        .routes(routes!(log))
        .routes(routes!(cancel))
}

/// Generates a project: runs the build `generate` under the project's lock.
#[utoipa::path(post, path = "/api/generate", tag = "builds",
    request_body(content = Object, description = "`projectId`, and whatever the builder is to have, such as `prompt`; \
        `wait` in seconds to queue if the project is busy, `message` to those who find it busy",
        example = json!({"projectId": "my-site", "prompt": "a page about whales"})),
    responses((status = 200, body = BuildJson, description = "it is done; of an upstream, its own answer"),
        (status = 202, body = BuildJson, description = "it runs, with `Prefer: respond-async`"),
        (status = 409, description = "PROJECT_LOCKED"), (status = 502, description = "BUILD_FAILED")))]
async fn generate(
    State(app): State<App>,
    caller: Caller,
    request: ChosenRequest,
    headers: HeaderMap,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    run(&app, caller, request, &headers, body, Some("generate")).await
}

/// Edits a project: runs the build `edit` under the project's lock.
#[utoipa::path(post, path = "/api/edit", tag = "builds",
    request_body(content = Object, description = "as for /api/generate",
        example = json!({"projectId": "my-site", "prompt": "make it blue"})),
    responses((status = 200, body = BuildJson, description = "it is done; of an upstream, its own answer"),
        (status = 202, body = BuildJson, description = "it runs, with `Prefer: respond-async`"),
        (status = 409, description = "PROJECT_LOCKED"), (status = 502, description = "BUILD_FAILED")))]
async fn edit(
    State(app): State<App>,
    caller: Caller,
    request: ChosenRequest,
    headers: HeaderMap,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    run(&app, caller, request, &headers, body, Some("edit")).await
}

/// Runs a build of any operation that is set, under the project's lock.
#[utoipa::path(post, path = "/v1/builds", tag = "builds",
    request_body(content = Object, description = "as for /api/generate, and `operation`",
        example = json!({"projectId": "my-site", "operation": "generate", "prompt": "a page about whales"})),
    responses((status = 200, body = BuildJson, description = "it is done; of an upstream, its own answer"),
        (status = 202, body = BuildJson, description = "it runs, with `Prefer: respond-async`"),
        (status = 409, description = "PROJECT_LOCKED"), (status = 422, description = "INVALID_REQUEST"),
        (status = 502, description = "BUILD_FAILED")))]
async fn start(
    State(app): State<App>,
    caller: Caller,
    request: ChosenRequest,
    headers: HeaderMap,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    run(&app, caller, request, &headers, body, None).await
}

/// Starts a build and answers as the caller wishes.
async fn run(
    app: &App,
    caller: Caller,
    ChosenRequest(request): ChosenRequest,
    headers: &HeaderMap,
    body: Map<String, Value>,
    operation: Option<&'static str>,
) -> Result<Response, Problem> {
    let shown = caller.shown;
    let mut order = order(caller, body, operation)?;
    order.request = request;
    order.takes_answer = !prefers_async(headers) && !wants_events(headers);
    let project = order.project.clone();
    let slot = app.waits.take()?;
    let Started { build, is_new } = app.builds.start(order).await.map_err(|error| of_start(&project, error))?;
    if prefers_async(headers) {
        return Ok(accepted(&build));
    }
    if wants_events(headers) {
        drop(slot);
        let first = stream::iter(Event::default().event("build").json_data(BuildJson::from(&build)));
        // Without room for one more stream the build runs all the same, and can be followed later.
        return Ok(sse::respond(app, shown, first.chain(events(app, build.id, 0))).unwrap_or_else(|_| accepted(&build)));
    }
    if is_new && let Some(answer) = app.builds.upstream_answer(build.id).await {
        return Ok(passed_on(build.id, answer));
    }
    let ended = ended(app.builds.wait(build.id).await?)?;
    result(app, &ended).await
}

/// A build that was waited for. One that still runs does so on another server, and this one is about to stop.
fn ended(build: Option<Build>) -> Result<Build, Problem> {
    let build = build.ok_or_else(Problem::build_not_found)?;
    if build.status == BuildStatus::Running { Err(Problem::stopping()) } else { Ok(build) }
}

/// What a body asks for. All of it but how to wait goes to the builder.
fn order(caller: Caller, mut body: Map<String, Value>, operation: Option<&str>) -> Result<BuildOrder, Problem> {
    let project = text(&body, "projectId")?.ok_or_else(|| Problem::invalid("projectId", "projectId is missing"))?;
    let project = ProjectId::new(project).map_err(|error| Problem::invalid("projectId", error.to_string()))?;
    let named = text(&body, "operation")?;
    let operation = match (operation, named) {
        (Some(operation), None) => operation,
        (Some(operation), Some(named)) if operation == named => operation,
        (Some(operation), Some(_)) => {
            let detail = format!("this call is for {operation:?}; for others there is POST /v1/builds");
            return Err(Problem::invalid("operation", detail));
        }
        (None, Some(named)) => named,
        (None, None) => return Err(Problem::invalid("operation", "operation is missing")),
    };
    let operation = Operation::new(operation)?;
    let message = text(&body, "message")?.map(Message::new).transpose()?.unwrap_or_default();
    let wait = wait(&body)?;
    body.remove("wait");
    body.insert("operation".to_owned(), operation.as_str().into());
    Ok(BuildOrder {
        project,
        operation,
        holder: caller.holder,
        only_own: caller.role == Role::User,
        message,
        request: None,
        wait,
        takes_answer: false,
        input: body,
    })
}

fn text<'a>(body: &'a Map<String, Value>, field: &'static str) -> Result<Option<&'a str>, Problem> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::invalid(field, format!("{field} must be a text"))),
    }
}

fn wait(body: &Map<String, Value>) -> Result<Wait, Problem> {
    let seconds = match body.get("wait") {
        None | Some(Value::Null) => return Ok(Wait::NONE),
        Some(seconds) => seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    };
    let wait = seconds.filter(|wait| *wait <= LONGEST_WAIT).and_then(|wait| Wait::new(wait).ok());
    wait.ok_or_else(|| Problem::invalid("wait", "wait must be a number of seconds; allowed: 0 to 3600"))
}

fn of_start(project: &ProjectId, error: StartError) -> Problem {
    match error {
        StartError::UnknownOperation { .. } => Problem::invalid("operation", error.to_string()).about(project),
        StartError::NotOwn => Problem::project_not_found(project),
        StartError::RequestReused => Problem::invalid("Idempotency-Key", error.to_string()).about(project),
        StartError::TooMany => Problem::overloaded("running builds"),
        StartError::Stopping => Problem::stopping(),
        StartError::Lock(error) => Problem::of_lock(project, error),
        StartError::Store(error) => error.into(),
    }
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accepted.split([',', ';']).any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// The build runs, and the answer does not wait for its end.
fn accepted(build: &Build) -> Response {
    let id = build.id.to_string();
    let location = HeaderValue::from_str(&format!("/v1/builds/{id}"));
    let applied = (HeaderName::from_static("preference-applied"), HeaderValue::from_static("respond-async"));
    let mut response = (StatusCode::ACCEPTED, [applied], named(build)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A build as the body, with its id in a header as well.
fn named(build: &Build) -> Response {
    let mut response = axum::Json(BuildJson::from(build)).into_response();
    name(&mut response, build.id);
    response
}

fn name(response: &mut Response, build: BuildId) {
    if let Ok(id) = HeaderValue::from_str(&build.to_string()) {
        response.headers_mut().insert(BUILD_HEADER, id);
    }
}

/// The answer of a build that has ended.
async fn result(app: &App, build: &Build) -> Result<Response, Problem> {
    if build.status == BuildStatus::Succeeded {
        return Ok(named(build));
    }
    let after = build.log_lines.saturating_sub(LOG_TAIL);
    let tail = app.store.log(build.id, after, LOG_TAIL as usize).await?;
    let mut response = Problem::build_failed(build, tail.into_iter().map(|line| line.text).collect()).into_response();
    name(&mut response, build.id);
    Ok(response)
}

/// The upstream's answer is the caller's.
fn passed_on(build: BuildId, answer: UpstreamAnswer) -> Response {
    let UpstreamAnswer { status, content_type, body } = answer;
    let mut response = (status, Body::from_stream(ReceiverStream::new(body))).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    name(&mut response, build);
    response
}

/// A build's log from after a line, those to come included, and its end, as events.
fn events(app: &App, build: BuildId, after: u64) -> impl Stream<Item = Event> + Send + use<> {
    // A store that cannot answer ends the stream: its client comes back, and says where it was.
    app.builds.follow(build, after).map_while(|followed| {
        let event = match followed.ok()? {
            Followed::Line(line) => {
                let number = line.number.to_string();
                Event::default().event("line").id(number).json_data(LogLineJson::from(line))
            }
            Followed::End(build) => Event::default().event("end").json_data(BuildJson::from(&*build)),
        };
        event.ok()
    })
}

/// Which builds.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Which {
    /// Of which project; a service and an operator may ask for all.
    project: Option<String>,
    /// Only builds before this one, to see more.
    before: Option<String>,
    /// How many; 50 if it is left out, 1000 at most.
    limit: Option<usize>,
}

/// The builds of a project, newest first.
#[utoipa::path(get, path = "/v1/builds", tag = "builds", params(Which), responses((status = 200, body = BuildsJson)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Result<axum::Json<BuildsJson>, Problem> {
    let project = which.project.map(ProjectId::new).transpose()?;
    match &project {
        Some(project) => drop(caller.own(project, app.store.status(project).await?)?),
        None if caller.role == Role::User => {
            return Err(Problem::invalid("project", "name the project whose builds you want to see"));
        }
        None => {}
    }
    let before = which.before.map(|id| id.parse()).transpose()?;
    let limit = which.limit.unwrap_or(PAGE);
    if !(1..=PAGE_LIMIT).contains(&limit) {
        return Err(Problem::invalid("limit", format!("limit is {limit}; allowed: 1 to {PAGE_LIMIT}")));
    }
    let builds = app.store.builds(project.as_ref(), before, limit).await?;
    Ok(axum::Json(BuildsJson { builds: builds.iter().map(BuildJson::from).collect() }))
}

/// A build, if the caller may see it: what is somebody else's is unknown.
async fn seen(app: &App, caller: &Caller, id: BuildId) -> Result<Build, Problem> {
    let build = app.store.build(id).await?.ok_or_else(Problem::build_not_found)?;
    if caller.role != Role::User {
        return Ok(build);
    }
    let status = app.store.status(&build.project).await?;
    if status.is_some_and(|status| caller.may_see(&status)) { Ok(build) } else { Err(Problem::build_not_found()) }
}

/// A build.
#[utoipa::path(get, path = "/v1/builds/{id}", tag = "builds", params(("id" = String, Path)),
    responses((status = 200, body = BuildJson), (status = 404, description = "BUILD_NOT_FOUND")))]
async fn show(State(app): State<App>, caller: Caller, PathBuild(id): PathBuild) -> Result<Response, Problem> {
    Ok(named(&seen(&app, &caller, id).await?))
}

/// From where in a log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct From {
    /// Only lines after the one with this number. The header `Last-Event-ID` counts before it.
    after: Option<u64>,
}

/// A build's log: as text as far as it is, or with `Accept: text/event-stream` as events that follow it to
/// its end. An event `line` has the line's number as its id; the event `end` has the build.
#[utoipa::path(get, path = "/v1/builds/{id}/log", tag = "builds", params(("id" = String, Path), From),
    responses((status = 200, body = String, description = "buildlock's own words begin with `buildlock: `"),
        (status = 404, description = "BUILD_NOT_FOUND")))]
async fn log(
    State(app): State<App>,
    caller: Caller,
    PathBuild(id): PathBuild,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let build = seen(&app, &caller, id).await?;
    let last = headers.get("last-event-id").map(|last| {
        let number = last.to_str().ok().and_then(|last| last.parse().ok());
        number.ok_or_else(|| Problem::invalid("Last-Event-ID", "the header is no line's number"))
    });
    let after = last.transpose()?.or(from.after).unwrap_or(0);
    if wants_events(&headers) {
        return sse::respond(&app, caller.shown, events(&app, id, after));
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    let pages = log_text(app, build, after);
    Ok((kind, Body::from_stream(pages)).into_response())
}

/// The log as text, as far as it was when the build was looked at.
fn log_text(app: App, build: Build, after: u64) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    stream::try_unfold((app, after), move |(app, after)| async move {
        let room = usize::try_from(build.log_lines.saturating_sub(after)).unwrap_or(usize::MAX);
        let lines = app.store.log(build.id, after, room.min(LOG_PAGE)).await?;
        let Some(last) = lines.last().map(|line| line.number) else { return Ok(None) };
        let mut text = String::new();
        for line in lines {
            if line.stream == LogStream::System {
                text.push_str("buildlock: ");
            }
            text.push_str(&line.text);
            text.push('\n');
        }
        Ok(Some((Bytes::from(text), (app, last))))
    })
}

/// Cancels a build: SIGTERM to all of it, then SIGKILL. Answers when it has ended, or at once with
/// `Prefer: respond-async`.
#[utoipa::path(post, path = "/v1/builds/{id}/cancel", tag = "builds", params(("id" = String, Path)),
    responses((status = 200, body = BuildJson, description = "it has ended, maybe before it could be cancelled"),
        (status = 202, body = BuildJson, description = "it is about to end, with `Prefer: respond-async`"),
        (status = 404, description = "BUILD_NOT_FOUND")))]
async fn cancel(
    State(app): State<App>,
    caller: Caller,
    PathBuild(id): PathBuild,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let build = seen(&app, &caller, id).await?;
    if prefers_async(&headers) {
        app.builds.ask_to_cancel(id, &caller.holder).await?;
        return Ok(accepted(&build));
    }
    let _slot = app.waits.take()?;
    let ended = ended(app.builds.cancel(id, &caller.holder).await?)?;
    Ok(named(&ended))
}
