//! What every store of locks can do.

use std::time::Duration;

use async_trait::async_trait;
use buildlock_core::{Command, Holder, ProjectId};
use tokio::sync::{oneshot, watch as watch_channel};
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;

use super::PostgresStore;
use super::columns::{Columns, Nonsense, number};
use super::frontier::Snapshot;
use super::rows::{deleted, recorded, status};
use super::sql::VERSION;
use super::statement::{
    CREATE_PROJECT, DELETE_PROJECT, EVENTS_AFTER, HISTORY, PROJECT_STATUS, PROJECTS, Parameters, RETENTION,
    SET_RETENTION, SETTLE_DUE, Statement, parameters,
};
use crate::StoreError;
use crate::store::{Answer, Deleted, EventId, Finding, LockStore, News, Recorded, Retention, Status, Watcher};

/// How many projects, or old events, one request settles: it bounds how long others wait for it.
const SETTLE_LIMIT: i32 = 1_000;

/// How long whoever asks for events waits for the first of them, where it comes after a gap that may still be filled:
/// most are filled within a commit's time, and of the others it is known by then that nobody fills them.
const GAP_WITHIN: Duration = Duration::from_millis(300);

/// How soon to look again.
const GAP_EVERY: Duration = Duration::from_millis(10);

impl PostgresStore {
    /// Asks for one row.
    pub(super) async fn row(&self, statement: &'static Statement, parameters: Parameters) -> Result<Row, StoreError> {
        let rows = self.shared().rows(statement, parameters).await?;
        rows.into_iter().next().ok_or_else(|| StoreError::Protocol("an answer is missing".to_owned()))
    }

    /// Reads rows, without those that cannot be read: they are somebody else's work, and hide no others.
    fn readable<T>(&self, rows: &[Row], read: impl Fn(&Row) -> Result<T, Nonsense>) -> Vec<T> {
        let warn = |nonsense: &Nonsense| {
            tracing::warn!(%nonsense, store = self.shared().address.shown, "a row makes no sense, and is left out");
        };
        rows.iter().filter_map(|row| read(row).inspect_err(warn).ok()).collect()
    }

    fn read<T>(&self, read: Result<T, Nonsense>) -> Result<T, StoreError> {
        read.map_err(|nonsense| self.shared().spoilt(&nonsense))
    }

    /// How many of these events may be read: the rest come after a gap that may still be filled.
    fn settled(&self, known: u64, after: EventId, rows: &[Row]) -> Result<usize, Nonsense> {
        let ids: Vec<u64> = rows.iter().map(|row| Columns::of(row).get()).collect::<Result<_, _>>()?;
        let Some(last) = rows.last() else { return Ok(0) };
        let column = |column| last.try_get::<_, i64>(column).map_err(Nonsense::of);
        let snapshot = Snapshot { xmin: column("snapshot_xmin")?, xmax: column("snapshot_xmax")? };
        let news = &self.shared().news;
        let count = news.with_frontier(|frontier| frontier.readable(known, after.0, &ids, snapshot));
        news.has_come();
        Ok(count)
    }
}

/// A limit as SQL has it.
fn at_most(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

#[async_trait]
impl LockStore for PostgresStore {
    async fn apply(&self, project: &ProjectId, command: Command) -> Result<Answer, StoreError> {
        let counted = self.shared().counting.get().zip(match &command {
            Command::Lock { request, .. } => Some(request.id),
            _ => None,
        });
        let asked_at = Instant::now();
        if let Some((counting, request)) = counted {
            counting.sent(request);
        }
        let (reply, answer) = oneshot::channel();
        self.database.push(project, command, Some(reply));
        let answer = answer.await.unwrap_or(Err(StoreError::Closed));
        if let Some((counting, request)) = counted {
            counting.tally.answered(&answer, asked_at.elapsed());
            counting.answered(request, &answer);
        }
        answer
    }

    fn send(&self, project: &ProjectId, command: Command) {
        self.database.push(project, command, None);
    }

    async fn status(&self, project: &ProjectId) -> Result<Option<Status>, StoreError> {
        let asked = parameters![self.shared().at_ms(), project.as_str().to_owned()];
        let rows = self.shared().rows(&PROJECT_STATUS, asked).await?;
        rows.first().map(|row| self.read(status(row))).transpose()
    }

    async fn projects(&self, after: Option<&ProjectId>, limit: usize) -> Result<Vec<Status>, StoreError> {
        let mut after = after.map(|after| after.as_str().to_owned());
        let mut statuses = Vec::new();
        // A page is full unless it is the last, whatever is left out of it.
        while statuses.len() < limit {
            let asked = parameters![self.shared().at_ms(), after.clone(), at_most(limit - statuses.len())];
            let rows = self.shared().rows(&PROJECTS, asked).await?;
            let Some(last) = rows.last() else { break };
            after = Some(self.read(Columns::of(last).raw::<String>())?);
            statuses.extend(self.readable(&rows, status));
        }
        Ok(statuses)
    }

    async fn create_project(&self, project: &ProjectId, owner: &Holder) -> Result<bool, StoreError> {
        let asked = parameters![self.shared().at_ms(), project.as_str().to_owned(), owner.as_str().to_owned()];
        let row = self.row(&CREATE_PROJECT, asked).await?;
        self.shared().news.wrote(false);
        self.read(Columns::of(&row).raw())
    }

    async fn delete_project(&self, project: &ProjectId, by: &Holder) -> Result<Deleted, StoreError> {
        let asked = parameters![self.shared().at_ms(), project.as_str().to_owned(), by.as_str().to_owned()];
        let row = self.row(&DELETE_PROJECT, asked).await?;
        self.shared().news.wrote(false);
        self.read(deleted(&row))
    }

    async fn history(
        &self,
        project: Option<&ProjectId>,
        before: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        let project = project.map(|project| project.as_str().to_owned());
        let asked = parameters![project, before.map(|before| number(before.0)), at_most(limit)];
        let rows = self.shared().rows(&HISTORY, asked).await?;
        Ok(self.readable(&rows, recorded))
    }

    async fn events_after(&self, after: EventId, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        let shared = self.shared();
        let give_up_at = Instant::now() + GAP_WITHIN;
        loop {
            let known = shared.news.with_frontier(|frontier| frontier.settled());
            let mut rows = shared.rows(&EVENTS_AFTER, parameters![number(after.0), at_most(limit)]).await?;
            let settled = self.settled(known, after, &rows);
            let settled = self.read(settled)?;
            if settled > 0 || rows.is_empty() || Instant::now() >= give_up_at {
                rows.truncate(settled);
                return Ok(self.readable(&rows, recorded));
            }
            if shared.news.with_frontier(|frontier| frontier.wants_takers()) {
                shared.news.ask_takers(shared).await?;
            }
            sleep(GAP_EVERY).await;
        }
    }

    fn newest_event(&self) -> watch_channel::Receiver<EventId> {
        self.shared().news.newest_event()
    }

    async fn settle_due(&self) -> Result<Option<Duration>, StoreError> {
        let row = self.row(&SETTLE_DUE, parameters![self.shared().at_ms(), SETTLE_LIMIT]).await?;
        self.shared().news.wrote(true);
        let next_due_ms = self.read(Columns::of(&row).optional::<u64>())?;
        Ok(next_due_ms.map(Duration::from_millis))
    }

    async fn retention(&self) -> Result<Retention, StoreError> {
        let row = self.row(&RETENTION, parameters![]).await?;
        let columns = &mut Columns::of(&row);
        let mut read = || Ok((columns.optional::<u64>()?, columns.optional()?));
        let (max_age_ms, max_events) = self.read(read())?;
        Ok(Retention { max_age: max_age_ms.map(Duration::from_millis), max_events })
    }

    async fn set_retention(&self, retention: Retention) -> Result<(), StoreError> {
        // What does not fit is longer, or more, than any history: it means for ever.
        let max_age_ms = retention.max_age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        self.row(&SET_RETENTION, parameters![max_age_ms, retention.max_events.map(number)]).await.map(drop)
    }

    fn version(&self) -> u32 {
        VERSION
    }

    async fn checkup(&self) -> Result<Vec<Finding>, StoreError> {
        self.look_over().await
    }

    fn watch(&self, _project: &ProjectId, news: News) -> Watcher {
        self.shared().news.watch(news)
    }
}
