//! (a) Cycles of lock and unlock, each caller on its own project, every one durable and on record;
//! beside Redis, which keeps no record.

use std::time::Duration;

use anyhow::Result;
use buildlock::SqliteStore;

use crate::disk::Disk;
use crate::load::{self, Caller, Load};
use crate::redis::{Redis, RedisCaller};
use crate::store::StoreCaller;
use crate::table::{Limit, Numbers, Target, count, median, millis, ratio};

const CALLERS: [usize; 5] = [1, 16, 64, 256, 1024];

pub(crate) async fn run(disk: &Disk, quick: bool) -> Result<Vec<Target>> {
    println!("## (a) Cycles of lock and unlock\n");
    let mut table = cycles_table("callers");
    let mut targets = Vec::new();
    let mut has_redis = true;
    for callers in CALLERS {
        eprintln!("cycles: {callers} callers");
        let folder = disk.folder()?;
        let store = SqliteStore::open(folder.path().join("locks.db")).await?;
        let redis = Redis::start(folder.path()).await?;
        let redis_callers = match &redis {
            Some(redis) => Some(redis.callers(callers).await?),
            None => None,
        };
        has_redis = redis.is_some();
        let (ours, redis) = compare(StoreCaller::many(&store, callers)?, redis_callers, quick).await?;
        if let Some(redis) = redis.as_ref().filter(|_| callers == 64) {
            let reached = ours.per_second / redis.per_second;
            let what = "cycles/s at 64 callers, to Redis";
            targets.push(Target { what, limit: Limit::AtLeast(2.0), reached, unit: " times" });
        }
        table.row(cycles_row(callers, &ours, redis.as_ref()));
        if callers == 1024 {
            let what = "cycles/s at 1024 callers";
            targets.push(Target { what, limit: Limit::AtLeast(100_000.0), reached: ours.per_second, unit: "" });
        }
    }
    table.print();
    if !has_redis {
        println!(
            "There is no redis-server on this machine (Debian's package redis-server): nothing to compare with.\n"
        );
    }
    Ok(targets)
}

/// The medians over all rounds.
pub(crate) struct Medians {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Medians {
    fn of(loads: &[Load]) -> Self {
        let time = |quantile| median(loads.iter().map(|load| load.times.at(quantile).as_secs_f64()));
        Self {
            per_second: median(loads.iter().map(|load| load.per_second)),
            p50: Duration::from_secs_f64(time(0.5)),
            p99: Duration::from_secs_f64(time(0.99)),
        }
    }
}

/// Has both callers take turns, so that a drift of the machine hits both.
pub(crate) async fn compare<C: Caller>(
    ours: Vec<C>,
    redis: Option<Vec<RedisCaller>>,
    quick: bool,
) -> Result<(Medians, Option<Medians>)> {
    let (rounds, lasting) = rounds(quick);
    let (mut of_ours, mut of_redis) = (Side::new(ours), redis.map(Side::new));
    for _ in 0..rounds {
        of_ours.round(lasting).await?;
        if let Some(of_redis) = &mut of_redis {
            of_redis.round(lasting).await?;
        }
    }
    Ok((of_ours.medians(), of_redis.map(|side| side.medians())))
}

/// How many rounds, and how long each lasts.
pub(crate) fn rounds(quick: bool) -> (usize, Duration) {
    if quick { (3, Duration::from_millis(300)) } else { (5, Duration::from_secs(2)) }
}

pub(crate) fn cycles_table(first: &'static str) -> Numbers {
    Numbers::new(&[first, "cycles/s", "p50", "p99", "Redis cycles/s", "Redis p50", "Redis p99", "ratio"])
}

pub(crate) fn cycles_row(callers: usize, ours: &Medians, redis: Option<&Medians>) -> Vec<String> {
    let mut cells = vec![callers.to_string(), count(ours.per_second), millis(ours.p50), millis(ours.p99)];
    match redis {
        Some(redis) => {
            cells.extend([count(redis.per_second), millis(redis.p50), millis(redis.p99)]);
            cells.push(ratio(ours.per_second, redis.per_second));
        }
        None => cells.extend(["-"; 4].map(str::to_owned)),
    }
    cells
}

/// Those who lock in one way, and what came of it.
pub(crate) struct Side<C> {
    callers: Vec<C>,
    loads: Vec<Load>,
}

impl<C: Caller> Side<C> {
    pub(crate) fn new(callers: Vec<C>) -> Self {
        Self { callers, loads: Vec::new() }
    }

    pub(crate) fn medians(&self) -> Medians {
        Medians::of(&self.loads)
    }

    pub(crate) async fn round(&mut self, lasting: Duration) -> Result<()> {
        let callers = std::mem::take(&mut self.callers);
        let (callers, _) = load::run(callers, lasting / 10).await?;
        let (callers, load) = load::run(callers, lasting).await?;
        self.callers = callers;
        self.loads.push(load);
        Ok(())
    }
}
