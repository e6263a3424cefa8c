//! Every test has a database of its own, whatever it needs in it.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use buildlock_testing::{ClusterOptions, SUPERUSER, TestCluster, TestPg};

#[tokio::test]
async fn a_fresh_database_has_the_schema_and_is_alone() {
    let (one, other) = (TestPg::fresh().await, TestPg::fresh().await);
    one.run("insert into buildlock.locks (project, owner) values ('site', 'ana')").await;
    let count = "select count(*) from buildlock.locks";
    assert_eq!(one.client().await.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(other.client().await.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn an_empty_database_is_empty_and_an_emulated_one_has_supabases_roles() {
    let empty = TestPg::empty().await;
    let none = empty.client().await.query_one("select to_regnamespace('buildlock') is null", &[]).await.unwrap();
    assert!(none.get::<_, bool>(0));
    let emulated = TestPg::emulated().await;
    let postgres = emulated.client_as("postgres").await;
    let row = postgres.query_one("select current_setting('is_superuser'), auth.role()", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, Option<&str>>(1)), ("off", None));
}

#[tokio::test]
async fn a_dropped_database_is_gone() {
    let stays = TestPg::empty().await;
    let goes = TestPg::empty().await;
    let name = goes.name().to_owned();
    drop(goes);
    let left = stays.client().await.query("select from pg_database where datname = $1", &[&name]).await.unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
async fn a_pooler_leads_to_the_database() {
    let database = TestPg::fresh().await;
    let pooler = database.pooler();
    let url = database.url_through(&pooler).replace("?pgbouncer=true", "");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.query_typed("select current_database()", &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, &str>(0), database.name());
}

#[tokio::test]
async fn a_cluster_that_was_killed_starts_again_with_what_was_committed() {
    let cluster = TestCluster::start(&ClusterOptions { is_durable: true, ..ClusterOptions::default() });
    let database = cluster.fresh().await;
    database.run("insert into buildlock.locks (project, owner) values ('site', 'ana')").await;
    cluster.kill();
    cluster.start_again();
    let row = database.client().await.query_one("select count(*) from buildlock.locks", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    cluster.stop();
    cluster.start_again();
    database.client().await;
}

#[tokio::test]
async fn a_standby_that_takes_over_has_all_that_was_committed() {
    let primary = TestCluster::start(&ClusterOptions { is_durable: true, ..ClusterOptions::default() });
    let database = primary.fresh().await;
    let standby = primary.standby().await;
    database.run("create table kept (number int)").await;
    let client = database.client().await;
    for number in 0..100_i32 {
        client.execute("insert into kept values ($1)", &[&number]).await.unwrap();
    }
    primary.kill();
    standby.promote();
    let (client, connection) =
        tokio_postgres::connect(&standby.url(SUPERUSER, database.name()), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let kept: i64 = client.query_one("select count(*) from kept", &[]).await.unwrap().get(0);
    assert_eq!(kept, 100);
    client.execute("insert into kept values (100)", &[]).await.unwrap();
}

/// How long a cluster whose user was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// The user that is killed below.
#[test]
#[ignore = "a part of another test"]
fn a_user_that_says_where_its_cluster_is() {
    let cluster = TestCluster::start(&ClusterOptions::default());
    println!("\nfolder: {}", cluster.folder().display());
    thread::park();
}

#[test]
fn a_cluster_whose_user_was_killed_is_gone() {
    let mut user = Command::new(env::current_exe().unwrap());
    user.args(["a_user_that_says_where_its_cluster_is", "--exact", "--ignored", "--nocapture"]);
    let mut user = user.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(user.stdout.take().unwrap()).lines().map_while(Result::ok);
    let folder = said.find_map(|line| line.strip_prefix("folder: ").map(PathBuf::from)).unwrap();
    let postmaster = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    let postmaster = PathBuf::from("/proc").join(postmaster.lines().next().unwrap());
    assert!(postmaster.exists());
    user.kill().unwrap();
    user.wait().unwrap();
    let deadline = Instant::now() + GONE_WITHIN;
    while folder.exists() || postmaster.exists() {
        assert!(Instant::now() < deadline, "{} is still there", folder.display());
        thread::sleep(Duration::from_millis(20));
    }
}
