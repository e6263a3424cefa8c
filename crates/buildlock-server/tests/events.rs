//! What happens, as a stream: told to those only who may see it, and resumed where it broke off.

mod support;

use std::time::Duration;

use buildlock::{Command, EventId, IfLocked, LockRequest, LockStore, Outcome, Role, SqliteStore};
use futures_util::future::join_all;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use support::{Answer, Asker, LONG_ENOUGH, TestServer};
use tokio::time::timeout;

/// One block of the stream.
#[derive(Debug, Default, PartialEq)]
struct Block {
    id: Option<u64>,
    name: String,
    data: Value,
    is_comment: bool,
}

/// A stream that is read block by block.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn open(asker: &Asker, after: Option<u64>) -> Self {
        let mut request = asker.request(Method::GET, "/v1/events");
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next block; none at the end.
    async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut read = Block::default();
                for line in block.lines() {
                    match line.split_once(':').unwrap_or((line, "")) {
                        ("id", id) => read.id = Some(id.trim().parse().unwrap()),
                        ("event", name) => read.name = name.trim().to_owned(),
                        ("data", data) => read.data = serde_json::from_str(data).unwrap(),
                        ("", _) => read.is_comment = true,
                        _ => {}
                    }
                }
                self.text = rest.to_owned();
                return Some(read);
            }
            let chunk = timeout(LONG_ENOUGH, self.response.chunk()).await.expect("the stream is silent").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event.
    async fn event(&mut self) -> Block {
        loop {
            let block = self.block().await.expect("the stream has ended");
            if !block.name.is_empty() {
                return block;
            }
        }
    }

    /// Waits until the stream says where it stands; from then on it tells of all.
    async fn stands_at(&mut self) -> u64 {
        loop {
            if let Some(id) = self.block().await.expect("the stream has ended").id {
                return id;
            }
        }
    }

    async fn names(&mut self, number: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..number {
            names.push(self.event().await.name);
        }
        names
    }
}

async fn lock(asker: &Asker, project: &str) -> Value {
    asker.post(&format!("/v1/projects/{project}/lock"), json!({})).await.expect(201)
}

async fn lock_and_unlock(asker: &Asker, project: &str) {
    let lease = lock(asker, project).await;
    asker.delete(&format!("/v1/projects/{project}/lock?token={}", lease["token"])).await.expect(200);
}

/// Two events, without the detour over HTTP.
async fn happen(store: &SqliteStore, project: String) {
    let project = project.parse().unwrap();
    let request = LockRequest::new("ci".parse().unwrap(), "edit".parse().unwrap());
    let lock = Command::Lock { request, if_locked: IfLocked::Refuse };
    let Outcome::Held(lease) = store.apply(&project, lock).await.unwrap().outcome else { panic!() };
    store.apply(&project, Command::Unlock { token: lease.token, holder: lease.holder }).await.unwrap();
}

#[tokio::test]
async fn what_happens_is_told_by_name_with_its_id_as_it_happens() {
    let server = TestServer::start().await;
    let service = server.asker("ci", Role::Service).await;
    lock_and_unlock(&service, "before").await;
    let mut stream = Stream::open(&service, None).await;
    assert_eq!(stream.stands_at().await, 2, "a stream without a beginning begins now");
    let lease = lock(&service, "site").await;
    let event = stream.event().await;
    assert_eq!((event.id, event.name.as_str()), (Some(3), "granted"));
    assert_eq!((&event.data["project"], &event.data["token"]), (&json!("site"), &lease["token"]));
    assert_eq!(event.data["request"], lease["request"]);
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke_off() {
    let server = TestServer::start().await;
    let service = server.asker("ci", Role::Service).await;
    for number in 0..5 {
        lock_and_unlock(&service, &format!("site{number}")).await;
    }
    for seen in [0, 3, 9, 10] {
        let mut stream = Stream::open(&service, Some(seen)).await;
        lock(&service, &format!("more{seen}")).await;
        let newest = server.store.history(None, None, 1).await.unwrap()[0].id.0;
        for expected in seen + 1..=newest {
            assert_eq!(stream.event().await.id, Some(expected), "after {seen}");
        }
    }
}

#[tokio::test]
async fn who_is_far_behind_is_told_of_all_in_order_and_who_does_not_read_holds_nobody_up() {
    let server = TestServer::start().await;
    let service = server.asker("ci", Role::Service).await;
    let mut slow = Stream::open(&service, None).await;
    slow.stands_at().await;
    let mut quick = Stream::open(&service, None).await;
    quick.stands_at().await;
    // More than is kept in memory.
    for _ in 0..20 {
        join_all((0..200).map(|number| happen(&server.store, format!("site {number}")))).await;
    }
    for expected in 1..=8_000 {
        assert_eq!(quick.event().await.id, Some(expected));
    }
    for expected in 1..=8_000 {
        assert_eq!(slow.event().await.id, Some(expected));
    }
    let mut late = Stream::open(&service, Some(0)).await;
    for expected in 1..=8_000 {
        assert_eq!(late.event().await.id, Some(expected));
    }
}

/// Section 6.
#[tokio::test]
async fn a_user_is_told_of_its_own_projects_only() {
    let server = TestServer::start().await;
    let (ana, ben) = (server.user("ana").await, server.user("ben").await);
    let service = server.asker("ci", Role::Service).await;
    lock_and_unlock(&ana, "mine").await;
    let mut stream = Stream::open(&ana, None).await;
    stream.stands_at().await;
    lock_and_unlock(&ben, "his").await;
    lock_and_unlock(&service, "its").await;
    ben.post("/v1/projects", json!({"project": "made"})).await.expect(201);
    ben.delete("/v1/projects/made").await.expect(204);
    lock_and_unlock(&service, "mine").await;
    ana.post("/v1/projects", json!({"project": "new"})).await.expect(201);
    ana.delete("/v1/projects/new").await.expect(204);
    let granted = stream.event().await;
    assert_eq!(
        (granted.name.as_str(), &granted.data["project"], &granted.data["holder"]),
        ("granted", &json!("mine"), &json!("ci"))
    );
    assert_eq!(granted.data.get("request"), None, "the request is the service's");
    assert_eq!(stream.names(3).await, ["unlocked", "created", "deleted"]);

    // Resumed, it is the same.
    let mut again = Stream::open(&ana, Some(0)).await;
    assert_eq!(again.names(6).await, ["granted", "unlocked", "granted", "unlocked", "created", "deleted"]);
}

/// Section 6: an id may have been another's before.
#[tokio::test]
async fn a_user_is_not_told_what_happened_to_a_project_before_it_was_its_own() {
    let server = TestServer::start().await;
    let (ana, ben) = (server.user("ana").await, server.user("ben").await);
    lock_and_unlock(&ben, "site").await;
    ben.delete("/v1/projects/site").await.expect(204);
    lock_and_unlock(&ana, "site").await;
    let mut stream = Stream::open(&ana, Some(0)).await;
    let first = stream.event().await;
    assert_eq!((first.id, &first.data["holder"]), (Some(4), &json!("ana")));
}

#[tokio::test]
async fn a_user_that_was_away_for_long_is_told_to_look_for_itself() {
    let server = TestServer::start().await;
    let (ana, service) = (server.user("ana").await, server.asker("ci", Role::Service).await);
    lock_and_unlock(&ana, "mine").await;
    for _ in 0..10 {
        join_all((0..100).map(|number| happen(&server.store, format!("its {number}")))).await;
    }
    let mut stream = Stream::open(&ana, Some(1)).await;
    let missed = stream.event().await;
    assert_eq!((missed.name.as_str(), missed.id), ("missed", Some(2_002)));
    lock_and_unlock(&ana, "mine").await;
    assert_eq!(stream.names(2).await, ["granted", "unlocked"]);
    let mut all = Stream::open(&service, Some(1)).await;
    assert_eq!(all.event().await.id, Some(2), "who sees all misses nothing");
}

#[tokio::test]
async fn an_id_from_another_store_is_told_from_one_of_this() {
    let server = TestServer::start().await;
    let service = server.asker("ci", Role::Service).await;
    lock_and_unlock(&service, "site").await;
    let mut stream = Stream::open(&service, Some(1_000)).await;
    let missed = stream.event().await;
    assert_eq!((missed.name.as_str(), missed.id), ("missed", Some(2)));
    lock(&service, "site").await;
    assert_eq!(stream.event().await.id, Some(3));
    let wrong = service.request(Method::GET, "/v1/events").header("last-event-id", "x");
    assert_eq!(Answer::of(wrong).await.expect_problem(422, "INVALID_REQUEST")["field"], "Last-Event-ID");
    server.nobody().get("/v1/events").await.expect_problem(401, "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_lives_and_one_of_a_server_that_stops_ends() {
    let server = TestServer::start().await;
    let service = server.asker("ci", Role::Service).await;
    let mut stream = Stream::open(&service, None).await;
    stream.stands_at().await;
    let heartbeat = stream.block().await.unwrap();
    assert!(heartbeat.is_comment, "{heartbeat:?}");
    server.stop.gracefully();
    while stream.block().await.is_some() {}
}

#[tokio::test]
async fn more_streams_than_there_is_room_for_are_refused() {
    let server = TestServer::start_with(|options| options.limits.streams = 2).await;
    let service = server.asker("ci", Role::Service).await;
    let streams = [Stream::open(&service, None).await, Stream::open(&service, None).await];
    service.get("/v1/events").await.expect_problem(503, "OVERLOADED");
    drop(streams);
    let give_up = tokio::time::Instant::now() + LONG_ENOUGH;
    while service.request(Method::GET, "/v1/events").send().await.unwrap().status() != 200 {
        assert!(tokio::time::Instant::now() < give_up, "a stream that is closed has left no room");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(*server.store.newest_event().borrow(), EventId(0));
}
