//! The SQLite store does what every store must do.

mod support;
#[macro_use]
mod conformance;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use buildlock::{LockStore, SqliteStore};
use support::clock::TestClock;

/// A file in a folder of its own. Another handle is another connection with another writer, which is
/// what another process has.
struct SqliteWorld {
    store: Option<Arc<dyn LockStore>>,
    path: PathBuf,
    clock: TestClock,
    _folder: tempfile::TempDir,
}

impl conformance::World for SqliteWorld {
    async fn fresh() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks.db");
        let mut world = Self { store: None, path, clock: TestClock::new(), _folder: folder };
        world.reopen().await;
        world
    }

    fn store(&self) -> &Arc<dyn LockStore> {
        self.store.as_ref().unwrap()
    }

    async fn another(&self) -> Arc<dyn LockStore> {
        Arc::new(SqliteStore::open_with_clock(&self.path, Arc::new(self.clock.clone())).await.unwrap())
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.another().await);
    }

    fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }
}

conformance!(SqliteWorld);
