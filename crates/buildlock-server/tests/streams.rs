//! What all event streams have in common, and calls that wait.

mod support;

use buildlock::Role;
use reqwest::{Method, Response};
use serde_json::json;
use support::{Answer, Asker, LONG_ENOUGH, TestServer};
use tokio::time::{Instant, sleep, timeout};

async fn follow(asker: &Asker) -> Response {
    let request = asker.request(Method::GET, "/v1/events").header("accept-encoding", "gzip");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

/// All that comes until the stream ends.
async fn to_the_end(stream: Response) -> String {
    timeout(LONG_ENOUGH, stream.text()).await.expect("the stream does not end").unwrap()
}

#[tokio::test]
async fn a_stream_is_sent_as_it_comes_and_ends_with_a_word_on_when_to_come_back() {
    let server = TestServer::start().await;
    let ana = server.user("ana").await;
    let stream = follow(&ana).await;
    let headers = stream.headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert!(!headers.contains_key("content-encoding"), "a stream must not wait to be compressed");
    server.stop.gracefully();
    let told = to_the_end(stream).await;
    assert!(told.contains("retry: 1000\n"), "{told}");
    server.ended().await;
}

#[tokio::test]
async fn there_are_so_many_streams_and_no_more() {
    let server = TestServer::start_with(|options| options.limits.streams = 2).await;
    let ana = server.user("ana").await;
    let first = follow(&ana).await;
    let _second = follow(&ana).await;
    let refused = ana.get("/v1/events").await;
    refused.expect_problem(503, "OVERLOADED");
    assert!(refused.headers.contains_key("retry-after"));
    drop(first);
    // The server notices the client's going when the connection tells it so.
    let give_up = Instant::now() + LONG_ENOUGH;
    while ana.request(Method::GET, "/v1/events").send().await.unwrap().status() != 200 {
        assert!(Instant::now() < give_up, "there is no room again");
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn there_are_so_many_waits_and_no_more() {
    let server = TestServer::start_with(|options| options.limits.waits = 0).await;
    let service = server.asker("platform", Role::Service).await;
    service.post("/v1/projects/my-site/lock", json!({})).await.expect(201);
    let refused = service.post("/v1/projects/my-site/lock", json!({"wait": 60})).await;
    refused.expect_problem(503, "OVERLOADED");
    // Who does not wait is told as ever.
    service.post("/v1/projects/my-site/lock", json!({})).await.expect_problem(409, "PROJECT_LOCKED");
}

#[tokio::test]
async fn whoever_waits_is_told_at_once_that_the_server_stops() {
    let server = TestServer::start().await;
    let service = server.asker("platform", Role::Service).await;
    let path = "/v1/projects/my-site/lock";
    service.post(path, json!({})).await.expect(201);
    let waiting = tokio::spawn({
        let request = service.request(Method::POST, path).json(&json!({"wait": 600})).header("idempotency-key", "mine");
        async move { Answer::of(request).await }
    });
    let give_up = Instant::now() + LONG_ENOUGH;
    while service.get("/v1/projects/my-site").await.expect(200)["queue"].as_array().unwrap().is_empty() {
        assert!(Instant::now() < give_up, "nobody waits");
        sleep(std::time::Duration::from_millis(5)).await;
    }
    server.stop.gracefully();
    let told = waiting.await.unwrap();
    told.expect_problem(503, "STOPPING");
    assert!(told.headers.contains_key("retry-after"));
    server.ended().await;
}
