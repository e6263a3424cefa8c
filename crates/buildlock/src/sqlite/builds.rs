//! Builds and their logs: rows, what each request does within the writer's transaction, and the
//! [`BuildStore`] that asks for it.

use std::time::Duration;

use async_trait::async_trait;
use buildlock_core::{ProjectId, RequestId, Timestamp};
use rusqlite::{OptionalExtension, Result, Row, params};
use uuid::Uuid;

use super::SqliteStore;
use super::columns::{Sql, optional};
use super::statements::statements;
use super::writer::Writer;
use crate::StoreError;
use crate::builds::{Build, BuildEnd, BuildId, BuildRetention, BuildStatus, BuildStore, LogLine, LogStream, NewBuild};

/// How many builds one request removes, and after how many lines of logs it leaves the rest to the next:
/// it bounds how long others wait for it.
const PRUNE_BUILDS: usize = 1_000;
const PRUNE_LINES: u64 = 10_000;

statements!(
    BuildStatements:
    known_build,
    insert_build,
    load_build,
    build_of_request,
    running_build,
    end_build,
    list_builds,
    list_builds_of_project,
    list_running_builds,
    list_ended_builds,
    insert_log_line,
    save_log_size,
    load_log,
    deleted_builds,
    oldest_builds,
    log_bytes,
    delete_builds,
    delete_build,
    delete_log,
);

/// What decides whether a build is kept.
struct Prunable {
    number: i64,
    id: BuildId,
    ended_at: Option<Timestamp>,
    log_lines: u64,
    log_bytes: u64,
}

impl Writer<'_> {
    fn start_build(&mut self, new: &NewBuild) -> Result<Build> {
        let NewBuild { id, project, operation, holder, token, request } = new.clone();
        let known = self.builds.known_build.query_row(params![Sql(request), Sql(id)], build).optional()?;
        if let Some(known) = known {
            return Ok(known);
        }
        let started_at = self.batch.now;
        self.batch.wrote = true;
        self.builds.insert_build.execute(params![
            Sql(id),
            project.as_str(),
            operation.as_str(),
            holder.as_str(),
            Sql(token),
            Sql(request),
            Sql(started_at),
        ])?;
        Ok(Build {
            id,
            project,
            operation,
            holder,
            token,
            request,
            status: BuildStatus::Running,
            exit_code: None,
            reason: None,
            started_at,
            ended_at: None,
            log_lines: 0,
        })
    }

    fn append_log(&mut self, id: BuildId, lines: &[(LogStream, String)]) -> Result<Vec<LogLine>> {
        let running = self
            .builds
            .running_build
            .query_row([Sql(id)], |row| Ok((row.get::<_, i64>(0)?, count(row, 1)?)))
            .optional()?;
        let Some((build, before)) = running.filter(|_| !lines.is_empty()) else { return Ok(Vec::new()) };
        let at = self.batch.now;
        self.batch.wrote = true;
        let mut taken = Vec::with_capacity(lines.len());
        let mut bytes = 0;
        for (number, (stream, text)) in (before + 1..).zip(lines) {
            let values = params![build, number as i64, Sql(at), stream.as_str(), text];
            self.builds.insert_log_line.execute(values)?;
            bytes += text.len();
            taken.push(LogLine { number, at, stream: *stream, text: text.clone() });
        }
        let log_lines = before + lines.len() as u64;
        self.builds.save_log_size.execute(params![build, log_lines as i64, bytes as i64])?;
        Ok(taken)
    }

    fn end_build(&mut self, id: BuildId, end: &BuildEnd) -> Result<Option<Build>> {
        if end.status != BuildStatus::Running {
            let BuildEnd { status, exit_code, reason } = end;
            let values = params![Sql(id), status.as_str(), exit_code, reason, Sql(self.batch.now)];
            self.batch.wrote |= self.builds.end_build.execute(values)? > 0;
        }
        self.build(id)
    }

    fn build(&mut self, id: BuildId) -> Result<Option<Build>> {
        self.builds.load_build.query_row([Sql(id)], build).optional()
    }

    fn build_of_request(&mut self, request: RequestId) -> Result<Option<Build>> {
        self.builds.build_of_request.query_row([Sql(request)], build).optional()
    }

    fn list_builds(
        &mut self,
        project: Option<&ProjectId>,
        before: Option<BuildId>,
        limit: usize,
    ) -> Result<Vec<Build>> {
        let before = Sql(before.unwrap_or(BuildId::from(Uuid::max())));
        match project {
            None => self.builds.list_builds.query_map(params![before, limit as i64], build)?.collect(),
            Some(project) => {
                let values = params![project.as_str(), before, limit as i64];
                self.builds.list_builds_of_project.query_map(values, build)?.collect()
            }
        }
    }

    fn running_builds(&mut self) -> Result<Vec<Build>> {
        self.builds.list_running_builds.query_map([], build)?.collect()
    }

    fn builds_ended_within(&mut self, age: Duration, limit: usize) -> Result<Vec<Build>> {
        let after = self.batch.now.before(age);
        self.builds.list_ended_builds.query_map(params![Sql(after), limit as i64], build)?.collect()
    }

    fn log(&mut self, id: BuildId, after: u64, limit: usize) -> Result<Vec<LogLine>> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.builds.load_log.query_map(params![Sql(id), after, limit as i64], log_line)?.collect()
    }

    /// Hides a project's builds, as their number may be large; they are removed with those that are no
    /// longer kept. Whoever makes the project anew must not see them.
    pub(super) fn delete_builds(&mut self, project: &ProjectId) -> Result<()> {
        self.builds.delete_builds.execute([project.as_str()]).map(drop)
    }

    fn prune_builds(&mut self, retention: BuildRetention) -> Result<Vec<BuildId>> {
        let too_old = retention.max_age.map(|age| self.batch.now.before(age));
        let mut excess_bytes = match retention.max_bytes {
            Some(max_bytes) => self.builds.log_bytes.query_row([], |row| count(row, 0))?.saturating_sub(max_bytes),
            None => 0,
        };
        let limit = [PRUNE_BUILDS as i64];
        let mut gone = self.builds.deleted_builds.query_map(limit, prunable)?.collect::<Result<Vec<_>>>()?;
        for build in self.builds.oldest_builds.query_map(limit, prunable)? {
            let build = build?;
            let is_too_old = too_old.is_some_and(|too_old| build.ended_at.is_some_and(|ended_at| ended_at <= too_old));
            if !is_too_old && excess_bytes == 0 {
                break;
            }
            excess_bytes = excess_bytes.saturating_sub(build.log_bytes);
            gone.push(build);
        }
        let mut lines = 0;
        let mut ids = Vec::new();
        for build in gone.iter().take(PRUNE_BUILDS) {
            if lines >= PRUNE_LINES {
                break;
            }
            self.builds.delete_log.execute([build.number])?;
            self.builds.delete_build.execute([build.number])?;
            lines += build.log_lines;
            ids.push(build.id);
        }
        self.batch.wrote |= !ids.is_empty();
        Ok(ids)
    }
}

fn build(row: &Row<'_>) -> Result<Build> {
    Ok(Build {
        id: row.get::<_, Sql<_>>(0)?.0,
        project: row.get::<_, Sql<_>>(1)?.0,
        operation: row.get::<_, Sql<_>>(2)?.0,
        holder: row.get::<_, Sql<_>>(3)?.0,
        token: row.get::<_, Sql<_>>(4)?.0,
        request: row.get::<_, Sql<_>>(5)?.0,
        status: row.get::<_, Sql<_>>(6)?.0,
        exit_code: row.get(7)?,
        reason: row.get(8)?,
        started_at: row.get::<_, Sql<_>>(9)?.0,
        ended_at: optional(row, 10)?,
        log_lines: count(row, 11)?,
    })
}

fn log_line(row: &Row<'_>) -> Result<LogLine> {
    Ok(LogLine {
        number: count(row, 0)?,
        at: row.get::<_, Sql<_>>(1)?.0,
        stream: row.get::<_, Sql<_>>(2)?.0,
        text: row.get(3)?,
    })
}

fn prunable(row: &Row<'_>) -> Result<Prunable> {
    Ok(Prunable {
        number: row.get(0)?,
        id: row.get::<_, Sql<_>>(1)?.0,
        ended_at: optional(row, 2)?,
        log_lines: count(row, 3)?,
        log_bytes: count(row, 4)?,
    })
}

fn count(row: &Row<'_>, column: usize) -> Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

#[async_trait]
impl BuildStore for SqliteStore {
    async fn start_build(&self, build: NewBuild) -> Result<Build, StoreError> {
        self.ask(move |writer| writer.start_build(&build)).await
    }

    async fn append_log(&self, build: BuildId, lines: Vec<(LogStream, String)>) -> Result<Vec<LogLine>, StoreError> {
        self.ask(move |writer| writer.append_log(build, &lines)).await
    }

    async fn end_build(&self, build: BuildId, end: BuildEnd) -> Result<Option<Build>, StoreError> {
        self.ask(move |writer| writer.end_build(build, &end)).await
    }

    async fn build(&self, build: BuildId) -> Result<Option<Build>, StoreError> {
        self.ask(move |writer| writer.build(build)).await
    }

    async fn build_of_request(&self, request: RequestId) -> Result<Option<Build>, StoreError> {
        self.ask(move |writer| writer.build_of_request(request)).await
    }

    async fn builds(
        &self,
        project: Option<&ProjectId>,
        before: Option<BuildId>,
        limit: usize,
    ) -> Result<Vec<Build>, StoreError> {
        let project = project.cloned();
        self.ask(move |writer| writer.list_builds(project.as_ref(), before, limit)).await
    }

    async fn running_builds(&self) -> Result<Vec<Build>, StoreError> {
        self.ask(|writer| writer.running_builds()).await
    }

    async fn builds_ended_within(&self, age: Duration, limit: usize) -> Result<Vec<Build>, StoreError> {
        self.ask(move |writer| writer.builds_ended_within(age, limit)).await
    }

    async fn log(&self, build: BuildId, after: u64, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        self.ask(move |writer| writer.log(build, after, limit)).await
    }

    async fn prune_builds(&self, retention: BuildRetention) -> Result<Vec<BuildId>, StoreError> {
        self.ask(move |writer| writer.prune_builds(retention)).await
    }
}
