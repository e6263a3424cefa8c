//! Server-sent events: a stream that stays open, shows that it lives, and tells its client to come back.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::sleep_until;

use crate::app::App;
use crate::caller::Shown;
use crate::metrics::OpenStream;
use crate::problem::Problem;

/// How often a silent stream shows that it lives. Proxies cut what is silent for half a minute.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

/// How soon a client comes back whose stream the server has ended.
const RETRY: Duration = Duration::from_secs(1);

/// Answers with these events as they come, as long as what the caller has shown is good, then with a word on
/// when to come back if it was the server that ended the stream.
///
/// # Errors
///
/// [`Problem`] if there are too many streams.
pub(crate) fn respond(
    app: &App,
    shown: Shown,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Result<Response, Problem> {
    let held = (app.streams.take()?, OpenStream::new());
    let stopping = app.stopping.clone();
    let last_word = {
        let stopping = stopping.clone();
        stream::once(async move { stopping.is_cancelled().then(|| Event::default().retry(RETRY).comment("stopping")) })
            .filter_map(async |event| event)
    };
    let expired = async move {
        match shown.until() {
            Some(until) => sleep_until(until).await,
            None => pending().await,
        }
    };
    let events = events.take_until(expired).take_until(stopping.cancelled_owned()).chain(last_word).map(move |event| {
        let _held = &held;
        Ok::<_, Infallible>(event)
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT_EVERY)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would hold events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}
