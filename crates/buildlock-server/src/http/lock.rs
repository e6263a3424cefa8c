//! A project's lock. What is decided is decided by the store; here is who may ask, and how long a call
//! stays open.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use buildlock::wire::{
    EndedJson, ForceUnlockJson, LeaseJson, LockRequestJson, PlaceJson, ProblemJson, ProjectJson, TokenJson,
};
use buildlock::{Answer, Command, IfLocked, KEEP_IN_TOUCH_EVERY, LockRequest, News, Outcome, ProjectId, Role, Token};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::clock::told_at;
use super::extract::{IdempotencyKey, Json, LONGEST_WAIT, Project, Query, RequestInPath, prefers_async};
use super::projects::seen;
use crate::app::App;
use crate::caller::Caller;
use crate::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(lock))
        .routes(routes!(status, unlock))
        .routes(routes!(renew))
        .routes(routes!(verify))
        .routes(routes!(withdraw))
        .routes(routes!(force_unlock))
        .routes(routes!(settle))
}

/// Locks a project.
///
/// Without `wait`, a locked project is refused at once. With it, the call stays open until the lock is
/// granted or the wait is over. A call that breaks off keeps its place for 15 seconds: repeat it with
/// the same `Idempotency-Key`.
///
/// With `Prefer: respond-async` the answer comes at once, and a locked project answers 202 with the
/// place in the queue. Repeat the call at least every 5 seconds to keep the place. A lease that was
/// handed over must be claimed within 5 seconds, by repeating the call or by a renewal.
#[utoipa::path(post, path = "/v1/projects/{id}/lock", tag = "lock", params(
    Project,
    ("Idempotency-Key" = Option<String>, Header, description = "names the request, so that it can be repeated"),
    ("Prefer" = Option<String>, Header, description = "`respond-async`: a place in the queue and no open call"),
), request_body = LockRequestJson, responses(
    (status = 201, body = LeaseJson, description = "it is locked for the caller"),
    (status = 202, body = PlaceJson, description = "the request waits in the queue"),
    (status = 409, body = ProblemJson, content_type = "application/problem+json", description = "it is locked"),
    (status = 410, body = ProblemJson, content_type = "application/problem+json", description = "the request had a lease, which has ended"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn lock(
    State(app): State<App>,
    caller: Caller,
    Project(project): Project,
    IdempotencyKey(id): IdempotencyKey,
    headers: HeaderMap,
    Json(body): Json<LockRequestJson>,
) -> Result<Response, Problem> {
    let LockRequestJson { operation, message, ttl, wait } = body;
    let wait = wait.unwrap_or_default();
    if wait > LONGEST_WAIT {
        let detail = format!("wait is {} s; allowed: up to {} s", wait.as_secs_f64(), LONGEST_WAIT.as_secs());
        return Err(Problem::invalid("wait", detail));
    }
    let request = LockRequest {
        id,
        holder: caller.holder.clone(),
        operation: operation.unwrap_or_default(),
        message: message.unwrap_or_default(),
        ttl: ttl.unwrap_or_default(),
    };
    let is_async = prefers_async(&headers);
    must_not_be_anothers(&app, &caller, &project).await?;
    let answer = if is_async || wait.is_zero() {
        let if_locked = if is_async { IfLocked::Queue } else { IfLocked::Refuse };
        app.store.apply(&project, Command::Lock { request, if_locked }).await?
    } else {
        wait_in_line(&app, &caller, &project, request, wait).await?
    };
    // Somebody else may have made the project in the meantime.
    if let Err(problem) = must_not_be_anothers(&app, &caller, &project).await {
        app.store.apply(&project, Command::Withdraw { request: id }).await?;
        return Err(problem);
    }
    let Answer { outcome, now } = answer;
    match outcome {
        Outcome::Held(lease) => {
            let lease = LeaseJson::seen_by(&project, &lease, caller.viewer());
            Ok(told_at(now, (StatusCode::CREATED, axum::Json(lease))))
        }
        Outcome::Queued(place) => {
            let place = PlaceJson::seen_by(&project, id, &place, caller.viewer());
            let applied = is_async.then_some([(HeaderName::from_static("preference-applied"), "respond-async")]);
            let come_back = [(header::RETRY_AFTER, KEEP_IN_TOUCH_EVERY.as_secs().to_string())];
            Ok(told_at(now, (StatusCode::ACCEPTED, applied, come_back, axum::Json(place))))
        }
        outcome => Err(refused(&caller, &project, Answer { outcome, now })),
    }
}

/// What is nobody's yet may be locked: it comes into being.
async fn must_not_be_anothers(app: &App, caller: &Caller, project: &ProjectId) -> Result<(), Problem> {
    if caller.role != Role::User {
        return Ok(());
    }
    match app.store.status(project).await? {
        None => Ok(()),
        status => caller.own(project, status).map(drop),
    }
}

/// To a user, what is somebody else's is as what is not there.
async fn must_be_seen(app: &App, caller: &Caller, project: &ProjectId) -> Result<(), Problem> {
    if caller.role != Role::User {
        return Ok(());
    }
    caller.own(project, app.store.status(project).await?).map(drop)
}

/// Waits in the queue as long as the call is open.
///
/// A client that goes away ends this future where it waits, and nothing is taken back: the ticket lives
/// on for a while, so that the request can be repeated (rule 7). Whoever does not come back loses its
/// place, and a lease that is handed to it meanwhile is claimed by nobody and passes on: only the
/// repetition below claims one, and that is only sent while the client is there.
async fn wait_in_line(
    app: &App,
    caller: &Caller,
    project: &ProjectId,
    request: LockRequest,
    wait: Duration,
) -> Result<Answer, Problem> {
    let _slot = app.waits.take()?;
    let over_at = Instant::now() + wait;
    let turn = app.store.watch(project, News::Turn(request.id));
    loop {
        let lock = Command::Lock { request: request.clone(), if_locked: IfLocked::Queue };
        let answer = app.store.apply(project, lock).await?;
        let Outcome::Queued(place) = &answer.outcome else { return Ok(answer) };
        tokio::select! {
            () = turn.changed() => {}
            () = sleep_until(over_at.min(Instant::now() + KEEP_IN_TOUCH_EVERY)) => {}
            // The client turns to the next server, where its place still is.
            () = app.stopping.cancelled() => return Err(Problem::stopping()),
        }
        if Instant::now() >= over_at {
            app.store.apply(project, Command::Withdraw { request: request.id }).await?;
            return Err(Problem::wait_over(project, place, caller.viewer(), answer.now));
        }
    }
}

/// The answer to a command that was not done.
fn refused(caller: &Caller, project: &ProjectId, answer: Answer) -> Problem {
    match answer.outcome {
        Outcome::Refused(refusal) => Problem::of_answer(project, *refusal, caller.viewer(), answer.now),
        outcome => {
            tracing::error!(?outcome, "an answer to another command");
            Problem::internal()
        }
    }
}

/// Who holds a project, and who waits.
#[utoipa::path(get, path = "/v1/projects/{id}/lock", tag = "lock", params(Project), responses(
    (status = 200, body = ProjectJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn status(State(app): State<App>, caller: Caller, Project(project): Project) -> Result<Response, Problem> {
    seen(&app, &caller, &project).await
}

/// Whose lease ends.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TokenQuery {
    /// The lease's fencing token.
    #[param(value_type = u64)]
    token: Token,
}

/// Ends a lease of the caller's own. Repeated, it succeeds.
#[utoipa::path(delete, path = "/v1/projects/{id}/lock", tag = "lock", params(
    Project,
    TokenQuery,
), responses(
    (status = 200, body = EndedJson),
    (status = 403, body = ProblemJson, content_type = "application/problem+json", description = "it is somebody else's"),
    (status = 410, body = ProblemJson, content_type = "application/problem+json", description = "it ended in another way"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn unlock(
    State(app): State<App>,
    caller: Caller,
    Project(project): Project,
    Query(query): Query<TokenQuery>,
) -> Result<Response, Problem> {
    let unlock = Command::Unlock { token: query.token, holder: caller.holder.clone() };
    ended(&app, &caller, &project, unlock).await
}

/// Extends a lease of the caller's own (the heartbeat).
#[utoipa::path(post, path = "/v1/projects/{id}/lock/renew", tag = "lock", params(Project), request_body = TokenJson, responses(
    (status = 200, body = LeaseJson),
    (status = 410, body = ProblemJson, content_type = "application/problem+json", description = "it has ended"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn renew(
    State(app): State<App>,
    caller: Caller,
    Project(project): Project,
    Json(body): Json<TokenJson>,
) -> Result<Response, Problem> {
    let renew = Command::Renew { token: body.token, holder: caller.holder.clone(), ttl: body.ttl };
    held(&app, &caller, &project, renew).await
}

/// Tells whether a token is current, for whatever is about to write what the lock protects.
#[utoipa::path(post, path = "/v1/projects/{id}/lock/verify", tag = "lock", params(Project), request_body = TokenJson, responses(
    (status = 200, body = LeaseJson),
    (status = 410, body = ProblemJson, content_type = "application/problem+json", description = "it has ended"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn verify(
    State(app): State<App>,
    caller: Caller,
    Project(project): Project,
    Json(body): Json<TokenJson>,
) -> Result<Response, Problem> {
    held(&app, &caller, &project, Command::Verify { token: body.token }).await
}

/// Takes a lock request back, whatever has become of it: its place is given up, its lease unlocked.
#[utoipa::path(delete, path = "/v1/projects/{id}/lock/requests/{request}", tag = "lock", params(
    Project,
    RequestInPath,
), responses(
    (status = 204, description = "it neither waits nor holds"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn withdraw(
    State(app): State<App>,
    caller: Caller,
    Project(project): Project,
    RequestInPath(request): RequestInPath,
) -> Result<Response, Problem> {
    if caller.role == Role::User {
        let status = caller.own(&project, app.store.status(&project).await?)?;
        let held = status.lease.iter().map(|lease| (lease.request, &lease.holder));
        let waiting = status.queue.iter().map(|ticket| (ticket.request.id, &ticket.request.holder));
        if held.chain(waiting).any(|(id, holder)| id == request && *holder != caller.holder) {
            return Err(Problem::forbidden("the request is somebody else's").about(&project));
        }
    }
    done(&app, &caller, &project, Command::Withdraw { request }).await
}

/// Ends somebody's lease, on record: for an operator, and for the owner of the project.
#[utoipa::path(post, path = "/v1/projects/{id}/force-unlock", tag = "lock", params(Project), request_body = ForceUnlockJson, responses(
    (status = 200, body = EndedJson),
    (status = 410, body = ProblemJson, content_type = "application/problem+json", description = "it has ended already"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn force_unlock(
    State(app): State<App>,
    caller: Caller,
    Project(project): Project,
    Json(body): Json<ForceUnlockJson>,
) -> Result<Response, Problem> {
    if caller.role != Role::Operator {
        let status = caller.own(&project, app.store.status(&project).await?)?;
        if status.owner != caller.holder {
            return Err(Problem::forbidden("only the project's owner or an operator may do this").about(&project));
        }
    }
    let ForceUnlockJson { token, reason } = body;
    ended_by(&app, &caller, &project, Command::ForceUnlock { token, by: caller.holder.clone(), reason }).await
}

/// Does what time alone has made due in a project. The server does it by itself; this is for an
/// operator who does not want to wait.
#[utoipa::path(post, path = "/v1/projects/{id}/settle", tag = "lock", params(Project), responses(
    (status = 204, description = "it is done"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
))]
async fn settle(State(app): State<App>, caller: Caller, Project(project): Project) -> Result<Response, Problem> {
    caller.must_be_operator()?;
    done(&app, &caller, &project, Command::Settle).await
}

/// The lease that lives.
async fn held(app: &App, caller: &Caller, project: &ProjectId, command: Command) -> Result<Response, Problem> {
    must_be_seen(app, caller, project).await?;
    let answer = app.store.apply(project, command).await?;
    match &answer.outcome {
        Outcome::Held(lease) => {
            Ok(told_at(answer.now, axum::Json(LeaseJson::seen_by(project, lease, caller.viewer()))))
        }
        _ => Err(refused(caller, project, answer)),
    }
}

/// The caller's own lease that has ended.
async fn ended(app: &App, caller: &Caller, project: &ProjectId, command: Command) -> Result<Response, Problem> {
    must_be_seen(app, caller, project).await?;
    ended_by(app, caller, project, command).await
}

/// The lease that has ended.
async fn ended_by(app: &App, caller: &Caller, project: &ProjectId, command: Command) -> Result<Response, Problem> {
    let answer = app.store.apply(project, command).await?;
    match &answer.outcome {
        Outcome::Ended(lease) => Ok(told_at(answer.now, axum::Json(EndedJson::seen_by(lease, caller.viewer())))),
        _ => Err(refused(caller, project, answer)),
    }
}

/// Nothing to tell.
async fn done(app: &App, caller: &Caller, project: &ProjectId, command: Command) -> Result<Response, Problem> {
    let answer = app.store.apply(project, command).await?;
    match answer.outcome {
        Outcome::Done => Ok(told_at(answer.now, StatusCode::NO_CONTENT.into_response())),
        _ => Err(refused(caller, project, answer)),
    }
}
