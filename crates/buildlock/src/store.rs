//! What every store of locks can do. The rules are in `buildlock-core`; a store keeps the projects,
//! the clock, the tokens and the history, and makes each decision durable before it answers.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use buildlock_core::{Busy, Command, Event, Holder, Lease, Outcome, ProjectId, RequestId, Ticket, Timestamp, Token};
use tokio::sync::{Notify, watch};

use crate::StoreError;

/// A store of locks, shared by whoever uses the same URL.
///
/// An answer is given only after its transaction is durable (rule 12). Every call can be repeated
/// when its answer was lost: a [`StoreError`] says that the store could not answer, and unless it
/// says more, nothing was changed. To drop a call's future takes nothing back; see
/// [`Command::Withdraw`].
///
/// A runtime with threads of its own gives its callers their answers on these. As with tokio's own
/// sockets and timers, whoever blocks all of them on a call, otherwise than by `block_in_place`, may
/// wait for ever.
#[async_trait]
pub trait LockStore: Send + Sync + fmt::Debug {
    /// Decides one command on one project. Never waits for a lock.
    ///
    /// A project that is locked for the first time comes into being, owned by the holder.
    async fn apply(&self, project: &ProjectId, command: Command) -> Result<Answer, StoreError>;

    /// Decides one command for somebody who is about to go and does not wait for the answer, as in
    /// a destructor. What a store in this process is sent is done even if the runtime ends at once.
    fn send(&self, project: &ProjectId, command: Command);

    /// The project as it is now; none if it is unknown.
    async fn status(&self, project: &ProjectId) -> Result<Option<Status>, StoreError>;

    /// Projects in the order of their ids, from the first after `after`.
    async fn projects(&self, after: Option<&ProjectId>, limit: usize) -> Result<Vec<Status>, StoreError>;

    /// Makes a project; the answer is false if it exists.
    async fn create_project(&self, project: &ProjectId, owner: &Holder) -> Result<bool, StoreError>;

    /// Deletes a project that is idle.
    async fn delete_project(&self, project: &ProjectId, by: &Holder) -> Result<Deleted, StoreError>;

    /// The newest events of a project, or of all, that are older than `before`; newest first.
    async fn history(
        &self,
        project: Option<&ProjectId>,
        before: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError>;

    /// The oldest events of all projects that are newer than `after`; oldest first.
    async fn events_after(&self, after: EventId, limit: usize) -> Result<Vec<Recorded>, StoreError>;

    /// The newest event's id, now and whenever it changes, whoever wrote it.
    fn newest_event(&self) -> watch::Receiver<EventId>;

    /// Does what time alone has made due: ends leases, drops tickets, grants to waiters (rule 8).
    /// Answers when it is next due, as far as it is known by now.
    async fn settle_due(&self) -> Result<Option<Duration>, StoreError>;

    /// Whether somebody else does what time makes due, as a server does for its clients.
    fn settles_itself(&self) -> bool {
        false
    }

    /// Who the store says its user is, where it knows that: others are then told of this holder.
    fn known_as(&self) -> Option<&Holder> {
        None
    }

    /// How long history is kept.
    async fn retention(&self) -> Result<Retention, StoreError>;

    /// Sets how long history is kept, for all who use the store; what is older goes.
    async fn set_retention(&self, retention: Retention) -> Result<(), StoreError>;

    /// The version of the store's tables.
    fn version(&self) -> u32;

    /// Looks the store over, for an operator.
    async fn checkup(&self) -> Result<Vec<Finding>, StoreError>;

    /// Begins to watch for news of one request or lease.
    fn watch(&self, project: &ProjectId, news: News) -> Watcher;
}

/// Counts what a store has, for those who watch over it.
#[async_trait]
pub trait CountStore: Send + Sync + fmt::Debug {
    /// From now on tells the program's recorder of the crate `metrics` of each change that goes through this
    /// handle: `buildlock_acquire_total`, `buildlock_release_total` and how long it all takes.
    fn begin_to_count(&self);

    /// The counts, as of now. It takes the longer the more locks are held, and keeps nobody else waiting.
    async fn counts(&self) -> Result<Counts, StoreError>;
}

/// How much is going on in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Projects that are locked.
    pub held: u64,
    /// Waiters in all queues.
    pub waiting: u64,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What came of it.
    pub outcome: Outcome,
    /// The store's time when it was decided; the times in the outcome are to be read against it.
    pub now: Timestamp,
}

/// A project as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub project: ProjectId,
    /// Whose it is.
    pub owner: Holder,
    /// The live lease; none if the project is idle.
    pub lease: Option<Lease>,
    /// Who waits, in order.
    pub queue: Vec<Ticket>,
    /// The moment, by the store's clock.
    pub now: Timestamp,
}

impl Status {
    /// `idle` or `processing`.
    pub fn build_status(&self) -> &'static str {
        if self.lease.is_some() { "processing" } else { "idle" }
    }
}

/// What came of deleting a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// Somebody holds it.
    Locked(Busy),
    /// There is no such project.
    Unknown,
}

/// An event's place in the history of the whole store: larger is newer. 0 is before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct EventId(pub u64);

/// An event as it stands in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its place.
    pub id: EventId,
    /// The project.
    pub project: ProjectId,
    /// What happened.
    pub event: Event,
}

/// How long history is kept. By default for ever: nothing is lost silently.
///
/// A store that no longer has a lease in its history cannot tell how it ended (rule 3), nor knows
/// its request again (rule 4), so the last day is always kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// The age at which events go, at least a day.
    pub max_age: Option<Duration>,
    /// How many events are kept beside the last day's.
    pub max_events: Option<u64>,
}

impl fmt::Display for Retention {
    /// As the rest of a sentence on events.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.max_age.map(|age| age.as_secs() / 86_400), self.max_events) {
            (None, None) => f.write_str("all are kept"),
            (Some(days), None) => write!(f, "kept for {days} days"),
            (None, Some(count)) => write!(f, "the last {count} are kept"),
            (Some(days), Some(count)) => write!(f, "kept for {days} days, at most {count}"),
        }
    }
}

/// One thing that a checkup looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at.
    pub what: Cow<'static, str>,
    /// Whether it is as it should be.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// What to do, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<Cow<'static, str>>,
}

/// Whether something is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It is.
    Good,
    /// It works, and should be looked at.
    Warning,
    /// It does not work.
    Bad,
}

impl Finding {
    /// All is well.
    pub fn good(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Good, detail: detail.into(), advice: None }
    }

    /// It works, and should be looked at.
    pub fn warning(what: &'static str, detail: impl Into<String>, advice: &'static str) -> Self {
        Self { what: what.into(), verdict: Verdict::Warning, detail: detail.into(), advice: Some(advice.into()) }
    }

    /// It does not work.
    pub fn bad(what: &'static str, detail: impl Into<String>, advice: &'static str) -> Self {
        Self { what: what.into(), verdict: Verdict::Bad, detail: detail.into(), advice: Some(advice.into()) }
    }
}

/// What a [`Watcher`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum News {
    /// The request was granted.
    Turn(RequestId),
    /// The lease with this token has ended.
    End(Token),
}

/// Waits for one piece of news. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watcher {
    pub(crate) told: Arc<Told>,
    pub(crate) _unwatch: Box<dyn Unwatch>,
}

/// What a [`Watcher`] was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) news: Notify,
    pub(crate) grant: OnceLock<Grant>,
}

/// The grant of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The lease's fencing token.
    pub token: Token,
    /// When it was granted, by the store's clock.
    pub at: Timestamp,
}

/// Ends a watch when it is dropped.
pub(crate) trait Unwatch: Send + Sync + fmt::Debug {}

impl Watcher {
    /// Resolves when there may be news since the watch began or since this last resolved: ask the
    /// store then. News that nobody waited for is kept. Cancel-safe.
    pub async fn changed(&self) {
        self.told.news.notified().await;
    }

    /// The grant that [`News::Turn`] waited for, if the store told of it so far: it need not be asked
    /// then.
    pub fn grant(&self) -> Option<Grant> {
        self.told.grant.get().copied()
    }
}
