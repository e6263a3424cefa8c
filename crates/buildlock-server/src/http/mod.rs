//! The routes, and what all of them have in common.

mod builds;
pub(crate) mod clock;
mod events;
pub(crate) mod extract;
pub(crate) mod guard;
pub(crate) mod health;
mod lock;
mod observe;
mod projects;
pub(crate) mod sign_in;
pub(crate) mod sse;
mod store;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::page;
use crate::problem::Problem;
use crate::sites;

/// What the API's description says of the API as a whole.
#[derive(OpenApi)]
#[openapi(info(title = "buildlock", description = "One build per project: never two at once, never stuck."))]
struct Api;

/// The API's routes and their description.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Api::openapi())
        .merge(health::routes())
        .merge(builds::routes())
        .merge(sign_in::routes())
        .merge(projects::routes())
        .merge(lock::routes())
        .merge(store::routes())
        .merge(events::routes())
}

/// All that a server serves.
pub(crate) fn router(app: App) -> Router {
    let (router, description) = api().split_for_parts();
    router
        .merge(health::description(description))
        .merge(page::routes())
        .merge(sites::routes())
        .fallback(async || Problem::no_such_route())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(CatchPanicLayer::custom(observe::panicked))
        .layer(CompressionLayer::new())
        .layer(from_fn_with_state(app.clone(), guard::guard))
        .layer(from_fn(observe::observe))
        .with_state(app)
}
