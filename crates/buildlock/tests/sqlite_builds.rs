//! The SQLite store keeps builds and keys as every store must; and what is particular to its file.

mod support;
#[macro_use]
mod builds_conformance;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use buildlock::{BuildId, BuildRetention, BuildStore, KeyStore, LockStore, Outcome, SqliteStore, Verdict};
use builds_conformance::Builds;
use rusqlite::Connection;
use support::ask::{Ask, project};
use support::clock::TestClock;

/// A file in a folder of its own. Another handle is another connection with another writer, which is
/// what another process has.
struct SqliteWorld {
    store: Option<SqliteStore>,
    path: PathBuf,
    clock: TestClock,
    _folder: tempfile::TempDir,
}

impl builds_conformance::World for SqliteWorld {
    type Store = SqliteStore;

    async fn fresh() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks.db");
        let mut world = Self { store: None, path, clock: TestClock::new(), _folder: folder };
        world.reopen().await;
        world
    }

    fn store(&self) -> &SqliteStore {
        self.store.as_ref().unwrap()
    }

    async fn another(&self) -> SqliteStore {
        SqliteStore::open_with_clock(&self.path, Arc::new(self.clock.clone())).await.unwrap()
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.another().await);
    }

    fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }
}

builds_conformance!(SqliteWorld);

/// What an operator types into `sqlite3`.
fn by_hand(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// A file as version 1 of buildlock made it, with its clock set, a project that is held and one that was.
fn version_1(path: &Path) {
    by_hand(path, include_str!("../src/sqlite/sql/0001_locks.sql"));
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.pragma_update(None, "application_id", 0x626c_636b).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).unwrap();
    connection.execute_batch(include_str!("support/version_1.sql")).unwrap();
}

/// A machine is updated: what is held stays held, what was said stays said.
#[tokio::test]
async fn a_file_of_version_1_is_upgraded_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("locks.db");
    version_1(&path);
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.version(), 3);
    let held = store.see("held").await.lease.unwrap();
    assert_eq!((held.holder.as_str(), held.token.get()), ("ana", 2));
    assert!(matches!(store.renew("held", &held).await, Outcome::Held(_)));
    assert_eq!(store.all_events(buildlock::EventId(0)).await.len(), 3);
    assert!(store.held("idle", "ben").await.token.get() > 2);
    let build = store.finished("new", 2).await;
    assert_eq!(store.keys().await.unwrap(), []);
    drop(store);
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.builds(None, None, 10).await.unwrap(), [build]);
}

/// Several programs are updated one by one, and one of them is the first.
#[tokio::test]
async fn a_file_is_upgraded_under_a_program_that_has_it_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("locks.db");
    version_1(&path);
    let older = Connection::open(&path).unwrap();
    let count = |connection: &Connection| {
        connection.query_row("select count(*) from projects", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(count(&older), 2);
    let store = SqliteStore::open(&path).await.unwrap();
    store.held("new", "ana").await;
    assert_eq!(count(&older), 3);
}

/// An operator deletes a project: whoever makes it anew sees nothing of it.
#[tokio::test]
async fn the_builds_of_a_project_deleted_by_hand_are_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("locks.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let (gone, kept) = (store.finished("gone", 1).await, store.finished("kept", 1).await);
    by_hand(&path, "delete from projects where id = 'gone'");
    assert_eq!(store.build(gone.id).await.unwrap(), None);
    assert_eq!(store.builds(Some(&project("gone")), None, 10).await.unwrap(), []);
    assert_eq!(store.prune_builds(BuildRetention::default()).await.unwrap(), [gone.id]);
    assert_eq!(store.builds(None, None, 10).await.unwrap(), [kept]);
}

/// No line is left whose build is gone.
#[tokio::test]
async fn a_build_deleted_by_hand_takes_its_log_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("locks.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let (_, kept) = (store.finished("site", 3).await, store.finished("site", 2).await);
    by_hand(&path, "delete from builds where log_lines = 3");
    assert_eq!(store.all_builds().await, [kept.id]);
    let lines = Connection::open(&path).unwrap().query_row("select count(*) from build_log", [], |row| row.get(0));
    assert_eq!(lines, Ok(2));
}

#[tokio::test]
async fn a_checkup_counts_builds() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("locks.db")).await.unwrap();
    store.finished("site", 300).await;
    store.running("site").await;
    let findings = store.checkup().await.unwrap();
    let builds = findings.iter().find(|finding| finding.what == "builds").unwrap();
    assert_eq!(
        (builds.verdict, builds.detail.as_str()),
        (Verdict::Good, "1 running, 1 finished; their logs have 2 KiB")
    );
    assert_eq!(store.build(BuildId::fresh()).await.unwrap(), None);
}
