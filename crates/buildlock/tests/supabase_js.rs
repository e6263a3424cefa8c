//! The real supabase-js from npm, against a server that is compatible with PostgREST, on a migrated database.
//! Both are development tools, which `scripts/test` brings; where they are not there, this says so, and the same
//! contract is tested in SQL by `supabase_rights.rs`.

mod supabase;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use supabase::{ANA, ANAS_PROJECT, BO, DefaultPrivileges, Platform};

/// What access tokens are signed with.
const SECRET: &str = "a-secret-of-the-tests-with-more-than-32-characters";

/// The server reads the whole schema when it starts.
const START_WITHIN: Duration = Duration::from_secs(60);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A server that ends when it is dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(program: &Path, database: &str) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.envs([
            ("DATABASE_URL", database),
            ("PGRST_COMPAT_MODE", "true"),
            ("PGRST_DB_ANON_ROLE", "anon"),
            ("PGRST_DB_SCHEMAS", "public"),
            ("PGRST_JWT_SECRET", SECRET),
            ("PGRST_SERVER_HOST", "127.0.0.1"),
            ("PGRST_SERVER_PORT", &port.to_string()),
        ]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Self { process, port };
        let deadline = Instant::now() + START_WITHIN;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(server.process.try_wait().unwrap().is_none(), "postrust has ended");
            assert!(Instant::now() < deadline, "postrust does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn supabase_js_locks_and_unlocks_and_is_told_who_is_in_the_way() {
    let folder = repository().join("tests/supabase-js");
    let postrust = repository().join("target/tools/bin/postrust");
    if !postrust.exists() || !folder.join("node_modules").exists() {
        // Seen also where a test's output is captured.
        use std::io::Write;
        let skipped = "SKIPPED: supabase-js or postrust is not there (scripts/test brings them); the contract is tested in SQL only\n";
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        return;
    }
    for privileges in [DefaultPrivileges::Old, DefaultPrivileges::New] {
        let platform = Platform::new(privileges).await;
        let server = Server::start(&postrust, &platform.pg.url_as("authenticator"));
        let mut node = Command::new("node");
        node.args(["--test", "contract.test.js"]).current_dir(&folder).envs([
            ("API_URL", format!("http://127.0.0.1:{}", server.port).as_str()),
            ("JWT_SECRET", SECRET),
            ("ANA", ANA),
            ("BO", BO),
            ("PROJECT", ANAS_PROJECT),
        ]);
        let output = node.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("fail 0") && !said.contains("tests 0"), "{said}");
    }
}
