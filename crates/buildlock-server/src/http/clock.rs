//! The store's time in an answer's header: the times in its body are to be read against it.

use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use buildlock::Timestamp;
use buildlock::wire::{TIME_HEADER, time};

/// The answer, with the store's time when it was decided.
pub(crate) fn told_at(now: Timestamp, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if let Ok(now) = HeaderValue::from_str(&time(now).to_string()) {
        response.headers_mut().insert(HeaderName::from_static(TIME_HEADER), now);
    }
    response
}
