//! What a server counts, for Prometheus. No label names a project, a user or a request: there may be any
//! number of them.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::StatusCode;
use metrics::{Unit, describe_histogram, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

const REQUEST_DURATION: &str = "http_server_request_duration_seconds";

/// The bounds that OpenTelemetry advises for what takes from milliseconds to seconds.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// The process's metrics, as text, are asked of this.
pub(crate) fn handle() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        let builder = match builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS) {
            Ok(builder) => builder,
            // Only of no bounds at all.
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("this program counts for another; /metrics stays empty");
        }
        describe_histogram!(REQUEST_DURATION, Unit::Seconds, "Time from a request's head to its answer's head.");
        handle
    })
}

/// A request was answered.
pub(crate) fn answered(method: &'static str, route: &str, status: StatusCode, took: Duration) {
    let labels = [
        ("http_request_method", method.to_owned()),
        ("http_route", route.to_owned()),
        ("http_response_status_code", status.as_str().to_owned()),
    ];
    histogram!(REQUEST_DURATION, &labels).record(took);
}
