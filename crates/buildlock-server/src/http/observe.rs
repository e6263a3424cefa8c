//! What is told of each request: its id to both sides, how it went to the log, how long it took to the
//! metrics.

use std::any::Any;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use crate::metrics;
use crate::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that a client may give its request.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Tells of a request. What it carries, its key above all, is not told.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers().get(REQUEST_ID));
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span =
        tracing::info_span!("request", id = id.to_str().unwrap_or_default(), method, path = request.uri().path());
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    let took = started.elapsed();
    span.in_scope(|| match status.is_server_error() {
        true => tracing::warn!(status = status.as_u16(), ?took, "answered"),
        false => tracing::debug!(status = status.as_u16(), ?took, "answered"),
    });
    metrics::answered(method, route.as_ref().map_or("", MatchedPath::as_str), status, took);
    response.headers_mut().insert(REQUEST_ID, id);
    response
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

/// What a client is told when a handler has panicked. The panic itself is in the log.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::internal().into_response()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_a_problem_with_an_id() {
        let fail = get(async || if true { panic!("as it should") } else { StatusCode::OK });
        let router = Router::new()
            .route("/", fail)
            .layer(CatchPanicLayer::custom(panicked))
            .layer(axum::middleware::from_fn(observe));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 500);
        assert!(!response.headers()[REQUEST_ID].is_empty());
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
