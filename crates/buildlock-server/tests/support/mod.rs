//! What the tests of the server share: a server of their own on a store of its own, keys for it, and ways
//! to ask it that go through real sockets.
#![allow(dead_code, reason = "each test file uses a part")]

#[path = "../../../buildlock/tests/support/clock.rs"]
pub(crate) mod clock;
pub(crate) mod issuer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use buildlock::{Clock, KeyHash, KeyStore, Role, SqliteStore, SystemClock, fresh_key};
use buildlock_server::{Config, Options, ServeError, Server, Stop};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Nothing that is awaited here takes nearly as long.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// A server on a free port, with a store in a folder of its own. It ends with the test.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) store: SqliteStore,
    pub(crate) folder: TempDir,
    pub(crate) stop: Stop,
    serving: JoinHandle<Result<(), ServeError>>,
    client: Client,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With settings of its own.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        Self::start_at(Arc::new(SystemClock), change).await
    }

    /// On a store whose time the test moves, and with settings of its own.
    pub(crate) async fn start_at(clock: Arc<dyn Clock>, change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open_with_clock(folder.path().join("locks.db"), clock).await.unwrap();
        let mut options = Options::new(Config::without_file(folder.path()));
        options.config.server.listen.set_port(0);
        change(&mut options);
        let server = Server::bind(options, Arc::new(store.clone())).await.unwrap();
        let (address, stop) = (server.local_addr(), server.stop_handle());
        let serving = tokio::spawn(server.serve());
        Self { address, store, folder, stop, serving, client: buildlock::http_client().build().unwrap() }
    }

    /// Makes a key.
    pub(crate) async fn key(&self, owner: &str, role: Role) -> String {
        let key = fresh_key().unwrap();
        self.store.add_key(KeyHash::of(&key), &owner.parse().unwrap(), role).await.unwrap();
        key
    }

    /// A new user with a key.
    pub(crate) async fn user(&self, name: &str) -> Asker {
        self.asker(name, Role::User).await
    }

    /// Somebody with a key.
    pub(crate) async fn asker(&self, owner: &str, role: Role) -> Asker {
        Asker { key: Some(self.key(owner, role).await), ..self.nobody() }
    }

    /// Somebody who shows this.
    pub(crate) fn with(&self, shown: &str) -> Asker {
        Asker { key: Some(shown.to_owned()), ..self.nobody() }
    }

    /// Somebody without a key.
    pub(crate) fn nobody(&self) -> Asker {
        Asker { client: self.client.clone(), base: format!("http://{}", self.address), key: None }
    }

    /// Sends these bytes on a connection of their own and reads until the server closes it.
    pub(crate) async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        rest(&mut stream).await.unwrap()
    }

    /// Waits for the server's end, which somebody has asked for.
    pub(crate) async fn ended(self) {
        timeout(LONG_ENOUGH, self.serving).await.expect("the server does not end").unwrap().unwrap();
    }
}

/// All that comes until the other side closes.
pub(crate) async fn rest(stream: &mut TcpStream) -> io::Result<String> {
    let mut answer = Vec::new();
    timeout(LONG_ENOUGH, stream.read_to_end(&mut answer)).await.expect("the connection stays open")?;
    Ok(String::from_utf8(answer).unwrap())
}

/// Asks a server as somebody.
#[derive(Clone)]
pub(crate) struct Asker {
    client: Client,
    base: String,
    key: Option<String>,
}

impl Asker {
    /// A request, to be sent with `.send()`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(&body)).await
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.timeout(LONG_ENOUGH).send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, body: response.text().await.unwrap() }
    }

    /// The body.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The body of a refusal with this status and code.
    #[track_caller]
    pub(crate) fn expect_problem(&self, status: u16, code: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(problem["code"], code, "{self:?}");
        assert_eq!(problem["status"], status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        problem
    }
}
