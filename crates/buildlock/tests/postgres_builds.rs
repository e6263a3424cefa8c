//! PostgreSQL keeps builds and keys as every store must, direct and through a pooler; and what servers that
//! share it know of each other's builds.

mod support;
#[macro_use]
mod builds_conformance;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use buildlock::{
    AbandonedBuild, Build, BuildEnd, BuildId, BuildProgress, BuildRetention, BuildServer, BuildStatus, BuildStore,
    Command, KeyStore, LockStore, LogStream, NewBuild, Outcome, PostgresStore, SharedBuilds,
};
use buildlock_testing::{TestPg, TestPooler};
use builds_conformance::{Builds, World};
use support::ask::{Ask, project, seconds};
use support::clock::TestClock;
use tokio::task::JoinSet;
use uuid::Uuid;

/// A database of one's own. Another handle has connections of its own, which is what another process has.
struct PostgresWorld {
    store: Option<PostgresStore>,
    url: String,
    clock: TestClock,
    pg: TestPg,
}

impl PostgresWorld {
    async fn at(pg: TestPg, url: String) -> Self {
        let mut world = Self { store: None, url, clock: TestClock::new(), pg };
        world.reopen().await;
        world
    }
}

impl World for PostgresWorld {
    type Store = PostgresStore;

    async fn fresh() -> Self {
        let pg = TestPg::fresh().await;
        let url = pg.url();
        Self::at(pg, url).await
    }

    fn store(&self) -> &PostgresStore {
        self.store.as_ref().unwrap()
    }

    async fn another(&self) -> PostgresStore {
        PostgresStore::open_with_clock(&self.url, Arc::new(self.clock.clone())).await.unwrap()
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.another().await);
    }

    fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }
}

mod direct {
    use super::*;

    builds_conformance!(PostgresWorld);
}

/// The same through a pooler that lends connections for one transaction.
struct PooledWorld {
    world: PostgresWorld,
    _pooler: TestPooler,
}

impl World for PooledWorld {
    type Store = PostgresStore;

    async fn fresh() -> Self {
        let pg = TestPg::fresh().await;
        let pooler = pg.pooler();
        let url = pg.url_through(&pooler);
        Self { world: PostgresWorld::at(pg, url).await, _pooler: pooler }
    }

    fn store(&self) -> &PostgresStore {
        self.world.store()
    }

    async fn another(&self) -> PostgresStore {
        self.world.another().await
    }

    async fn reopen(&mut self) {
        self.world.reopen().await;
    }

    fn advance(&self, time: Duration) {
        self.world.advance(time);
    }
}

mod pooled {
    use super::*;

    builds_conformance!(PooledWorld);
}

fn server(name: &str) -> BuildServer {
    BuildServer { id: Uuid::now_v7(), name: name.to_owned() }
}

/// A build that runs under a lease of 30 s.
async fn leased(store: &PostgresStore, site: &str) -> Build {
    let held = store.held(site, "ana").await;
    let new = NewBuild {
        id: BuildId::fresh(),
        project: project(site),
        operation: held.operation,
        holder: held.holder,
        token: held.token,
        request: held.request,
    };
    store.start_build(new).await.unwrap()
}

async fn abandoned(store: &PostgresStore) -> Vec<(BuildId, Option<String>)> {
    let abandoned = store.abandoned_builds().await.unwrap();
    abandoned.into_iter().map(|AbandonedBuild { build, server }| (build, server)).collect()
}

/// Also where the transactions of two servers meet.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_two_servers_are_numbered_without_gaps() {
    let world = PostgresWorld::fresh().await;
    let build = world.store().running("site").await;
    let stores = [world.store().clone(), world.another().await];
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let store = stores[writer % 2].clone();
        writers.spawn(async move {
            let mut numbers = Vec::new();
            for _ in 0..20 {
                let lines = vec![(LogStream::Stdout, format!("of {writer}")); 3];
                numbers.extend(store.append_log(build.id, lines).await.unwrap().into_iter().map(|line| line.number));
            }
            numbers
        });
    }
    let told: Vec<u64> = writers.join_all().await.into_iter().flatten().collect();
    assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), (1..=480).collect());
    assert_eq!(told.len(), 480);
    let lines = world.store().log(build.id, 0, 1_000).await.unwrap();
    assert!(lines.iter().map(|line| line.number).eq(1..=480));
}

/// Rule 4, where both servers ask in the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_that_start_a_requests_build_one_does() {
    let world = PostgresWorld::fresh().await;
    let stores = [world.store().clone(), world.another().await];
    for _ in 0..20 {
        let new = world.store().new_build("site").await;
        let mut starting = JoinSet::new();
        for store in &stores {
            let (store, new) = (store.clone(), NewBuild { id: BuildId::fresh(), ..new.clone() });
            starting.spawn(async move { store.start_build(new).await.unwrap() });
        }
        let started = starting.join_all().await;
        assert_eq!(started[0], started[1]);
    }
}

/// Neither that whose lease lives, nor that of which its server says that it runs it.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_abandoned_when_its_lease_has_ended_and_its_server_is_silent() {
    let world = PostgresWorld::fresh().await;
    let store = world.another().await;
    let (one, two) = (server("one"), server("two"));
    let kept = leased(&store, "kept").await.id;
    let left = leased(&store, "left").await.id;
    let unknown = leased(&store, "unknown").await.id;
    store.keep_builds(&one, vec![kept]).await.unwrap();
    store.keep_builds(&two, vec![left]).await.unwrap();
    world.advance(seconds(29));
    assert_eq!(abandoned(&store).await, []);
    assert!(!store.lose_build(left, "early".to_owned()).await.unwrap());

    world.advance(seconds(1));
    store.keep_builds(&one, vec![kept]).await.unwrap();
    let expected = [(left, Some("two".to_owned())), (unknown, None)];
    assert_eq!(abandoned(world.store()).await, expected);
    assert!(!store.lose_build(kept, "it lives".to_owned()).await.unwrap());
    assert!(store.lose_build(left, "gone".to_owned()).await.unwrap());
    assert!(!store.lose_build(left, "again".to_owned()).await.unwrap());
    let lost = world.store().build(left).await.unwrap().unwrap();
    assert_eq!((lost.status, lost.reason.as_deref(), lost.exit_code), (BuildStatus::Lost, Some("gone"), None));
    // It is over: its server may come back and say what it wants.
    let end = BuildEnd { status: BuildStatus::Succeeded, exit_code: Some(0), reason: None };
    assert_eq!(store.end_build(left, end).await.unwrap(), Some(lost));
    assert_eq!(abandoned(&store).await, [(unknown, None)]);

    world.advance(Duration::from_millis(1_200));
    assert_eq!(abandoned(&store).await, [(kept, Some("one".to_owned())), (unknown, None)]);
    store.keep_builds(&one, Vec::new()).await.unwrap();
    assert_eq!(abandoned(&store).await, [(kept, None), (unknown, None)]);
}

/// However it ended: the next has the project by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_abandoned_too_when_its_lease_was_ended_and_another_holds_the_project() {
    let world = PostgresWorld::fresh().await;
    let store = world.store();
    let build = leased(store, "site").await;
    let force =
        Command::ForceUnlock { token: build.token, by: "ops".parse().unwrap(), reason: "stuck".parse().unwrap() };
    assert!(matches!(store.ask("site", force).await.outcome, Outcome::Ended(_)));
    let next = leased(store, "site").await;
    assert_eq!(abandoned(store).await, [(build.id, None)]);
    assert!(store.lose_build(build.id, "gone".to_owned()).await.unwrap());
    assert_eq!(store.running_builds().await.unwrap(), [next]);
}

/// The first who wants it counts; what has ended is not wanted any more.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_that_runs_a_build_learns_who_wants_it_cancelled() {
    let world = PostgresWorld::fresh().await;
    let other = world.another().await;
    let one = server("one");
    let (build, quiet) = (leased(world.store(), "site").await.id, leased(world.store(), "quiet").await.id);
    assert_eq!(world.store().keep_builds(&one, vec![build, quiet]).await.unwrap(), []);
    for by in ["ben", "ana"] {
        assert!(other.cancel_build(build, &by.parse().unwrap()).await.unwrap());
    }
    let wanted = world.store().keep_builds(&one, vec![build, quiet]).await.unwrap();
    assert_eq!(wanted, [(build, "ben".parse().unwrap())]);
    assert_eq!(world.store().keep_builds(&server("two"), vec![quiet]).await.unwrap(), []);
    let end = BuildEnd { status: BuildStatus::Cancelled, exit_code: None, reason: None };
    world.store().end_build(build, end).await.unwrap();
    for gone in [build, BuildId::fresh()] {
        assert!(!other.cancel_build(gone, &"ben".parse().unwrap()).await.unwrap());
    }
}

/// What is unknown, or was deleted with its project, has none.
#[tokio::test(flavor = "multi_thread")]
async fn how_far_builds_are_is_seen_from_any_server() {
    let world = PostgresWorld::fresh().await;
    let other = world.another().await;
    let running = world.store().running("site").await;
    world.store().say(&running, &["one", "two"]).await;
    let finished = world.store().finished("site", 3).await;
    let deleted = world.store().running("deleted").await;
    other.delete_project(&project("deleted"), &"ana".parse().unwrap()).await.unwrap();
    let asked = vec![running.id, finished.id, deleted.id, BuildId::fresh()];
    let mut progress = other.progress(asked).await.unwrap();
    progress.sort_by_key(|progress| progress.build);
    let expected = [(running.id, 2, false), (finished.id, 3, true)];
    let expected = expected.map(|(build, log_lines, has_ended)| BuildProgress { build, log_lines, has_ended });
    assert_eq!(progress, expected);
}

/// A server has a second to end the lease itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_outlives_its_build_is_found() {
    let world = PostgresWorld::fresh().await;
    let store = world.store();
    let build = leased(store, "site").await;
    let ended = store.succeeds(&build).await;
    let left = async |within| store.builds_that_left_a_lease(seconds(within)).await.unwrap();
    assert_eq!(left(60).await, []);
    world.advance(seconds(1));
    assert_eq!(left(60).await, std::slice::from_ref(&ended));
    world.advance(seconds(10));
    assert_eq!(left(10).await, []);
    assert_eq!(left(60).await, [ended]);
    let unlock = Command::Unlock { token: build.token, holder: build.holder };
    store.ask("site", unlock).await;
    assert_eq!(left(60).await, []);
}

/// An operator deletes a project by hand: whoever makes it anew sees nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_builds_of_a_project_deleted_by_hand_are_nobodys() {
    let world = PostgresWorld::fresh().await;
    let store = world.store();
    let (gone, kept) = (store.finished("gone", 1).await, store.finished("kept", 1).await);
    world.pg.run("delete from buildlock.locks where project = 'gone'").await;
    assert_eq!(store.build(gone.id).await.unwrap(), None);
    assert_eq!(store.prune_builds(BuildRetention::default()).await.unwrap(), [gone.id]);
    assert_eq!(store.builds(None, None, 10).await.unwrap(), [kept]);
}

/// So that a list of all does not grow with every server that ever was.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_silent_for_long_is_forgotten() {
    let world = PostgresWorld::fresh().await;
    let store = world.store();
    let build = leased(store, "site").await.id;
    store.keep_builds(&server("old"), vec![build]).await.unwrap();
    world.advance(seconds(61));
    store.keep_builds(&server("new"), Vec::new()).await.unwrap();
    let rows = world.pg.client().await.query("select name from buildlock.servers", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["new"]);
    assert_eq!(abandoned(store).await, [(build, None)]);
}

/// Two processes that add keys at once do not fail, and both keys are known.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_two_servers_add_at_once_is_added_once() {
    let world = PostgresWorld::fresh().await;
    let stores = [world.store().clone(), world.another().await];
    let hash = buildlock::KeyHash::of("bl_shared");
    let mut adding = JoinSet::new();
    for store in stores.iter().cycle().take(8) {
        let store = store.clone();
        adding.spawn(async move {
            store.add_key(hash, &"ops".parse().unwrap(), buildlock::Role::Operator).await.unwrap().unwrap()
        });
    }
    let added = adding.join_all().await;
    assert!(added.iter().all(|key| *key == added[0]));
    assert_eq!(world.store().keys().await.unwrap(), added[..1]);
}
