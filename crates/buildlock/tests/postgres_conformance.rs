//! The PostgreSQL store does what every store must do, direct and through a pooler in transaction mode.

mod support;
#[macro_use]
mod conformance;

use std::sync::Arc;
use std::time::Duration;

use buildlock::{LockStore, PostgresStore};
use buildlock_testing::{TestPg, TestPooler};
use support::database_clock::DatabaseClock;

/// A database of its own. Another handle has connections of its own, which is what another server has.
struct PostgresWorld {
    store: Option<Arc<dyn LockStore>>,
    url: String,
    clock: DatabaseClock,
    _pooler: Option<TestPooler>,
    _database: TestPg,
}

impl PostgresWorld {
    async fn new(is_pooled: bool) -> Self {
        let database = TestPg::fresh().await;
        let clock = DatabaseClock::new(&database).await;
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
