//! The SQLite store, the PostgreSQL store and the SQL functions themselves live through the same random histories
//! as `buildlock-core`: at least 100,000 commands, every outcome and every event equal.

mod histories;
#[path = "histories/sql.rs"]
mod sql;
mod support;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use buildlock::{PostgresStore, SqliteStore};
use buildlock_testing::TestPg;
use histories::party::{Party, StoreParty};
use histories::run::{Life, World};
use histories::shorten::check;
use histories::steps::Author;
use sql::SqlParty;
use support::clock::TestClock;

/// How many projects live side by side.
const PROJECTS: usize = 200;

/// Rules 1 to 11, in 100,000 commands to projects that live side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_lives_through_random_histories_as_the_model_does() {
    let start = Instant::now();
    // In two worlds at once: most of the time each waits for a database.
    let (some, others) = tokio::join!(live(0..2), live(2..4));
    let life = some.and(others);
    println!("{} commands in {:?}\n{:#?}", life.commands, start.elapsed(), (&life.outcomes, &life.events, &life.took));
    assert!(life.commands >= 100_000 && life.has_seen_everything(100));
}

/// Lives through a history for each seed.
async fn live(seeds: Range<u64>) -> Life {
    let (clock, folder) = (TestClock::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("locks.db");
    let sqlite = SqliteStore::open_with_clock(&path, Arc::new(clock.clone())).await.unwrap();
    let (of_store, of_functions) = (TestPg::fresh().await, TestPg::fresh().await);
    let postgres = PostgresStore::open_with_clock(&of_store.url(), Arc::new(clock.clone())).await.unwrap();
    let parties: Vec<Box<dyn Party>> = vec![
        Box::new(StoreParty { name: "the SQLite store", store: Arc::new(sqlite) }),
        Box::new(StoreParty { name: "the PostgreSQL store", store: Arc::new(postgres) }),
        Box::new(SqlParty { client: of_functions.client().await }),
    ];
    let mut world = World::new(clock, parties, false);
    let mut life = Life::default();
    for seed in seeds {
        let mut author = Author::new(seed, PROJECTS, true);
        life = life.and(check(&mut world, &mut author, &format!("run {seed}"), PROJECTS, 25_500).await);
    }
    life
}
