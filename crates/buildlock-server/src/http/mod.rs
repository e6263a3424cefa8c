//! The routes, and what all of them have in common.

pub(crate) mod extract;
mod health;
pub(crate) mod sse;

use axum::Router;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::page;
use crate::problem::Problem;

/// What the API's description says of the API as a whole.
#[derive(OpenApi)]
#[openapi(info(title = "buildlock", description = "One build per project: never two at once, never stuck."))]
struct Api;

/// The API's routes and their description.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Api::openapi()).merge(health::routes())
}

/// All that a server serves.
pub(crate) fn router(app: App) -> Router {
    let (router, description) = api().split_for_parts();
    router
        .merge(health::description(description))
        .merge(page::routes())
        .fallback(async || Problem::no_such_route())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(app)
}
