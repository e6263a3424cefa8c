//! The primary is killed, and its synchronous standby takes over: nothing that was acknowledged is lost, and no
//! fencing token is given twice. The stores find the new primary by themselves.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buildlock::{
    Answer, Command, EventKind, IfLocked, LockRequest, LockStore, Outcome, PostgresStore, ProjectId, RequestId, Token,
};
use buildlock_testing::{ClusterOptions, SUPERUSER, TestCluster};
use support::ask::{project, request};
use support::random::Random;
use support::replay::Replay;
use tokio::time::{Instant, sleep};

const STORES: usize = 3;
const WORKERS: u64 = 12;
const PROJECTS: u64 = 6;

/// How many leases are granted before the primary is killed, and after.
const BEFORE: u64 = 300;
const AFTER: u64 = 300;

/// How long all may stand still.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Told {
    grants: AtomicU64,
    granted: Mutex<BTreeMap<Token, (ProjectId, RequestId)>>,
    unlocked: Mutex<Vec<(ProjectId, Token)>>,
    outages: AtomicU64,
}

/// Asks until the store answers.
async fn ask(store: &PostgresStore, project: &ProjectId, command: &Command, told: &Told) -> Answer {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match store.apply(project, command.clone()).await {
            Ok(answer) => return answer,
            Err(error) => {
                assert!(error.may_pass(), "{error}");
                assert!(Instant::now() < give_up, "the new primary is not found: {error}");
                told.outages.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn work(store: PostgresStore, number: u64, told: Arc<Told>, until: Arc<AtomicU64>) {
    let mut random = Random::new(number);
    while told.grants.load(Ordering::Relaxed) < until.load(Ordering::Relaxed) {
        let id = project(&format!("site-{}", random.below(PROJECTS)));
        let asked: LockRequest = request(&format!("worker-{number}"));
        let answer =
            ask(&store, &id, &Command::Lock { request: asked.clone(), if_locked: IfLocked::Refuse }, &told).await;
        let lease = match answer.outcome {
            Outcome::Held(lease) => lease,
            Outcome::Refused(_) => {
                sleep(Duration::from_millis(1)).await;
                continue;
            }
            outcome => panic!("{outcome:?}"),
        };
        let earlier = told.granted.lock().unwrap().insert(lease.token, (id.clone(), asked.id));
        assert_eq!(earlier, None, "rule 2: the token {} was given twice", lease.token);
        told.grants.fetch_add(1, Ordering::Relaxed);
        let unlock = Command::Unlock { token: lease.token, holder: asked.holder.clone() };
        match ask(&store, &id, &unlock, &told).await.outcome {
            Outcome::Ended(_) => told.unlocked.lock().unwrap().push((id, lease.token)),
            outcome => panic!("rule 12: a grant was lost: {outcome:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_with_all_that_was_acknowledged() {
    let primary = TestCluster::start(&ClusterOptions { is_durable: true, ..ClusterOptions::default() });
    let database = primary.fresh().await;
    let standby = primary.standby().await;
    let folder = |cluster: &TestCluster| cluster.folder().to_str().unwrap().replace('/', "%2F");
    let url = format!("postgres://{SUPERUSER}@{},{}/{}", folder(&primary), folder(&standby), database.name());
    let told = Arc::new(Told::default());
    let until = Arc::new(AtomicU64::new(u64::MAX));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..STORES {
        let store = PostgresStore::open(&url).await.unwrap();
        for number in 0..WORKERS / STORES as u64 {
            let number = number * STORES as u64 + workers.len() as u64 % STORES as u64;
            workers.spawn(work(store.clone(), number, Arc::clone(&told), Arc::clone(&until)));
        }
    }
    let granted = async |wanted: u64| {
        let give_up = Instant::now() + PATIENCE;
        while told.grants.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < give_up, "{} grants of {wanted}", told.grants.load(Ordering::Relaxed));
            sleep(Duration::from_millis(5)).await;
        }
    };
    granted(BEFORE).await;
    let killed_at = Instant::now();
    primary.kill();
    let at_kill = told.granted.lock().unwrap().keys().next_back().copied().unwrap();
    standby.promote();
    let promoted = killed_at.elapsed();
    let so_far = told.grants.load(Ordering::Relaxed);
    granted(so_far + 1).await;
    println!("promoted after {promoted:?}, and locked again after {:?}", killed_at.elapsed());
    until.store(so_far + AFTER, Ordering::Relaxed);
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }

    let store = PostgresStore::open(&standby.url(SUPERUSER, database.name())).await.unwrap();
    let mut replay = Replay::default();
    loop {
        let events = store.events_after(replay.newest, 1_000).await.unwrap();
        if events.is_empty() {
            break;
        }
        replay.feed(&events);
    }
    let granted = told.granted.lock().unwrap();
    for (token, (project, _)) in &*granted {
        assert!(replay.granted.contains(&(project.clone(), *token)), "rule 12: the grant of {token} was lost");
    }
    for (project, token) in &*told.unlocked.lock().unwrap() {
        let end = replay.ended.get(&(project.clone(), *token));
        assert_eq!(end, Some(&EventKind::Unlocked), "rule 12: the release of {token} was lost");
    }
    assert!(granted.keys().next_back() > Some(&at_kill), "nothing was granted after the failover");
    println!(
        "{} events, {} grants told, {} calls failed",
        replay.events,
        granted.len(),
        told.outages.load(Ordering::Relaxed)
    );
}
