//! A cluster: its folder, its processes, and who ends it.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::programs::{give, program, run};
use crate::{SUPERUSER, TestPg, TestPooler};

/// Ends the cluster when its users have gone.
const KEEPER: &str = include_str!("keeper.sh");

/// Who uses the cluster holds a shared lock on this file.
const USERS: &str = "users";

/// The port in the name of a socket where there is no other.
pub(crate) const PORT: u16 = 5432;

/// How long a cluster may take to start, or to start again after it was killed.
const START_WITHIN: Duration = Duration::from_secs(60);

/// What a cluster is to be like.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// Whether a commit is on the disk. Off, tests are faster; what is lost is lost with the machine only.
    pub is_durable: bool,
    /// A port on this machine's loopback beside the socket; none: there is only the socket.
    pub tcp_port: Option<u16>,
    /// More lines for `postgresql.conf`.
    pub settings: String,
    /// Lines for `pg_hba.conf`, before those that let everybody in through the socket.
    pub access: String,
    /// More files in the data folder, such as certificates: name and content. They are the server's own.
    pub files: Vec<(String, Vec<u8>)>,
}

/// A cluster of a test's own, on a socket in a temporary folder. Dropped, it ends at once.
#[derive(Debug)]
pub struct TestCluster {
    folder: PathBuf,
    /// In the socket's name.
    port: u16,
    /// Held as long as the cluster is used.
    _user: File,
}

impl TestCluster {
    /// Starts a cluster.
    pub fn start(options: &ClusterOptions) -> Self {
        Self::start_for(options, Duration::ZERO)
    }

    /// Starts a cluster that goes on for so long after its last user has gone.
    pub(crate) fn start_for(options: &ClusterOptions, linger: Duration) -> Self {
        let cluster = Self::place(linger, options.tcp_port.unwrap_or(PORT));
        cluster.initialize(options);
        cluster.start_again();
        cluster
    }

    /// A folder for a cluster, with somebody who ends the cluster when its users have gone.
    pub(crate) fn place(linger: Duration, port: u16) -> Self {
        let folder = tempfile::Builder::new().prefix("buildlock-pg-").tempdir().unwrap().keep();
        give(&folder);
        let users = folder.join(USERS);
        File::create(&users).unwrap();
        let user = use_it(&folder).expect("nobody else knows this folder");
        let mut keeper = Command::new("setsid");
        keeper.args(["sh", "-c", KEEPER, "buildlock-test-keeper"]).arg(&folder).arg(linger.as_secs().to_string());
        // As the leader of a group, setsid leaves a session of its own behind and ends.
        keeper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        assert!(keeper.status().unwrap().success(), "setsid failed");
        Self { folder, port, _user: user }
    }

    /// Uses a cluster that another process has started; none if it is about to end, or was killed with all that
    /// would have ended it in good order.
    pub(crate) fn join(folder: &Path) -> Option<Self> {
        let user = use_it(folder)?;
        UnixStream::connect(folder.join(format!(".s.PGSQL.{PORT}"))).ok()?;
        Some(Self { folder: folder.to_owned(), port: PORT, _user: user })
    }

    fn initialize(&self, options: &ClusterOptions) {
        let mut initdb = program("initdb");
        initdb.arg("-D").arg(self.data()).args(["--no-sync", "--no-instructions", "-A", "trust", "-U", SUPERUSER]);
        run(initdb.args(["--encoding=UTF8", "--locale=C"]).current_dir(&self.folder));
        let mut settings = format!(
            "\nlisten_addresses = ''\nunix_socket_directories = '{}'\nmax_connections = 300\nlog_min_messages = warning\n",
            self.folder.display()
        );
        if !options.is_durable {
            settings.push_str("fsync = off\nfull_page_writes = off\nsynchronous_commit = off\n");
        }
        if let Some(port) = options.tcp_port {
            settings.push_str(&format!("listen_addresses = 'localhost'\nport = {port}\n"));
        }
        settings.push_str(&options.settings);
        append(&self.data().join("postgresql.conf"), &settings);
        let access = self.data().join("pg_hba.conf");
        let let_in = fs::read_to_string(&access).unwrap();
        fs::write(&access, format!("{}\n{let_in}", options.access)).unwrap();
        for (name, content) in &options.files {
            let path = self.data().join(name);
            fs::write(&path, content).unwrap();
            give(&path);
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
    }

    /// The folder with the socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The URL of a database in it.
    pub fn url(&self, user: &str, database: &str) -> String {
        let folder = self.folder.to_str().unwrap().replace('/', "%2F");
        format!("postgres://{user}@{folder}:{}/{database}", self.port)
    }

    /// The port in the socket's name, and on the loopback if there is one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new database with buildlock's schema. It goes with the cluster.
    pub async fn fresh(&self) -> TestPg {
        TestPg::in_cluster(self).await
    }

    /// Starts a pgbouncer in transaction mode before it.
    pub fn pooler(&self) -> TestPooler {
        TestPooler::before(&self.folder, self.port)
    }

    /// Ends it in good order: connections are closed, all is written.
    pub fn stop(&self) {
        self.control("stop", &["-m", "fast", "-w"]);
    }

    /// Kills all its processes.
    pub fn kill(&self) {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let postmaster: i32 = text.lines().next().unwrap().trim().parse().unwrap();
        // The children first, while they can still be found: they would end by themselves a little later.
        for pid in children(postmaster).into_iter().chain([postmaster]) {
            // One may have ended by now.
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }

    /// Starts it after it was stopped or killed, and waits until it answers.
    pub fn start_again(&self) {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let mut start = self.command("start", &["-w", "-t", "60", "-l"]);
            start.arg(self.folder.join("log")).stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
            if start.status().unwrap().success() {
                return;
            }
            // What was killed may not have let go of its memory yet.
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn control(&self, verb: &str, arguments: &[&str]) {
        run(&mut self.command(verb, arguments));
    }

    fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = program("pg_ctl");
        command.arg(verb).arg("-D").arg(self.data()).args(arguments).current_dir(&self.folder);
        command
    }
}

/// Holds the cluster in this folder; none if it is about to end, or has.
fn use_it(folder: &Path) -> Option<File> {
    let user = File::open(folder.join(USERS)).ok()?;
    user.try_lock_shared().ok()?;
    // It may have been removed meanwhile.
    folder.join(USERS).exists().then_some(user)
}

pub(crate) fn append(path: &Path, text: &str) {
    let before = fs::read_to_string(path).unwrap();
    fs::write(path, before + text).unwrap();
}

fn children(parent: i32) -> Vec<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_does_not_run_is_not_used() {
        let started = TestCluster::start(&ClusterOptions::default());
        assert!(TestCluster::join(started.folder()).is_some());
        // As one is whose machine has stopped.
        let dead = TestCluster::place(Duration::ZERO, PORT);
        assert!(TestCluster::join(dead.folder()).is_none());
    }
}
