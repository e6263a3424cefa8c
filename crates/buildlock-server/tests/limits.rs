//! What is too large, too slow, too much or not what it should be: each is told so, and nothing else suffers.

mod support;

use std::io;
use std::time::Duration;

use buildlock::Role;
use reqwest::Method;
use serde_json::json;
use support::{Answer, TestServer, rest};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// A server that loses its patience soon.
async fn impatient() -> TestServer {
    TestServer::start_with(|options| {
        options.limits.head_timeout = Duration::from_millis(300);
        options.limits.body_timeout = Duration::from_millis(300);
    })
    .await
}

#[tokio::test]
async fn a_header_of_100_kib_is_refused_in_words_and_a_larger_one_too() {
    let server = TestServer::start().await;
    for (size, in_words) in [(31 << 10, None), (100 << 10, Some(true)), (1 << 20, Some(false))] {
        let head = format!("GET /livez HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", server.address);
        let answer = server.raw(format!("{head}X-Large: {}\r\n\r\n", "a".repeat(size)).as_bytes()).await;
        let status = if in_words.is_some() { "431" } else { "200" };
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{size}: {answer}");
        if let Some(in_words) = in_words {
            assert_eq!(answer.contains("\"code\":\"INVALID_REQUEST\""), in_words, "{size}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_body_may_have_1_mib_and_no_more() {
    let server = TestServer::start().await;
    let ana = server.user("ana").await;
    let text = |size: usize| format!("{{\"projectId\":\"p\",\"prompt\":\"{}\"}}", "a".repeat(size - 29));
    let sent = async |body: String| {
        let request = ana.request(Method::POST, "/api/generate").header("content-type", "application/json");
        Answer::of(request.body(body)).await
    };
    // There is no builder: what is said of it shows that the body was read.
    assert_ne!(sent(text(1 << 20)).await.expect(422)["field"], "body");
    assert_eq!(sent(text((1 << 20) + 1)).await.expect_problem(413, "INVALID_REQUEST")["field"], "body");
    sent(text(8 << 20)).await.expect_problem(413, "INVALID_REQUEST");
}

#[tokio::test]
async fn a_body_that_does_not_say_its_size_may_be_no_larger() {
    let server = TestServer::start().await;
    let key = server.key("ana", Role::User).await;
    let mut request = format!(
        "POST /api/generate HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    for _ in 0..20 {
        request += &format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    }
    request += "0\r\n\r\n";
    let answer = server.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_refusal_is_heard_by_who_still_sends() {
    let server = TestServer::start().await;
    let head = format!(
        "POST /api/generate HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer bl_wrong\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n",
        server.address
    );
    for _ in 0..20 {
        let answer = server.raw([head.as_bytes(), &[b' '; 1_000_000]].concat().as_slice()).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_it_should_be_is_refused_by_name() {
    let server = TestServer::start().await;
    let ana = server.user("ana").await;
    let sent = async |kind: &str, body: &'static [u8]| {
        let request = ana.request(Method::POST, "/api/generate").header("content-type", kind);
        Answer::of(request.body(body)).await
    };
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "json"] {
        let problem = sent(kind, b"{}").await.expect_problem(415, "INVALID_REQUEST");
        assert_eq!(problem["field"], "Content-Type", "{kind}");
    }
    for json in [&b"{"[..], b"{} {}", b"\xff", b"null", b"[]", b"\"text\""] {
        let problem = sent("application/json", json).await.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["field"], "body", "{}", String::from_utf8_lossy(json));
    }
    let deep = Vec::leak(["[".repeat(100_000), "]".repeat(100_000)].concat().into_bytes());
    sent("application/json", deep).await.expect_problem(422, "INVALID_REQUEST");
    let broken = sent("application/json", b"{\"projectId\": }").await.expect_problem(422, "INVALID_REQUEST");
    assert_eq!(broken["field"], "projectId");
    let problem = sent("application/json; charset=utf-8", b"{}").await.expect_problem(422, "INVALID_REQUEST");
    assert_eq!(problem["field"], "projectId");
}

#[tokio::test]
async fn an_unknown_field_is_named() {
    let server = TestServer::start().await;
    let problem = server.nobody().get("/sign-in?code=x&colour=blue").await.expect_problem(422, "INVALID_REQUEST");
    assert!(problem["detail"].as_str().unwrap().contains("colour"), "{problem}");
}

/// Sends a byte at a time, never ceasing, until the server answers.
async fn trickle(server: &TestServer, first: String, byte: &'static [u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let trickling = tokio::spawn(async move {
        while writer.write_all(byte).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut answer);
    let read: io::Result<usize> = tokio::time::timeout(support::LONG_ENOUGH, read).await.expect("no answer");
    read.unwrap();
    trickling.abort();
    answer
}

#[tokio::test]
async fn a_client_that_sends_its_head_byte_by_byte_is_told_that_it_is_too_slow() {
    let server = impatient().await;
    let answer = trickle(&server, "GET /livez HTTP/1.1\r\nX-Slow: ".to_owned(), b"a").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_sends_its_body_byte_by_byte_is_told_that_it_is_too_slow() {
    let server = impatient().await;
    let key = server.key("ana", Role::User).await;
    let head = format!(
        "POST /api/generate HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n",
        server.address
    );
    let answer = trickle(&server, head, b" ").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"field\":\"body\""), "{answer}");
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let server = impatient().await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(rest(&mut silent).await.unwrap(), "");
    let head = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    let answer = server.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test]
async fn a_body_that_breaks_off_harms_nobody() {
    let server = TestServer::start().await;
    let key = server.key("ana", Role::User).await;
    let head = format!(
        "POST /api/generate HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        server.address
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(server.nobody().get("/livez").await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let server = TestServer::start().await;
    for nonsense in [&b"\0\0\0\0\r\n\r\n"[..], b"hello\r\n\r\n", b"GET /livez HTTP/9.9\r\n\r\n"] {
        let answer = server.raw(nonsense).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    // HTTP/2 is a proxy's to speak; whoever begins with it here cannot read an answer in HTTP/1.1.
    assert_eq!(server.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, "");
    assert_eq!(server.nobody().get("/livez").await.status, 200);
}

#[tokio::test]
async fn whoever_comes_when_all_connections_are_taken_is_let_in_next() {
    let server = TestServer::start_with(|options| options.limits.connections = 2).await;
    let head = format!("GET /livez HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", server.address);
    let begun = async || {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let (mut first, mut second, mut third) = (begun().await, begun().await, begun().await);
    third.write_all(b"\r\n").await.unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(200), third.peek(&mut byte)).await;
    assert!(early.is_err(), "the third was let in: {early:?}");
    for stream in [&mut first, &mut second] {
        stream.write_all(b"\r\n").await.unwrap();
        assert!(rest(stream).await.unwrap().ends_with("ok\n"));
    }
    assert!(rest(&mut third).await.unwrap().ends_with("ok\n"));
}

#[tokio::test]
async fn a_large_answer_is_compressed_for_who_can_read_that() {
    let server = TestServer::start().await;
    let ask = async |encoding: &str| {
        let request = server.nobody().request(Method::GET, "/openapi.json").header("accept-encoding", encoding);
        let response = request.send().await.unwrap();
        (response.headers().get("content-encoding").cloned(), response.bytes().await.unwrap())
    };
    let (plain, text) = ask("identity").await;
    let (packed, bytes) = ask("gzip").await;
    assert_eq!((plain, packed.unwrap().to_str().unwrap()), (None, "gzip"));
    assert!(bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() * 3 < text.len());
}

#[tokio::test]
async fn a_request_keeps_the_id_that_its_client_gave_it() {
    let server = TestServer::start().await;
    let ask = async |id: &str| {
        let request = server.nobody().request(Method::GET, "/nowhere").header("x-request-id", id);
        Answer::of(request).await.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(ask("my-request.7").await, "my-request.7");
    for spoilt in ["", "two words", "\u{1b}[31m".trim_start(), &"a".repeat(129)] {
        if reqwest::header::HeaderValue::from_str(spoilt).is_ok() {
            assert_ne!(ask(spoilt).await, spoilt);
        }
    }
    let made = [json!(server.nobody().get("/livez").await.headers["x-request-id"].to_str().unwrap())];
    assert_eq!(made[0].as_str().unwrap().len(), 32);
}
