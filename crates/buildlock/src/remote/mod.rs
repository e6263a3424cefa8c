//! Locks on a server: the store that speaks the HTTP API.
//!
//! Here live the conversation with the server and the reading of its answers; no rule of the lock, and
//! no state but the newest event that was heard of. Only [`RemoteStore`] is for others.

mod answers;
mod client;
mod http;
mod news;
mod path;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use buildlock_core::{Command, Holder, IfLocked, ProjectId};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use self::answers::{answer, busy, recorded, status};
use self::client::{Ask, Client, Reply};
pub use self::http::http_client;
use self::news::NewsDesk;
use crate::StoreError;
use crate::keys::Role;
use crate::store::{Answer, Deleted, EventId, Finding, LockStore, News, Recorded, Retention, Status, Watcher};
use crate::wire::{
    CheckupJson, ForceUnlockJson, HistoryJson, LockRequestJson, MeJson, NewProjectJson, PAGE_LIMIT, ProjectJson,
    ProjectsJson, RetentionJson, SettledJson, SignInLinkJson, TokenJson,
};

/// The environment variable with the key that shows a server who its client is.
pub const API_KEY_VARIABLE: &str = "BUILDLOCK_API_KEY";

/// A store of locks on a server.
///
/// A cheap handle: clones share their connections and a thread that serves these, which ends when the
/// last of them is dropped. What was [sent](LockStore::send) before is then on its way for up to five
/// seconds more, even if the program's own runtime has ended; so long may dropping the last handle
/// take if the server does not answer.
///
/// A request that gets no answer is repeated, three times in all: each can be, by its request id or
/// its token. To drop a call's future ends the repeating, and takes nothing back.
///
/// What a key may not see is left out: the request ids of others are nil to a user's key.
///
/// ```no_run
/// use buildlock::{LockRequest, LockService, RemoteStore, Wait};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RemoteStore::open("http://127.0.0.1:7878").await?; // with the key in BUILDLOCK_API_KEY
/// let ana = store.holder().clone();
/// let service = LockService::new(store);
///
/// let lease = service.lock(&"my-site".parse()?, LockRequest::new(ana, "generate".parse()?), Wait::NONE).await?;
/// println!("building with fencing token {}", lease.token);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RemoteStore {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    news: Arc<NewsDesk>,
    me: MeJson,
}

impl RemoteStore {
    /// The store of the server with this URL, such as `https://locks.example.com`, and the key in the
    /// environment variable `BUILDLOCK_API_KEY`.
    ///
    /// # Errors
    ///
    /// [`StoreError::BadUrl`] if it is none, [`StoreError::Unreachable`] if no server answers,
    /// [`StoreError::NotAllowed`] if the key is missing or unknown.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let key = std::env::var(API_KEY_VARIABLE).ok();
        Self::open_with_key(url, key.as_deref()).await
    }

    /// As [`RemoteStore::open`], with this key.
    ///
    /// # Errors
    ///
    /// As [`RemoteStore::open`].
    pub async fn open_with_key(url: &str, key: Option<&str>) -> Result<Self, StoreError> {
        let client = Client::new(url, key)?;
        let me: MeJson = json(&good(&client, client.ask(Ask::new(Method::GET, "/v1/me")).await?)?)?;
        let news = NewsDesk::open(&client, me.newest_event);
        Ok(Self { inner: Arc::new(Inner { client, news, me }) })
    }

    /// Who the server says its client is: the owner of the key.
    pub fn holder(&self) -> &Holder {
        &self.inner.me.holder
    }

    /// What the server lets its client do.
    pub fn role(&self) -> Role {
        self.inner.me.role
    }

    /// Asks for a link with which somebody signs in to the server's page, once, as the owner of the key: an
    /// operator.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server cannot answer, or does not let its client do this.
    pub async fn sign_in_link(&self) -> Result<SignInLinkJson, StoreError> {
        let reply = self.ask(Ask::new(Method::POST, "/v1/sign-in-links")).await?;
        json(&good(&self.inner.client, reply)?)
    }

    async fn ask(&self, ask: Ask) -> Result<Reply, StoreError> {
        self.inner.client.ask(ask).await
    }

    /// Asks in somebody's name.
    async fn ask_for(&self, ask: Ask, holder: &Holder) -> Result<Reply, StoreError> {
        self.ask(self.named(ask, holder)).await
    }

    /// The server knows its client; any other holder must be named.
    fn named(&self, ask: Ask, holder: &Holder) -> Ask {
        if holder == self.holder() { ask } else { ask.in_the_name_of(holder) }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, StoreError> {
        let reply = self.ask(Ask::new(Method::GET, path)).await?;
        json(&good(&self.inner.client, reply)?)
    }

    fn command(&self, project: &ProjectId, command: &Command) -> Ask {
        let path = path::of_project(project);
        match command {
            Command::Lock { request, if_locked } => {
                let body = LockRequestJson {
                    operation: Some(request.operation.clone()),
                    message: Some(request.message.clone()),
                    ttl: Some(request.ttl),
                    wait: None,
                };
                let ask = Ask::new(Method::POST, format!("{path}/lock")).with_request(request.id).with_body(&body);
                let ask = match if_locked {
                    IfLocked::Refuse => ask,
                    IfLocked::Queue => ask.async_preferred(),
                };
                self.named(ask, &request.holder)
            }
            Command::Withdraw { request } => Ask::new(Method::DELETE, format!("{path}/lock/requests/{request}")),
            Command::Renew { token, holder, ttl } => {
                let body = TokenJson { token: *token, ttl: *ttl };
                self.named(Ask::new(Method::POST, format!("{path}/lock/renew")).with_body(&body), holder)
            }
            Command::Verify { token } => {
                let body = TokenJson { token: *token, ttl: None };
                Ask::new(Method::POST, format!("{path}/lock/verify")).with_body(&body)
            }
            Command::Unlock { token, holder } => {
                self.named(Ask::new(Method::DELETE, format!("{path}/lock?token={token}")), holder)
            }
            Command::ForceUnlock { token, by, reason } => {
                let body = ForceUnlockJson { token: *token, reason: reason.clone() };
                self.named(Ask::new(Method::POST, format!("{path}/force-unlock")).with_body(&body), by)
            }
            Command::Settle => Ask::new(Method::POST, format!("{path}/settle")),
        }
    }

    /// One page of a history.
    async fn events(&self, path: String) -> Result<Vec<Recorded>, StoreError> {
        let page: HistoryJson = self.get(&path).await?;
        let page: Vec<_> = page.events.into_iter().map(recorded).collect();
        if let Some(newest) = page.iter().map(|recorded| recorded.id).max() {
            self.inner.news.heard_of(newest);
        }
        Ok(page)
    }
}

/// The reply of a request that succeeded.
fn good(client: &Client, reply: Reply) -> Result<Reply, StoreError> {
    if reply.status.is_success() { Ok(reply) } else { Err(client.failure(&reply)) }
}

fn json<T: DeserializeOwned>(reply: &Reply) -> Result<T, StoreError> {
    serde_json::from_slice(&reply.body).map_err(|error| StoreError::Protocol(error.to_string()))
}

#[async_trait]
impl LockStore for RemoteStore {
    async fn apply(&self, project: &ProjectId, command: Command) -> Result<Answer, StoreError> {
        let reply = self.ask(self.command(project, &command)).await?;
        answer(&self.inner.client, &command, &reply)
    }

    fn send(&self, project: &ProjectId, command: Command) {
        self.inner.client.send(self.command(project, &command));
    }

    async fn status(&self, project: &ProjectId) -> Result<Option<Status>, StoreError> {
        let reply = self.ask(Ask::new(Method::GET, path::of_project(project))).await?;
        if reply.is_problem("PROJECT_NOT_FOUND") {
            return Ok(None);
        }
        let reply = good(&self.inner.client, reply)?;
        status(json(&reply)?, reply.time()?).map(Some)
    }

    async fn projects(&self, after: Option<&ProjectId>, limit: usize) -> Result<Vec<Status>, StoreError> {
        let mut statuses = Vec::new();
        let mut after = after.cloned();
        while statuses.len() < limit {
            let page_limit = (limit - statuses.len()).min(PAGE_LIMIT);
            let after_query = after.as_ref().map(|after| format!("&after={}", path::encoded(after.as_str())));
            let query = format!("/v1/projects?limit={page_limit}{}", after_query.unwrap_or_default());
            let reply = good(&self.inner.client, self.ask(Ask::new(Method::GET, query)).await?)?;
            let page: ProjectsJson = json(&reply)?;
            for project in page.projects {
                statuses.push(status(project, reply.time()?)?);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(statuses)
    }

    async fn create_project(&self, project: &ProjectId, owner: &Holder) -> Result<bool, StoreError> {
        let body = NewProjectJson { project: project.clone() };
        let reply = self.ask_for(Ask::new(Method::POST, "/v1/projects").with_body(&body), owner).await?;
        // It exists, and is somebody else's.
        if reply.is_problem("PROJECT_NOT_FOUND") {
            return Ok(false);
        }
        let reply = good(&self.inner.client, reply)?;
        json::<ProjectJson>(&reply)?;
        Ok(reply.status == StatusCode::CREATED)
    }

    async fn delete_project(&self, project: &ProjectId, by: &Holder) -> Result<Deleted, StoreError> {
        let reply = self.ask_for(Ask::new(Method::DELETE, path::of_project(project)), by).await?;
        match reply.problem() {
            Some(problem) if problem.code == "PROJECT_NOT_FOUND" => return Ok(Deleted::Unknown),
            Some(problem) if problem.code == "PROJECT_LOCKED" => return Ok(Deleted::Locked(busy(problem.lock)?)),
            _ => {}
        }
        good(&self.inner.client, reply)?;
        Ok(Deleted::Gone)
    }

    async fn history(
        &self,
        project: Option<&ProjectId>,
        before: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        let path = project.map_or_else(|| "/v1".to_owned(), path::of_project);
        let mut events: Vec<Recorded> = Vec::new();
        while events.len() < limit {
            let before = events.last().map(|last| last.id).or(before);
            let before = before.map(|before| format!("&before={}", before.0)).unwrap_or_default();
            let page_limit = (limit - events.len()).min(PAGE_LIMIT);
            let reply = self.ask(Ask::new(Method::GET, format!("{path}/history?limit={page_limit}{before}"))).await?;
            if project.is_some() && reply.is_problem("PROJECT_NOT_FOUND") {
                break;
            }
            let page: HistoryJson = json(&good(&self.inner.client, reply)?)?;
            let is_last = page.events.len() < page_limit;
            events.extend(page.events.into_iter().map(recorded));
            if is_last {
                break;
            }
        }
        if let Some(newest) = events.first() {
            self.inner.news.heard_of(newest.id);
        }
        Ok(events)
    }

    async fn events_after(&self, after: EventId, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        let mut events: Vec<Recorded> = Vec::new();
        while events.len() < limit {
            let after = events.last().map_or(after, |last| last.id);
            let page_limit = (limit - events.len()).min(PAGE_LIMIT);
            let page = self.events(format!("/v1/history?after={}&limit={page_limit}", after.0)).await?;
            let is_last = page.len() < page_limit;
            events.extend(page);
            if is_last {
                break;
            }
        }
        Ok(events)
    }

    fn newest_event(&self) -> watch::Receiver<EventId> {
        self.inner.news.newest_event()
    }

    async fn settle_due(&self) -> Result<Option<Duration>, StoreError> {
        let reply = self.ask(Ask::new(Method::POST, "/v1/settle")).await?;
        let settled: SettledJson = json(&good(&self.inner.client, reply)?)?;
        Ok(settled.next_due_in)
    }

    fn settles_itself(&self) -> bool {
        true
    }

    fn known_as(&self) -> Option<&Holder> {
        Some(self.holder())
    }

    async fn retention(&self) -> Result<Retention, StoreError> {
        self.get::<RetentionJson>("/v1/retention").await.map(Retention::from)
    }

    async fn set_retention(&self, retention: Retention) -> Result<(), StoreError> {
        let ask = Ask::new(Method::PUT, "/v1/retention").with_body(&RetentionJson::from(retention));
        good(&self.inner.client, self.ask(ask).await?).map(drop)
    }

    fn version(&self) -> u32 {
        self.inner.me.store_version
    }

    async fn checkup(&self) -> Result<Vec<Finding>, StoreError> {
        self.get::<CheckupJson>("/v1/checkup").await.map(|checkup| checkup.findings)
    }

    fn watch(&self, _project: &ProjectId, news: News) -> Watcher {
        self.inner.news.watch(news)
    }
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteStore").field(&self.inner.client.url()).finish()
    }
}
