//! Cycles of lock and unlock over PostgreSQL, beside the home-made way (a column that is updated where it says
//! 'idle') and beside advisory locks, which no crash survives. All in one cluster, by turns.

use anyhow::{Context, Result, ensure};
use buildlock_testing::{ClusterOptions, TestCluster, TestPg};
use tokio_postgres::{Client, Statement};

use crate::cycles::{Medians, Side, rounds};
use crate::load::Caller;
use crate::table::{Limit, Numbers, Target, count, millis, ratio};

const CALLERS: [usize; 3] = [1, 16, 64];

pub(crate) async fn run(quick: bool) -> Result<Vec<Target>> {
    println!("## Over PostgreSQL\n");
    let cluster = TestCluster::start(&ClusterOptions { is_durable: true, ..ClusterOptions::default() });
    let mut targets = Vec::new();
    let mut table = Numbers::new(&["callers, and how they lock", "cycles/s", "p50", "p99", "to the home-made way"]);
    for callers in CALLERS {
        eprintln!("postgres: {callers} callers");
        let (home, ours) = (cluster.fresh().await, cluster.fresh().await);
        home.run(HOME_MADE_TABLE).await;
        let mut home_made = Side::new(SqlCaller::many(&home, callers, HOME_MADE).await?);
        let mut advisory = Side::new(SqlCaller::many(&home, callers, ADVISORY).await?);
        let mut functions = Side::new(SqlCaller::many(&ours, callers, FUNCTIONS).await?);
        let (rounds, lasting) = rounds(quick);
        for _ in 0..rounds {
            home_made.round(lasting).await?;
            advisory.round(lasting).await?;
            functions.round(lasting).await?;
        }
        let home_made = home_made.medians();
        let of = |ours: &Medians| ours.per_second / home_made.per_second;
        for (way, medians) in [
            ("the home-made way", &home_made),
            ("advisory locks", &advisory.medians()),
            ("buildlock's SQL functions", &functions.medians()),
        ] {
            table.row([
                format!("{callers}, {way}"),
                count(medians.per_second),
                millis(medians.p50),
                millis(medians.p99),
                ratio(medians.per_second, home_made.per_second),
            ]);
        }
        if callers == 64 {
            targets.push(Target {
                what: "SQL functions at 64 callers, to the home-made way",
                limit: Limit::AtLeast(0.6),
                reached: of(&functions.medians()),
                unit: " times",
            });
        }
    }
    table.print();
    Ok(targets)
}

const HOME_MADE_TABLE: &str = include_str!("postgres/home_made_table.sql");

/// The statements that lock and unlock. Each answers with a row if it has; the unlocking one is told what the
/// locking one answered.
#[derive(Clone, Copy)]
struct Way {
    lock: &'static str,
    unlock: &'static str,
}

const HOME_MADE: Way =
    Way { lock: include_str!("postgres/home_made_lock.sql"), unlock: include_str!("postgres/home_made_unlock.sql") };
const ADVISORY: Way =
    Way { lock: include_str!("postgres/advisory_lock.sql"), unlock: include_str!("postgres/advisory_unlock.sql") };
const FUNCTIONS: Way =
    Way { lock: include_str!("postgres/function_lock.sql"), unlock: include_str!("postgres/function_unlock.sql") };

/// Locks and unlocks one project with statements, on a connection of its own.
struct SqlCaller {
    client: Client,
    lock: Statement,
    unlock: Statement,
    project: String,
}

impl SqlCaller {
    async fn many(database: &TestPg, count: usize, way: Way) -> Result<Vec<Self>> {
        let mut callers = Vec::with_capacity(count);
        for number in 0..count {
            let client = database.client().await;
            let (lock, unlock) = (client.prepare(way.lock).await?, client.prepare(way.unlock).await?);
            callers.push(Self { client, lock, unlock, project: format!("caller-{number}") });
        }
        Ok(callers)
    }
}

impl Caller for SqlCaller {
    async fn cycle(&mut self) -> Result<()> {
        let Self { client, lock, unlock, project } = self;
        let locked = client.query_opt(lock, &[project]).await?.context("not locked")?;
        let unlocked = client.query_opt(unlock, &[project, &locked.get::<_, i64>(0)]).await?;
        ensure!(unlocked.is_some(), "not unlocked");
        Ok(())
    }
}
