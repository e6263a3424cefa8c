//! A store on a server does what every store must do.

#[path = "../../buildlock/tests/support/mod.rs"]
mod support;
#[macro_use]
#[path = "../../buildlock/tests/conformance/mod.rs"]
mod conformance;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use buildlock::{KeyHash, KeyStore, LockStore, RemoteStore, Role, SqliteStore, fresh_key};
use buildlock_server::{Config, Options, Server, Stop};
use support::clock::TestClock;
use tokio::task::JoinHandle;

/// A server on a loopback socket, with a file in a folder of its own. Another handle is another client.
struct RemoteWorld {
    store: Option<Arc<dyn LockStore>>,
    server: Option<Running>,
    path: PathBuf,
    key: String,
    clock: TestClock,
    folder: tempfile::TempDir,
}

/// A server under way.
struct Running {
    address: SocketAddr,
    stop: Stop,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start(folder: &Path, store: SqliteStore) -> Self {
        let mut options = Options::new(Config::without_file(folder));
        options.config.server.listen.set_port(0);
        let server = Server::bind(options, Arc::new(store)).await.unwrap();
        let (address, stop) = (server.local_addr(), server.stop_handle());
        let serving = tokio::spawn(async move { server.serve().await.unwrap() });
        Self { address, stop, serving }
    }

    async fn end(self) {
        self.stop.at_once();
        support::soon("the server's end", self.serving).await.unwrap();
    }
}

impl RemoteWorld {
    async fn file(&self) -> SqliteStore {
        SqliteStore::open_with_clock(&self.path, Arc::new(self.clock.clone())).await.unwrap()
    }
}

impl conformance::World for RemoteWorld {
    async fn fresh() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks.db");
        let key = fresh_key().unwrap();
        let mut world = Self { store: None, server: None, path, key, clock: TestClock::new(), folder };
        let (hash, operator) = (KeyHash::of(&world.key), "operator".parse().unwrap());
        world.file().await.add_key(hash, &operator, Role::Operator).await.unwrap();
        world.reopen().await;
        world
    }

    fn store(&self) -> &Arc<dyn LockStore> {
        self.store.as_ref().unwrap()
    }

    async fn another(&self) -> Arc<dyn LockStore> {
        let url = format!("http://{}", self.server.as_ref().unwrap().address);
        Arc::new(RemoteStore::open_with_key(&url, Some(&self.key)).await.unwrap())
    }

    async fn reopen(&mut self) {
        self.store = None;
        if let Some(server) = self.server.take() {
            server.end().await;
        }
        self.server = Some(Running::start(self.folder.path(), self.file().await).await);
        self.store = Some(self.another().await);
    }

    fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }
}

conformance!(RemoteWorld);
