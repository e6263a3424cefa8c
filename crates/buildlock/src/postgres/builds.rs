//! Builds and their logs: the [`BuildStore`], and what servers that share it know of each other's builds.

use std::time::Duration;

use async_trait::async_trait;
use buildlock_core::{Holder, ProjectId, RequestId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{Column, Columns, Nonsense, number};
use super::statement::{Parameters, Statement, parameters};
use super::text::{kept, said};
use crate::StoreError;
use crate::builds::{
    AbandonedBuild, Build, BuildEnd, BuildId, BuildProgress, BuildRetention, BuildServer, BuildStatus, BuildStore,
    LogLine, LogStream, NewBuild, SharedBuilds,
};

/// How many builds one request removes, and after how many lines of logs it leaves the rest to the next:
/// it bounds how long its transaction takes.
const PRUNE_BUILDS_LIMIT: i64 = 1_000;
const PRUNE_LINES_LIMIT: i64 = 10_000;

static START_BUILD: Statement = Statement::new(
    include_str!("sql/calls/start_build.sql"),
    &[Type::INT8, Type::UUID, Type::TEXT, Type::TEXT, Type::TEXT, Type::INT8, Type::UUID],
);
// Sent again, it would add the lines again.
static APPEND_LOG: Statement = Statement::new(
    include_str!("sql/calls/append_log.sql"),
    &[Type::INT8, Type::UUID, Type::TEXT_ARRAY, Type::TEXT_ARRAY],
)
.once();
static END_BUILD: Statement = Statement::new(
    include_str!("sql/calls/end_build.sql"),
    &[Type::INT8, Type::UUID, Type::TEXT, Type::INT4, Type::TEXT],
);
static BUILD: Statement = Statement::new(include_str!("sql/calls/build.sql"), &[Type::UUID]);
static BUILD_OF_REQUEST: Statement = Statement::new(include_str!("sql/calls/build_of_request.sql"), &[Type::UUID]);
static BUILDS: Statement = Statement::new(include_str!("sql/calls/builds.sql"), &[Type::UUID, Type::INT8]).patient();
static BUILDS_OF_PROJECT: Statement =
    Statement::new(include_str!("sql/calls/builds_of_project.sql"), &[Type::TEXT, Type::UUID, Type::INT8]).patient();
static RUNNING_BUILDS: Statement = Statement::new(include_str!("sql/calls/running_builds.sql"), &[]).patient();
static BUILDS_ENDED_WITHIN: Statement =
    Statement::new(include_str!("sql/calls/builds_ended_within.sql"), &[Type::INT8, Type::INT8, Type::INT8]).patient();
static LOG: Statement =
    Statement::new(include_str!("sql/calls/log.sql"), &[Type::UUID, Type::INT8, Type::INT8]).patient();
// Sent again, it would not tell of what is gone already.
static PRUNE_BUILDS: Statement = Statement::new(
    include_str!("sql/calls/prune_builds.sql"),
    &[Type::INT8, Type::INT8, Type::INT8, Type::INT8, Type::INT8],
)
.patient()
.once();
static KEEP_BUILDS: Statement =
    Statement::new(include_str!("sql/calls/keep_builds.sql"), &[Type::INT8, Type::UUID, Type::TEXT, Type::UUID_ARRAY]);
static CANCEL_BUILD: Statement = Statement::new(include_str!("sql/calls/cancel_build.sql"), &[Type::UUID, Type::TEXT]);
static PROGRESS: Statement = Statement::new(include_str!("sql/calls/progress.sql"), &[Type::UUID_ARRAY]);
static BUILDS_WITHOUT_LEASE: Statement =
    Statement::new(include_str!("sql/calls/builds_without_lease.sql"), &[Type::INT8]);
static LOSE_BUILD: Statement =
    Statement::new(include_str!("sql/calls/lose_build.sql"), &[Type::INT8, Type::UUID, Type::TEXT]);
static LEASES_WITHOUT_BUILD: Statement =
    Statement::new(include_str!("sql/calls/leases_without_build.sql"), &[Type::INT8, Type::INT8]);

impl Column for BuildId {
    type Sql = Uuid;
    fn read(value: Uuid) -> Result<Self, Nonsense> {
        Ok(value.into())
    }
}

impl Column for BuildStatus {
    type Sql = String;
    fn read(value: String) -> Result<Self, Nonsense> {
        let status = BuildStatus::ALL.into_iter().find(|status| status.as_str() == value);
        status.ok_or_else(|| Nonsense(format!("{value:?} is no status of a build")))
    }
}

impl Column for LogStream {
    type Sql = String;
    fn read(value: String) -> Result<Self, Nonsense> {
        let stream = LogStream::ALL.into_iter().find(|stream| stream.as_str() == value);
        stream.ok_or_else(|| Nonsense(format!("{value:?} is no stream of a log")))
    }
}

fn build(row: &Row) -> Result<Build, Nonsense> {
    let columns = &mut Columns::of(row);
    Ok(Build {
        id: columns.get()?,
        project: columns.get()?,
        operation: columns.get()?,
        holder: columns.get()?,
        token: columns.get()?,
        request: columns.get()?,
        status: columns.get()?,
        exit_code: columns.raw()?,
        reason: columns.raw::<Option<String>>()?.map(said),
        started_at: columns.get()?,
        ended_at: columns.optional()?,
        log_lines: columns.get()?,
    })
}

fn log_line(row: &Row) -> Result<LogLine, Nonsense> {
    let columns = &mut Columns::of(row);
    Ok(LogLine { number: columns.get()?, at: columns.get()?, stream: columns.get()?, text: said(columns.raw()?) })
}

fn uuids(builds: &[BuildId]) -> Vec<Uuid> {
    builds.iter().map(|build| *build.as_uuid()).collect()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl PostgresStore {
    /// Sends a statement and reads all rows of its answer.
    pub(super) async fn ask<T>(
        &self,
        statement: &'static Statement,
        values: Parameters,
        read: impl Fn(&Row) -> Result<T, Nonsense>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.shared().rows(statement, values).await?;
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|nonsense| self.shared().spoilt(&nonsense))
    }

    /// Sends a statement whose answer is yes or no.
    pub(super) async fn is_so(&self, statement: &'static Statement, values: Parameters) -> Result<bool, StoreError> {
        let answer = self.ask(statement, values, |row| Columns::of(row).raw()).await?;
        Ok(answer.first().copied().unwrap_or_default())
    }

    async fn a_build(&self, statement: &'static Statement, values: Parameters) -> Result<Option<Build>, StoreError> {
        Ok(self.some_builds(statement, values).await?.pop())
    }

    async fn some_builds(&self, statement: &'static Statement, values: Parameters) -> Result<Vec<Build>, StoreError> {
        self.ask(statement, values, build).await
    }
}

#[async_trait]
impl BuildStore for PostgresStore {
    async fn start_build(&self, build: NewBuild) -> Result<Build, StoreError> {
        let NewBuild { id, project, operation, holder, token, request } = build;
        let values = parameters![
            self.shared().at_ms(),
            *id.as_uuid(),
            String::from(project),
            String::from(operation),
            String::from(holder),
            number(token.get()),
            *request.as_uuid(),
        ];
        let started = self.a_build(&START_BUILD, values).await?;
        started.ok_or_else(|| StoreError::Protocol("a build that was started is not on record".to_owned()))
    }

    async fn append_log(&self, build: BuildId, lines: Vec<(LogStream, String)>) -> Result<Vec<LogLine>, StoreError> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let streams: Vec<_> = lines.iter().map(|(stream, _)| stream.as_str()).collect();
        let texts: Vec<_> = lines.iter().map(|(_, text)| kept(text).into_owned()).collect();
        let values = parameters![self.shared().at_ms(), *build.as_uuid(), streams, texts];
        let first = |row: &Row| {
            let columns = &mut Columns::of(row);
            Ok((columns.get::<u64>()?, columns.get()?))
        };
        let Some((first, at)) = self.ask(&APPEND_LOG, values, first).await?.pop() else { return Ok(Vec::new()) };
        let line = |(number, (stream, text))| LogLine { number, at, stream, text };
        Ok((first..).zip(lines).map(line).collect())
    }

    async fn end_build(&self, build: BuildId, end: BuildEnd) -> Result<Option<Build>, StoreError> {
        let BuildEnd { status, exit_code, reason } = end;
        let reason = reason.map(|reason| kept(&reason).into_owned());
        let values = parameters![self.shared().at_ms(), *build.as_uuid(), status.as_str(), exit_code, reason];
        self.a_build(&END_BUILD, values).await
    }

    async fn build(&self, build: BuildId) -> Result<Option<Build>, StoreError> {
        self.a_build(&BUILD, parameters![*build.as_uuid()]).await
    }

    async fn build_of_request(&self, request: RequestId) -> Result<Option<Build>, StoreError> {
        self.a_build(&BUILD_OF_REQUEST, parameters![*request.as_uuid()]).await
    }

    async fn builds(
        &self,
        project: Option<&ProjectId>,
        before: Option<BuildId>,
        limit: usize,
    ) -> Result<Vec<Build>, StoreError> {
        let before = before.map_or(Uuid::max(), |before| *before.as_uuid());
        let limit = number(limit as u64);
        match project {
            None => self.some_builds(&BUILDS, parameters![before, limit]).await,
            Some(project) => {
                let values = parameters![project.as_str().to_owned(), before, limit];
                self.some_builds(&BUILDS_OF_PROJECT, values).await
            }
        }
    }

    async fn running_builds(&self) -> Result<Vec<Build>, StoreError> {
        self.some_builds(&RUNNING_BUILDS, parameters![]).await
    }

    async fn builds_ended_within(&self, age: Duration, limit: usize) -> Result<Vec<Build>, StoreError> {
        let values = parameters![self.shared().at_ms(), millis(age), number(limit as u64)];
        self.some_builds(&BUILDS_ENDED_WITHIN, values).await
    }

    async fn log(&self, build: BuildId, after: u64, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        let values = parameters![*build.as_uuid(), number(after), number(limit as u64)];
        self.ask(&LOG, values, log_line).await
    }

    async fn prune_builds(&self, retention: BuildRetention) -> Result<Vec<BuildId>, StoreError> {
        let max_age = retention.max_age.map(millis);
        let max_bytes = retention.max_bytes.map(number);
        let values = parameters![self.shared().at_ms(), max_age, max_bytes, PRUNE_BUILDS_LIMIT, PRUNE_LINES_LIMIT];
        let gone = self.ask(&PRUNE_BUILDS, values, |row| Columns::of(row).array()).await?;
        Ok(gone.into_iter().flatten().collect())
    }

    fn shared_builds(&self) -> Option<&dyn SharedBuilds> {
        Some(self)
    }
}

#[async_trait]
impl SharedBuilds for PostgresStore {
    async fn keep_builds(
        &self,
        server: &BuildServer,
        builds: Vec<BuildId>,
    ) -> Result<Vec<(BuildId, Holder)>, StoreError> {
        let values = parameters![self.shared().at_ms(), server.id, server.name.clone(), uuids(&builds)];
        let wanted = |row: &Row| {
            let columns = &mut Columns::of(row);
            Ok((columns.get()?, columns.get()?))
        };
        self.ask(&KEEP_BUILDS, values, wanted).await
    }

    async fn cancel_build(&self, build: BuildId, by: &Holder) -> Result<bool, StoreError> {
        let values = parameters![*build.as_uuid(), by.as_str().to_owned()];
        self.is_so(&CANCEL_BUILD, values).await
    }

    async fn progress(&self, builds: Vec<BuildId>) -> Result<Vec<BuildProgress>, StoreError> {
        let progress = |row: &Row| {
            let columns = &mut Columns::of(row);
            Ok(BuildProgress { build: columns.get()?, log_lines: columns.get()?, has_ended: columns.raw()? })
        };
        self.ask(&PROGRESS, parameters![uuids(&builds)], progress).await
    }

    async fn abandoned_builds(&self) -> Result<Vec<AbandonedBuild>, StoreError> {
        let abandoned = |row: &Row| {
            let columns = &mut Columns::of(row);
            Ok(AbandonedBuild { build: columns.get()?, server: columns.raw()? })
        };
        self.ask(&BUILDS_WITHOUT_LEASE, parameters![self.shared().at_ms()], abandoned).await
    }

    async fn lose_build(&self, build: BuildId, reason: String) -> Result<bool, StoreError> {
        let values = parameters![self.shared().at_ms(), *build.as_uuid(), kept(&reason).into_owned()];
        self.is_so(&LOSE_BUILD, values).await
    }

    async fn builds_that_left_a_lease(&self, ended_within: Duration) -> Result<Vec<Build>, StoreError> {
        self.some_builds(&LEASES_WITHOUT_BUILD, parameters![self.shared().at_ms(), millis(ended_within)]).await
    }
}
