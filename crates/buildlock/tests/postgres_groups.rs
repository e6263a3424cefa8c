//! Requests that arrive together travel together, and nobody suffers from the company.

mod support;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use buildlock::{Answer, Command, IfLocked, Lease, LockStore, Outcome, PostgresStore, ProjectId, StoreError};
use buildlock_testing::TestPg;
use support::ask::{Ask, project, request};
use support::{soon, until};
use tokio::task::JoinSet;
use tokio_postgres::Client;

type Asked<'a> = Pin<Box<dyn Future<Output = Result<Answer, StoreError>> + Send + 'a>>;

/// A request to lock that is on its way.
fn asked<'a>(store: &'a PostgresStore, site: &str) -> Asked<'a> {
    let lock = Command::Lock { request: request("ana"), if_locked: IfLocked::Refuse };
    let site = project(site);
    let mut asked: Asked<'a> = Box::pin(async move { store.apply(&site, lock).await });
    assert!(is_pending(&mut asked), "nobody answers before it was sent");
    asked
}

fn is_pending(asked: &mut Asked<'_>) -> bool {
    matches!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}

/// The database, and a store with one connection to it.
async fn one_line() -> (TestPg, PostgresStore) {
    let database = TestPg::fresh().await;
    let store = PostgresStore::open(&format!("{}?connection_limit=1", database.url())).await.unwrap();
    (database, store)
}

/// Somebody's transaction that keeps a project's row locked until it ends.
async fn keep(database: &TestPg, site: &str) -> Client {
    let keeper = database.client().await;
    keeper.batch_execute("begin").await.unwrap();
    let keep = "select from buildlock.locks where project = $1 for update";
    assert_eq!(keeper.query(keep, &[&site]).await.unwrap().len(), 1);
    keeper
}

/// Awaits a connection of the store that waits for a lock of this kind.
async fn is_waiting(database: &TestPg, wait_event: &str) {
    let client = database.client().await;
    let waiting = "select from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock' and wait_event = $1";
    until(&format!("the wait for {wait_event}"), async || {
        !client.query(waiting, &[&wait_event]).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn requests_that_arrive_together_share_a_transaction() {
    let (database, store) = one_line().await;
    store.create_project(&project("kept"), &"ana".parse().unwrap()).await.unwrap();
    let keeper = keep(&database, "kept").await;
    let first = asked(&store, "kept");
    is_waiting(&database, "transactionid").await;
    let rest: Vec<_> = (0..200).map(|number| asked(&store, &format!("site {number}"))).collect();
    keeper.batch_execute("rollback").await.unwrap();
    for asked in [first].into_iter().chain(rest) {
        let answer = soon("the answer", asked).await.unwrap();
        assert!(matches!(answer.outcome, Outcome::Held(_)), "{answer:?}");
    }
    let transactions = "select count(distinct xmin::text), count(*) from buildlock.events where project like 'site %'";
    let row = database.client().await.query_one(transactions, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 200));
}

/// Rule 1: a row that was read as free and is another's by the time that it is written.
#[tokio::test]
async fn who_waits_for_a_row_heeds_what_was_done_to_it() {
    let (database, store) = one_line().await;
    for site in ["kept", "other", "shared"] {
        store.create_project(&project(site), &"ana".parse().unwrap()).await.unwrap();
    }
    let keeper = keep(&database, "kept").await;
    let first = asked(&store, "kept");
    is_waiting(&database, "transactionid").await;
    let (other, shared) = (asked(&store, "other"), asked(&store, "shared"));
    let rival = database.client().await;
    rival.batch_execute("begin; select public.lock_project('shared', holder => 'bob')").await.unwrap();
    keeper.batch_execute("rollback").await.unwrap();
    soon("the first answer", first).await.unwrap();
    is_waiting(&database, "transactionid").await;
    rival.batch_execute("commit").await.unwrap();
    let answer = soon("the answer", other).await.unwrap();
    assert!(matches!(answer.outcome, Outcome::Held(_)), "{answer:?}");
    let answer = soon("the answer", shared).await.unwrap();
    assert!(matches!(answer.outcome, Outcome::Refused(_)), "{answer:?}");
}

/// Whoever heard that its lease lasts until then may rely on it.
#[tokio::test]
async fn a_renewal_is_not_set_back_by_one_that_was_held_up() {
    let (database, store) = one_line().await;
    let mut leases = Vec::new();
    for site in ["kept", "other", "shared"] {
        let answer = soon("the lease", asked(&store, site)).await.unwrap();
        let Outcome::Held(lease) = answer.outcome else { panic!("{answer:?}") };
        leases.push((project(site), lease));
    }
    let renewal = |(site, lease): &(ProjectId, Lease)| -> Asked<'_> {
        let renew = Command::Renew { token: lease.token, holder: lease.holder.clone(), ttl: None };
        let (store, site) = (&store, site.clone());
        let mut asked: Asked<'_> = Box::pin(async move { store.apply(&site, renew).await });
        assert!(is_pending(&mut asked), "nobody answers before it was sent");
        asked
    };
    let (first_keeper, keeper) = (keep(&database, "kept").await, keep(&database, "other").await);
    let first = renewal(&leases[0]);
    is_waiting(&database, "transactionid").await;
    let together = [renewal(&leases[1]), renewal(&leases[2])];
    first_keeper.batch_execute("rollback").await.unwrap();
    soon("the first answer", first).await.unwrap();
    // The two travel together: they have been read, and wait for the row that is kept.
    is_waiting(&database, "transactionid").await;
    let client = database.client().await;
    let end = "select expires_at from buildlock.locks where project = 'shared'";
    let before: i64 = client.query_one(end, &[]).await.unwrap().get(0);
    let token = leases[2].1.token;
    client.batch_execute(&format!("select public.renew_project_lock('shared', {token})")).await.unwrap();
    let renewed: i64 = client.query_one(end, &[]).await.unwrap().get(0);
    assert!(renewed > before);
    keeper.batch_execute("rollback").await.unwrap();
    for renewal in together {
        let answer = soon("the renewal", renewal).await.unwrap();
        assert!(matches!(answer.outcome, Outcome::Held(_)), "{answer:?}");
    }
    assert!(client.query_one(end, &[]).await.unwrap().get::<_, i64>(0) >= renewed);
}

/// Rule 12: the commit is held up, and so is every answer.
#[tokio::test]
async fn nobody_is_answered_before_the_commit() {
    let (database, store) = one_line().await;
    let held_up = "
        create function public.wait_with_the_commit() returns trigger language plpgsql as
          'begin perform pg_advisory_xact_lock_shared(7); return null; end';
        create constraint trigger wait_with_the_commit after insert on buildlock.events
          deferrable initially deferred for each row execute function public.wait_with_the_commit()";
    database.run(held_up).await;
    let holds_up = database.client().await;
    holds_up.execute("select pg_advisory_lock(7)", &[]).await.unwrap();
    let mut asked: Vec<_> = (0..20).map(|number| asked(&store, &format!("site {number}"))).collect();
    is_waiting(&database, "advisory").await;
    assert!(asked.iter_mut().all(is_pending), "rule 12: an answer came before its commit");
    holds_up.execute("select pg_advisory_unlock(7)", &[]).await.unwrap();
    for asked in asked {
        let answer = soon("the answer", asked).await.unwrap();
        assert!(matches!(answer.outcome, Outcome::Held(_)), "{answer:?}");
    }
}

/// As when the disk is full at the end.
#[tokio::test]
async fn a_commit_that_fails_is_no_answer() {
    let (database, store) = one_line().await;
    let fails = "
        create function public.fail() returns trigger language plpgsql as
          $$ begin if new.project = 'unlucky' then raise exception 'no luck'; end if; return null; end $$;
        create constraint trigger fail after insert on buildlock.events
          deferrable initially deferred for each row execute function public.fail()";
    database.run(fails).await;
    store.create_project(&project("kept"), &"ana".parse().unwrap()).await.unwrap();
    let keeper = keep(&database, "kept").await;
    let first = asked(&store, "kept");
    is_waiting(&database, "transactionid").await;
    let [lucky, unlucky] = ["lucky", "unlucky"].map(|site| asked(&store, site));
    keeper.batch_execute("rollback").await.unwrap();
    assert!(soon("the first", first).await.is_ok());
    assert!(matches!(soon("the lucky one", lucky).await.unwrap().outcome, Outcome::Held(_)));
    let error = soon("the unlucky one", unlucky).await.unwrap_err();
    assert!(error.to_string().contains("no luck") && !error.may_pass(), "{error}");
    assert_eq!(store.status(&project("unlucky")).await.unwrap(), None, "nothing of it has happened");
}

/// A platform may keep its project's row locked for as long as it writes what the lock protects.
#[tokio::test]
async fn a_project_that_somebody_keeps_busy_holds_up_no_other() {
    let (database, store) = one_line().await;
    store.create_project(&project("kept"), &"ana".parse().unwrap()).await.unwrap();
    let keeper = keep(&database, "kept").await;
    let began = Instant::now();
    let kept = asked(&store, "kept");
    let others: Vec<_> = (0..20).map(|number| asked(&store, &format!("site {number}"))).collect();
    for other in others {
        assert!(matches!(soon("the answer", other).await.unwrap().outcome, Outcome::Held(_)));
    }
    let error = soon("the error", kept).await.unwrap_err();
    assert!(error.may_pass() && error.to_string().contains("another transaction"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    keeper.batch_execute("rollback").await.unwrap();
    store.held("kept", "ana").await;
}

/// Each takes the projects in another order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_with_overlapping_projects_never_deadlock() {
    let database = TestPg::fresh().await;
    let mut crowd = JoinSet::new();
    for number in 0..3_usize {
        let store = Arc::new(PostgresStore::open(&database.url()).await.unwrap());
        for task in 0..24 {
            let store = Arc::clone(&store);
            crowd.spawn(async move {
                let mut granted = 0;
                for round in 0..40 {
                    let site = (number * 7 + task * 11 + round * (number + 1)) % 24;
                    let (site, request) = (format!("site {site}"), request("ana"));
                    if let Outcome::Held(lease) = store.lock(&site, &request).await {
                        granted += 1;
                        store.unlock(&site, &lease).await;
                    }
                }
                granted
            });
        }
    }
    let granted: usize = soon("the end of the crowd", crowd.join_all()).await.into_iter().sum();
    assert!(granted > 500, "{granted} grants are too few for the test to mean anything");
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    let deadlocks: i64 = database.client().await.query_one(deadlocks, &[]).await.unwrap().get(0);
    assert_eq!(deadlocks, 0);
}

/// What was sent before the store is dropped is done.
#[tokio::test]
async fn commands_on_one_project_are_decided_in_the_order_in_which_they_came() {
    let database = TestPg::fresh().await;
    let store = PostgresStore::open(&database.url()).await.unwrap();
    for _ in 0..50 {
        let held = store.held("site", "ana").await;
        store.send(&project("site"), Command::Unlock { token: held.token, holder: held.holder });
    }
    let last = store.held("site", "ana").await;
    store.send(&project("site"), Command::Unlock { token: last.token, holder: last.holder });
    drop(store);
    let store = PostgresStore::open(&database.url()).await.unwrap();
    assert_eq!(store.holder("site").await, None);
}

/// Functions that somebody has changed are an error to whoever asks, and hold up nobody for ever.
#[tokio::test]
async fn a_database_that_decides_nothing_is_told_of() {
    let (database, store) = one_line().await;
    let signature = "select pg_get_functiondef(oid) from pg_proc where proname = 'apply'";
    let apply: String = database.client().await.query_one(signature, &[]).await.unwrap().get(0);
    let (head, _) = apply.split_once("AS $function$").unwrap();
    for body in ["begin end", "begin ordinal := 7; return next; end"] {
        database.run(&format!("{head} as $function$ {body} $function$")).await;
        let lock = Command::Lock { request: request("ana"), if_locked: IfLocked::Refuse };
        let answer = store.apply(&project("site"), lock).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    }
}

/// Rule 1: a lease that is granted while another transaction ends the one before is not dated before that end.
#[tokio::test]
async fn the_clock_is_read_after_the_rows() {
    let (database, store) = one_line().await;
    let held = store.held("site", "ana").await;
    store.held("shop", "ben").await;
    let clock =
        "create or replace function buildlock.now_ms() returns bigint language plpgsql set search_path = '' as $$
                 declare now_ms bigint := floor(date_part('epoch', clock_timestamp()) * 1000);
                 begin perform pg_advisory_xact_lock_shared(42); return now_ms; end $$";
    database.run(clock).await;
    let keeper = database.client().await;
    keeper.batch_execute("select pg_advisory_lock(42)").await.unwrap();
    // Two together, so that they are decided by the statement for what is plain.
    let (mut site, mut shop) = (asked(&store, "site"), asked(&store, "shop"));
    is_waiting(&database, "advisory").await;
    let client = database.client().await;
    let now = "select floor(date_part('epoch', clock_timestamp()) * 1000)::bigint";
    let later: i64 = client.query_one(now, &[]).await.unwrap().get(0);
    let end = "select (buildlock.decide($1, 'site', 'unlock', null, $2, 'ana', null, null, null, null, null)).outcome";
    let token = held.token.get() as i64;
    let ended: String = client.query_one(end, &[&later, &token]).await.unwrap().get(0);
    assert_eq!(ended, "ended");
    keeper.batch_execute("select pg_advisory_unlock(42)").await.unwrap();
    let (of_site, of_shop) = (soon("site", &mut site).await.unwrap(), soon("shop", &mut shop).await.unwrap());
    assert!(matches!(of_shop.outcome, Outcome::Refused(_)), "{of_shop:?}");
    let Outcome::Held(lease) = &of_site.outcome else { panic!("it is free by now: {of_site:?}") };
    assert!(lease.acquired_at.as_millis() as i64 >= later, "{lease:?}, and it was free from {later} on");
}
