//! What stands before all routes: each request's id, whether it may pass, how it went. It is one function around
//! the router, since axum boxes each layer for each route, which took longer than the routes themselves.

use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tower::Service;
use tower::layer::layer_fn;
use tower_http::compression::CompressionLayer;
use tracing::Instrument;
use uuid::Uuid;

use super::guard;
use crate::app::App;
use crate::metrics;
use crate::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that a client may give its request.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The routes, with all that every request goes through. A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    app: App,
    plain: Router,
    /// For clients that can unpack what is compressed.
    compressing: Router,
}

impl Front {
    pub(crate) fn new(app: App, routes: Router) -> Self {
        let plain = routes.route_layer(layer_fn(TellRoute));
        Self { app, compressing: plain.clone().layer(CompressionLayer::new()), plain }
    }

    /// Answers a request, and tells of it. What it carries, its key above all, is not told.
    pub(crate) async fn answer(self, request: Request) -> Response {
        let started = Instant::now();
        let id = request_id(request.headers().get(REQUEST_ID));
        let method = method(request.method());
        let span =
            tracing::info_span!("request", id = id.to_str().unwrap_or_default(), method, path = request.uri().path());
        let mut response = self.guarded(request).instrument(span.clone()).await;
        let status = response.status();
        let took = started.elapsed();
        span.in_scope(|| match status.is_server_error() {
            true => tracing::warn!(status = status.as_u16(), ?took, "answered"),
            false => tracing::debug!(status = status.as_u16(), ?took, "answered"),
        });
        let route = response.extensions().get::<MatchedPath>();
        metrics::answered(method, route.map_or("", MatchedPath::as_str), status, took);
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }

    async fn guarded(self, request: Request) -> Response {
        let Self { app, plain, compressing } = self;
        let router = if request.headers().contains_key(header::ACCEPT_ENCODING) { compressing } else { plain };
        let mut response = match guard::checked(&app.names, &request) {
            Ok(()) => caught(router, request).await,
            Err(problem) => problem.into_response(),
        };
        guard::secure(response.headers_mut());
        response
    }
}

/// Leaves with the answer which route gave it.
#[derive(Debug, Clone)]
struct TellRoute<S>(S);

impl<S> Service<Request> for TellRoute<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let route = request.extensions().get::<MatchedPath>().cloned();
        let response = self.0.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            if let Some(route) = route {
                response.extensions_mut().insert(route);
            }
            Ok(response)
        })
    }
}

/// The router's answer, also if a handler panics. The panic itself is in the log.
async fn caught(mut router: Router, request: Request) -> Response {
    match AssertUnwindSafe(router.call(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => Problem::internal().into_response(),
    }
}

/// The client's own id, if it can stand in a log as it is, or a fresh one.
fn request_id(given: Option<&HeaderValue>) -> HeaderValue {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    match given {
        Some(id) if !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES && id.as_bytes().iter().all(is_plain) => {
            id.clone()
        }
        _ => {
            let mut buffer = Uuid::encode_buffer();
            let id: &str = Uuid::now_v7().simple().encode_lower(&mut buffer);
            HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("unknown"))
        }
    }
}

/// The method, as one of few: a client could make up any number.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_a_problem() {
        let fail = get(async || if true { panic!("as it should") } else { StatusCode::OK });
        let response = caught(Router::new().route("/", fail), Request::new(Body::empty())).await;
        assert_eq!(response.status(), 500);
    }

    #[test]
    fn a_clients_id_is_kept_unless_it_would_spoil_a_log() {
        let kept = |id: &'static str| request_id(Some(&HeaderValue::from_static(id))) == id;
        assert!(kept("0190d6a0-0000-7000-8000-000000000001"));
        assert!(kept("Root=1-67891233-abcdef012345678912345678"));
        assert!(!kept("") && !kept("a b") && !kept("\u{1b}[2J".trim_start_matches('\u{1b}')));
        assert_ne!(request_id(None), request_id(None));
    }
}
