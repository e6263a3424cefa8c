//! A row that no store would have written, as after a mishap with the file, keeps nobody from the rest.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use buildlock::{Command, EventId, EventKind, Finding, IfLocked, LockStore, SqliteStore, StoreError, Verdict};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use support::ask::{Ask, lease, project, request, seconds, ttl};
use support::clock::TestClock;
use tempfile::{TempDir, tempdir};
use tokio::task::JoinSet;

const AN_HOUR: Duration = Duration::from_secs(60 * 60);

/// What spoils the project `b`.
const SPOILT: [&str; 6] = [
    "update projects set owner = '' where id = 'b'",
    "update projects set locked_by = cast(x'ff' as text) where id = 'b'",
    "update projects set token = 0 where id = 'b'",
    "update projects set request = x'00' where id = 'b'",
    "update projects set id = 'b' || char(7) where id = 'b'",
    "update tickets set ttl_ms = 1 where project = (select number from projects where id = 'b')",
];

/// Ana holds `a`, `b` and `c`, Ben waits for each.
struct Shelf {
    store: SqliteStore,
    clock: TestClock,
    path: PathBuf,
    _folder: TempDir,
}

impl Shelf {
    async fn new() -> Self {
        let folder = tempdir().unwrap();
        let path = folder.path().join("locks.db");
        let clock = TestClock::new();
        let store = SqliteStore::open_with_clock(&path, Arc::new(clock.clone())).await.unwrap();
        for site in ["a", "b", "c"] {
            let mut short = request("ana");
            short.ttl = ttl(10);
            lease(store.lock(site, &short).await);
            store.queued(site, "ben").await;
        }
        Self { store, clock, path, _folder: folder }
    }

    /// What a mishap does to the file: no trigger sees it.
    fn spoil(&self, sql: &str) {
        let connection = Connection::open(&self.path).unwrap();
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).unwrap();
        assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
    }

    /// The projects that are listed, so many at a time.
    async fn listed(&self, limit: usize) -> Vec<String> {
        let mut listed = Vec::new();
        loop {
            let page = self.store.projects(listed.last(), limit).await.unwrap();
            let is_last = page.len() < limit;
            listed.extend(page.into_iter().map(|status| status.project));
            if is_last {
                return listed.into_iter().map(String::from).collect();
            }
        }
    }

    /// Who holds `b` once it has been looked at again.
    async fn see_holder_after(&self, time: Duration) -> Option<String> {
        self.clock.advance(time);
        self.store.settle_due().await.unwrap();
        self.store.holder("b").await
    }

    async fn finding(&self) -> Finding {
        let findings = self.store.checkup().await.unwrap();
        findings.into_iter().find(|finding| finding.what == "projects").unwrap()
    }
}

/// Rule 8, for everybody else.
#[tokio::test]
async fn a_spoilt_project_keeps_no_other_from_being_freed_and_listed() {
    for sql in SPOILT {
        let shelf = Shelf::new().await;
        shelf.spoil(sql);
        shelf.clock.advance(seconds(10));
        let next = shelf.store.settle_due().await.unwrap();
        assert!(next.is_none_or(|next| next > Duration::ZERO), "{sql}: it is looked at over and over");
        assert_eq!(shelf.store.holder("a").await.as_deref(), Some("ben"), "{sql}");
        assert_eq!(shelf.store.holder("c").await.as_deref(), Some("ben"), "{sql}");
        for limit in [1, 2, 100] {
            assert_eq!(shelf.listed(limit).await, ["a", "c"], "{sql}");
        }
        let finding = shelf.finding().await;
        assert_eq!(finding.verdict, Verdict::Bad, "{sql}");
        let told = "1 cannot be read and are left as they are, such as \"b";
        assert!(finding.detail.starts_with(told), "{sql}: {}", finding.detail);
    }
}

#[tokio::test]
async fn where_nothing_is_spoilt_the_checkup_says_so() {
    let shelf = Shelf::new().await;
    assert_eq!(shelf.listed(2).await, ["a", "b", "c"]);
    assert_eq!(shelf.finding().await, Finding::good("projects", "all can be read"));
}

/// Within an hour, without anybody's request making it happen.
#[tokio::test]
async fn a_project_that_was_put_right_goes_on() {
    let shelf = Shelf::new().await;
    shelf.spoil("update projects set owner = '' where id = 'b'");
    shelf.clock.advance(seconds(10));
    shelf.store.settle_due().await.unwrap();
    let error = shelf.store.status(&project("b")).await.unwrap_err();
    assert!(matches!(error, StoreError::Spoilt { .. }), "{error:?}");
    shelf.spoil("update projects set owner = 'ana' where id = 'b'");
    assert_eq!(shelf.see_holder_after(AN_HOUR).await, None);
    assert_eq!(shelf.store.kinds("b").await[..3], [EventKind::Granted, EventKind::Queued, EventKind::Expired]);
    assert_eq!(shelf.finding().await.verdict, Verdict::Good);
}

/// Rule 13: to delete it is what `doctor` says, and its event is spoilt as it was.
#[tokio::test]
async fn a_spoilt_project_can_be_deleted_by_hand() {
    for sql in SPOILT {
        let shelf = Shelf::new().await;
        let before = shelf.store.all_events(EventId(0)).await;
        let newest = shelf.store.newest_event();
        shelf.spoil(sql);
        Connection::open(&shelf.path).unwrap().execute("delete from projects where id like 'b%'", []).unwrap();
        let held = shelf.store.held("d", "ana").await;
        let after = shelf.store.all_events(before.last().unwrap().id).await;
        assert_eq!(after.last().unwrap().event.token, Some(held.token), "{sql}: what comes later is not told");
        assert_eq!(newest.borrow().0, after.last().unwrap().id.0);
        assert_eq!(shelf.finding().await.verdict, Verdict::Good);
    }
}

/// Though they share a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_about_a_spoilt_project_fail_alone() {
    let shelf = Shelf::new().await;
    shelf.spoil("update projects set owner = '' where id = 'b'");
    let mut tasks = JoinSet::new();
    for number in 0..300 {
        let store = shelf.store.clone();
        tasks.spawn(async move {
            let site = if number % 3 == 0 { "b".to_owned() } else { format!("site {number}") };
            let lock = Command::Lock { request: request("ana"), if_locked: IfLocked::Refuse };
            (site == "b", store.apply(&project(&site), lock).await)
        });
    }
    for (is_spoilt, answer) in tasks.join_all().await {
        assert_eq!(is_spoilt, matches!(answer, Err(StoreError::Spoilt { .. })), "{answer:?}");
    }
}
