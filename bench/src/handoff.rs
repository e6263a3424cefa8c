//! (b) The hand-off: from the moment a holder begins to unlock to the moment the next waiter has its
//! lease.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use buildlock::{KEEP_IN_TOUCH_EVERY, LockRequest, LockService, ProjectId, SqliteStore, Wait};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::disk::Disk;
use crate::load::{self, Times};
use crate::store::StoreCaller;
use crate::table::{Limit, Numbers, Target, count, millis, ratio};

const FEW: usize = 16;
const MANY: usize = 10_000;

pub(crate) async fn run(disk: &Disk, quick: bool) -> Result<Vec<Target>> {
    let (lasting, rounds, of_many) = if quick { (300, 20, 1_000) } else { (2_000, 100, 5_000) };
    let lasting = Duration::from_millis(lasting);
    println!("## (b) The hand-off\n");
    let folder = disk.folder()?;
    let store = SqliteStore::open(folder.path().join("locks.db")).await?;

    eprintln!("handoff: durable commits");
    let commit = disk.durable_commit(lasting)?.at(0.5);
    let store_commit = one_caller(&store, lasting).await?.at(0.5) / 2;

    let service = LockService::new(store);
    let (mut few, mut many) = (Times::default(), Times::default());
    // Half of the rounds before the others and half after, so that a drift of the machine hits both.
    for half in 0..2 {
        eprintln!("handoff: {FEW} waiters");
        for round in 0..rounds / 2 {
            let project = format!("few-{half}-{round}");
            chain(&service, &project, FEW, Duration::ZERO, FEW, &mut few).await?;
        }
        if half == 0 {
            eprintln!("handoff: {MANY} waiters");
            // Such that all of them keep in touch while the hand-offs are measured.
            let pause = KEEP_IN_TOUCH_EVERY - Duration::from_secs(1);
            chain(&service, "many", MANY, pause, of_many, &mut many).await?;
        }
    }

    let mut table = Numbers::new(&["waiters", "hand-offs", "p50", "p99", "p50 in durable commits", "in the store's"]);
    for (waiters, times) in [(FEW, &few), (MANY, &many)] {
        let (p50, p99) = (times.at(0.5), times.at(0.99));
        let commits = [commit, store_commit].map(|commit| ratio(p50.as_secs_f64(), commit.as_secs_f64()));
        let cells = [count(waiters as f64), count(times.len() as f64), millis(p50), millis(p99)];
        table.row(cells.into_iter().chain(commits));
    }
    table.print();
    println!(
        "A durable commit (a page to the end of a log, fdatasync) takes {}; one of the store's with a single caller {}.\n",
        millis(commit),
        millis(store_commit)
    );
    let [few, many, commit] = [few.at(0.5), many.at(0.5), commit].map(|time| time.as_secs_f64());
    Ok(vec![
        Target {
            what: "p50 with 16 waiters",
            limit: Limit::AtMost(3.0),
            reached: few / commit,
            unit: " durable commits",
        },
        Target {
            what: "p50 with 10,000 waiters, to 16",
            limit: Limit::AtMost(1.5),
            reached: many / few,
            unit: " times",
        },
    ])
}

/// How long a single caller's cycles take.
async fn one_caller(store: &SqliteStore, lasting: Duration) -> Result<Times> {
    let (_, load) = load::run(StoreCaller::many(store, 1)?, lasting).await?;
    Ok(load.times)
}

/// Has this many wait for one project, and after a pause measures so many hand-offs from each to the
/// next. Those who come later wait, and keep in touch, until it is over.
async fn chain(
    service: &LockService,
    project: &str,
    waiters: usize,
    pause: Duration,
    hand_offs: usize,
    times: &mut Times,
) -> Result<()> {
    let project: ProjectId = project.parse()?;
    let first = service.lock(&project, request()?, Wait::NONE).await?;
    let released_at = Arc::new(Mutex::new(Instant::now()));
    let (handed_over, mut measured) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for _ in 0..waiters {
        let waiter = Waiter {
            service: service.clone(),
            project: project.clone(),
            released_at: Arc::clone(&released_at),
            handed_over: handed_over.clone(),
        };
        tasks.spawn(waiter.take_turn());
    }
    while service.store().status(&project).await?.is_none_or(|status| status.queue.len() < waiters) {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(pause).await;
    note(&released_at);
    first.unlock().await?;
    for _ in 0..hand_offs {
        times.add(measured.recv().await.context("the waiters have gone")??);
    }
    tasks.shutdown().await;
    Ok(())
}

struct Waiter {
    service: LockService,
    project: ProjectId,
    released_at: Arc<Mutex<Instant>>,
    handed_over: mpsc::UnboundedSender<Result<Duration>>,
}

impl Waiter {
    async fn take_turn(self) {
        let turn = async {
            let lease = self.service.lock(&self.project, request()?, Wait::new(Duration::from_secs(3_600))?).await?;
            let took = note(&self.released_at);
            lease.unlock().await?;
            Ok(took)
        };
        // Nobody listens once enough has been measured.
        let _ = self.handed_over.send(turn.await);
    }
}

/// Notes that the project is released now, and tells how long ago it was before.
fn note(released_at: &Mutex<Instant>) -> Duration {
    let now = Instant::now();
    now - mem::replace(&mut *released_at.lock().unwrap_or_else(PoisonError::into_inner), now)
}

fn request() -> Result<LockRequest> {
    Ok(LockRequest::new("bench".parse()?, "build".parse()?))
}
