//! A service on a file of its own: its line to the store can fail, and its store's clock is the
//! test's to move.

use std::path::PathBuf;
use std::sync::Arc;

use buildlock::{Command, LeaseGuard, LockService, LockStore, Outcome, ProjectId, Reason, SqliteStore, Wait};

use super::ask::{Ask, project, request};
use super::clock::TestClock;
use super::faulty::Faulty;

/// The project is called `site`.
pub(crate) struct Site {
    pub(crate) service: LockService,
    /// What the service has of the store.
    pub(crate) line: Arc<Faulty>,
    /// The store itself, for others who use it.
    pub(crate) store: SqliteStore,
    pub(crate) clock: TestClock,
    pub(crate) path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks.db");
        let clock = TestClock::new();
        let store = SqliteStore::open_with_clock(&path, Arc::new(clock.clone())).await.unwrap();
        let line = Faulty::around(Arc::new(store.clone()));
        let service = LockService::with_store(Arc::clone(&line) as Arc<dyn LockStore>);
        Self { service, line, store, clock, path, _folder: folder }
    }

    /// The store as another process has it.
    pub(crate) async fn elsewhere(&self) -> SqliteStore {
        SqliteStore::open_with_clock(&self.path, Arc::new(self.clock.clone())).await.unwrap()
    }

    /// What an operator types into `sqlite3`.
    pub(crate) fn by_hand(&self, sql: &str) {
        rusqlite::Connection::open(&self.path).unwrap().execute_batch(sql).unwrap();
    }

    /// Ana holds the project.
    pub(crate) async fn locked(&self) -> LeaseGuard {
        self.service.lock(&the_project(), request("ana"), Wait::NONE).await.unwrap()
    }

    /// Whether the project is idle.
    pub(crate) async fn is_idle(&self) -> bool {
        self.store.holder("site").await.is_none()
    }

    /// An operator ends the lease that lives.
    pub(crate) async fn force_unlock(&self) {
        let token = self.store.see("site").await.lease.unwrap().token;
        let reason: Reason = "stuck".parse().unwrap();
        let command = Command::ForceUnlock { token, by: "ops".parse().unwrap(), reason };
        assert!(matches!(self.store.ask("site", command).await.outcome, Outcome::Ended(_)));
    }
}

pub(crate) fn the_project() -> ProjectId {
    project("site")
}
