//! The SQLite store, the PostgreSQL store and the SQL functions themselves live through the same random histories
//! as `buildlock-core`: at least 100,000 commands, every outcome and every event equal.

mod histories;
#[path = "histories/sql.rs"]
mod sql;
mod support;

use std::sync::Arc;
use std::time::Instant;

use buildlock::SqliteStore;
use buildlock_testing::TestPg;
use histories::party::{Party, StoreParty};
use histories::run::{Life, World};
use histories::shorten::check;
use histories::steps::Author;
use sql::SqlParty;
use support::clock::TestClock;

const FOR: u64 = 4;
const N: usize = 26_000;
const PROJECTS: usize = 200;

/// The stores of this crate, each with nothing in it.
async fn parties(clock: &TestClock, pg: &TestPg, folder: &tempfile::TempDir) -> Vec<Box<dyn Party>> {
    let path = folder.path().join("locks.db");
    let sqlite = SqliteStore::open_with_clock(&path, Arc::new(clock.clone())).await.unwrap();
    vec![
        Box::new(StoreParty { name: "the SQLite store", store: Arc::new(sqlite) }),
        Box::new(SqlParty { client: pg.client().await }),
    ]
}

/// Rules 1 to 11, in 100,000 commands to projects that live side by side.
#[tokio::test]
async fn every_store_lives_through_random_histories_as_the_model_does() {
    let (clock, pg, folder) = (TestClock::new(), TestPg::fresh().await, tempfile::tempdir().unwrap());
    let mut world = World::new(clock.clone(), parties(&clock, &pg, &folder).await, false);
    let start = Instant::now();
    let mut life = Life::default();
    for seed in 0..FOR {
        let mut author = Author::new(seed, PROJECTS, true);
        life = life.and(check(&mut world, &mut author, &format!("run {seed}"), PROJECTS, N).await);
    }
    println!("{} commands in {:?}\n{:#?}", life.commands, start.elapsed(), (&life.outcomes, &life.events, &life.took));
    assert!(life.commands >= 100_000 && life.has_seen_everything(100));
}
