//! Builders that are servers: the lock is held until their answer's body has ended, whatever becomes of
//! whoever asked.

#[path = "support/server.rs"]
mod server;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use reqwest::Method;
use serde_json::{Value, json};
use server::{Server, json_of};
use support::{Sandbox, await_that};

/// A server that a test plays by hand: each request comes out of a channel with its connection.
struct Upstream {
    address: SocketAddr,
    requests: Receiver<Request>,
}

struct Request {
    head: String,
    body: Value,
    connection: TcpStream,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        thread::spawn(move || {
            for connection in listener.incoming() {
                read(connection.unwrap(), &sender);
            }
        });
        Self { address, requests }
    }

    fn next(&self) -> Request {
        self.requests.recv_timeout(server::LONG_ENOUGH).unwrap()
    }

    fn server(&self, sandbox: &Sandbox, more: &str) -> Server {
        Server::with_settings(
            sandbox,
            &format!("[operations.generate]\nupstream = \"http://{}/build\"\n{more}", self.address),
        )
    }
}

fn read(connection: TcpStream, requests: &Sender<Request>) {
    let mut reader = BufReader::new(&connection);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        head.push_str(&std::mem::take(&mut line));
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:").map(str::to_owned));
    let mut body = vec![0; length.unwrap().trim().parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let body = serde_json::from_slice(&body).unwrap();
    // A test that has ended needs none of it.
    let _ = requests.send(Request { head, body, connection });
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("{name} in {}", self.head)).split_once(':').unwrap().1.trim()
    }

    fn say(&mut self, text: &str) {
        self.connection.write_all(text.as_bytes()).unwrap();
    }

    fn piece(&mut self, text: &str) {
        self.say(&format!("{:x}\r\n{text}\r\n", text.len()));
    }
}

fn is_busy(sandbox: &Sandbox) -> bool {
    sandbox.status("p")["buildStatus"] == "processing"
}

fn ask(server: &Server) -> tokio::task::JoinHandle<reqwest::Result<reqwest::Response>> {
    let body = json!({"projectId": "p", "prompt": "é"});
    tokio::spawn(server.request(Method::POST, "/api/generate").json(&body).send())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_s_answer_is_the_caller_s_and_the_lock_is_held_until_its_body_has_ended() {
    let (sandbox, upstream) = (Sandbox::new(), Upstream::start());
    let server = upstream.server(&sandbox, "");
    let answer = ask(&server);
    let mut request = upstream.next();
    assert!(request.head.starts_with("POST /build HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.body, json!({"projectId": "p", "prompt": "é", "operation": "generate"}));
    assert_eq!(request.header("buildlock-token"), sandbox.status("p")["lease"]["token"].to_string());
    assert_eq!((request.header("buildlock-project"), request.header("buildlock-operation")), ("p", "generate"));
    assert_eq!(request.header("buildlock-holder"), "ana@laptop");
    request.say("HTTP/1.1 201 Created\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n");
    request.piece("first\n");
    let mut answer = answer.await.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (201, &"text/plain".parse().unwrap()));
    let id = answer.headers()["buildlock-build"].to_str().unwrap().to_owned();
    assert_eq!(id, request.header("buildlock-build"));
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "first\n");
    assert!(is_busy(&sandbox));
    request.piece("second");
    request.say("0\r\n\r\n");
    assert_eq!(answer.text().await.unwrap(), "second");
    let build = server.ended(&id).await;
    assert_eq!((&build["status"], &build["exitCode"]), (&json!("succeeded"), &json!(201)));
    assert_eq!(server.log(&id).await, "first\nsecond\n");
    assert!(!is_busy(&sandbox));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_does_not_end_an_upstream_s_build() {
    let (sandbox, upstream) = (Sandbox::new(), Upstream::start());
    let server = upstream.server(&sandbox, "");
    let answer = ask(&server);
    let mut request = upstream.next();
    request.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    request.piece("first");
    let answer = answer.await.unwrap().unwrap();
    let id = answer.headers()["buildlock-build"].to_str().unwrap().to_owned();
    drop(answer);
    for _ in 0..100 {
        request.piece(&"x".repeat(10_000));
    }
    assert!(is_busy(&sandbox));
    request.say("0\r\n\r\n");
    assert_eq!(server.ended(&id).await["status"], "succeeded");
    assert!(!is_busy(&sandbox));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_s_answer_that_nobody_takes_is_read_all_the_same() {
    let (sandbox, upstream) = (Sandbox::new(), Upstream::start());
    let server = upstream.server(&sandbox, "time_limit = \"5s\"");
    let id = server.begin("p", "generate").await;
    let mut request = upstream.next();
    request.say("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..1_000 {
        request.piece(&format!("{}\n", "x".repeat(9_999)));
    }
    request.say("0\r\n\r\n");
    let build = server.ended(&id).await;
    assert_eq!((&build["status"], &build["logLines"]), (&json!("succeeded"), &json!(1_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_refuses_fails_or_breaks_off_is_told_of() {
    let (sandbox, upstream) = (Sandbox::new(), Upstream::start());
    let server = upstream.server(&sandbox, "");
    // Its own failure is the caller's to see.
    let answer = ask(&server);
    let mut request = upstream.next();
    request.say(
        "HTTP/1.1 422 Unprocessable\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{\"wrong\":true}",
    );
    let answer = answer.await.unwrap().unwrap();
    let id = answer.headers()["buildlock-build"].to_str().unwrap().to_owned();
    assert_eq!(json_of(answer, 422).await, json!({"wrong": true}));
    let build = server.ended(&id).await;
    assert_eq!((&build["status"], &build["exitCode"]), (&json!("failed"), &json!(422)));
    assert_eq!(build["reason"], "the upstream answered with status 422");

    // It goes away without an answer.
    let answer = ask(&server);
    drop(upstream.next());
    let problem = json_of(answer.await.unwrap().unwrap(), 502).await;
    assert_eq!(problem["code"], "BUILD_FAILED");
    assert!(problem["detail"].as_str().unwrap().starts_with("the upstream did not answer: "), "{problem}");

    // It goes away within its answer.
    let answer = ask(&server);
    let mut request = upstream.next();
    request.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    request.piece("half of ");
    let answer = answer.await.unwrap().unwrap();
    let id = answer.headers()["buildlock-build"].to_str().unwrap().to_owned();
    drop(request);
    assert!(answer.text().await.is_err(), "the caller sees that it is not all");
    let build = server.ended(&id).await;
    assert_eq!(build["status"], "failed");
    assert!(build["reason"].as_str().unwrap().starts_with("the upstream's answer broke off: "), "{build}");
    assert!(!is_busy(&sandbox));

    // There is none.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sandbox = Sandbox::new();
    let server = Server::with_settings(&sandbox, &format!("[operations.generate]\nupstream = \"http://{nobody}/\"\n"));
    let problem = json_of(ask(&server).await.unwrap().unwrap(), 502).await;
    assert!(problem["detail"].as_str().unwrap().starts_with("the upstream cannot be reached: "), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_s_build_has_a_time_limit_and_can_be_cancelled() {
    let (sandbox, upstream) = (Sandbox::new(), Upstream::start());
    let server = upstream.server(&sandbox, "time_limit = \"1s\"");
    let answer = ask(&server);
    let mut request = upstream.next();
    let problem = json_of(answer.await.unwrap().unwrap(), 502).await;
    assert_eq!(problem["detail"], "it took longer than its time limit of 1 s");
    // The connection is closed: that is how the upstream is told.
    assert_eq!(request.connection.read(&mut [0]).unwrap(), 0);

    let sandbox = Sandbox::new();
    let server = upstream.server(&sandbox, "");
    let answer = ask(&server);
    let mut request = upstream.next();
    await_that("the build runs", || is_busy(&sandbox));
    let path = format!("/v1/builds/{}/cancel", request.header("buildlock-build"));
    let cancelled = json_of(server.request(Method::POST, &path).send().await.unwrap(), 200).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(json_of(answer.await.unwrap().unwrap(), 502).await["build"]["status"], "cancelled");
    assert_eq!(request.connection.read(&mut [0]).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_s_upstream_build_is_lost() {
    let (sandbox, upstream) = (Sandbox::new(), Upstream::start());
    let server = upstream.server(&sandbox, "ttl = \"24h\"");
    let answer = ask(&server);
    let mut request = upstream.next();
    let id = request.header("buildlock-build").to_owned();
    server.kill();
    assert!(answer.await.unwrap().is_err());
    assert_eq!(request.connection.read(&mut [0]).unwrap(), 0);
    let server = Server::start(&sandbox);
    assert_eq!(server.get(&format!("/v1/builds/{id}")).await["status"], "lost");
    assert!(!is_busy(&sandbox));
}
