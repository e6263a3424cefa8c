//! The one thread that decides: it takes all waiting requests into one transaction, which
//! `durable.rs` makes durable before they are answered (rule 12). What each request does is in
//! `requests.rs`.

use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use buildlock_core::{ProjectId, Timestamp};
use foldhash::{HashMap, HashMapExt};
use rusqlite::{Connection, Result};
use tokio::sync::watch;

use super::builds::BuildStatements;
use super::checkup::checkup;
use super::clock::Clock;
use super::durable::{Durable, Group};
use super::granted::Granted;
use super::inbox::{Inbox, Jobs};
use super::keys::KeyStatements;
use super::open::store_error;
use super::rows::{NewEvent, ProjectRow, Statements, StoreRow};
use crate::StoreError;
use crate::store::{EventId, Finding};
use crate::tally::Tally;
use crate::watches::Watches;

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
    /// Why nothing can be written any more.
    pub(super) broken: OnceLock<StoreError>,
    /// Counts what happens, if the program wants to know.
    pub(super) tally: OnceLock<Tally>,
}

impl Shared {
    fn somebody_waits(&self) -> bool {
        self.newest.receiver_count() > 0 || !self.watches.is_empty()
    }

    pub(super) fn tell_newest(&self, newest: EventId) {
        self.newest.send_if_modified(|told| {
            let is_news = *told < newest;
            *told = newest.max(*told);
            is_news
        });
    }
}

pub(super) struct Writer<'c> {
    path: PathBuf,
    connection: &'c Connection,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    durable: Durable,
    pub(super) sql: Statements<'c>,
    pub(super) builds: BuildStatements<'c>,
    pub(super) keys: KeyStatements<'c>,
    /// The version of the file that everything below was read from; none if nothing is known.
    version: Option<i64>,
    pub(super) store: StoreRow,
    pub(super) newest: EventId,
    pub(super) granted: Granted,
    /// The newest event that those who wait were told of.
    told: EventId,
    pub(super) projects: HashMap<ProjectId, ProjectRow>,
    pub(super) batch: Batch,
}

/// What is to be written, or told, of the transaction under way.
#[derive(Default)]
pub(super) struct Batch {
    /// The time by the store's clock.
    pub(super) now: Timestamp,
    /// The projects whose rows are not written yet: once each, however often they change.
    pub(super) unsaved: Vec<ProjectId>,
    /// What happened in it.
    pub(super) events: Vec<NewEvent>,
    /// How many of these are written.
    pub(super) events_written: usize,
    pub(super) wrote: bool,
}

impl<'c> Writer<'c> {
    pub(super) fn new(
        path: PathBuf,
        connection: &'c Connection,
        clock: Arc<dyn Clock>,
        shared: Arc<Shared>,
    ) -> Result<Self, StoreError> {
        let durable = Durable::new(path.clone(), connection, Arc::clone(&shared))?;
        let read = || {
            let mut sql = Statements::prepare(connection)?;
            let version = Some(sql.data_version()?);
            let (store, newest, granted) = (sql.load_store()?, sql.last_event()?, sql.load_granted()?);
            let (builds, keys) = (BuildStatements::prepare(connection)?, KeyStatements::prepare(connection)?);
            Ok((sql, builds, keys, version, store, newest, granted))
        };
        let (sql, builds, keys, version, store, newest, granted) =
            read().map_err(|error| store_error(&path, &error))?;
        shared.newest.send_replace(newest);
        Ok(Self {
            path,
            connection,
            clock,
            shared,
            durable,
            sql,
            builds,
            keys,
            version,
            store,
            newest,
            granted,
            told: newest,
            projects: HashMap::new(),
            batch: Batch::default(),
        })
    }

    /// Serves until the store is closed.
    pub(super) fn run(mut self) {
        loop {
            let mut jobs = Jobs::new();
            let patience = self.shared.somebody_waits().then_some(LOOK_EVERY);
            if !self.shared.inbox.take(&mut jobs, patience) {
                return;
            }
            if jobs.is_empty() {
                self.look_around();
                continue;
            }
            match self.transact(&mut jobs) {
                Ok(worked) => self.answer(jobs, worked),
                Err(error) => jobs.into_iter().for_each(|job| job.finish(Err(error.clone()))),
            }
        }
    }

    /// Decides all requests in one transaction, and tells how long it was at work. If it fails, nothing
    /// of it has happened.
    fn transact(&mut self, jobs: &mut Jobs) -> Result<Duration, StoreError> {
        if let Some(broken) = self.shared.broken.get() {
            return Err(broken.clone());
        }
        self.try_transact(jobs).map_err(|error| {
            // The first error is the one to tell. A rollback fails if there is nothing to roll back.
            let _ = self.connection.execute_batch("rollback");
            self.batch = Batch::default();
            self.forget();
            store_error(&self.path, &error)
        })
    }

    fn try_transact(&mut self, jobs: &mut Jobs) -> Result<Duration> {
        let mut started = Instant::now();
        self.sql.begin()?;
        self.catch_up()?;
        let (mut done, mut worked) = (0, Duration::ZERO);
        loop {
            // Read anew for those who came later: a lease must not end before its TTL has passed since
            // its request was sent (rule 14).
            self.batch.now = self.store.clock.now(&*self.clock);
            for job in &mut jobs[done..] {
                job.run(self)?;
            }
            (done, worked) = (jobs.len(), worked + started.elapsed());
            let is_complete = !self.shared.inbox.take_more(jobs, worked);
            started = Instant::now();
            if is_complete {
                break;
            }
        }
        self.write()?;
        if self.batch.wrote {
            let wall_ahead_ms = self.store.clock.wall_ahead_ms(&*self.clock);
            self.sql.save_store(self.batch.now, wall_ahead_ms, self.store.next_token)?;
        }
        self.sql.commit()?;
        Ok(worked + started.elapsed())
    }

    /// Has the requests answered, and those told whom the transaction concerns, once it is durable.
    fn answer(&mut self, jobs: Jobs, worked: Duration) {
        let Batch { events, wrote, .. } = mem::take(&mut self.batch);
        self.told = self.newest;
        self.durable.answer(Group { jobs, worked, events, newest: self.newest, wrote });
        if self.projects.len() > CACHE_LIMIT {
            self.projects = HashMap::new();
        }
    }

    /// Writes what has changed so far: many events with one statement, and each project once.
    pub(super) fn write(&mut self) -> Result<()> {
        self.sql.insert_events(&self.batch.events[self.batch.events_written..])?;
        self.batch.events_written = self.batch.events.len();
        for project in self.batch.unsaved.drain(..) {
            if let Some(row) = self.projects.get_mut(&project) {
                self.sql.save_project(row)?;
            }
        }
        Ok(())
    }

    /// What a row that cannot be read means to whoever asked for it.
    pub(super) fn spoilt(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::Spoilt { path: self.path.clone(), detail: error.to_string() }
    }

    pub(super) fn checkup(&mut self) -> Result<Vec<Finding>> {
        self.write()?;
        let unreadable = self.sql.unreadable_projects()?;
        let wall_ahead_ms = self.store.clock.wall_ahead_ms(&*self.clock);
        checkup(&self.path, self.connection, self.batch.now, wall_ahead_ms, self.store.retention, &unreadable)
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
        (self.newest, self.granted) = (self.sql.last_event()?, self.sql.load_granted()?);
        while self.told < self.newest && self.shared.somebody_waits() {
            let page = self.sql.events_after(self.told, NEWS_PAGE)?;
            let Some(last) = page.last() else { break };
            self.told = last.id;
            self.shared.watches.tell(page.iter().map(|recorded| &recorded.event));
        }
        self.told = self.newest;
        self.shared.tell_newest(self.newest);
        self.version = version;
        Ok(())
    }

    fn forget(&mut self) {
        self.version = None;
        self.projects.clear();
        self.shared.watches.tell_all();
    }
}
