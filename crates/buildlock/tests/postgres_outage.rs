//! A database that goes away: what was acknowledged holds, leases keep their deadline, and nobody waits for ever.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use buildlock::{
    Command, EventId, IfLocked, LockRequest, LockService, LockStore, Outcome, PostgresStore, StoreError, Wait,
};
use buildlock_testing::{ClusterOptions, TestCluster, TestPg};
use support::ask::{Ask, project, request, ttl};
use support::load::{Record, Told};
use support::random::Random;
use support::{soon, until};
use tokio::sync::Mutex;
use tokio::task::{JoinSet, spawn_blocking};

/// No call takes longer, whatever happens to the database.
const AT_MOST: Duration = Duration::from_secs(12);

/// How often a test is tried whose restarts take too long, as on a busy machine.
const ATTEMPTS: usize = 4;

/// Held by the test that runs: how long a restart takes must not depend on the other tests.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A cluster of its own, whose commits are on the disk.
async fn durable() -> (Arc<TestCluster>, TestPg) {
    let options = ClusterOptions { is_durable: true, ..ClusterOptions::default() };
    let cluster = spawn_blocking(move || TestCluster::start(&options)).await.unwrap();
    let database = cluster.fresh().await;
    (Arc::new(cluster), database)
}

async fn kill(cluster: &Arc<TestCluster>) {
    let cluster = Arc::clone(cluster);
    spawn_blocking(move || cluster.kill()).await.unwrap();
}

async fn stop(cluster: &Arc<TestCluster>) {
    let cluster = Arc::clone(cluster);
    spawn_blocking(move || cluster.stop()).await.unwrap();
}

async fn start_again(cluster: &Arc<TestCluster>) {
    let cluster = Arc::clone(cluster);
    spawn_blocking(move || cluster.start_again()).await.unwrap();
}

/// One who locks, renews and unlocks, over and over, whatever the store says; and what it was told.
async fn one(store: PostgresStore, number: u64, is_over: Arc<AtomicBool>, errors: Arc<AtomicUsize>) -> Vec<Told> {
    let mut random = Random::new(number);
    let mut told = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let site = project(&format!("site {}", random.below(12)));
        let mut request = request(&format!("task {number}"));
        request.ttl = ttl(1 + random.below(3));
        let lock = Command::Lock { request: request.clone(), if_locked: IfLocked::Refuse };
        let Some(Outcome::Held(lease)) = ask(&store, &site, lock, &errors).await else { continue };
        told.push(Told::Granted(site.clone(), request.id, lease.token));
        let (token, holder) = (lease.token, lease.holder);
        if random.below(2) == 0 {
            let renew = Command::Renew { token, holder: holder.clone(), ttl: None };
            if let Some(Outcome::Held(renewed)) = ask(&store, &site, renew, &errors).await {
                told.push(Told::Renewed(site.clone(), token, renewed.expires_at));
            }
        }
        if let Some(Outcome::Ended(past)) = ask(&store, &site, Command::Unlock { token, holder }, &errors).await {
            told.push(Told::Ended(site, past.token, past.ended.how.into()));
        }
    }
    told
}

async fn ask(
    store: &PostgresStore,
    site: &buildlock::ProjectId,
    command: Command,
    errors: &AtomicUsize,
) -> Option<Outcome> {
    let began = Instant::now();
    let answer = store.apply(site, command).await;
    assert!(began.elapsed() < AT_MOST, "a call took {:?}: {answer:?}", began.elapsed());
    match answer {
        Ok(answer) => Some(answer.outcome),
        Err(error) => {
            assert!(error.may_pass(), "{error:?}");
            errors.fetch_add(1, Ordering::Relaxed);
            // Who asks again at once keeps the machine from starting the database.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// Rules 1, 2, 4, 11 and 12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_holds_when_the_database_is_killed() {
    let _alone = ALONE.lock().await;
    let (cluster, database) = durable().await;
    let stores =
        [PostgresStore::open(&database.url()).await.unwrap(), PostgresStore::open(&database.url()).await.unwrap()];
    let (is_over, errors) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut crowd = JoinSet::new();
    for number in 0..24 {
        let store = stores[number as usize % 2].clone();
        crowd.spawn(one(store, number, Arc::clone(&is_over), Arc::clone(&errors)));
    }
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        kill(&cluster).await;
        start_again(&cluster).await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    is_over.store(true, Ordering::Relaxed);
    let told: Vec<Told> = soon("the end of the crowd", crowd.join_all()).await.into_iter().flatten().collect();
    until("the database", async || stores[0].status(&project("site 1")).await.is_ok()).await;
    let mut record = Record::default();
    record.feed(&stores[0].all_events(EventId(0)).await);
    println!("{} answers, {} errors", told.len(), errors.load(Ordering::Relaxed));
    assert!(told.len() > 200, "{} answers are too few for the check to mean anything", told.len());
    for told in &told {
        record.assert_holds(&stores[0], told).await;
    }
}

/// A restart is a pause, where it takes no longer than one should.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_waits_for_a_database_that_is_restarted() {
    let _alone = ALONE.lock().await;
    let (cluster, database) = durable().await;
    let store = PostgresStore::open(&database.url()).await.unwrap();
    for _ in 0..ATTEMPTS {
        let held = store.held("site", "ana").await;
        let killed_at = Instant::now();
        stop(&cluster).await;
        let renewed = tokio::spawn({
            let (store, held) = (store.clone(), held.clone());
            async move {
                store
                    .apply(&project("site"), Command::Renew { token: held.token, holder: held.holder, ttl: None })
                    .await
            }
        });
        start_again(&cluster).await;
        let was_short = killed_at.elapsed() < Duration::from_secs(3);
        match soon("the renewal", renewed).await.unwrap() {
            Ok(answer) => {
                assert!(matches!(answer.outcome, Outcome::Held(lease) if lease.token == held.token));
                return;
            }
            Err(error) => assert!(!was_short, "{error}"),
        }
        until("the database", async || store.status(&project("site")).await.is_ok()).await;
        store.unlock("site", &held).await;
    }
    panic!("this machine is too busy for PostgreSQL to be restarted within seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_every_call_ends_soon_with_an_error_that_may_pass() {
    let _alone = ALONE.lock().await;
    let (cluster, database) = durable().await;
    let store = PostgresStore::open(&database.url()).await.unwrap();
    let held = store.held("site", "ana").await;
    let expires_at = store.see("site").await.lease.unwrap().expires_at;
    kill(&cluster).await;
    for round in 0..3 {
        let began = Instant::now();
        let (site, other) = (project("site"), project("other"));
        let (lock, status, events) = tokio::join!(
            store.apply(&other, Command::Lock { request: request("ben"), if_locked: IfLocked::Queue }),
            store.status(&site),
            store.events_after(EventId(0), 10),
        );
        for error in [lock.unwrap_err(), status.unwrap_err(), events.unwrap_err()] {
            assert!(matches!(error, StoreError::Unavailable { .. }) && error.may_pass(), "{error:?}");
        }
        let took = began.elapsed();
        println!("round {round}: {took:?}");
        // Whoever comes later need not wait to be told.
        assert!(took < if round == 0 { AT_MOST } else { Duration::from_secs(3) }, "{took:?}");
    }
    start_again(&cluster).await;
    until("the database", async || store.status(&project("site")).await.is_ok()).await;
    let lease = store.see("site").await.lease.unwrap();
    assert_eq!((lease.token, lease.expires_at), (held.token, expires_at), "a lease keeps its deadline");
}

/// A service rides out what is shorter than its lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_outlives_an_outage_that_is_shorter() {
    let _alone = ALONE.lock().await;
    let (cluster, database) = durable().await;
    let service = LockService::new(PostgresStore::open(&database.url()).await.unwrap());
    for attempt in 0..ATTEMPTS {
        let site = format!("site {attempt}");
        let request = LockRequest { ttl: ttl(18), ..request("ana") };
        let guard = service.lock(&project(&site), request, Wait::NONE).await.unwrap();
        let (token, killed_at) = (guard.token, Instant::now());
        kill(&cluster).await;
        // By then the first renewal was due, and has failed.
        tokio::time::sleep(Duration::from_millis(6_500)).await;
        start_again(&cluster).await;
        // The guard gives up after 15 seconds; it may have just asked when the database was back.
        let was_short = killed_at.elapsed() < Duration::from_secs(10);
        let end = Duration::from_secs(17).saturating_sub(killed_at.elapsed());
        match tokio::time::timeout(end, guard.lost()).await {
            Err(_) => {
                assert_eq!(service.store().see(&site).await.lease.map(|lease| lease.token), Some(token));
                guard.unlock().await.unwrap();
                return;
            }
            Ok(loss) => assert!(!was_short, "it was not renewed when the database was back: {loss:?}"),
        }
        until("the database", async || service.store().status(&project(&site)).await.is_ok()).await;
    }
    panic!("this machine is too busy for PostgreSQL to be restarted within seconds");
}

/// Rule 14: it is told before the store can grant to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_is_told_in_time_when_its_lease_cannot_be_renewed() {
    let _alone = ALONE.lock().await;
    let (cluster, database) = durable().await;
    let store = PostgresStore::open(&database.url()).await.unwrap();
    let service = LockService::new(store.clone());
    let request = LockRequest { ttl: ttl(3), ..request("ana") };
    let began = Instant::now();
    let guard = service.lock(&project("site"), request, Wait::NONE).await.unwrap();
    kill(&cluster).await;
    soon("the loss", guard.lost()).await;
    assert!(began.elapsed() < Duration::from_secs(3), "it was told after {:?}", began.elapsed());
    start_again(&cluster).await;
    until(
        "the end of the lease",
        async || matches!(store.status(&project("site")).await, Ok(Some(site)) if site.lease.is_none()),
    )
    .await;
    store.held("site", "ben").await;
}
