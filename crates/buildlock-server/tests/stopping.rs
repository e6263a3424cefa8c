//! How a server ends.

mod support;

use support::{TestServer, rest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use buildlock::Role;

/// A request whose body is still to come.
async fn half_a_request(server: &TestServer) -> TcpStream {
    let key = server.key("ana", Role::User).await;
    let head = format!(
        "POST /api/generate HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nExpect: 100-continue\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n",
        server.address
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server says that it waits for the body.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100 Continue"));
    stream
}

#[tokio::test]
async fn a_request_that_has_come_is_answered_though_the_server_is_to_stop() {
    let server = TestServer::start().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let mut asking = half_a_request(&server).await;
    server.stop.gracefully();
    assert_eq!(rest(&mut idle).await.unwrap(), "");
    let refused = TcpStream::connect(server.address).await;
    assert!(refused.is_err(), "{refused:?}");
    asking.write_all(b"{}").await.unwrap();
    let answer = rest(&mut asking).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 422 "), "{answer}");
    drop((idle, asking));
    server.ended().await;
}

#[tokio::test]
async fn a_server_that_is_to_stop_at_once_waits_for_nobody() {
    let server = TestServer::start().await;
    let _asking = half_a_request(&server).await;
    server.stop.at_once();
    server.ended().await;
}
