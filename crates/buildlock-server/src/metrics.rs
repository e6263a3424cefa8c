//! What a server counts, for Prometheus. No label names a project, a user or a request: there may be any
//! number of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use axum::http::StatusCode;
use buildlock::BuildStatus;
use metrics::{Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::sync::Mutex;
use tokio::time::{Instant, interval};

use crate::app::ServerStore;

const REQUEST_DURATION: &str = "http_server_request_duration_seconds";
const BUILDS: &str = "buildlock_builds_total";
const BUILDS_RUNNING: &str = "buildlock_builds_running";
const BUILD_DURATION: &str = "buildlock_build_duration_seconds";
const BUILD_INFO: &str = "buildlock_build_info";
const LOCKS_HELD: &str = "buildlock_locks_held";
const QUEUE_DEPTH: &str = "buildlock_queue_depth";
const SSE_CONNECTIONS: &str = "buildlock_sse_connections";

/// The bounds that OpenTelemetry advises for what takes from milliseconds to seconds.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Bounds for what people wait for, up to an hour.
const LONG_SECONDS: [f64; 12] = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0];

/// The process's metrics, as text, are asked of this.
pub(crate) fn handle() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = recorder().unwrap_or_else(|error| {
            // Only bounds that are none can be refused.
            tracing::error!(%error, "durations are not sorted into buckets");
            PrometheusBuilder::new().build_recorder()
        });
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("this program counts for another; /metrics stays empty");
        }
        describe_histogram!(REQUEST_DURATION, Unit::Seconds, "Time from a request's head to its answer's head.");
        describe_gauge!(BUILD_INFO, "Which program this is; always 1.");
        describe_gauge!(LOCKS_HELD, "Projects that are locked now.");
        describe_gauge!(QUEUE_DEPTH, "Waiters in all queues now.");
        describe_gauge!(SSE_CONNECTIONS, "Event streams that are open now.");
        describe_counter!(BUILDS, "Builds that have ended, by how.");
        describe_gauge!(BUILDS_RUNNING, "Builds that run now.");
        describe_histogram!(BUILD_DURATION, Unit::Seconds, "Time that builds took.");
        gauge!(BUILDS_RUNNING).set(0.0);
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        gauge!(SSE_CONNECTIONS).set(0.0);
        handle
    })
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let mut builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?;
    for long in ["buildlock_wait_seconds", "buildlock_hold_seconds", BUILD_DURATION] {
        builder = builder.set_buckets_for_metric(Matcher::Full(long.to_owned()), &LONG_SECONDS)?;
    }
    Ok(builder.build_recorder())
}

/// How often what was measured is added up. It takes memory until then.
const KEEP_UP_EVERY: Duration = Duration::from_secs(5);

/// Adds up what was measured, for as long as the server runs.
pub(crate) async fn keep_up() {
    let handle = handle();
    let mut ticks = interval(KEEP_UP_EVERY);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

/// What is counted in the store, as of a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    counted: Mutex<Option<Instant>>,
}

/// How long a count stands. Scrapes are as a rule further apart; who asks oftener gets the same again.
const COUNT_EVERY: Duration = Duration::from_secs(5);

impl Gauges {
    pub(crate) async fn refresh(&self, store: &dyn ServerStore) {
        let mut counted = self.counted.lock().await;
        if counted.is_some_and(|at| at.elapsed() < COUNT_EVERY) {
            return;
        }
        match store.counts().await {
            Ok(counts) => {
                gauge!(LOCKS_HELD).set(counts.held as f64);
                gauge!(QUEUE_DEPTH).set(counts.waiting as f64);
            }
            // What can be told without the store still is.
            Err(error) => tracing::warn!(%error, "cannot count the locks"),
        }
        *counted = Some(Instant::now());
    }
}

/// A build has ended, whoever ran it.
pub(crate) fn build_ended(status: BuildStatus) {
    counter!(BUILDS, "status" => status.as_str()).increment(1);
}

/// Where the durations of a route's requests are recorded, by method and status.
type OfRoute = HashMap<(&'static str, StatusCode), Histogram>;

thread_local! {
    /// The routes that this thread has answered: a recorder looks one up by labels made for it each time.
    static DURATIONS: RefCell<HashMap<String, OfRoute>> = RefCell::default();
}

/// A request was answered.
pub(crate) fn answered(method: &'static str, route: &str, status: StatusCode, took: Duration) {
    DURATIONS.with_borrow_mut(|routes| {
        let known = routes.get(route).and_then(|route| route.get(&(method, status)));
        match known {
            Some(durations) => durations.record(took),
            None => {
                let durations = durations(method, route, status);
                durations.record(took);
                routes.entry(route.to_owned()).or_default().insert((method, status), durations);
            }
        }
    });
}

fn durations(method: &'static str, route: &str, status: StatusCode) -> Histogram {
    let labels = [
        ("http_request_method", method.to_owned()),
        ("http_route", route.to_owned()),
        ("http_response_status_code", status.as_str().to_owned()),
    ];
    histogram!(REQUEST_DURATION, &labels)
}

/// An event stream that is open, for as long as this lives.
#[derive(Debug)]
pub(crate) struct OpenStream(());

impl OpenStream {
    pub(crate) fn new() -> Self {
        gauge!(SSE_CONNECTIONS).increment(1.0);
        Self(())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        gauge!(SSE_CONNECTIONS).decrement(1.0);
    }
}

/// A build that runs, for as long as this lives.
#[derive(Debug)]
pub(crate) struct RunningBuild {
    started: Instant,
}

impl RunningBuild {
    pub(crate) fn new() -> Self {
        gauge!(BUILDS_RUNNING).increment(1.0);
        Self { started: Instant::now() }
    }
}

impl Drop for RunningBuild {
    fn drop(&mut self) {
        gauge!(BUILDS_RUNNING).decrement(1.0);
        histogram!(BUILD_DURATION).record(self.started.elapsed());
    }
}
