//! A store on a server that stands on PostgreSQL does what every store must do. Another handle is a client of
//! another server.

#[path = "../../buildlock/tests/support/mod.rs"]
mod support;
#[macro_use]
#[path = "../../buildlock/tests/conformance/mod.rs"]
mod conformance;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buildlock::{KeyHash, KeyStore, LockStore, PostgresStore, RemoteStore, Role, fresh_key};
use buildlock_server::{Config, Options, Server, Stop};
use buildlock_testing::TestPg;
use support::database_clock::DatabaseClock;

/// Servers on loopback sockets over one database.
struct ServersWorld {
    store: Option<Arc<dyn LockStore>>,
    servers: Mutex<Vec<Stop>>,
    key: String,
    clock: DatabaseClock,
    folder: tempfile::TempDir,
    pg: TestPg,
}

impl ServersWorld {
    async fn database(&self) -> PostgresStore {
        PostgresStore::open(&self.pg.url()).await.unwrap()
    }

    /// Starts one more server.
    async fn serve(&self) -> SocketAddr {
        let mut options = Options::new(Config::without_file(self.folder.path()));
        options.config.server.listen.set_port(0);
        let server = Server::bind(options, Arc::new(self.database().await)).await.unwrap();
        let address = server.local_addr();
        self.servers.lock().unwrap().push(server.stop_handle());
        tokio::spawn(server.serve());
        address
    }
}

impl Drop for ServersWorld {
    fn drop(&mut self) {
        self.servers.lock().unwrap().drain(..).for_each(|server| server.at_once());
    }
}

impl conformance::World for ServersWorld {
    async fn fresh() -> Self {
        let pg = TestPg::fresh().await;
        let mut world = Self {
            store: None,
            servers: Mutex::default(),
            key: fresh_key().unwrap(),
            clock: DatabaseClock::new(&pg).await,
            folder: tempfile::tempdir().unwrap(),
            pg,
        };
        let (hash, operator) = (KeyHash::of(&world.key), "operator".parse().unwrap());
        world.database().await.add_key(hash, &operator, Role::Operator).await.unwrap();
        world.reopen().await;
        world
    }

    fn store(&self) -> &Arc<dyn LockStore> {
        self.store.as_ref().unwrap()
    }

    async fn another(&self) -> Arc<dyn LockStore> {
        let url = format!("http://{}", self.serve().await);
        Arc::new(RemoteStore::open_with_key(&url, Some(&self.key)).await.unwrap())
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.servers.lock().unwrap().drain(..).for_each(|server| server.at_once());
        self.store = Some(self.another().await);
    }

    fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }
}

conformance!(ServersWorld);
