//! Rule 13: what an operator types into the `sqlite3` shell is respected, or refused with a reason. And
//! what the platform's own code reads there is the truth.

mod support;

use std::path::PathBuf;
use std::time::Duration;

use buildlock::{EventId, EventKind, How, LockService, LockStore, Loss, News, Outcome, SqliteStore, Wait};
use rusqlite::Connection;
use support::ask::{Ask, ended, lease, lost, project, refusal, request, seconds};
use support::replay::Replay;
use support::{soon, within};
use tempfile::{TempDir, tempdir};

/// What docs/operations.md tells an operator to type.
const FREE: &str = "update projects set build_status = 'idle', locked_by = null, locked_at = null where id = 'site'";

const A_SECOND: Duration = Duration::from_secs(1);

/// A store, and a connection to its file as the `sqlite3` shell has one.
struct Desk {
    store: SqliteStore,
    shell: Connection,
    path: PathBuf,
    _folder: TempDir,
}

impl Desk {
    async fn new() -> Self {
        let folder = tempdir().unwrap();
        let path = folder.path().join("locks.db");
        let store = SqliteStore::open(&path).await.unwrap();
        Self { store, shell: Connection::open(&path).unwrap(), path, _folder: folder }
    }

    /// Types a statement, which changes this many rows.
    #[track_caller]
    fn types(&self, sql: &str) -> usize {
        self.shell.execute(sql, []).unwrap()
    }

    /// Types a statement that is refused: what is said.
    #[track_caller]
    fn refused(&self, sql: &str) -> String {
        self.shell.execute(sql, []).expect_err("it must be refused").to_string()
    }

    /// What the platform's own code reads of a project.
    fn reads(&self, project: &str) -> (String, Option<String>, Option<u64>) {
        let sql = "select build_status, locked_by, locked_at from projects where id = ?1";
        let row = self.shell.query_row(sql, [project], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?.map(|at| at as u64)))
        });
        row.unwrap()
    }

    /// Fails unless the whole history keeps the rules.
    async fn replay(&self) -> Replay {
        let mut replay = Replay::default();
        replay.feed(&self.store.all_events(EventId(0)).await);
        replay
    }
}

fn idle() -> (String, Option<String>, Option<u64>) {
    ("idle".to_owned(), None, None)
}

/// Rule 13.
#[tokio::test]
async fn the_documented_update_frees_the_project_on_record() {
    let desk = Desk::new().await;
    let held = desk.store.held("site", "ana").await;
    assert_eq!(desk.types(FREE), 1);
    assert_eq!(desk.reads("site"), idle());
    assert_eq!(desk.store.holder("site").await, None);
    for outcome in [
        desk.store.renew("site", &held).await,
        desk.store.verify("site", held.token).await,
        desk.store.unlock("site", &held).await,
        desk.store.force_unlock("site", held.token, "root", "stuck").await,
    ] {
        let (past, now) = lost(outcome);
        assert_eq!((past.token, past.request, past.ended.how, now), (held.token, held.request, How::FreedByHand, None));
        let age = desk.store.see("site").await.now.since(past.ended.at);
        assert!(past.ended.at >= held.acquired_at && age < seconds(20), "{past:?}");
    }
    assert_eq!(desk.store.kinds("site").await, [EventKind::Granted, EventKind::FreedByHand]);
    let event = &desk.store.history(Some(&project("site")), None, 1).await.unwrap()[0].event;
    assert_eq!((&event.holder, event.token, event.request), (&held.holder, Some(held.token), Some(held.request)));
    let next = desk.store.held("site", "ben").await;
    assert!(next.token > held.token);
    desk.replay().await;
}

/// Rule 13: shorter forms do the same.
#[tokio::test]
async fn to_set_the_build_status_is_enough() {
    for sql in [
        "update projects set build_status = 'idle'",
        "update projects set build_status = 'idle', locked_by = 'somebody' where build_status = 'processing'",
        "update or replace projects set build_status = 'idle', locked_at = 7 where locked_by = 'ana'",
        "insert into projects (id, owner) values ('site', 'x') on conflict (id) do update set build_status = 'idle'",
    ] {
        let desk = Desk::new().await;
        let held = desk.store.held("site", "ana").await;
        assert_eq!(desk.types(sql), 1, "{sql}");
        assert_eq!(desk.reads("site"), idle());
        assert_eq!(lost(desk.store.verify("site", held.token).await).0.ended.how, How::FreedByHand);
        desk.replay().await;
    }
}

/// Rule 13.
#[tokio::test]
async fn what_is_idle_stays_as_it_is() {
    let desk = Desk::new().await;
    let held = desk.store.held("site", "ana").await;
    desk.store.unlock("site", &held).await;
    let before = desk.store.all_events(EventId(0)).await;
    desk.types(FREE);
    desk.types(FREE);
    assert_eq!(desk.store.all_events(EventId(0)).await, before);
    assert_eq!(ended(desk.store.unlock("site", &held).await).ended.how, How::Unlocked, "how it ended is not changed");
    assert_eq!(desk.reads("site"), idle());
}

/// Rules 11 and 13.
#[tokio::test]
async fn an_update_of_many_rows_frees_them_all_with_one_event_each() {
    let desk = Desk::new().await;
    let mut leases = Vec::new();
    for number in 0..50 {
        let site = format!("site {number}");
        let held = desk.store.held(&site, "ana").await;
        if number % 5 == 0 {
            desk.store.unlock(&site, &held).await;
        } else {
            leases.push((site, held));
        }
    }
    let newest = *desk.store.newest_event().borrow();
    assert_eq!(desk.types("update projects set build_status = 'idle', locked_by = null, locked_at = null"), 50);
    for (site, held) in &leases {
        assert_eq!(lost(desk.store.renew(site, held).await).0.ended.how, How::FreedByHand);
        assert_eq!(desk.store.kinds(site).await, [EventKind::Granted, EventKind::FreedByHand]);
    }
    assert_eq!(desk.store.all_events(newest).await.len(), leases.len());
    desk.replay().await;
}

/// Rule 13: the next is granted and woken by a service that runs, without anybody's request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_waiter_is_granted_within_a_second() {
    let desk = Desk::new().await;
    let service = LockService::new(desk.store.clone());
    let site = project("site");
    let held = service.lock(&site, request("ana"), Wait::NONE).await.unwrap();
    let waiting = tokio::spawn({
        let (service, site) = (service.clone(), site.clone());
        async move { service.lock(&site, request("ben"), Wait::new(seconds(60)).unwrap()).await }
    });
    support::until("ben waits", async || desk.store.waiters("site").await == ["ben"]).await;
    desk.types(FREE);
    let next = within(A_SECOND, "the grant after an update by hand", waiting).await.unwrap().unwrap();
    assert!(next.token > held.token);
    let Loss::Ended { lease, now } = soon("the loss", held.lost()).await else { panic!("it has ended") };
    assert_eq!((lease.ended.how, now.unwrap().lease.holder), (How::FreedByHand, next.holder.clone()));
    assert_eq!(desk.reads("site").1.as_deref(), Some("ben"));
    let kinds = [EventKind::Granted, EventKind::Queued, EventKind::FreedByHand, EventKind::Granted];
    assert_eq!(desk.store.kinds("site").await, kinds);
    desk.replay().await;
}

/// Rule 13: whoever's handle it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holder_and_the_next_waiter_hear_of_it_through_another_handle() {
    let desk = Desk::new().await;
    let sweeping = LockService::new(SqliteStore::open(&desk.path).await.unwrap());
    let held = desk.store.held("site", "ana").await;
    let waiter = desk.store.queued("site", "ben").await;
    let end = desk.store.watch(&project("site"), News::End(held.token));
    let turn = desk.store.watch(&project("site"), News::Turn(waiter.id));
    desk.types(FREE);
    within(A_SECOND, "the end by hand, told to the holder", end.changed()).await;
    within(A_SECOND, "the turn, told to the waiter", turn.changed()).await;
    let next = lease(desk.store.queue("site", &waiter).await);
    assert_eq!(lost(desk.store.renew("site", &held).await).1.unwrap().lease, next);
    drop(sweeping);
}

/// Rule 13: the first request that comes does it as well.
#[tokio::test]
async fn whoever_comes_first_does_not_overtake_the_next_waiter() {
    let desk = Desk::new().await;
    desk.store.held("site", "ana").await;
    let waiter = desk.store.queued("site", "ben").await;
    desk.types(FREE);
    let refused = refusal(desk.store.lock("site", &request("cleo")).await);
    assert!(matches!(refused, buildlock::Refusal::Locked(busy) if busy.lease.request == waiter.id));
    desk.replay().await;
}

/// A lease is made by a request and nothing else, or nobody would end it.
#[tokio::test]
async fn to_lock_by_hand_is_refused() {
    let desk = Desk::new().await;
    let held = desk.store.held("site", "ana").await;
    desk.store.unlock("site", &held).await;
    let before = desk.store.all_events(EventId(0)).await;
    for sql in [
        "update projects set build_status = 'processing', locked_by = 'eve', locked_at = 1 where id = 'site'",
        "update projects set build_status = 'processing'",
        "update projects set locked_by = 'eve' where id = 'site'",
        "update projects set locked_at = 7 where id = 'site'",
        "update projects set token = 99, expires_at = 1 where id = 'site'",
        "insert into projects (id, owner, build_status) values ('new', 'eve', 'processing')",
        "insert into projects (id, owner, token) values ('new', 'eve', 99)",
        "insert into projects (id, owner, locked_by, locked_at) values ('new', 'eve', 'eve', 1)",
        "insert or replace into projects (id, owner, build_status) values ('site', 'eve', 'processing')",
    ] {
        let said = desk.refused(sql);
        assert_eq!(said, "a project is only locked by a lease: use \"buildlock lock\"", "{sql}");
    }
    assert_eq!(desk.reads("site"), idle());
    assert_eq!(desk.store.status(&project("new")).await.unwrap(), None);
    assert_eq!(desk.store.all_events(EventId(0)).await, before);
}

/// Rule 1: it would be another's lease with the holder's token.
#[tokio::test]
async fn to_change_a_lease_by_hand_is_refused() {
    let desk = Desk::new().await;
    let held = desk.store.held("site", "ana").await;
    for change in [
        "locked_by = 'eve'",
        "locked_by = null",
        "locked_at = 7",
        "token = 99",
        "token = null",
        "request = x'00'",
        "operation = 'other'",
        "message = null",
        "ttl_ms = 1",
        "expires_at = 9007199254740991",
        "expires_at = null",
        "claim_by = 7",
        "build_status = 'processing', locked_by = 'eve'",
    ] {
        let said = desk.refused(&format!("update projects set {change} where id = 'site'"));
        assert_eq!(said, "a lease is not changed by hand; to free the project, set build_status to 'idle'", "{change}");
    }
    let said = desk.refused("update projects set build_status = 'done'");
    assert!(said.starts_with("CHECK constraint failed: build_status in ('idle', 'processing')"), "{said}");
    assert_eq!(desk.store.see("site").await.lease.as_ref(), Some(&held));
    assert_eq!(lease(desk.store.renew("site", &held).await).token, held.token);
}

/// Rule 8: one name that makes no sense would stop the sweep of all projects.
#[tokio::test]
async fn to_name_a_project_by_hand_as_no_request_can_is_refused() {
    let desk = Desk::new().await;
    desk.store.held("site", "ana").await;
    for name in
        ["''", "'a' || char(10)", "char(0)", "'b' || char(0)", "char(133)", "char(127)", "printf('%.201c', 'x')"]
    {
        for sql in [
            format!("insert into projects (id, owner) values ({name}, 'x')"),
            format!("insert into projects (id, owner) values ('new', {name})"),
            format!("update projects set id = {name}"),
            format!("update projects set owner = {name} where id = 'site'"),
        ] {
            let text = "a project's id and owner are 1 to 200 bytes of text without control characters";
            assert_eq!(desk.refused(&sql), text, "{sql}");
        }
    }
    for name in ["'a b'", "'🏗'", "printf('%.200c', 'x')", "'[' || char(160)", "'''; drop table projects; --'"] {
        assert_eq!(desk.types(&format!("insert into projects (id, owner) values ({name}, {name})")), 1);
    }
    assert_eq!(desk.store.projects(None, 100).await.unwrap().len(), 6);
}

/// Rules 11 and 13.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_delete_a_held_project_by_hand_frees_it_on_record() {
    let desk = Desk::new().await;
    let ana = request("ana");
    let held = lease(desk.store.lock("site", &ana).await);
    let waiter = desk.store.queued("site", "ben").await;
    let end = desk.store.watch(&project("site"), News::End(held.token));
    let newest = *desk.store.newest_event().borrow();
    assert_eq!(desk.types("delete from projects where id = 'site'"), 1);
    within(A_SECOND, "the end by deletion, told to the holder", end.changed()).await;
    assert_eq!(desk.store.status(&project("site")).await.unwrap(), None);
    let events = desk.store.all_events(newest).await;
    assert_eq!(events.iter().map(|recorded| recorded.event.kind).collect::<Vec<_>>(), [EventKind::FreedByHand]);
    assert_eq!((events[0].event.token, &events[0].project), (Some(held.token), &project("site")));
    // Rule 4: what it was for is over. Who waited may lock it anew.
    assert_eq!(lost(desk.store.lock("site", &ana).await).0.ended.how, How::FreedByHand);
    let next = lease(desk.store.queue("site", &waiter).await);
    assert!(next.token > held.token);
    assert_eq!(lost(desk.store.renew("site", &held).await).0.ended.how, How::FreedByHand);
}

/// Rules 3 and 4: whoever made the row, the project has a past.
#[tokio::test]
async fn a_project_that_is_made_anew_by_hand_keeps_its_past() {
    let desk = Desk::new().await;
    let ana = request("ana");
    let held = lease(desk.store.lock("site", &ana).await);
    desk.store.unlock("site", &held).await;
    desk.types("delete from projects where id = 'site'");
    desk.types("insert into projects (id, owner) values ('site', 'platform')");
    assert_eq!(lost(desk.store.lock("site", &ana).await).0.ended.how, How::Unlocked, "it was granted again");
    assert_eq!(lost(desk.store.renew("site", &held).await).0.token, held.token);
    assert!(desk.store.held("site", "ben").await.token > held.token);
    desk.replay().await;
}

/// Rule 11: nothing happened to a lock.
#[tokio::test]
async fn an_idle_project_may_be_made_and_deleted_by_hand() {
    let desk = Desk::new().await;
    assert_eq!(desk.types("insert into projects (id, owner) values ('site', 'platform')"), 1);
    let status = desk.store.see("site").await;
    assert_eq!((status.owner.as_str(), status.lease), ("platform", None));
    let held = desk.store.held("site", "ana").await;
    desk.store.unlock("site", &held).await;
    let before = desk.store.all_events(EventId(0)).await;
    assert_eq!(desk.types("delete from projects where id = 'site'"), 1);
    assert_eq!(desk.store.status(&project("site")).await.unwrap(), None);
    assert_eq!(desk.store.all_events(EventId(0)).await, before);
    assert!(desk.store.held("site", "ben").await.token > held.token);
}

/// Section 4 of the design: these columns keep their names and values.
#[tokio::test]
async fn the_platforms_own_code_reads_the_truth() {
    let desk = Desk::new().await;
    let held = desk.store.held("site", "ana").await;
    let of = |lease: &buildlock::Lease| {
        ("processing".to_owned(), Some(lease.holder.to_string()), Some(lease.acquired_at.as_millis()))
    };
    assert_eq!(desk.reads("site"), of(&held));
    desk.store.renew("site", &held).await;
    assert_eq!(desk.reads("site"), of(&held));
    let waiter = desk.store.queued("site", "ben").await;
    desk.store.unlock("site", &held).await;
    let next = lease(desk.store.queue("site", &waiter).await);
    assert_eq!(desk.reads("site"), of(&next));
    desk.store.force_unlock("site", next.token, "root", "stuck").await;
    assert_eq!(desk.reads("site"), idle());
    assert_eq!(desk.store.withdraw("site", waiter.id).await, Outcome::Done);
    assert_eq!(desk.reads("site"), idle());
}

/// Rule 11: SQLite tells no trigger of a row that REPLACE takes away.
#[tokio::test]
async fn a_held_project_is_not_replaced() {
    for sql in [
        "insert or replace into projects (id, owner) values ('site', 'ben')",
        "replace into projects (id, owner) values ('other', 'ben'), ('site', 'ben')",
        "insert or replace into projects (number, id, owner) values (1, 'new', 'ben')",
    ] {
        let desk = Desk::new().await;
        let held = desk.store.held("site", "ana").await;
        desk.store.queued("site", "ben").await;
        let told = "a project that is held is not replaced; to free it, set build_status to 'idle'";
        assert!(desk.refused(sql).contains(told), "{sql}");
        assert_eq!(desk.store.verify("site", held.token).await, Outcome::Held(held));
        assert_eq!(desk.store.waiters("site").await, ["ben"]);
        assert_eq!(desk.types("select 1 from projects where 0"), 0);
        assert_eq!(desk.store.projects(None, 10).await.unwrap().len(), 1);
        desk.replay().await;
    }
}

/// Rule 11.
#[tokio::test]
async fn no_project_is_written_over_by_renaming_another() {
    let desk = Desk::new().await;
    let held = desk.store.held("site", "ana").await;
    desk.store.create_project(&project("other"), &"ben".parse().unwrap()).await.unwrap();
    for sql in [
        "update or replace projects set id = 'site' where id = 'other'",
        "update or replace projects set number = 1 where id = 'other'",
        "update projects set id = 'site' where id = 'other'",
    ] {
        assert!(desk.refused(sql).contains("there is a project with that id"), "{sql}");
    }
    assert_eq!(desk.store.verify("site", held.token).await, Outcome::Held(held));
    assert_eq!(desk.types("update projects set id = 'third' where id = 'other'"), 1);
    desk.replay().await;
}

/// As a platform's own code may do with each sign-up.
#[tokio::test]
async fn a_project_that_exists_may_be_inserted_again_where_that_changes_nothing() {
    let desk = Desk::new().await;
    let held = desk.store.held("site", "ana").await;
    assert_eq!(desk.types("insert or ignore into projects (id, owner) values ('site', 'ana'), ('new', 'ana')"), 1);
    assert_eq!(desk.types("insert into projects (id, owner) values ('site', 'x') on conflict do nothing"), 0);
    let upsert =
        "insert into projects (id, owner) values ('site', 'ben') on conflict (id) do update set owner = excluded.owner";
    assert_eq!(desk.types(upsert), 1);
    assert_eq!(desk.types("insert into projects (id, owner) values ('newer', 'ana')"), 1);
    assert_eq!(desk.types("insert or replace into projects (id, owner) values ('newer', 'ben')"), 1, "it is idle");
    assert!(desk.refused("insert into projects (id, owner) values ('site', 'ana')").contains("UNIQUE"));
    assert_eq!(desk.store.see("site").await.owner.as_str(), "ben");
    assert_eq!(desk.store.verify("site", held.token).await, Outcome::Held(held));
    desk.replay().await;
}
