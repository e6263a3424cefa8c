//! Cycles of lock and unlock over PostgreSQL, beside the home-made way (a column that is updated where it says
//! 'idle') and beside advisory locks, which no crash survives. All in one cluster, by turns.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use buildlock::PostgresStore;
use buildlock_testing::{ClusterOptions, TestCluster, TestPg};
use tokio_postgres::{Client, Statement};

use crate::command::binary;
use crate::cycles::{Medians, Side, rounds};
use crate::disk::Disk;
use crate::http::{Server, token};
use crate::load::{Caller, Times};
use crate::store::StoreCaller;
use crate::table::{Limit, Numbers, Target, count, millis, ratio};

const CALLERS: [usize; 4] = [1, 16, 64, 256];

/// How many cycle beside the held locks.
const BESIDE: usize = 64;

pub(crate) async fn run(disk: &Disk, quick: bool) -> Result<Vec<Target>> {
    println!("## Over PostgreSQL\n");
    let cluster = TestCluster::start(&ClusterOptions { is_durable: true, ..ClusterOptions::default() });
    let program = binary()?;
    let mut targets = Vec::new();
    let mut table = Numbers::new(&["callers, and how they lock", "cycles/s", "p50", "p99", "to the home-made way"]);
    for callers in CALLERS {
        eprintln!("postgres: {callers} callers");
        let ways = Ways::measure(disk, &cluster, program.as_deref(), callers, quick).await?;
        ways.tell(callers, &mut table);
        if callers == 64 {
            ways.judge(&mut targets);
        }
    }
    table.print();
    if let Some(program) = &program {
        targets.push(hand_off(disk, &cluster, program, quick).await?);
    }
    targets.push(held(&cluster, quick).await?);
    Ok(targets)
}

/// How fast each way is.
struct Ways {
    home_made: Medians,
    advisory: Medians,
    functions: Medians,
    store: Medians,
    http: Option<Medians>,
}

impl Ways {
    async fn measure(
        disk: &Disk,
        cluster: &TestCluster,
        program: Option<&Path>,
        callers: usize,
        quick: bool,
    ) -> Result<Self> {
        // Those with a connection each have no more than the cluster lets in.
        let connections = callers.min(64);
        let home = cluster.fresh().await;
        home.run(HOME_MADE_TABLE).await;
        let [direct, in_process, served] = [cluster.fresh().await, cluster.fresh().await, cluster.fresh().await];
        let store = PostgresStore::open(&in_process.url()).await?;
        let folder = disk.folder()?;
        let server = match program {
            Some(program) => Some(Server::start(program, folder.path(), &served.url()).await?),
            None => None,
        };
        let mut home_made = Side::new(SqlCaller::many(&home, connections, HOME_MADE).await?);
        let mut advisory = Side::new(SqlCaller::many(&home, connections, ADVISORY).await?);
        let mut functions = Side::new(SqlCaller::many(&direct, connections, FUNCTIONS).await?);
        let mut in_process = Side::new(StoreCaller::many(&store, callers)?);
        let mut http = match &server {
            Some(server) => Some(Side::new(server.callers(callers).await?)),
            None => None,
        };
        let (rounds, lasting) = rounds(quick);
        for _ in 0..rounds {
            home_made.round(lasting).await?;
            advisory.round(lasting).await?;
            functions.round(lasting).await?;
            in_process.round(lasting).await?;
            if let Some(http) = &mut http {
                http.round(lasting).await?;
            }
        }
        Ok(Self {
            home_made: home_made.medians(),
            advisory: advisory.medians(),
            functions: functions.medians(),
            store: in_process.medians(),
            http: http.map(|http| http.medians()),
        })
    }

    fn tell(&self, callers: usize, table: &mut Numbers) {
        let ways = [
            ("the home-made way", Some(&self.home_made)),
            ("advisory locks, not durable", Some(&self.advisory)),
            ("buildlock's SQL functions", Some(&self.functions)),
            ("buildlock's store, in process", Some(&self.store)),
            ("buildlock's server, over HTTP", self.http.as_ref()),
        ];
        for (way, medians) in ways {
            let Some(medians) = medians else { continue };
            table.row([
                format!("{callers}, {way}"),
                count(medians.per_second),
                millis(medians.p50),
                millis(medians.p99),
                ratio(medians.per_second, self.home_made.per_second),
            ]);
        }
    }

    fn judge(&self, targets: &mut Vec<Target>) {
        let target = |what, least, ways: &Medians| {
            let reached = ways.per_second / self.home_made.per_second;
            Target { what, limit: Limit::AtLeast(least), reached, unit: " times" }
        };
        targets.push(target("in process at 64 callers, to the home-made way", 2.0, &self.store));
        targets.extend(self.http.as_ref().map(|http| target("over HTTP at 64 connections, to it", 0.8, http)));
        targets.push(target("SQL functions at 64 connections, to it", 0.6, &self.functions));
    }
}

/// From the call that unlocks at one server to the answer of who waits at another.
async fn hand_off(disk: &Disk, cluster: &TestCluster, program: &Path, quick: bool) -> Result<Target> {
    let folders = [disk.folder()?, disk.folder()?];
    let database = cluster.fresh().await;
    let one = Server::start(program, folders[0].path(), &database.url()).await?;
    let other = Server::start(program, folders[1].path(), &database.url()).await?;
    let (mut holds, mut waits, mut looks) = (one.connect().await?, other.connect().await?, one.connect().await?);
    let mut times = Times::default();
    let path = "/v1/projects/site/lock";
    let mut held = token(holds.call("POST", path, "{}").await?)?.to_owned();
    for _ in 0..if quick { 20 } else { 300 } {
        let turn = async {
            let next = token(waits.call("POST", path, r#"{"wait": 60}"#).await?)?.to_owned();
            anyhow::Ok((next, Instant::now()))
        };
        let release = async {
            while !looks.call("GET", path, "").await?.contains(r#""queue":[{"#) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // The waiter is told of its place before it listens, if only just.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let released = Instant::now();
            holds.call("DELETE", &format!("{path}?token={held}"), "").await?;
            anyhow::Ok(released)
        };
        let ((next, granted), released) = tokio::try_join!(turn, release)?;
        times.add(granted - released);
        held = next;
        std::mem::swap(&mut holds, &mut waits);
    }
    let (p50, p99) = (times.at(0.5), times.at(0.99));
    println!("A hand-off from one server to another takes {} (p50), {} (p99).\n", millis(p50), millis(p99));
    Ok(Target {
        what: "hand-off between two servers, p50",
        limit: Limit::AtMost(5.0),
        reached: p50.as_secs_f64() * 1e3,
        unit: " ms",
    })
}

/// Cycles beside many locks that are held, and in an empty table.
async fn held(cluster: &TestCluster, quick: bool) -> Result<Target> {
    let locks: i64 = if quick { 50_000 } else { 1_000_000 };
    eprintln!("postgres: {locks} held locks");
    let [full, empty] = [cluster.fresh().await, cluster.fresh().await];
    full.client().await.execute(HELD, &[&locks]).await?;
    full.run("vacuum analyze").await;
    let (in_full, in_empty) = (PostgresStore::open(&full.url()).await?, PostgresStore::open(&empty.url()).await?);
    let mut in_full = Side::new(StoreCaller::many(&in_full, BESIDE)?);
    let mut in_empty = Side::new(StoreCaller::many(&in_empty, BESIDE)?);
    let (rounds, lasting) = rounds(quick);
    for _ in 0..rounds {
        in_full.round(lasting).await?;
        in_empty.round(lasting).await?;
    }
    let reached = in_empty.medians().per_second / in_full.medians().per_second;
    println!("Beside {} held locks a cycle takes {reached:.2} times what it takes beside none.\n", count(locks as f64));
    Ok(Target { what: "cycle time beside held locks, to none", limit: Limit::AtMost(1.5), reached, unit: " times" })
}

const HELD: &str = include_str!("postgres/held.sql");
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
