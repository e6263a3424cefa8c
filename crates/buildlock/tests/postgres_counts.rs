//! Metrics of stores that share a database: each change is counted once, whoever has made it. One test, since a
//! program has one recorder.

mod support;

use std::time::Duration;

use buildlock::{CountStore, Counts, LockStore, PostgresStore};
use buildlock_testing::TestPg;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use support::ask::{Ask, lease, request, ttl};
use support::until;

/// The number on the line that begins with this name; 0 if there is none.
fn value(metrics: &PrometheusHandle, name: &str) -> u64 {
    let text = metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |number| number.parse().unwrap())
}

async fn becomes(metrics: &PrometheusHandle, name: &str, expected: u64) {
    until(&format!("{name} {expected}"), async || value(metrics, name) == expected).await;
}

#[tokio::test]
async fn what_happens_is_counted_once_by_the_store_that_was_asked() {
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let database = TestPg::fresh().await;
    let one = PostgresStore::open(&database.url()).await.unwrap();
    let other = PostgresStore::open(&database.url()).await.unwrap();
    one.begin_to_count();
    other.begin_to_count();

    let held = one.held("site", "ana").await;
    other.lock("site", &request("ben")).await;
    let waiter = other.queued("site", "cleo").await;
    assert_eq!(one.counts().await.unwrap(), Counts { held: 1, waiting: 1 });
    // The end of a lease of the one, by the other, is a turn of the other's.
    other.force_unlock("site", held.token, "root", "stuck").await;
    let held = lease(other.queue("site", &waiter).await);
    one.unlock("site", &held).await;
    // Nobody asks for this one any more.
    let mut short = request("dora");
    short.ttl = ttl(1);
    lease(one.lock("elsewhere", &short).await);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    other.settle_due().await.unwrap();

    for (name, count) in [
        ("buildlock_acquire_total{outcome=\"granted\"}", 3),
        ("buildlock_acquire_total{outcome=\"queued\"}", 1),
        ("buildlock_acquire_total{outcome=\"conflict\"}", 1),
        ("buildlock_release_total{reason=\"forced\"}", 1),
        ("buildlock_release_total{reason=\"done\"}", 1),
        ("buildlock_release_total{reason=\"expired\"}", 1),
        ("buildlock_wait_seconds_count", 1),
        ("buildlock_hold_seconds_count", 3),
    ] {
        becomes(&metrics, name, count).await;
    }
    // What comes twice would have come by now.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert_eq!(value(&metrics, "buildlock_acquire_total{outcome=\"granted\"}"), 3);
    assert_eq!(one.counts().await.unwrap(), Counts { held: 0, waiting: 0 });
}
