//! The PostgreSQL store does what every store must do, direct and through a pooler in transaction mode.

mod support;
#[macro_use]
mod conformance;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use buildlock::{LockStore, PostgresStore};
use buildlock_testing::{TestPg, TestPooler};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// The database's clock is the test's: it stands still until it is moved. It is read where the real one is, after
/// a project's row was locked.
const TEST_CLOCK: &str = "
    create table public.test_clock (now_ms bigint not null);
    insert into public.test_clock values (1000000000);
    create or replace function buildlock.now_ms()
    returns bigint
    language plpgsql
    volatile
    set search_path = ''
    as 'begin return (select now_ms from public.test_clock); end';
";

/// Moves that clock, on a connection of its own.
struct Mover {
    moves: UnboundedSender<(Duration, Sender<()>)>,
}

impl Mover {
    async fn new(database: &TestPg) -> Self {
        database.run(TEST_CLOCK).await;
        let (moves, mut asked) = unbounded_channel::<(Duration, Sender<()>)>();
        let client = database.client().await;
        tokio::spawn(async move {
            while let Some((time, done)) = asked.recv().await {
                let move_it = format!("update public.test_clock set now_ms = now_ms + {}", time.as_millis());
                client.batch_execute(&move_it).await.unwrap();
                done.send(()).unwrap();
            }
        });
        Self { moves }
    }

    /// Comes back when it was moved. A task of another thread must be free to do it.
    fn advance(&self, time: Duration) {
        let (done, is_done) = channel();
        self.moves.send((time, done)).unwrap();
        tokio::task::block_in_place(|| is_done.recv().unwrap());
    }
}

/// A database of its own. Another handle has connections of its own, which is what another server has.
struct PostgresWorld {
    store: Option<Arc<dyn LockStore>>,
    url: String,
    clock: Mover,
    _pooler: Option<TestPooler>,
    _database: TestPg,
}

impl PostgresWorld {
    async fn new(is_pooled: bool) -> Self {
        let database = TestPg::fresh().await;
        let clock = Mover::new(&database).await;
        let pooler = is_pooled.then(|| database.pooler());
        let url = pooler.as_ref().map_or_else(|| database.url(), |pooler| database.url_through(pooler));
        let mut world = Self { store: None, url, clock, _pooler: pooler, _database: database };
        world.reopen().await;
        world
    }

    async fn another(&self) -> Arc<dyn LockStore> {
        Arc::new(PostgresStore::open(&self.url).await.unwrap())
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.another().await);
    }
}

macro_rules! world {
    ($name:ident, $is_pooled:literal) => {
        struct $name(PostgresWorld);

        impl conformance::World for $name {
            async fn fresh() -> Self {
                Self(PostgresWorld::new($is_pooled).await)
            }

            fn store(&self) -> &Arc<dyn LockStore> {
                self.0.store.as_ref().unwrap()
            }

            async fn another(&self) -> Arc<dyn LockStore> {
                self.0.another().await
            }

            async fn reopen(&mut self) {
                self.0.reopen().await;
            }

            fn advance(&self, time: Duration) {
                self.0.clock.advance(time);
            }
        }
    };
}

world!(Direct, false);
world!(Pooled, true);

mod direct {
    use super::*;

    conformance!(Direct);
}

mod pooled {
    use super::*;

    conformance!(Pooled);
}
