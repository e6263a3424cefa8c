//! The PostgreSQL store does what every store must do, direct and through a pooler in transaction mode.

mod support;
#[macro_use]
mod conformance;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use buildlock::{LockStore, PostgresStore};
use buildlock_testing::{TestPg, TestPooler};

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

/// A database of its own. Another handle has connections of its own, which is what another server has.
struct PostgresWorld {
    store: Option<Arc<dyn LockStore>>,
    url: String,
    _pooler: Option<TestPooler>,
    database: TestPg,
}

impl PostgresWorld {
    async fn new(is_pooled: bool) -> Self {
        let database = TestPg::fresh().await;
        database.run(TEST_CLOCK).await;
        let pooler = is_pooled.then(|| database.pooler());
        let url = pooler.as_ref().map_or_else(|| database.url(), |pooler| database.url_through(pooler));
        let mut world = Self { store: None, url, _pooler: pooler, database };
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

    fn advance(&self, time: Duration) {
        let sql = format!("update public.test_clock set now_ms = now_ms + {}", time.as_millis());
        let move_it = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(self.database.run(&sql));
        };
        // A runtime cannot be waited for on a thread of another.
        thread::scope(|scope| scope.spawn(move_it).join()).unwrap();
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
                self.0.advance(time);
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
