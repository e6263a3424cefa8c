//! What operations ask a server: is it there, is it ready, which one is it, what can it do.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use buildlock::StoreError;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, ServerStore};
use crate::caller::Caller;
use crate::metrics;
use crate::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(version))
        .routes(routes!(metrics))
}

/// The API's description, as it is served.
pub(crate) fn description(api: utoipa::openapi::OpenApi) -> Router<App> {
    let json: bytes::Bytes = serde_json::to_vec(&api).unwrap_or_default().into();
    let answer = async move || ([(header::CONTENT_TYPE, "application/json")], json);
    Router::new().route("/openapi.json", get(answer))
}

/// The server runs.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, description = "it runs")))]
async fn livez() -> &'static str {
    "ok\n"
}

/// The server takes requests, and its store answers.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, description = "it is ready"),
    (status = 503, description = "it is about to stop, or its store cannot answer"),
))]
async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    if app.stopping.is_cancelled() {
        return Err(Problem::stopping());
    }
    app.readiness.check(&*app.store).await?;
    Ok("ok\n")
}

/// Whether the store answers, as of a moment ago: who asks often asks the store no oftener.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    last: Mutex<Option<(Instant, Result<(), StoreError>)>>,
}

/// How long an answer of the store stands for the next.
const ASK_STORE_EVERY: Duration = Duration::from_secs(1);

/// How long the store may take.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

impl Readiness {
    async fn check(&self, store: &dyn ServerStore) -> Result<(), Problem> {
        let mut last = self.last.lock().await;
        if last.as_ref().is_none_or(|(at, _)| at.elapsed() >= ASK_STORE_EVERY) {
            let answer = match timeout(STORE_PATIENCE, store.retention()).await {
                Ok(answer) => answer.map(drop),
                Err(_) => Err(StoreError::Protocol("none came".to_owned())),
            };
            *last = Some((Instant::now(), answer));
        }
        match &*last {
            Some((_, Err(error))) => Err(error.clone().into()),
            _ => Ok(()),
        }
    }
}

/// The metrics, for Prometheus. Open while nobody but this machine can reach the server, else the operator's.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, description = "in Prometheus's text format", body = String),
    (status = 401, description = "UNAUTHENTICATED"),
    (status = 403, description = "FORBIDDEN"),
))]
async fn metrics(State(app): State<App>, caller: Result<Caller, Problem>) -> Result<impl IntoResponse, Problem> {
    if !app.names.are_local() {
        caller?.must_be_operator()?;
    }
    app.gauges.refresh(&*app.store).await;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::handle().render()))
}

/// A server's version.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Version {
    /// The program's.
    version: &'static str,
    /// That of the store's tables.
    store_version: u32,
}

/// Which server this is.
#[utoipa::path(get, path = "/version", tag = "operations", responses((status = 200, body = Version)))]
async fn version(State(app): State<App>) -> impl IntoResponse {
    let version = Version { version: env!("CARGO_PKG_VERSION"), store_version: app.store.version() };
    (StatusCode::OK, axum::Json(version))
}
