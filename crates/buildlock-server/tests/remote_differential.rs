//! A store on a server lives through the same random histories as `buildlock-core`: every outcome and every event
//! equal. A server does by itself what is due, so here all that is due is done whenever time has gone on.

#[path = "../../buildlock/tests/histories/mod.rs"]
mod histories;
#[path = "../../buildlock/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use buildlock::{KeyHash, KeyStore, RemoteStore, Role, SqliteStore, fresh_key};
use buildlock_server::{Config, Options, Server};
use histories::party::{Party, StoreParty};
use histories::run::{Life, World};
use histories::shorten::check;
use histories::steps::Author;
use support::clock::TestClock;

/// How many projects live side by side.
const PROJECTS: usize = 200;

/// Rules 1 to 11, over HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_a_server_lives_through_random_histories_as_the_model_does() {
    let (clock, folder) = (TestClock::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("locks.db");
    let store = SqliteStore::open_with_clock(&path, Arc::new(clock.clone())).await.unwrap();
    let key = fresh_key().unwrap();
    store.add_key(KeyHash::of(&key), &"operator".parse().unwrap(), Role::Operator).await.unwrap();
    let mut options = Options::new(Config::without_file(folder.path()));
    options.config.server.listen.set_port(0);
    let server = Server::bind(options, Arc::new(store)).await.unwrap();
    let (address, stop) = (server.local_addr(), server.stop_handle());
    let serving = tokio::spawn(async move { server.serve().await.unwrap() });
    let remote = RemoteStore::open_with_key(&format!("http://{address}"), Some(&key)).await.unwrap();

    let parties: Vec<Box<dyn Party>> =
        vec![Box::new(StoreParty { name: "the store on a server", store: Arc::new(remote) })];
    let mut world = World::new(clock, parties, true);
    let start = Instant::now();
    let mut life = Life::default();
    for seed in 10..12 {
        let mut author = Author::new(seed, PROJECTS, true);
        life = life.and(check(&mut world, &mut author, &format!("run {seed}"), PROJECTS, 10_000).await);
    }
    println!("{} commands in {:?}\n{:#?}", life.commands, start.elapsed(), (&life.outcomes, &life.events, &life.took));
    assert!(life.has_seen_everything(20));
    drop(world);
    stop.at_once();
    support::soon("the server's end", serving).await.unwrap();
}
