//! Locks over HTTP: what is answered, and who waits how long.

mod support;

use std::sync::Arc;
use std::time::Duration;

use buildlock::{EventKind, LockStore, Role};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use support::clock::TestClock;
use support::{Answer, Asker, LONG_ENOUGH, TestServer};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Asks again and again until the answer is yes, for what nobody can be told of.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let patience = async {
        while !is_so().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG_ENOUGH, patience).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// A server whose store's time the test moves.
async fn server() -> (TestServer, TestClock) {
    let clock = TestClock::new();
    (TestServer::start_at(Arc::new(clock.clone()), |_| {}).await, clock)
}

/// A lock request with a key of its own.
fn request(asker: &Asker, key: &str, body: Value) -> RequestBuilder {
    asker.request(Method::POST, "/v1/projects/site/lock").header("idempotency-key", key).json(&body)
}

async fn lock(asker: &Asker, key: &str, body: Value) -> Answer {
    Answer::of(request(asker, key, body)).await
}

/// A call that waits, which is under way once it has a place.
async fn waiting(server: &TestServer, asker: &Asker, key: &str) -> JoinHandle<Answer> {
    let before = waiters(server).await;
    let call = tokio::spawn(Answer::of(request(asker, key, json!({"wait": 600}))));
    until("it has a place", async || waiters(server).await > before).await;
    call
}

async fn waiters(server: &TestServer) -> usize {
    server.store.status(&"site".parse().unwrap()).await.unwrap().map_or(0, |status| status.queue.len())
}

async fn unlock(asker: &Asker, lease: &Value) -> Answer {
    asker.delete(&format!("/v1/projects/site/lock?token={}", lease["token"])).await
}

async fn kinds(server: &TestServer) -> Vec<EventKind> {
    let history = server.store.history(Some(&"site".parse().unwrap()), None, 100).await.unwrap();
    history.iter().rev().map(|recorded| recorded.event.kind).collect()
}

#[tokio::test]
async fn a_lock_is_a_lease_that_is_renewed_verified_and_unlocked() {
    let (server, clock) = server().await;
    let ana = server.user("ana").await;
    let body = json!({"operation": "edit", "message": "new header", "ttl": 60});
    let answer = ana.post("/v1/projects/site/lock", body).await;
    let lease = answer.expect(201);
    let time = answer.headers["buildlock-time"].to_str().unwrap();
    assert_eq!((lease["project"].as_str(), lease["token"].as_u64()), (Some("site"), Some(1)));
    assert_eq!((lease["holder"].as_str(), lease["operation"].as_str()), (Some("ana"), Some("edit")));
    assert_eq!((lease["message"].as_str(), lease["ttl"].as_u64()), (Some("new header"), Some(60)));
    assert_eq!(lease["acquiredAt"], time);
    let lasts = |lease: &Value, time: &str| {
        let ends: jiff::Timestamp = lease["expiresAt"].as_str().unwrap().parse().unwrap();
        ends.duration_since(time.parse().unwrap()).as_secs()
    };
    assert_eq!(lasts(&lease, time), 60);

    clock.advance(Duration::from_secs(50));
    let answer = ana.post("/v1/projects/site/lock/renew", json!({"token": 1})).await;
    assert_eq!(lasts(&answer.expect(200), answer.headers["buildlock-time"].to_str().unwrap()), 60);
    ana.post("/v1/projects/site/lock/renew", json!({"token": 1, "ttl": 90})).await.expect(200);
    ana.post("/v1/projects/site/lock/verify", json!({"token": 1})).await.expect(200);
    let status = ana.get("/v1/projects/site/lock").await.expect(200);
    assert_eq!((status["buildStatus"].as_str(), status["lease"]["token"].as_u64()), (Some("processing"), Some(1)));

    let ended = unlock(&ana, &lease).await.expect(200);
    assert_eq!((ended["how"].as_str(), ended["by"].as_str()), (Some("unlocked"), Some("ana")));
    assert_eq!(unlock(&ana, &lease).await.expect(200), ended, "a repeated unlock succeeds");
    let lost = ana.post("/v1/projects/site/lock/renew", json!({"token": 1})).await.expect_problem(410, "LEASE_LOST");
    assert_eq!((lost["lease"]["how"].as_str(), lost["lease"]["by"].as_str()), (Some("unlocked"), Some("ana")));
    assert_eq!(ana.get("/v1/projects/site/lock").await.expect(200)["buildStatus"], "idle");
}

#[tokio::test]
async fn a_locked_project_is_refused_with_who_what_since_when_and_how_many_wait() {
    let (server, _) = server().await;
    let ana = server.user("ana").await;
    let lease = ana.post("/v1/projects/site/lock", json!({"operation": "edit"})).await.expect(201);
    let answer = ana.post("/v1/projects/site/lock", json!({})).await;
    let problem = answer.expect_problem(409, "PROJECT_LOCKED");
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
    let lock = &problem["lock"];
    assert_eq!((&lock["holder"], &lock["operation"]), (&json!("ana"), &json!("edit")));
    assert_eq!((&lock["lockedAt"], &lock["expiresAt"]), (&lease["acquiredAt"], &lease["expiresAt"]));
    assert_eq!(lock["queueLength"], 0);
}

/// Rule 4.
#[tokio::test]
async fn a_repeated_request_is_the_same_request() {
    let (server, _) = server().await;
    let ana = server.user("ana").await;
    let lease = lock(&ana, "first", json!({})).await.expect(201);
    assert_eq!(lock(&ana, "first", json!({})).await.expect(201), lease);
    assert_eq!(lock(&ana, "first", json!({"wait": 60})).await.expect(201), lease);
    let reused = lock(&ana, "first", json!({"ttl": 31})).await.expect_problem(422, "INVALID_REQUEST");
    assert_eq!(reused["field"], "Idempotency-Key");
    unlock(&ana, &lease).await.expect(200);
    let lost = lock(&ana, "first", json!({})).await.expect_problem(410, "LEASE_LOST");
    assert_eq!(lost["lease"]["token"], lease["token"]);
    assert_eq!(lost.get("lock"), None, "nobody holds it now");
}

/// Rule 6.
#[tokio::test]
async fn who_waits_is_granted_in_the_order_of_coming() {
    let (server, _) = server().await;
    let ana = server.user("ana").await;
    let mut held = lock(&ana, "holder", json!({})).await.expect(201);
    let mut calls = Vec::new();
    for key in ["first", "second", "third"] {
        calls.push(waiting(&server, &ana, key).await);
    }
    for call in calls {
        unlock(&ana, &held).await.expect(200);
        let next = timeout(LONG_ENOUGH, call).await.unwrap().unwrap().expect(201);
        assert!(next["token"].as_u64() > held["token"].as_u64());
        assert_eq!(next.get("claimBy"), None, "it is claimed");
        held = next;
    }
}

#[tokio::test]
async fn a_wait_that_is_over_gives_the_place_up() {
    let (server, _) = server().await;
    let ana = server.user("ana").await;
    lock(&ana, "holder", json!({})).await.expect(201);
    let problem = lock(&ana, "waiter", json!({"wait": 0.2})).await.expect_problem(409, "PROJECT_LOCKED");
    assert!(problem["detail"].as_str().unwrap().contains("the wait is over"), "{problem}");
    assert_eq!(waiters(&server).await, 0);
    assert_eq!(kinds(&server).await, [EventKind::Granted, EventKind::Queued, EventKind::Left]);
}

/// Rule 7.
#[tokio::test]
async fn a_call_that_breaks_off_keeps_its_place_for_a_while() {
    let (server, clock) = server().await;
    let ana = server.user("ana").await;
    let held = lock(&ana, "holder", json!({"ttl": 600})).await.expect(201);
    waiting(&server, &ana, "first").await.abort();
    let second = waiting(&server, &ana, "second").await;
    clock.advance(Duration::from_secs(10));
    let first = tokio::spawn(Answer::of(request(&ana, "first", json!({"wait": 600}))));
    // The second's own place is kept as long as its call is open, which the real time decides here.
    let alive_until = async || {
        let queue = server.store.status(&"site".parse().unwrap()).await.unwrap().unwrap().queue;
        queue.first().map(|ticket| (ticket.alive_until, queue.len()))
    };
    let before = alive_until().await;
    until("the first is back", async || alive_until().await > before).await;
    unlock(&ana, &held).await.expect(200);
    let granted = timeout(LONG_ENOUGH, first).await.unwrap().unwrap().expect(201);
    assert_eq!(kinds(&server).await.iter().filter(|kind| **kind == EventKind::Queued).count(), 2, "no new place");
    unlock(&ana, &granted).await.expect(200);
    timeout(LONG_ENOUGH, second).await.unwrap().unwrap().expect(201);
}

/// Rule 7.
#[tokio::test]
async fn a_lease_that_is_handed_to_a_client_that_has_gone_passes_on() {
    let clock = TestClock::new();
    let server = TestServer::start_at(Arc::new(clock.clone()), |options| options.limits.waits = 2).await;
    let ana = server.user("ana").await;
    let held = lock(&ana, "holder", json!({"ttl": 600})).await.expect(201);
    let gone = waiting(&server, &ana, "gone").await;
    let there = waiting(&server, &ana, "there").await;
    let other = ana.post("/v1/projects/other/lock", json!({"wait": 1})).await;
    assert_eq!(other.expect_problem(503, "OVERLOADED")["status"], 503);
    gone.abort();
    until("the server sees that the client has gone", async || {
        ana.post("/v1/projects/other/lock", json!({"wait": 1})).await.status == 201
    })
    .await;
    unlock(&ana, &held).await.expect(200);
    let status = ana.get("/v1/projects/site").await.expect(200);
    assert!(status["lease"]["claimBy"].is_string(), "it was handed over and nobody has claimed it: {status}");
    clock.advance(Duration::from_secs(5));
    timeout(LONG_ENOUGH, there).await.unwrap().unwrap().expect(201);
    use EventKind::{Granted, Queued, Unclaimed, Unlocked};
    assert_eq!(kinds(&server).await, [Granted, Queued, Queued, Unlocked, Granted, Unclaimed, Granted]);
}

/// Rules 5 and 7.
#[tokio::test]
async fn a_place_can_be_had_without_an_open_call() {
    let (server, _) = server().await;
    let ana = server.user("ana").await;
    let held = lock(&ana, "holder", json!({})).await.expect(201);
    let ask = async || Answer::of(request(&ana, "ci run 7", json!({})).header("prefer", "respond-async")).await;
    let answer = ask().await;
    assert_eq!(answer.headers["preference-applied"], "respond-async");
    assert_eq!(answer.headers["retry-after"], "5");
    let place = answer.expect(202);
    assert_eq!((&place["position"], &place["lock"]["token"]), (&json!(1), &held["token"]));
    assert_eq!(ask().await.expect(202), place, "repeated, it is the same place");
    assert_eq!(lock(&ana, "ci run 7", json!({})).await.expect(202), place, "and without a wait too");
    unlock(&ana, &held).await.expect(200);
    let lease = ask().await.expect(201);
    unlock(&ana, &lease).await.expect(200);
    ask().await.expect_problem(410, "LEASE_LOST");
}

#[tokio::test]
async fn a_request_that_is_taken_back_neither_waits_nor_holds() {
    let (server, _) = server().await;
    let (ana, service) = (server.user("ana").await, server.asker("ci", Role::Service).await);
    lock(&ana, "holder", json!({})).await.expect(201);
    let call = waiting(&server, &service, "a/b ?").await;
    let path = "/v1/projects/site/lock/requests/a%2Fb%20%3F";
    ana.delete(path).await.expect_problem(403, "FORBIDDEN");
    service.delete(path).await.expect(204);
    assert_eq!(waiters(&server).await, 0);
    service.delete(path).await.expect(204);
    call.abort();
    ana.delete("/v1/projects/site/lock/requests/holder").await.expect(204);
    assert_eq!(ana.get("/v1/projects/site").await.expect(200)["buildStatus"], "idle");
    ana.delete("/v1/projects/nowhere/lock/requests/holder").await.expect_problem(404, "PROJECT_NOT_FOUND");
}

#[tokio::test]
async fn a_call_that_waits_is_sent_on_when_the_server_stops_and_has_its_place_still() {
    let (server, _) = server().await;
    let ana = server.user("ana").await;
    lock(&ana, "holder", json!({})).await.expect(201);
    let call = waiting(&server, &ana, "waiter").await;
    server.stop.gracefully();
    let answer = timeout(LONG_ENOUGH, call).await.unwrap().unwrap();
    answer.expect_problem(503, "STOPPING");
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(waiters(&server).await, 1);
}

/// Rule 9.
#[tokio::test]
async fn a_force_unlock_takes_an_operator_or_the_projects_owner() {
    let (server, _) = server().await;
    let (ana, ben) = (server.user("ana").await, server.user("ben").await);
    let (service, operator) = (server.asker("ci", Role::Service).await, server.asker("root", Role::Operator).await);
    let force = async |asker: &Asker, token: &Value| {
        asker.post("/v1/projects/site/force-unlock", json!({"token": token, "reason": "hangs"})).await
    };
    let first = lock(&ana, "first", json!({})).await.expect(201);
    force(&ben, &first["token"]).await.expect_problem(404, "PROJECT_NOT_FOUND");
    force(&service, &first["token"]).await.expect_problem(403, "FORBIDDEN");
    let ended = force(&ana, &first["token"]).await.expect(200);
    assert_eq!((&ended["by"], &ended["reason"]), (&json!("ana"), &json!("hangs")));
    let second = lock(&service, "second", json!({})).await.expect(201);
    let ended = force(&operator, &second["token"]).await.expect(200);
    assert_eq!(
        (&ended["holder"], &ended["by"], &ended["how"]),
        (&json!("ci"), &json!("root"), &json!("force_unlocked"))
    );
    let lost = force(&operator, &second["token"]).await.expect_problem(410, "LEASE_LOST");
    assert_eq!(lost["lease"]["by"], "root");
}

/// Section 6.
#[tokio::test]
async fn a_project_of_somebody_else_is_as_one_that_is_not_there() {
    let (server, _) = server().await;
    let (ana, ben) = (server.user("ana").await, server.user("ben").await);
    let lease = lock(&ana, "mine", json!({})).await.expect(201);
    let token = json!({"token": lease["token"]});
    let forced = json!({"token": lease["token"], "reason": "x"});
    let calls = [
        (Method::GET, "", None),
        (Method::DELETE, "", None),
        (Method::GET, "/lock", None),
        (Method::POST, "/lock", Some(json!({}))),
        (Method::POST, "/lock", Some(json!({"wait": 60}))),
        (Method::DELETE, "/lock?token=1", None),
        (Method::POST, "/lock/renew", Some(token.clone())),
        (Method::POST, "/lock/verify", Some(token)),
        (Method::DELETE, "/lock/requests/mine", None),
        (Method::POST, "/force-unlock", Some(forced)),
        (Method::GET, "/history", None),
    ];
    for (method, path, body) in calls {
        let call = async |project: &str| {
            let request = ben.request(method.clone(), &format!("/v1/projects/{project}{path}"));
            Answer::of(if let Some(body) = &body { request.json(body) } else { request }).await
        };
        let there = call("site").await;
        let problem = there.expect_problem(404, "PROJECT_NOT_FOUND");
        if method != Method::POST || path != "/lock" {
            let nowhere = call("nowhere").await;
            let names = |answer: &Answer| answer.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(names(&nowhere), names(&there), "{method} {path} tells that it is there");
            assert_eq!(nowhere.expect_problem(404, "PROJECT_NOT_FOUND")["detail"], problem["detail"]);
        }
    }
    ben.post("/v1/projects", json!({"project": "site"})).await.expect_problem(404, "PROJECT_NOT_FOUND");
    assert_eq!(kinds(&server).await, [EventKind::Granted], "nothing of it was done");
}

#[tokio::test]
async fn a_user_is_told_its_own_request_ids_only() {
    let (server, _) = server().await;
    let (ana, service) = (server.user("ana").await, server.asker("ci", Role::Service).await);
    let lease = lock(&ana, "mine", json!({})).await.expect(201);
    assert!(lease["request"].is_string());
    let place = Answer::of(request(&service, "its", json!({})).header("prefer", "respond-async")).await.expect(202);
    assert_eq!(place["lock"]["request"], lease["request"]);
    let seen = ana.get("/v1/projects/site").await.expect(200);
    assert_eq!((&seen["lease"]["request"], &seen["queue"][0]["request"]), (&lease["request"], &Value::Null));
    let seen = service.get("/v1/projects/site").await.expect(200);
    assert_eq!(seen["queue"][0]["request"], place["request"]);
    unlock(&ana, &lease).await.expect(200);
    let refused = lock(&ana, "again", json!({})).await.expect_problem(409, "PROJECT_LOCKED");
    assert_eq!(refused["lock"].get("request"), None);
    let history = ana.get("/v1/projects/site/history").await.expect(200);
    let events = history["events"].as_array().unwrap();
    assert!(events.iter().all(|event| event.get("request").is_some() == (event["holder"] == "ana")), "{history}");
}

/// Section 6: ids are data everywhere.
#[tokio::test]
async fn any_id_is_data_in_a_path() {
    let (server, _) = server().await;
    let ana = server.user("ana").await;
    let long = "%C3%A9".repeat(100);
    for path in
        ["..%2Fx", "a%2Fb", "%F0%9F%8F%97", "%27%3B%20drop%20table%20projects%3B%20--", "%25", "+", "..%7F", &long]
    {
        let lease = ana.post(&format!("/v1/projects/{path}/lock"), json!({})).await.expect(201);
        let project = lease["project"].as_str().unwrap();
        assert_eq!(ana.get(&format!("/v1/projects/{path}")).await.expect(200)["project"], project);
        ana.delete(&format!("/v1/projects/{path}/lock?token={}", lease["token"])).await.expect(200);
    }
    let listed = ana.get("/v1/projects").await.expect(200);
    let listed: Vec<_> =
        listed["projects"].as_array().unwrap().iter().map(|it| it["project"].as_str().unwrap()).collect();
    let long = "é".repeat(100);
    assert_eq!(listed, ["%", "'; drop table projects; --", "+", "..", "../x", "a/b", &long, "🏗"]);
    for (bad, field) in
        [("a%00b", "project"), ("%FF", "project"), (&*format!("{long}x"), "project"), ("%0A", "project")]
    {
        let problem =
            ana.post(&format!("/v1/projects/{bad}/lock"), json!({})).await.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["field"], field, "{bad}");
    }
}

#[tokio::test]
async fn what_is_not_valid_is_refused_by_name_and_nothing_is_done() {
    let (server, _) = server().await;
    let ana = server.user("ana").await;
    let lock = "/v1/projects/site/lock";
    for (path, body, field) in [
        (lock, json!({"ttl": 0.5}), "ttl"),
        (lock, json!({"ttl": 86_401}), "ttl"),
        (lock, json!({"ttl": "30s"}), "ttl"),
        (lock, json!({"wait": 3_600.5}), "wait"),
        (lock, json!({"wait": -1}), "wait"),
        (lock, json!({"wait": "10m"}), "wait"),
        (lock, json!({"operation": ""}), "operation"),
        (lock, json!({"operation": "x".repeat(65)}), "operation"),
        (lock, json!({"message": "a\nb"}), "message"),
        (lock, json!({"message": "x".repeat(501)}), "message"),
        (lock, json!({"mesage": "typo"}), "mesage"),
        (lock, json!([]), "body"),
        ("/v1/projects/site/lock/renew", json!({}), "token"),
        ("/v1/projects/site/lock/renew", json!({"token": "1"}), "token"),
        ("/v1/projects/site/lock/renew", json!({"token": 0}), "token"),
        ("/v1/projects/site/lock/renew", json!({"token": 9_007_199_254_740_992_u64}), "token"),
        ("/v1/projects/site/lock/verify", json!({"token": 1.5}), "token"),
        ("/v1/projects/site/force-unlock", json!({"token": 1}), "reason"),
        ("/v1/projects/site/force-unlock", json!({"token": 1, "reason": ""}), "reason"),
        ("/v1/projects/site/force-unlock", json!({"token": 1, "reason": "x", "by": "eve"}), "by"),
        ("/v1/projects", json!({}), "project"),
        ("/v1/projects", json!({"project": ""}), "project"),
    ] {
        let problem = ana.post(path, body.clone()).await.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["field"], field, "{path} {body}: {problem}");
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
    for (path, field) in [
        ("/v1/projects/site/lock", "token"),
        ("/v1/projects/site/lock?token=x", "token"),
        ("/v1/projects/site/lock?token=0", "token"),
        ("/v1/projects/site/lock?token=1&force=1", "force"),
    ] {
        let problem = ana.delete(path).await.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["field"], field, "{path}: {problem}");
    }
    for key in ["", "a\u{9}b", &"x".repeat(201)] {
        let refused = request(&ana, key, json!({}));
        assert_eq!(Answer::of(refused).await.expect_problem(422, "INVALID_REQUEST")["field"], "Idempotency-Key");
    }
    let typed = ana.request(Method::POST, lock).header("content-type", "text/plain").body("{}");
    assert_eq!(Answer::of(typed).await.expect_problem(415, "INVALID_REQUEST")["field"], "Content-Type");
    let broken = ana.request(Method::POST, lock).header("content-type", "application/json").body("{");
    assert_eq!(Answer::of(broken).await.expect_problem(422, "INVALID_REQUEST")["field"], "body");
    assert_eq!(server.store.projects(None, 10).await.unwrap(), []);
    Answer::of(ana.request(Method::POST, lock)).await.expect(201);
}

#[tokio::test]
async fn a_token_that_is_not_the_projects_is_told_from_a_lost_one_and_from_anothers() {
    let (server, _) = server().await;
    let (ana, service) = (server.user("ana").await, server.asker("ci", Role::Service).await);
    let held = lock(&ana, "mine", json!({})).await.expect(201);
    let never = ana.post("/v1/projects/site/lock/verify", json!({"token": 99})).await;
    let never = never.expect_problem(422, "INVALID_REQUEST");
    assert_eq!((&never["field"], &never["lock"]["token"]), (&json!("token"), &held["token"]));
    let others = service.post("/v1/projects/site/lock/renew", json!({"token": held["token"]})).await;
    assert_eq!(others.expect_problem(403, "FORBIDDEN")["lock"]["holder"], "ana");
    ana.post("/v1/projects/nowhere/lock/renew", json!({"token": 1})).await.expect_problem(404, "PROJECT_NOT_FOUND");
    server.nobody().post("/v1/projects/site/lock", json!({})).await.expect_problem(401, "UNAUTHENTICATED");
}
