//! Builders that are servers: the request is passed on, and the lock held until the answer's body has
//! ended.
//!
//! Who asked gets the upstream's answer as it comes. If they go away, or are too slow, the body is still
//! read to its end, for that is when the upstream is done. A body that is text is the build's log too.

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use buildlock::{Build, BuildEnd, BuildStatus, LeaseGuard, LogStream, http_client, wire};
use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::{Client, Response, Url};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::io::StreamReader;

use super::log::Log;
use super::run::{MustStop, Run, Watch};

/// How long an upstream may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How many pieces of a body are on their way to its reader.
const PIECES_IN_MEMORY: usize = 16;

/// How long the body waits for a reader that is slower than the upstream; after that it goes on
/// without it, so that nobody keeps a project locked by reading slowly.
const READER_PATIENCE: Duration = Duration::from_secs(10);

/// An upstream's answer, as whoever asked gets it.
#[derive(Debug)]
pub(crate) struct UpstreamAnswer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<HeaderValue>,
    /// The body, as it comes; an error if it broke off.
    pub(crate) body: mpsc::Receiver<io::Result<Bytes>>,
}

/// What asks upstreams: the URL that is set, straight and nowhere else.
pub(super) fn client() -> Client {
    // Each build has a connection of its own: one that was kept may be closed by the upstream at the very
    // moment that it is used again, and a build cannot be sent twice.
    let builder = http_client().no_proxy().redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(0);
    // The default has all that is needed as well; only the time to connect is then the system's.
    builder.connect_timeout(CONNECT_WITHIN).build().unwrap_or_default()
}

impl Run {
    /// Has a server build, until its answer's body has ended.
    pub(super) async fn upstream(&self, url: &Url, lease: &LeaseGuard, log: &Log) -> BuildEnd {
        let mut watch = Watch::new(self, lease);
        let ask = self.ask(url, lease, log);
        let end = tokio::select! {
            end = ask => end,
            // To drop the request closes the connection: there is no other way to tell.
            _ = watch.must_stop() => match watch.must_stop.take() {
                Some(must_stop) => must_stop.end(None),
                None => MustStop::Cancelled("it was cancelled".to_owned()).end(None),
            },
        };
        if let Some(reason) = &end.reason {
            log.say(reason.clone()).await;
        }
        end
    }

    async fn ask(&self, url: &Url, lease: &LeaseGuard, log: &Log) -> BuildEnd {
        let request =
            self.builds.inner.http.post(url.clone()).headers(about(&self.build, lease)).json(&self.input).send();
        let response = match request.await {
            Ok(response) => response,
            Err(error) => {
                let what = if error.is_connect() { "cannot be reached" } else { "did not answer" };
                return failed(None, format!("the upstream {what}: {}", cause(&error)));
            }
        };
        let status = response.status();
        let code = Some(i32::from(status.as_u16()));
        match self.pass_on(response, log).await {
            Err(error) => failed(code, format!("the upstream's answer broke off: {}", cause(&error))),
            Ok(()) if status.is_success() => BuildEnd { status: BuildStatus::Succeeded, exit_code: code, reason: None },
            Ok(()) => failed(code, format!("the upstream answered with status {}", status.as_u16())),
        }
    }

    /// Reads the body to its end.
    async fn pass_on(&self, response: Response, log: &Log) -> Result<(), reqwest::Error> {
        let content_type = response.headers().get(header::CONTENT_TYPE).cloned();
        let (pieces, body) = mpsc::channel(PIECES_IN_MEMORY);
        let answer = UpstreamAnswer { status: response.status(), content_type: content_type.clone(), body };
        if self.takes_answer {
            *self.running.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
            self.running.answered.send_replace(true);
        } else {
            drop(answer);
        }

        let (text, lines) = mpsc::channel::<io::Result<Bytes>>(PIECES_IN_MEMORY);
        let lines = tokio_stream::wrappers::ReceiverStream::new(lines);
        let text = is_text(content_type.as_ref()).then_some(text);
        // Owns `text`, whose end is the end of the lines.
        let read = async move {
            let mut reader = Some(pieces);
            let mut stream = response.bytes_stream();
            while let Some(piece) = stream.next().await {
                let piece = match piece {
                    Ok(piece) => piece,
                    Err(error) => {
                        if let Some(reader) = &reader {
                            // Nobody may be there to be told.
                            let _ = reader.try_send(Err(io::ErrorKind::ConnectionAborted.into()));
                        }
                        return Err(error);
                    }
                };
                if let Some(text) = &text {
                    // It is read until the end below.
                    let _ = text.send(Ok(piece.clone())).await;
                }
                let sent = match &reader {
                    Some(reader) => timeout(READER_PATIENCE, reader.send(Ok(piece))).await,
                    None => Ok(Ok(())),
                };
                if !matches!(sent, Ok(Ok(()))) {
                    reader = None;
                }
            }
            Ok(())
        };
        let (read, _) = tokio::join!(read, log.take(LogStream::Stdout, StreamReader::new(lines)));
        read
    }
}

/// Whether a body can be read as lines.
fn is_text(content_type: Option<&HeaderValue>) -> bool {
    let Some(kind) = content_type.and_then(|kind| kind.to_str().ok()) else { return false };
    kind.starts_with("text/") || kind.contains("json") || kind.contains("xml")
}

/// What an upstream must know of its build.
fn about(build: &Build, lease: &LeaseGuard) -> HeaderMap {
    let values = [
        ("buildlock-build", build.id.to_string()),
        ("buildlock-project", percent_encoded(build.project.as_str())),
        ("buildlock-operation", percent_encoded(build.operation.as_str())),
        ("buildlock-holder", percent_encoded(build.holder.as_str())),
        ("buildlock-token", build.token.to_string()),
        ("buildlock-expires-at", wire::time(lease.ends_at()).to_string()),
    ];
    let header = |(name, value): (&'static str, String)| {
        Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?))
    };
    values.into_iter().filter_map(header).collect()
}

/// Any text as a header may carry it.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The innermost cause, which says what happened, without the URL.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn failed(exit_code: Option<i32>, reason: String) -> BuildEnd {
    BuildEnd { status: BuildStatus::Failed, exit_code, reason: Some(reason) }
}
