//! The one thread that writes: it takes all waiting requests into one transaction and answers them
//! after the commit (rule 12). What each request does is in `requests.rs`.

use std::collections::HashMap;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use buildlock_core::{Event, ProjectId, Timestamp};
use rusqlite::{Connection, Result};
use tokio::sync::watch;

use super::checkup::checkup;
use super::clock::Clock;
use super::inbox::{Inbox, Job};
use super::open::store_error;
use super::rows::{ProjectRow, Statements, StoreRow};
use super::watch::Watches;
use crate::StoreError;
use crate::store::{EventId, Finding};

/// How often to look whether another process has written, while somebody waits for news.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How many projects are kept in memory. Beyond that all are forgotten, and loaded again on use.
const CACHE_LIMIT: usize = 100_000;

/// How many events of other processes are read at a time.
const NEWS_PAGE: usize = 1_000;

/// What the writer shares with the store's handles.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) inbox: Inbox,
    pub(super) watches: Arc<Watches>,
    pub(super) newest: watch::Sender<EventId>,
}

impl Shared {
    fn somebody_waits(&self) -> bool {
        self.newest.receiver_count() > 0 || !self.watches.is_empty()
    }
}

pub(super) struct Writer<'c> {
    path: PathBuf,
    connection: &'c Connection,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    pub(super) sql: Statements<'c>,
    /// The version of the file that everything below was read from; none if nothing is known.
    version: Option<i64>,
    pub(super) store: StoreRow,
    pub(super) newest: EventId,
    /// The newest event that those who wait were told of.
    told: EventId,
    pub(super) projects: HashMap<ProjectId, ProjectRow>,
    pub(super) batch: Batch,
}

/// The transaction under way.
#[derive(Default)]
pub(super) struct Batch {
    /// Its time: one for all that it decides.
    pub(super) now: Timestamp,
    /// The projects whose rows are not written yet: once each, however often they change.
    pub(super) unsaved: Vec<ProjectId>,
    /// What happened in it.
    pub(super) events: Vec<Event>,
    pub(super) wrote: bool,
}

impl<'c> Writer<'c> {
    pub(super) fn new(
        path: PathBuf,
        connection: &'c Connection,
        clock: Arc<dyn Clock>,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let mut sql = Statements::prepare(connection)?;
        let version = Some(sql.data_version()?);
        let store = sql.load_store()?;
        let newest = sql.last_event()?;
        shared.newest.send_replace(newest);
        Ok(Self {
            path,
            connection,
            clock,
            shared,
            sql,
            version,
            store,
            newest,
            told: newest,
            projects: HashMap::new(),
            batch: Batch::default(),
        })
    }

    /// Serves until the store is closed.
    pub(super) fn run(mut self) {
        let mut jobs = Vec::new();
        let mut last = 0;
        loop {
            let patience = self.shared.somebody_waits().then_some(LOOK_EVERY);
            if !self.shared.inbox.take(&mut jobs, last, patience) {
                return;
            }
            last = jobs.len();
            if jobs.is_empty() {
                self.look_around();
            } else {
                let done = self.transact(&mut jobs);
                self.tell(&done);
                jobs.drain(..).for_each(|job| job.finish(done.clone()));
            }
        }
    }

    /// Runs all requests in one transaction. If it fails, nothing of it has happened.
    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        self.try_transact(jobs).map_err(|error| {
            // The first error is the one to tell. A rollback fails if there is nothing to roll back.
            let _ = self.connection.execute_batch("rollback");
            self.forget();
            store_error(&self.path, &error)
        })
    }

    fn try_transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<()> {
        self.sql.begin()?;
        self.catch_up()?;
        self.batch.now = self.store.clock.now(&*self.clock);
        for job in jobs {
            job.run(self)?;
        }
        self.save_projects()?;
        if self.batch.wrote {
            let wall_ahead_ms = self.store.clock.wall_ahead_ms(&*self.clock);
            self.sql.save_store(self.batch.now, wall_ahead_ms, self.store.next_token)?;
        }
        self.sql.commit()
    }

    /// Writes the rows of the projects that have changed.
    pub(super) fn save_projects(&mut self) -> Result<()> {
        for project in self.batch.unsaved.drain(..) {
            if let Some(row) = self.projects.get_mut(&project) {
                self.sql.save_project(row)?;
            }
        }
        Ok(())
    }

    pub(super) fn checkup(&mut self) -> Result<Vec<Finding>> {
        let wall_ahead_ms = self.store.clock.wall_ahead_ms(&*self.clock);
        checkup(&self.path, self.connection, self.batch.now, wall_ahead_ms, self.store.retention)
    }

    /// Wakes those whom the transaction concerns, once it is durable.
    fn tell(&mut self, done: &Result<(), StoreError>) {
        let batch = mem::take(&mut self.batch);
        if done.is_err() {
            return;
        }
        if self.told < self.newest {
            self.shared.watches.tell(&batch.events);
            self.told = self.newest;
            self.shared.newest.send_replace(self.newest);
        }
        if self.projects.len() > CACHE_LIMIT {
            self.projects = HashMap::new();
        }
    }

    /// Looks whether another process has written, and tells those whom it concerns.
    fn look_around(&mut self) {
        if let Err(error) = self.catch_up() {
            // Whoever waits asks the store again in time, and is told then.
            tracing::warn!(%error, "cannot look for news in {}", self.path.display());
            self.forget();
        }
    }

    /// Forgets what another process may have changed since, and tells of its events.
    fn catch_up(&mut self) -> Result<()> {
        let version = Some(self.sql.data_version()?);
        if version == self.version {
            return Ok(());
        }
        self.projects.clear();
        self.store = self.sql.load_store()?;
        self.newest = self.sql.last_event()?;
        while self.told < self.newest && self.shared.somebody_waits() {
            let page = self.sql.events_after(self.told, NEWS_PAGE)?;
            let Some(last) = page.last() else { break };
            self.told = last.id;
            self.shared.watches.tell(page.iter().map(|recorded| &recorded.event));
        }
        self.told = self.newest;
        self.shared.newest.send_replace(self.newest);
        self.version = version;
        Ok(())
    }

    fn forget(&mut self) {
        self.version = None;
        self.projects.clear();
        self.shared.watches.tell_all();
    }
}
