//! What a server counts. The counts are the process's, so all is told in one story.

mod support;

use buildlock::Role;
use reqwest::Method;
use serde_json::json;
use support::{LONG_ENOUGH, TestServer};
use tokio::time::{Instant, sleep};

/// The value of a metric with these labels; 0 if there is none yet.
async fn value(server: &TestServer, metric: &str) -> f64 {
    let text = server.nobody().get("/metrics").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// Counts are taken every few seconds.
async fn becomes(server: &TestServer, metric: &str, wanted: f64) {
    let give_up = Instant::now() + LONG_ENOUGH;
    loop {
        let now = value(server, metric).await;
        if now == wanted {
            return;
        }
        assert!(Instant::now() < give_up, "{metric} is {now}, not {wanted}");
        sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_becomes_of_requests_leases_and_streams_is_counted() {
    let server = TestServer::start().await;
    let service = server.asker("platform", Role::Service).await;
    let path = "/v1/projects/my-site/lock";
    let lease = service.post(path, json!({})).await.expect(201);
    service.post(path, json!({})).await.expect(409);
    service
        .request(Method::POST, path)
        .header("prefer", "respond-async")
        .json(&json!({"wait": 60}))
        .send()
        .await
        .unwrap();
    assert_eq!(value(&server, "buildlock_acquire_total{outcome=\"granted\"}").await, 1.0);
    assert_eq!(value(&server, "buildlock_acquire_total{outcome=\"conflict\"}").await, 1.0);
    assert_eq!(value(&server, "buildlock_acquire_total{outcome=\"queued\"}").await, 1.0);
    assert_eq!(value(&server, "buildlock_acquire_duration_seconds_count").await, 3.0);
    becomes(&server, "buildlock_locks_held", 1.0).await;
    becomes(&server, "buildlock_queue_depth", 1.0).await;

    service.delete(&format!("{path}?token={}", lease["token"])).await.expect(200);
    assert_eq!(value(&server, "buildlock_release_total{reason=\"done\"}").await, 1.0);
    assert_eq!(value(&server, "buildlock_acquire_total{outcome=\"granted\"}").await, 2.0);
    assert_eq!(value(&server, "buildlock_wait_seconds_count").await, 1.0);
    assert_eq!(value(&server, "buildlock_hold_seconds_count").await, 1.0);
    becomes(&server, "buildlock_queue_depth", 0.0).await;

    let stream = service.request(Method::GET, "/v1/events").send().await.unwrap();
    assert_eq!(value(&server, "buildlock_sse_connections").await, 1.0);
    drop(stream);
    becomes(&server, "buildlock_sse_connections", 0.0).await;

    let text = server.nobody().get("/metrics").await.body;
    let refused =
        "http_request_method=\"POST\",http_route=\"/v1/projects/{id}/lock\",http_response_status_code=\"409\"";
    assert!(text.contains(&format!("http_server_request_duration_seconds_count{{{refused}}} 1")), "{text}");
    assert!(!text.contains("my-site") && !text.contains("platform"), "{text}");
}
