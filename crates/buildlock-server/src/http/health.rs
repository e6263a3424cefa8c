//! What operations ask a server: is it there, is it ready, which one is it, what can it do.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(livez)).routes(routes!(readyz)).routes(routes!(version))
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
    Ok("ok\n")
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
