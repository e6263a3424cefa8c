//! A database for one test, made from a template.

use std::env;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tokio_postgres::{Client, Config, NoTls};

use crate::{SERVER_VARIABLE, SUPERUSER, TestCluster, TestPooler, shared};

/// Supabase's roles and its schema `auth`.
const EMULATION: &str = include_str!("supabase.sql");

/// Keeps those apart who make a template.
const TEMPLATE_LOCK: i64 = 0x6275_696c_7465_6d70;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A database of a test's own. Dropped, it is gone.
#[derive(Debug)]
pub struct TestPg {
    server: Server,
    name: String,
}

/// Where databases are made.
#[derive(Debug, Clone)]
enum Server {
    /// A cluster that was started here: the folder with its socket, and the port in the socket's name.
    Cluster(PathBuf, u16),
    /// The URL of a server that was there.
    Given(String),
}

/// What a database is to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Empty,
    Migrated,
    Emulated,
}

impl TestPg {
    /// A database with buildlock's schema.
    pub async fn fresh() -> Self {
        Self::make(server(), Content::Migrated).await
    }

    /// A database with nothing in it.
    pub async fn empty() -> Self {
        Self::make(server(), Content::Empty).await
    }

    /// A database with Supabase's roles and schemas, and nothing of buildlock's.
    pub async fn emulated() -> Self {
        Self::make(server(), Content::Emulated).await
    }

    pub(crate) async fn in_cluster(cluster: &TestCluster) -> Self {
        Self::make(Server::of(cluster), Content::Migrated).await
    }

    async fn make(server: Server, content: Content) -> Self {
        let template = template(&server, content).await;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let name = format!("test_{}_{count}_{started}", process::id());
        let admin = connect(&server.url(None, "postgres")).await;
        admin.batch_execute(&format!("create database {name} template {template}")).await.unwrap();
        if content == Content::Emulated {
            // What a database lets its users do does not come with a template.
            admin.batch_execute(&format!("grant create on database {name} to postgres")).await.unwrap();
        }
        Self { server, name }
    }

    /// Its URL, for the user who may do everything.
    pub fn url(&self) -> String {
        self.server.url(None, &self.name)
    }

    /// Its URL for another user, without a password.
    pub fn url_as(&self, user: &str) -> String {
        self.server.url(Some(user), &self.name)
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection for the user who may do everything.
    pub async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    /// A connection for another user.
    pub async fn client_as(&self, user: &str) -> Client {
        connect(&self.url_as(user)).await
    }

    /// Runs statements as the user who may do everything.
    pub async fn run(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Starts a pgbouncer in transaction mode before it. It needs a cluster that was started here.
    pub fn pooler(&self) -> TestPooler {
        match &self.server {
            Server::Cluster(folder, port) => TestPooler::before(folder, *port),
            Server::Given(url) => {
                TestPooler::before_given(shared::cluster().folder(), &url.parse().expect("a URL of PostgreSQL"))
            }
        }
    }

    /// Its URL through that pooler.
    pub fn url_through(&self, pooler: &TestPooler) -> String {
        match &self.server {
            Server::Cluster(..) => pooler.url(SUPERUSER, &self.name),
            Server::Given(url) => {
                let config: Config = url.parse().expect("a URL of PostgreSQL");
                pooler.url(config.get_user().unwrap_or(SUPERUSER), &self.name)
            }
        }
    }
}

impl Drop for TestPg {
    fn drop(&mut self) {
        let (url, name) = (self.server.url(None, "postgres"), self.name.clone());
        let drop_it = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
                tokio::spawn(connection);
                // A standby may have gone before.
                client.batch_execute("set synchronous_commit = local").await?;
                client.batch_execute(&format!("drop database {name} with (force)")).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            })
        });
        // A cluster that was stopped takes its databases with it.
        let _ = drop_it.join();
    }
}

impl Server {
    fn of(cluster: &TestCluster) -> Self {
        Self::Cluster(cluster.folder().to_owned(), cluster.port())
    }

    fn url(&self, user: Option<&str>, database: &str) -> String {
        match self {
            Self::Cluster(folder, port) => {
                let folder = folder.to_str().unwrap().replace('/', "%2F");
                format!("postgres://{}@{folder}:{port}/{database}", user.unwrap_or(SUPERUSER))
            }
            Self::Given(url) => {
                let (scheme, rest) = url.split_once("://").expect("a URL such as postgres://user@host/postgres");
                let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
                let authority = rest.split('/').next().unwrap_or_default();
                let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                let authority = user.map_or_else(|| authority.to_owned(), |user| format!("{user}@{host}"));
                let query = query.map(|query| format!("?{query}")).unwrap_or_default();
                format!("{scheme}://{authority}/{database}{query}")
            }
        }
    }
}

fn server() -> Server {
    match env::var(SERVER_VARIABLE) {
        Ok(url) => Server::Given(url),
        Err(_) => Server::of(shared::cluster()),
    }
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
    tokio::spawn(connection);
    client
}

/// The template with this content. The first who needs it makes it.
async fn template(server: &Server, content: Content) -> String {
    let made_of = match content {
        Content::Empty => return "template0".to_owned(),
        Content::Migrated => buildlock::postgres::migration(None),
        Content::Emulated => EMULATION.to_owned(),
    };
    let hash = Sha256::digest(made_of.as_bytes());
    let name: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("template_{name}");
    let admin = connect(&server.url(None, "postgres")).await;
    admin.execute("select pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
    let known = admin.query("select from pg_database where datname = $1", &[&name]).await.unwrap();
    if known.is_empty() {
        let draft = format!("{name}_draft");
        admin.batch_execute(&format!("drop database if exists {draft} with (force)")).await.unwrap();
        admin.batch_execute(&format!("create database {draft} template template0")).await.unwrap();
        let url = server.url(None, &draft);
        if content == Content::Migrated {
            buildlock::postgres::migrate(&url, None).await.unwrap();
        } else {
            connect(&url).await.batch_execute(EMULATION).await.unwrap();
        }
        // A connection that was just closed may take a moment to be gone.
        admin
            .execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1", &[&draft])
            .await
            .unwrap();
        admin.batch_execute(&format!("alter database {draft} rename to {name}")).await.unwrap();
    }
    name
}
