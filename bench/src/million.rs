//! (c) A million projects held at once: what a lease takes in memory and on disk, what a cycle takes
//! beside them, and how fast they can all be renewed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use buildlock::{Command, Holder, LockRequest, LockStore, Outcome, ProjectId, SqliteStore, Token, Ttl};
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use crate::disk::Disk;
use crate::load;
use crate::store::StoreCaller;
use crate::table::{Limit, Numbers, Target, count, median, ratio};

/// How many lock and renew at the same time.
const LOCKERS: usize = 256;

/// How many cycle beside the leases.
const CALLERS: usize = 64;

/// In what time all leases should be renewed once.
const RENEW_ALL_WITHIN: Duration = Duration::from_secs(10);

pub(crate) async fn run(disk: &Disk, quick: bool) -> Result<Vec<Target>> {
    let (projects, rounds, lasting, passes) =
        if quick { (50_000, 3, Duration::from_millis(300), 1) } else { (1_000_000, 5, Duration::from_secs(2), 3) };
    println!("## (c) {} projects held at once\n", count(projects as f64));
    let folder = disk.folder()?;
    let path = folder.path().join("full.db");
    let store = SqliteStore::open(&path).await?;
    let leases = Arc::new(Leases::new(projects)?);

    let memory_before = resident_bytes()?;
    let locking = leases.clone().each(&store, projects, "locked", Leases::lock).await?;
    let in_memory = (resident_bytes()?.saturating_sub(memory_before)) as f64 / projects as f64;
    drop(store);
    let on_disk = bytes_on_disk(folder.path())? as f64 / projects as f64;

    let full = SqliteStore::open(&path).await?;
    let empty = SqliteStore::open(folder.path().join("empty.db")).await?;
    let (in_full, in_empty) = compare(&full, &empty, rounds, lasting).await?;

    let mut slowest = Duration::ZERO;
    for _ in 0..passes {
        let renewing = leases.clone().each(&full, projects, "renewed", Leases::renew).await?;
        slowest = slowest.max(renewing);
        sleep(RENEW_ALL_WITHIN.saturating_sub(renewing)).await;
    }
    let some = projects / 5;
    let renewing_scattered = leases.clone().each(&full, some, "renewed out of order", Leases::renew_scattered).await?;

    let per_second = |projects: usize, time: Duration| projects as f64 / time.as_secs_f64();
    let renewed = per_second(projects, slowest);
    let renewed_scattered = per_second(some, renewing_scattered);
    let mut table = Numbers::new(&["", ""]);
    table.row(["locked per second".to_owned(), count(per_second(projects, locking))]);
    table.row(["bytes a lease, in memory".to_owned(), count(in_memory)]);
    table.row(["bytes a lease, on disk, with its history".to_owned(), count(on_disk)]);
    table.row(["cycle with 64 callers beside them".to_owned(), micros(in_full)]);
    table.row(["cycle with 64 callers in an empty store".to_owned(), micros(in_empty)]);
    table.row(["ratio".to_owned(), ratio(in_full, in_empty)]);
    table.row(["renewed per second, in the order of the locks".to_owned(), count(renewed)]);
    table.row(["renewed per second, in no order".to_owned(), count(renewed_scattered)]);
    table.print();
    let all_in_time = Limit::AtLeast(per_second(projects, RENEW_ALL_WITHIN));
    Ok(vec![
        Target {
            what: "cycle time, to an empty store",
            limit: Limit::AtMost(1.3),
            reached: in_full / in_empty,
            unit: " times",
        },
        Target { what: "renewals per second, in order", limit: all_in_time, reached: renewed, unit: "" },
        Target { what: "renewals per second, in no order", limit: all_in_time, reached: renewed_scattered, unit: "" },
    ])
}

/// Seconds of the store's time that a cycle takes, in the full and in the empty store by turns.
async fn compare(full: &SqliteStore, empty: &SqliteStore, rounds: usize, lasting: Duration) -> Result<(f64, f64)> {
    let (mut of_full, mut of_empty) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        eprintln!("million: cycles, round {} of {rounds}", round + 1);
        for (store, times) in [(full, &mut of_full), (empty, &mut of_empty)] {
            let (callers, _) = load::run(StoreCaller::many(store, CALLERS)?, lasting / 10).await?;
            let (_, load) = load::run(callers, lasting).await?;
            times.push(1.0 / load.per_second);
        }
    }
    Ok((median(of_full), median(of_empty)))
}

/// The projects and their leases.
struct Leases {
    projects: Vec<ProjectId>,
    tokens: Vec<AtomicU64>,
    holder: Holder,
    ttl: Ttl,
}

impl Leases {
    /// Random ids, as platforms have them: neighbours in time are none in the store's index.
    fn new(count: usize) -> Result<Self> {
        let projects = (0..count).map(|_| Uuid::new_v4().to_string().parse()).collect::<Result<_, _>>()?;
        let tokens = (0..count).map(|_| AtomicU64::new(1)).collect();
        Ok(Self { projects, tokens, holder: "bench".parse()?, ttl: Ttl::new(Duration::from_secs(24 * 60 * 60))? })
    }

    /// Does something to so many of them, with many callers at once; tells how long it took.
    async fn each<F>(
        self: Arc<Self>,
        store: &SqliteStore,
        count: usize,
        done: &'static str,
        work: impl Fn(Arc<Self>, SqliteStore, usize) -> F + Copy + Send + 'static,
    ) -> Result<Duration>
    where
        F: Future<Output = Result<()>> + Send,
    {
        let started = Instant::now();
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..LOCKERS {
            let (leases, store, next) = (Arc::clone(&self), store.clone(), Arc::clone(&next));
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return anyhow::Ok(());
                    }
                    if number.is_multiple_of(100_000) {
                        eprintln!("million: {number} {done} after {:.1} s", started.elapsed().as_secs_f64());
                    }
                    work(Arc::clone(&leases), store.clone(), number).await?;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(started.elapsed())
    }

    async fn lock(self: Arc<Self>, store: SqliteStore, number: usize) -> Result<()> {
        let request = LockRequest { ttl: self.ttl, ..LockRequest::new(self.holder.clone(), "build".parse()?) };
        let lock = Command::Lock { request, if_locked: buildlock::IfLocked::Refuse };
        match store.apply(&self.projects[number], lock).await?.outcome {
            Outcome::Held(lease) => self.tokens[number].store(lease.token.get(), Ordering::Relaxed),
            outcome => bail!("not locked: {outcome:?}"),
        }
        Ok(())
    }

    async fn renew(self: Arc<Self>, store: SqliteStore, number: usize) -> Result<()> {
        let token = Token::new(self.tokens[number].load(Ordering::Relaxed))?;
        let renew = Command::Renew { token, holder: self.holder.clone(), ttl: None };
        match store.apply(&self.projects[number], renew).await?.outcome {
            Outcome::Held(_) => Ok(()),
            outcome => bail!("not renewed: {outcome:?}"),
        }
    }

    /// As renew, in an order that jumps about: each lease once, as this prime is no part of the count.
    async fn renew_scattered(self: Arc<Self>, store: SqliteStore, number: usize) -> Result<()> {
        let scattered = number * 611_953 % self.projects.len();
        self.renew(store, scattered).await
    }
}

fn micros(seconds: f64) -> String {
    format!("{:.1} µs", seconds * 1e6)
}

fn resident_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc/self/status")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

fn bytes_on_disk(folder: &Path) -> Result<u64> {
    fs::read_dir(folder)?.map(|file| Ok(file?.metadata()?.len())).sum()
}
