//! The routes, and what all of them have in common.

mod builds;
pub(crate) mod clock;
mod events;
pub(crate) mod extract;
mod front;
pub(crate) mod guard;
pub(crate) mod health;
mod lock;
mod projects;
pub(crate) mod sign_in;
pub(crate) mod sse;
mod store;

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub(crate) use self::front::Front;
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
pub(crate) fn front(app: App) -> Front {
    let (router, description) = api().split_for_parts();
    let routes = router
        .merge(health::description(description))
        .merge(page::routes())
        .merge(sites::routes())
        .fallback(async || Problem::no_such_route())
        .method_not_allowed_fallback(async || Problem::method_not_allowed());
    let routes = match other_origins(&app) {
        Some(origins) => routes.layer(origins),
        None => routes,
    };
    Front::new(app.clone(), routes.with_state(app))
}

/// Lets the pages of the allowed origins read the answers. What they may change is checked in `guard.rs`.
fn other_origins(app: &App) -> Option<CorsLayer> {
    let origins = &app.config.server.allowed_origins;
    let origins: Vec<_> = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers(ASKED_WITH)
            .expose_headers(ANSWERED_WITH)
            .max_age(PREFLIGHT_LIFE)
    })
}

const ASKED_WITH: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::ACCEPT,
    HeaderName::from_static("prefer"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("buildlock-holder"),
    HeaderName::from_static("x-request-id"),
];

const ANSWERED_WITH: [HeaderName; 4] = [
    header::LOCATION,
    header::RETRY_AFTER,
    HeaderName::from_static("buildlock-build"),
    HeaderName::from_static("x-request-id"),
];

/// How long a browser need not ask again whether it may ask.
const PREFLIGHT_LIFE: Duration = Duration::from_secs(600);
