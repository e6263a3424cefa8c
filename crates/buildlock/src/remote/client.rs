//! The conversation with a server: one thread with the connections, and requests that are repeated
//! when they got no answer.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use buildlock_core::{Holder, RequestId, Timestamp};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::path;
use crate::StoreError;
use crate::wire::{HOLDER_HEADER, ProblemJson, REQUEST_HEADER, TIME_HEADER};

/// How long a server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How long one try may take. A server answers within milliseconds, and a second when its disk is slow.
const TRY_FOR: Duration = Duration::from_secs(5);

/// How long a stream may be silent: a server shows every 15 seconds that it lives.
pub(super) const SILENT_FOR: Duration = Duration::from_secs(40);

/// The pauses before a request is repeated. Together they outlast a server's restart.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];

/// No request is repeated later than this after it began: whoever holds a lease must hear in time that
/// it cannot be renewed.
const REPEAT_WITHIN: Duration = Duration::from_secs(6);

/// How long what was sent may be on its way after the last handle was dropped.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The longest answer: a page of projects, each with a long queue.
const ANSWER_LIMIT_BYTES: usize = 256 << 20;

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl Ask {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: None }
    }

    pub(super) fn with_body(mut self, body: &impl Serialize) -> Self {
        // These bodies are plain records: they always have a JSON form.
        self.body = serde_json::to_vec(body).ok();
        self.with_header(CONTENT_TYPE, "application/json")
    }

    pub(super) fn with_request(self, request: RequestId) -> Self {
        self.with_header(HeaderName::from_static(REQUEST_HEADER), &request.to_string())
    }

    pub(super) fn in_the_name_of(self, holder: &Holder) -> Self {
        self.with_header(HeaderName::from_static(HOLDER_HEADER), &path::encoded(holder.as_str()))
    }

    /// Asks for an answer at once, whatever there is to wait for.
    pub(super) fn async_preferred(self) -> Self {
        self.with_header(HeaderName::from_static("prefer"), "respond-async")
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

/// What a server replied.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    pub(super) time: Option<HeaderValue>,
}

impl Reply {
    /// The store's time when it decided.
    pub(super) fn time(&self) -> Result<Timestamp, StoreError> {
        let time = self.time.as_ref().and_then(|time| time.to_str().ok()?.parse::<jiff::Timestamp>().ok());
        let millis = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
        millis
            .map(Timestamp::from_millis)
            .ok_or_else(|| StoreError::Protocol(format!("the server's answer has no time in {TIME_HEADER}")))
    }

    /// The problem, if the reply is one.
    pub(super) fn problem(&self) -> Option<ProblemJson> {
        if self.status.is_success() { None } else { serde_json::from_slice(&self.body).ok() }
    }

    pub(super) fn is_problem(&self, code: &str) -> bool {
        self.problem().is_some_and(|problem| problem.code == code)
    }
}

/// A server's client.
#[derive(Debug)]
pub(super) struct Client {
    line: Arc<Line>,
    runtime: Handle,
    /// What nobody waits for. Closed when this is dropped, which ends the thread.
    sends: Option<mpsc::UnboundedSender<Ask>>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// # Errors
    ///
    /// [`StoreError::BadUrl`] if it is no server's URL, [`StoreError::NotAllowed`] if the key cannot be one.
    pub(super) fn new(url: &str, key: Option<&str>) -> Result<Self, StoreError> {
        let line = Arc::new(Line::new(url, key)?);
        let (sends, queue) = mpsc::unbounded_channel();
        let (started, is_started) = std::sync::mpsc::channel();
        let thread = {
            let line = Arc::clone(&line);
            thread::Builder::new().name("buildlock-remote".to_owned()).spawn(move || serve(&line, queue, &started))
        };
        let cannot = |problem: String| StoreError::Unreachable { url: line.url.clone(), problem };
        let thread = thread.map_err(|error| cannot(error.to_string()))?;
        let runtime = is_started.recv().map_err(|_| StoreError::Closed)?.map_err(cannot)?;
        Ok(Self { line, runtime, sends: Some(sends), thread: Some(thread) })
    }

    /// The server's URL, as it was given.
    pub(super) fn url(&self) -> &str {
        &self.line.url
    }

    /// The connections, for a task on [`Client::runtime`].
    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Where the connections live.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Asks, again if need be.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreachable`] if no server answered; what it answered is the caller's to read.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Reply, StoreError> {
        let (reply, answer) = oneshot::channel();
        let line = Arc::clone(&self.line);
        self.runtime.spawn(async move {
            let mut reply = reply;
            tokio::select! {
                answer = line.ask(&ask) => drop(reply.send(answer)),
                // Nobody waits for it any more.
                () = reply.closed() => {}
            }
        });
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Asks for somebody who does not wait for the answer.
    pub(super) fn send(&self, ask: Ask) {
        if let Some(sends) = &self.sends {
            // It fails only when the thread has ended, and with it everything.
            let _ = sends.send(ask);
        }
    }

    /// What a reply means that is neither a success nor an answer of the lock.
    pub(super) fn failure(&self, reply: &Reply) -> StoreError {
        self.line.failure(reply)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.sends = None;
        if let Some(thread) = self.thread.take() {
            // A panic was told by the thread itself; here is nothing to add.
            let _ = thread.join();
        }
    }
}

fn serve(
    line: &Arc<Line>,
    mut queue: mpsc::UnboundedReceiver<Ask>,
    started: &std::sync::mpsc::Sender<Result<Handle, String>>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error.to_string()))),
    };
    let _ = started.send(Ok(runtime.handle().clone()));
    runtime.block_on(async {
        let mut under_way = JoinSet::new();
        while let Some(ask) = queue.recv().await {
            while under_way.try_join_next().is_some() {}
            let line = Arc::clone(line);
            under_way.spawn(async move {
                if let Err(error) = line.ask(&ask).await {
                    tracing::warn!(%error, method = %ask.method, "a request that nobody waits for was not answered");
                }
            });
        }
        // What is late ends by itself, as every lease and ticket does.
        let _ = timeout(CLOSE_WITHIN, async { while under_way.join_next().await.is_some() {} }).await;
    });
}

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Line {
    url: String,
    key: Option<HeaderValue>,
    http: reqwest::Client,
}

impl Line {
    fn new(url: &str, key: Option<&str>) -> Result<Self, StoreError> {
        let bad = |problem: &'static str| StoreError::BadUrl { url: url.to_owned(), problem: problem.into() };
        let parsed = Url::parse(url).map_err(|_| bad("it is no URL"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad("a server's URL begins with http:// or https://"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(StoreError::BadUrl {
                url: format!("{}://…", parsed.scheme()),
                problem: "it has a user or a password in it; the key goes in BUILDLOCK_API_KEY".into(),
            });
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(bad("it has a query or a fragment"));
        }
        let host = parsed.host_str().unwrap_or_default();
        let is_local = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
        let key = key.map(str::trim).filter(|key| !key.is_empty());
        if key.is_some() && parsed.scheme() == "http" && !is_local {
            tracing::warn!(host, "the API key goes over the network unencrypted; use https://");
        }
        let url = url.trim_end_matches('/').to_owned();
        let key = key.map(|key| HeaderValue::from_str(&format!("Bearer {key}"))).transpose();
        let mut key = key.map_err(|_| StoreError::NotAllowed {
            url: url.clone(),
            problem: "the API key has characters that no key has".to_owned(),
        })?;
        if let Some(key) = &mut key {
            key.set_sensitive(true);
        }
        let mut http = super::http_client()
            .user_agent(concat!("buildlock/", env!("CARGO_PKG_VERSION")))
            // The key is for this server and no other.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(SILENT_FOR);
        if is_local {
            http = http.no_proxy();
        }
        let http =
            http.build().map_err(|error| StoreError::Unreachable { url: url.clone(), problem: error.to_string() })?;
        Ok(Self { url, key, http })
    }

    async fn ask(&self, ask: &Ask) -> Result<Reply, StoreError> {
        let began = Instant::now();
        let mut pauses = PAUSES.into_iter();
        loop {
            let (error, pause) = match timeout(TRY_FOR, self.try_once(ask)).await {
                Ok(Ok(reply)) if is_passing(reply.0.status) => (self.failure(&reply.0), reply.1),
                Ok(Ok((reply, _))) => return Ok(reply),
                Ok(Err(error)) => (self.unreachable(&error), None),
                Err(_) => (self.late(), None),
            };
            let pause = pauses.next().map(|own| pause.map_or(own, |told: Duration| own.max(told.min(REPEAT_WITHIN))));
            match pause.filter(|pause| began.elapsed() + *pause < REPEAT_WITHIN) {
                Some(pause) => sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    async fn try_once(&self, ask: &Ask) -> Result<(Reply, Option<Duration>), reqwest::Error> {
        let mut response = self.start(ask).await?;
        let headers = response.headers();
        let retry_after = headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let (status, time) = (response.status(), headers.get(TIME_HEADER).cloned());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_LIMIT_BYTES {
                break;
            }
        }
        Ok((Reply { status, body, time }, retry_after.map(Duration::from_secs)))
    }

    /// Sends a request, and gives what comes back before its body.
    pub(super) async fn start(&self, ask: &Ask) -> Result<Response, reqwest::Error> {
        let mut request = self.http.request(ask.method.clone(), format!("{}{}", self.url, ask.path));
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key);
        }
        if let Some(body) = &ask.body {
            request = request.body(body.clone());
        }
        request.headers(ask.headers.clone()).send().await
    }

    pub(super) fn failure(&self, reply: &Reply) -> StoreError {
        let url = self.url.clone();
        let problem = reply.problem();
        let detail = problem.map_or_else(
            || format!("{} without a word, as no buildlock server would say it", reply.status),
            |problem| problem.detail,
        );
        match reply.status {
            StatusCode::UNAUTHORIZED if self.key.is_none() => {
                let problem = format!("{detail}; give the key in BUILDLOCK_API_KEY");
                StoreError::NotAllowed { url, problem }
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => StoreError::NotAllowed { url, problem: detail },
            status if is_passing(status) => StoreError::Unreachable { url, problem: detail },
            _ => StoreError::Protocol(detail),
        }
    }

    pub(super) fn unreachable(&self, error: &reqwest::Error) -> StoreError {
        // The innermost cause says it in the system's words.
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        StoreError::Unreachable { url: self.url.clone(), problem: cause.to_string() }
    }

    fn late(&self) -> StoreError {
        let problem = format!("no answer within {} s", TRY_FOR.as_secs());
        StoreError::Unreachable { url: self.url.clone(), problem }
    }
}

/// Whether the same request may succeed in a while.
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}
