//! pgbouncer in transaction mode, as a platform may have it before its database.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::programs::{give, program, run};
use crate::{SUPERUSER, cluster};

/// Who may log in through it. Nobody needs a password.
const USERS: &[&str] = &[SUPERUSER, "postgres", "authenticator", "supabase_auth_admin"];

/// The port in the name of its socket, which has a folder of its own.
const PORT: u32 = 6432;

/// How long it may take to start.
const START_WITHIN: Duration = Duration::from_secs(20);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A pgbouncer that ends when it is dropped, or with its cluster.
#[derive(Debug)]
pub struct TestPooler {
    sockets: PathBuf,
    pid_file: PathBuf,
}

impl TestPooler {
    /// Starts one before the cluster with its socket in this folder.
    pub(crate) fn before(cluster: &Path, cluster_port: u16) -> Self {
        Self::start(cluster, &cluster.display().to_string(), cluster_port, &[])
    }

    /// Starts one before a server that was there, for whoever can log in with this password. It ends with the cluster
    /// in this folder, if not before.
    pub(crate) fn before_given(cluster: &Path, server: &Config) -> Self {
        let host = match server.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(folder)) => folder.display().to_string(),
            None => panic!("the server's URL names no host"),
        };
        let port = server.get_ports().first().copied().unwrap_or(cluster::PORT);
        let password = String::from_utf8_lossy(server.get_password().unwrap_or_default()).into_owned();
        let user = (server.get_user().unwrap_or_default().to_owned(), password);
        Self::start(cluster, &host, port, &[user])
    }

    fn start(cluster: &Path, host: &str, port: u16, known: &[(String, String)]) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pooler-{}-{number}", process::id());
        let sockets = cluster.join(&name);
        fs::create_dir(&sockets).unwrap();
        give(&sockets);
        let pid_file = cluster.join(format!("{name}.pid"));
        let mut users: String = known.iter().map(|(user, password)| format!("\"{user}\" \"{password}\"\n")).collect();
        users.extend(USERS.iter().map(|user| format!("\"{user}\" \"\"\n")));
        let user_file = sockets.join("users.txt");
        fs::write(&user_file, users).unwrap();
        let config = format!(
            "[databases]\n* = host={host} port={port}\n\n[pgbouncer]\nlisten_port = {PORT}\nlisten_addr =\n\
             unix_socket_dir = {sockets}\nauth_type = trust\nauth_file = {users}\npool_mode = transaction\n\
             max_client_conn = 1000\ndefault_pool_size = 20\npidfile = {pid}\nlogfile = {sockets}/log\n\
             server_login_retry = 0.1\n",
            sockets = sockets.display(),
            users = user_file.display(),
            pid = pid_file.display(),
        );
        let config_file = sockets.join("pgbouncer.ini");
        fs::write(&config_file, config).unwrap();
        run(program("pgbouncer").args(["-d", "-q"]).arg(config_file).current_dir(&sockets));
        let pooler = Self { sockets, pid_file };
        // It goes to the background before it listens.
        let deadline = Instant::now() + START_WITHIN;
        while UnixStream::connect(pooler.sockets.join(format!(".s.PGSQL.{PORT}"))).is_err() {
            assert!(Instant::now() < deadline, "pgbouncer does not start");
            thread::sleep(Duration::from_millis(5));
        }
        pooler
    }

    /// The URL of a database through it.
    pub fn url(&self, user: &str, database: &str) -> String {
        let folder = self.sockets.to_str().unwrap().replace('/', "%2F");
        format!("postgres://{user}@{folder}:{}/{database}?pgbouncer=true", PORT)
    }
}

impl Drop for TestPooler {
    fn drop(&mut self) {
        let pid = fs::read_to_string(&self.pid_file).ok().and_then(|text| Pid::from_raw(text.trim().parse().ok()?));
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}
