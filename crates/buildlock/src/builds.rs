//! What is kept of builds: who ran what under which lease, how it ended, and its log. How a build is
//! run is not known here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use buildlock_core::{Holder, Invalid, Operation, ProjectId, RequestId, Timestamp, Token};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::StoreError;

/// Names a build. Later builds have larger ids (UUIDv7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BuildId(Uuid);

impl BuildId {
    /// An id that no build has.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id as a UUID.
    pub fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl From<Uuid> for BuildId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl FromStr for BuildId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let id = Uuid::parse_str(text).map_err(|_| Invalid {
            field: "build",
            problem: format!("is {text:?}"),
            allowed: "a UUID, as the answer to the build's start names it",
        })?;
        Ok(Self(id))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a build stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildStatus {
    /// It runs.
    Running,
    /// Its builder did what it should.
    Succeeded,
    /// Its builder failed, could not be started, or took too long.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// Its lease was lost, or the server that ran it is gone.
    Lost,
}

impl BuildStatus {
    /// Every status there is.
    pub const ALL: [BuildStatus; 5] =
        [BuildStatus::Running, BuildStatus::Succeeded, BuildStatus::Failed, BuildStatus::Cancelled, BuildStatus::Lost];

    /// The name in SQL, JSON and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            BuildStatus::Running => "running",
            BuildStatus::Succeeded => "succeeded",
            BuildStatus::Failed => "failed",
            BuildStatus::Cancelled => "cancelled",
            BuildStatus::Lost => "lost",
        }
    }
}

/// A build that is about to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBuild {
    /// Its id.
    pub id: BuildId,
    /// The project that it builds.
    pub project: ProjectId,
    /// What it does.
    pub operation: Operation,
    /// Who asked for it, and holds the lease.
    pub holder: Holder,
    /// The lease's fencing token.
    pub token: Token,
    /// The request that the lease answers; a request has one build.
    pub request: RequestId,
}

/// A build on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Its id.
    pub id: BuildId,
    /// The project that it builds.
    pub project: ProjectId,
    /// What it does.
    pub operation: Operation,
    /// Who asked for it.
    pub holder: Holder,
    /// Its lease's fencing token.
    pub token: Token,
    /// The request that its lease answers.
    pub request: RequestId,
    /// Where it stands.
    pub status: BuildStatus,
    /// The builder's exit code: 128 + n for signal n; of an upstream, the HTTP status.
    pub exit_code: Option<i32>,
    /// Why it ended as it did, in words for people.
    pub reason: Option<String>,
    /// When it started, by the store's clock.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How many lines its log has.
    pub log_lines: u64,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildEnd {
    /// Any status but [`BuildStatus::Running`].
    pub status: BuildStatus,
    /// See [`Build::exit_code`].
    pub exit_code: Option<i32>,
    /// See [`Build::reason`].
    pub reason: Option<String>,
}

/// Where a line of a log comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// The builder's standard output.
    Stdout,
    /// The builder's standard error.
    Stderr,
    /// buildlock's own words about the build.
    System,
}

impl LogStream {
    /// Every stream there is.
    pub const ALL: [LogStream; 3] = [LogStream::Stdout, LogStream::Stderr, LogStream::System];

    /// The name in SQL, JSON and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
            LogStream::System => "system",
        }
    }
}

/// A line of a build's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its place: the first is 1, none is left out.
    pub number: u64,
    /// When the store took it, by the store's clock.
    pub at: Timestamp,
    /// Where it comes from.
    pub stream: LogStream,
    /// The line, without its end.
    pub text: String,
}

/// How long finished builds and their logs are kept. By default for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuildRetention {
    /// The age, from their end, at which they go.
    pub max_age: Option<Duration>,
    /// How many bytes the logs of finished builds may have together; the oldest builds go first.
    pub max_bytes: Option<u64>,
}

/// A server that runs builds of a store that it may share with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildServer {
    /// Its own, and no other's, not even of the one that is started after it.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
}

/// How far a build is, as its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildProgress {
    /// The build.
    pub build: BuildId,
    /// How many lines its log has.
    pub log_lines: u64,
    /// Whether it has ended.
    pub has_ended: bool,
}

/// A build on record as running whose lease has ended, and that no server says it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbandonedBuild {
    /// The build.
    pub build: BuildId,
    /// The name of the server that ran it, if it is known.
    pub server: Option<String>,
}

/// Keeps builds and their logs, where the locks are. What it has answered is durable (rule 12).
///
/// The builds of a project that is deleted are unknown from then on, also to whoever makes the project
/// anew.
#[async_trait]
pub trait BuildStore: Send + Sync + fmt::Debug {
    /// Puts a build on record, running. If its request, or else its id, has a build already, that one is
    /// the answer.
    async fn start_build(&self, build: NewBuild) -> Result<Build, StoreError>;

    /// Adds lines to a running build's log; answers with them, numbered. With none if the build is
    /// unknown or has ended.
    async fn append_log(&self, build: BuildId, lines: Vec<(LogStream, String)>) -> Result<Vec<LogLine>, StoreError>;

    /// Ends a running build, once: of a build that has ended, the answer is how it did. None if it is
    /// unknown. An end that says [`BuildStatus::Running`] changes nothing.
    async fn end_build(&self, build: BuildId, end: BuildEnd) -> Result<Option<Build>, StoreError>;

    /// A build; none if it is unknown.
    async fn build(&self, build: BuildId) -> Result<Option<Build>, StoreError>;

    /// The build that answers this request, if there is one.
    async fn build_of_request(&self, request: RequestId) -> Result<Option<Build>, StoreError>;

    /// The newest builds of a project, or of all, that are older than `before`; newest first.
    async fn builds(
        &self,
        project: Option<&ProjectId>,
        before: Option<BuildId>,
        limit: usize,
    ) -> Result<Vec<Build>, StoreError>;

    /// The builds that are on record as running; oldest first.
    async fn running_builds(&self) -> Result<Vec<Build>, StoreError>;

    /// The builds that have ended within this time; those that ended last come first. A server that was
    /// killed may not have come to end their leases.
    async fn builds_ended_within(&self, age: Duration, limit: usize) -> Result<Vec<Build>, StoreError>;

    /// The lines of a build's log after the line numbered `after`; oldest first.
    async fn log(&self, build: BuildId, after: u64, limit: usize) -> Result<Vec<LogLine>, StoreError>;

    /// Removes some of the finished builds that are no longer kept, and of those whose project was
    /// deleted; answers with their ids. To be called again until it answers with none.
    async fn prune_builds(&self, retention: BuildRetention) -> Result<Vec<BuildId>, StoreError>;

    /// What servers that share the store know of each other's builds. None if it has one server at a time.
    fn shared_builds(&self) -> Option<&dyn SharedBuilds> {
        None
    }
}

/// What servers that share a store must know of each other's builds.
#[async_trait]
pub trait SharedBuilds: Send + Sync + fmt::Debug {
    /// Says that this server lives and runs these builds, and no others. Answers with those that somebody
    /// wants cancelled, and who.
    ///
    /// To be called at least every 400 ms while it runs any: what no server has said that it runs for three
    /// times as long counts as abandoned once its lease has ended.
    async fn keep_builds(
        &self,
        server: &BuildServer,
        builds: Vec<BuildId>,
    ) -> Result<Vec<(BuildId, Holder)>, StoreError>;

    /// Has a running build cancelled by the server that runs it, if that lives; false if it does not run. The
    /// first who wants it counts.
    async fn cancel_build(&self, build: BuildId, by: &Holder) -> Result<bool, StoreError>;

    /// How far these builds are; what is unknown is left out.
    async fn progress(&self, builds: Vec<BuildId>) -> Result<Vec<BuildProgress>, StoreError>;

    /// The builds that are abandoned; oldest first.
    async fn abandoned_builds(&self) -> Result<Vec<AbandonedBuild>, StoreError>;

    /// Ends a build as lost if it is abandoned; false if it is not, or not any more.
    async fn lose_build(&self, build: BuildId, reason: String) -> Result<bool, StoreError>;

    /// The builds that have ended within this time, and a second ago at least, and whose lease lives: their
    /// server was killed between the two.
    async fn builds_that_left_a_lease(&self, ended_within: Duration) -> Result<Vec<Build>, StoreError>;
}
