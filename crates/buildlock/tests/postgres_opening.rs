//! Opening a database: what is not as it should be is said, with what to do, and without a password; and the other
//! end is checked as far as `sslmode` says.

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use buildlock::{LockStore, PostgresStore, StoreError, open_store};
use buildlock_testing::{ClusterOptions, SUPERUSER, TestCluster, TestPg};
use support::ask::Ask;
use support::until;

#[tokio::test]
async fn a_database_without_buildlock_is_told_from_one_that_is_old_or_newer() {
    let empty = TestPg::empty().await;
    let error = PostgresStore::open(&empty.url()).await.unwrap_err();
    assert!(matches!(error, StoreError::NeedsMigration { .. }), "{error:?}");
    assert!(error.to_string().contains("buildlock migrate"), "{error}");

    let database = TestPg::fresh().await;
    database.run("update buildlock.store set version = version - 1").await;
    let error = PostgresStore::open(&database.url()).await.unwrap_err();
    assert!(matches!(error, StoreError::NeedsMigration { .. }), "{error:?}");

    database.run("update buildlock.store set version = version + 2").await;
    let error = PostgresStore::open(&database.url()).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerVersion { .. }) && !error.may_pass(), "{error:?}");
}

#[tokio::test]
async fn a_database_is_opened_by_its_url_as_any_store() {
    let database = TestPg::fresh().await;
    let store = open_store(&database.url()).await.unwrap();
    store.held("site", "ana").await;
    let other = open_store(&database.url().replace("postgres://", "postgresql://")).await.unwrap();
    assert_eq!(other.holder("site").await.as_deref(), Some("ana"));
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_may_be_later() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://ana:secret@{nobody}/sites");
    let error = PostgresStore::open(&url).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }) && error.may_pass(), "{error:?}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn whoever_is_not_let_in_is_told_why() {
    let database = TestPg::fresh().await;
    for (url, why) in
        [(database.url_as("stranger"), "stranger"), (database.url().replace(database.name(), "nowhere"), "nowhere")]
    {
        let error = PostgresStore::open(&url).await.unwrap_err();
        assert!(matches!(error, StoreError::NotAllowed { .. }) && !error.may_pass(), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_role_without_rights_is_told_so() {
    let database = TestPg::fresh().await;
    let role = format!("guest_of_{}", database.name());
    database.run(&format!("create role {role} login")).await;
    let error = PostgresStore::open(&database.url_as(&role)).await.unwrap_err();
    assert!(matches!(error, StoreError::NotAllowed { .. }), "{error:?}");
    drop(database);
}

/// A pooler that lends each transaction another connection, of which the URL says nothing.
#[tokio::test]
async fn a_pooler_that_is_not_spoken_of_still_answers_or_is_named() {
    let database = TestPg::fresh().await;
    let pooler = database.pooler();
    let url = database.url_through(&pooler).replace("?pgbouncer=true", "");
    let opened = async {
        let store = PostgresStore::open(&url).await?;
        for number in 0..20 {
            store.status(&format!("site {number}").parse().unwrap()).await?;
        }
        Ok::<_, StoreError>(())
    };
    if let Err(error) = opened.await {
        assert!(error.to_string().contains("pgbouncer=true"), "{error}");
    }
}

/// A cluster that speaks TLS and nothing else over the network, and the authority that made its certificate.
struct Tls {
    cluster: TestCluster,
    database: TestPg,
    folder: tempfile::TempDir,
}

impl Tls {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_authority(folder.path(), "ours");
        make_authority(folder.path(), "theirs");
        make_certificate(folder.path(), "ours", "localhost");
        let file = |name: &str| fs::read(folder.path().join(name)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = ClusterOptions {
            tcp_port: Some(port),
            settings: "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n".to_owned(),
            access: "hostssl all all all trust\nhostnossl all all all reject\n".to_owned(),
            files: vec![("server.crt".to_owned(), file("server.crt")), ("server.key".to_owned(), file("server.key"))],
            ..ClusterOptions::default()
        };
        let cluster = tokio::task::spawn_blocking(move || TestCluster::start(&options)).await.unwrap();
        let database = cluster.fresh().await;
        Self { cluster, database, folder }
    }

    async fn open(&self, host: &str, parameters: &str) -> Result<PostgresStore, StoreError> {
        let parameters = parameters.replace("AUTHORITY", &self.folder.path().display().to_string());
        let (port, name) = (self.cluster.port(), self.database.name());
        PostgresStore::open(&format!("postgres://{SUPERUSER}@{host}:{port}/{name}?{parameters}")).await
    }

    /// How many connections there are that are encrypted.
    async fn encrypted(&self) -> i64 {
        let encrypted = "select count(*) from pg_stat_ssl where ssl";
        self.database.client().await.query_one(encrypted, &[]).await.unwrap().get(0)
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `NAME.crt` and `NAME.key`.
fn make_authority(folder: &Path, name: &str) {
    let (subject, key, certificate) = (format!("/CN={name}"), format!("{name}.key"), format!("{name}.crt"));
    openssl(
        folder,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-addext",
            "basicConstraints=critical,CA:TRUE",
        ],
    );
}

/// `server.crt` and `server.key`.
fn make_certificate(folder: &Path, authority: &str, host: &str) {
    fs::write(folder.join("names"), format!("subjectAltName=DNS:{host}\n")).unwrap();
    openssl(
        folder,
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=database",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ],
    );
    let (certificate, key) = (format!("{authority}.crt"), format!("{authority}.key"));
    openssl(
        folder,
        &[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            &certificate,
            "-CAkey",
            &key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "server.crt",
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_end_is_checked_as_far_as_sslmode_says() {
    let tls = Tls::start().await;
    for (host, parameters) in [
        ("localhost", "sslmode=verify-full&sslrootcert=AUTHORITY/ours.crt"),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=AUTHORITY/ours.crt"),
        ("127.0.0.1", "sslmode=require"),
        ("127.0.0.1", "sslmode=prefer"),
        ("127.0.0.1", ""),
    ] {
        let store = tls.open(host, parameters).await.unwrap_or_else(|error| panic!("{host} {parameters}: {error}"));
        store.status(&"site".parse().unwrap()).await.unwrap();
        assert!(tls.encrypted().await > 0, "{parameters}");
        drop(store);
        until("the end of its connections", async || tls.encrypted().await == 0).await;
    }
    for (host, parameters, why) in [
        // Another host.
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=AUTHORITY/ours.crt", "certificate"),
        // An unknown authority.
        ("localhost", "sslmode=verify-full&sslrootcert=AUTHORITY/theirs.crt", "certificate"),
        ("localhost", "sslmode=verify-ca&sslrootcert=AUTHORITY/theirs.crt", "certificate"),
        ("localhost", "sslmode=require&sslrootcert=AUTHORITY/theirs.crt", "certificate"),
        // The system's authorities do not know it either.
        ("localhost", "sslmode=verify-full&sslrootcert=system", "certificate"),
        // The server wants TLS.
        ("localhost", "sslmode=disable", "pg_hba.conf"),
    ] {
        let error = tls.open(host, parameters).await.expect_err(parameters);
        assert!(matches!(error, StoreError::NotAllowed { .. }) && !error.may_pass(), "{parameters}: {error:?}");
        assert!(error.to_string().contains(why), "{parameters}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_used_only_if_that_is_allowed() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = ClusterOptions {
        tcp_port: Some(port),
        access: "host all all all trust\n".to_owned(),
        ..ClusterOptions::default()
    };
    let cluster = tokio::task::spawn_blocking(move || TestCluster::start(&options)).await.unwrap();
    let database = cluster.fresh().await;
    let url = |mode| format!("postgres://{SUPERUSER}@localhost:{port}/{}?sslmode={mode}", database.name());
    for mode in ["disable", "prefer"] {
        PostgresStore::open(&url(mode)).await.unwrap();
    }
    let error = PostgresStore::open(&url("require")).await.unwrap_err();
    assert!(matches!(error, StoreError::NotAllowed { .. }) && error.to_string().contains("TLS"), "{error:?}");
}
