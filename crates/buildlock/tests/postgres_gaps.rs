//! The history is read in the order of its numbers, though transactions end in another; and news come soon.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use buildlock::{EventId, EventKind, LockService, LockStore, News, PostgresStore, Recorded};
use buildlock_testing::TestPg;
use support::ask::{Ask, lease, project};
use support::{soon, until, within};
use tokio_postgres::Client;

/// Somebody's transaction that has locked a project and goes on.
async fn open_transaction(database: &TestPg, site: &str) -> Client {
    let other = database.client().await;
    other.batch_execute("begin").await.unwrap();
    let lock = "select (buildlock.decide(null, $1, 'lock', gen_random_uuid(), null, 'cleo', 'edit', '', 30000, null, 'refuse')).outcome";
    let outcome: String = other.query_one(lock, &[&site]).await.unwrap().get(0);
    assert_eq!(outcome, "held");
    other
}

async fn store() -> (TestPg, PostgresStore) {
    let database = TestPg::fresh().await;
    let store = PostgresStore::open(&database.url()).await.unwrap();
    (database, store)
}

fn sites(events: &[Recorded]) -> Vec<String> {
    events.iter().map(|recorded| recorded.project.to_string()).collect()
}

/// Whoever read on would never see it.
#[tokio::test]
async fn nothing_is_read_past_an_event_that_may_yet_come() {
    let (database, store) = store().await;
    let mut changes = LockService::new(store.clone()).changes(None);
    store.held("before", "ana").await;
    let slow = open_transaction(&database, "slow").await;
    store.held("after", "ana").await;
    assert_eq!(soon("the first", changes.next()).await.unwrap().project, project("before"));
    assert_eq!(sites(&store.all_events(EventId(0)).await), ["before"]);
    assert!(tokio::time::timeout(Duration::from_millis(500), changes.next()).await.is_err(), "it was read past");
    slow.batch_execute("commit").await.unwrap();
    for site in ["slow", "after"] {
        assert_eq!(soon("the next", changes.next()).await.unwrap().project, project(site));
    }
    assert_eq!(sites(&store.all_events(EventId(0)).await), ["before", "slow", "after"]);
}

#[tokio::test]
async fn an_event_that_never_comes_is_waited_for_no_longer() {
    let (database, store) = store().await;
    let mut changes = LockService::new(store.clone()).changes(None);
    let slow = open_transaction(&database, "slow").await;
    store.held("after", "ana").await;
    assert!(tokio::time::timeout(Duration::from_millis(500), changes.next()).await.is_err(), "it was read past");
    slow.batch_execute("rollback").await.unwrap();
    let next = within(Duration::from_secs(1), "the event after a gap", changes.next()).await.unwrap();
    assert_eq!(next.project, project("after"));
    assert_eq!(sites(&store.all_events(EventId(0)).await), ["after"]);
}

/// Some batch job may write for hours.
#[tokio::test]
async fn a_transaction_that_locks_nothing_holds_nobody_up() {
    let (database, store) = store().await;
    let mut changes = LockService::new(store.clone()).changes(None);
    let job = database.client().await;
    job.batch_execute("begin; create table public.job (id bigint)").await.unwrap();
    let slow = open_transaction(&database, "slow").await;
    store.held("after", "ana").await;
    slow.batch_execute("rollback").await.unwrap();
    let next = within(Duration::from_secs(1), "the event after a gap", changes.next()).await.unwrap();
    assert_eq!(next.project, project("after"));
    job.batch_execute("rollback").await.unwrap();
}

/// Whoever follows from now on is not told of what was long ago.
#[tokio::test]
async fn a_store_that_nobody_followed_knows_where_now_is() {
    let (_database, store) = store().await;
    let held = store.held("site", "ana").await;
    let newest = store.history(None, None, 1).await.unwrap()[0].id;
    until("the newest event", async || *store.newest_event().borrow() == newest).await;
    let mut changes = LockService::new(store.clone()).changes(None);
    store.unlock("site", &held).await;
    assert_eq!(soon("the next", changes.next()).await.unwrap().event.kind, EventKind::Unlocked);
}

/// How long a waiter of one store took to hear that another released, over some turns, each.
async fn turns(waits: &PostgresStore, releases: &PostgresStore) -> Vec<Duration> {
    let mut held = releases.held("site", "ana").await;
    let mut took = Vec::new();
    for _ in 0..12 {
        let waiter = waits.queued("site", "ben").await;
        let watcher = waits.watch(&project("site"), News::Turn(waiter.id));
        // It may begin to listen only when somebody has watched for a moment.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        releases.unlock("site", &held).await;
        soon("the turn", watcher.changed()).await;
        took.push(began.elapsed());
        assert!(watcher.grant().is_some(), "a grant is its own news");
        held = lease(waits.queue("site", &waiter).await);
    }
    took.sort();
    took
}

/// Rule 6. A busy machine may hold up some.
#[tokio::test]
async fn a_turn_is_told_at_once() {
    let (database, store) = store().await;
    let other = PostgresStore::open(&database.url()).await.unwrap();
    let took = turns(&store, &other).await;
    println!("{took:?}");
    assert!(took[3] < Duration::from_millis(50), "{took:?}");
}

/// Rule 6.
#[tokio::test]
async fn a_turn_is_found_out_within_a_second_where_nobody_can_listen() {
    let database = TestPg::fresh().await;
    let pooler = database.pooler();
    let url = database.url_through(&pooler);
    let store = PostgresStore::open(&url).await.unwrap();
    let other = PostgresStore::open(&url).await.unwrap();
    let took = turns(&store, &other).await;
    println!("{took:?}");
    assert!(took.iter().all(|took| *took < Duration::from_secs(1)), "{took:?}");
}

/// A network may forget a connection, and an administrator may end it.
#[tokio::test]
async fn news_that_were_told_while_nobody_listened_are_found_out() {
    let (database, store) = store().await;
    let store = Arc::new(store);
    let held = store.held("site", "ana").await;
    let waiter = store.queued("site", "ben").await;
    let watcher = store.watch(&project("site"), News::Turn(waiter.id));
    let client = database.client().await;
    let listening =
        "select pid from pg_stat_activity where datname = current_database() and query = 'listen buildlock'";
    until("the listener", async || !client.query(listening, &[]).await.unwrap().is_empty()).await;
    client.query(&listening.replace("pid", "pg_terminate_backend(pid, 5000)"), &[]).await.unwrap();
    // With the other connections of the store, since these are not the listener's.
    store.unlock("site", &held).await;
    soon("the turn", watcher.changed()).await;
    assert!(watcher.grant().is_some());
}
