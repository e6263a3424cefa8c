//! What operations ask a server.

mod support;

use std::time::Duration;

use support::{LONG_ENOUGH, TestServer};
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn a_server_says_that_it_lives_and_is_ready_and_which_one_it_is() {
    let server = TestServer::start().await;
    let nobody = server.nobody();
    assert_eq!(nobody.get("/livez").await.body, "ok\n");
    assert_eq!(nobody.get("/readyz").await.body, "ok\n");
    let version = nobody.get("/version").await.expect(200);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["storeVersion"].as_u64().unwrap() > 0);
    let api = nobody.get("/openapi.json").await.expect(200);
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(api["paths"]["/livez"].is_object());
}

#[tokio::test]
async fn a_server_whose_store_does_not_answer_lives_and_is_not_ready() {
    let server = TestServer::start().await;
    server.nobody().get("/readyz").await;
    let mut other = rusqlite::Connection::open(server.folder.path().join("locks.db")).unwrap();
    let in_the_way = other.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
    let give_up = Instant::now() + LONG_ENOUGH;
    let refused = loop {
        let answer = server.nobody().get("/readyz").await;
        if answer.status != 200 {
            break answer;
        }
        assert!(Instant::now() < give_up, "the server takes its store to be well");
        sleep(Duration::from_millis(50)).await;
    };
    refused.expect_problem(503, "STORE_UNAVAILABLE");
    assert_eq!(server.nobody().get("/livez").await.status, 200);
    drop(in_the_way);
    while server.nobody().get("/readyz").await.status != 200 {
        assert!(Instant::now() < give_up, "the server does not find its store again");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_as_a_problem() {
    let server = TestServer::start().await;
    server.nobody().get("/nowhere").await.expect_problem(404, "NOT_FOUND");
    server.nobody().delete("/livez").await.expect_problem(405, "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_ends() {
    let server = TestServer::start().await;
    server.nobody().get("/livez").await;
    server.stop.gracefully();
    server.ended().await;
}
