//! `buildlock serve` as its operator meets it: real processes, sockets and signals.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::{PATIENCE, Running, Sandbox, kill};

/// A server under way.
struct Serving {
    process: Running,
    address: String,
    link: String,
}

impl Serving {
    fn start(command: &mut Command) -> Self {
        let mut process = Running::start(command);
        let line = process.await_line("buildlock serves http://");
        let address = line.rsplit_once("http://").unwrap().1.to_owned();
        let link = process.await_line("/sign-in?code=").trim().to_owned();
        Self { process, address, link }
    }

    /// What is answered to this request's first lines.
    fn ask(&self, head: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "{head}\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn signal(&self, signal: &str) {
        kill(self.process.pid(), signal);
    }
}

fn serve(sandbox: &Sandbox) -> Command {
    sandbox.buildlock(&["serve", "--listen", "127.0.0.1:0"])
}

/// What a server says that does not start.
fn refused(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_server_makes_the_operators_key_and_prints_a_link_that_signs_in() {
    let sandbox = Sandbox::new();
    let server = Serving::start(&mut serve(&sandbox));
    assert!(server.ask("GET /readyz HTTP/1.1").starts_with("HTTP/1.1 200 "));

    let file = sandbox.path().join("locks.db.operator-key");
    let key = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let caller = server.ask(&format!("GET /v1/me HTTP/1.1\r\nAuthorization: Bearer {}", key.trim()));
    assert!(caller.contains(r#"{"holder":"ana@laptop","role":"operator","#), "{caller}");

    let path = server.link.strip_prefix(&format!("http://{}", server.address)).unwrap().to_owned();
    let answer = server.ask(&format!("GET {path} HTTP/1.1"));
    assert!(answer.starts_with("HTTP/1.1 303 ") && answer.contains("HttpOnly"), "{answer}");

    let mut server = server;
    server.signal("TERM");
    assert_eq!(server.process.end(), Some(0));
    let said = server.process.rest().join("\n");
    assert!(!said.contains(key.trim()), "the key was printed: {said}");
    assert!(sandbox.ok(&["keys", "--json"]).contains("\"operator\""));

    let again = Serving::start(&mut serve(&sandbox));
    assert_eq!(fs::read_to_string(&file).unwrap(), key);
    assert_ne!(again.link.split_once("code="), server.link.split_once("code="));
}

#[test]
fn a_new_link_is_made_by_a_command_on_the_servers_machine_or_with_the_operators_key() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["migrate"]);
    let (code, said) = refused(&mut sandbox.buildlock(&["sign-in"]));
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("buildlock serve"), "{said}");

    let server = Serving::start(&mut serve(&sandbox));
    let signs_in = |link: &str| {
        let path = link.trim().strip_prefix(&format!("http://{}", server.address)).unwrap();
        server.ask(&format!("GET {path} HTTP/1.1")).starts_with("HTTP/1.1 303 ")
    };
    assert!(signs_in(&sandbox.ok(&["sign-in"])));
    let url = format!("http://{}", server.address);
    let key = fs::read_to_string(sandbox.path().join("locks.db.operator-key")).unwrap();
    let remote =
        |key: &str| sandbox.buildlock(&["sign-in", "--store", &url]).env("BUILDLOCK_API_KEY", key).output().unwrap();
    assert!(signs_in(&String::from_utf8(remote(key.trim()).stdout).unwrap()));
    let user = sandbox.ok(&["keys", "add", "ben"]);
    assert_eq!(remote(user.trim()).status.code(), Some(77));
    assert_eq!(remote("bl_wrong").status.code(), Some(77));
}

#[test]
fn a_server_that_is_told_to_stop_answers_who_has_asked_and_ends_well() {
    for signal in ["TERM", "INT"] {
        let sandbox = Sandbox::new();
        let mut server = Serving::start(&mut serve(&sandbox));
        let mut half = server.connect();
        write!(half, "GET /livez HTTP/1.1\r\nHost: {}\r\n", server.address).unwrap();
        // Once this is answered, the other connection has been let in as well.
        server.ask("GET /livez HTTP/1.1");
        server.signal(signal);
        server.process.await_line("stops when what runs has ended");
        write!(half, "\r\n").unwrap();
        let mut answer = String::new();
        half.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("ok\n"), "{answer}");
        drop(half);
        assert_eq!(server.process.end(), Some(0));
        assert!(TcpStream::connect(&server.address).is_err());
    }
}

#[test]
fn a_second_signal_ends_a_server_at_once() {
    let sandbox = Sandbox::new();
    let mut server = Serving::start(&mut serve(&sandbox));
    let key = fs::read_to_string(sandbox.path().join("locks.db.operator-key")).unwrap();
    let mut half = server.connect();
    // A body that never comes would keep the server for half a minute.
    let head = format!(
        "POST /api/generate HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nExpect: 100-continue\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n",
        server.address,
        key.trim()
    );
    half.write_all(head.as_bytes()).unwrap();
    half.read_exact(&mut [0; 25]).unwrap();
    server.signal("TERM");
    server.process.await_line("a second signal");
    server.signal("TERM");
    let asked = std::time::Instant::now();
    assert_eq!(server.process.end(), Some(0));
    assert!(asked.elapsed().as_secs() < 4, "it took {:?}", asked.elapsed());
}

#[test]
fn a_store_has_one_server_and_a_killed_one_leaves_it_to_the_next() {
    let sandbox = Sandbox::new();
    let mut first = Serving::start(&mut serve(&sandbox));
    let (code, said) = refused(&mut serve(&sandbox));
    assert_eq!(code, Some(69), "{said}");
    let pid = first.process.pid();
    assert!(said.contains("in use by another server") && said.contains(&format!("process {pid};")), "{said}");
    // The command needs no server for its part.
    sandbox.ok(&["run", "my-site", "--", "true"]);
    first.signal("KILL");
    first.process.end();
    Serving::start(&mut serve(&sandbox));
}

#[test]
fn an_address_that_is_taken_is_told() {
    let sandbox = Sandbox::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let (code, said) = refused(&mut sandbox.buildlock(&["serve", "--listen", &address]));
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&format!("another program listens on {address}")) && said.contains("--listen"), "{said}");
    let Output { status, stdout, .. } = sandbox.run(&["serve", "--json", "--listen", &address]);
    assert_eq!(status.code(), Some(69));
    assert!(String::from_utf8(stdout).unwrap().contains("\"code\":\"ADDRESS_IN_USE\""));
}

#[test]
fn what_cannot_be_served_is_told_by_name() {
    let sandbox = Sandbox::new();
    let settings = sandbox.path().join("buildlock.toml");
    let said = |arguments: &[&str], part: &str| {
        let (code, said) = refused(&mut sandbox.buildlock(&[&["serve"], arguments].concat()));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(part), "{said}");
    };
    said(&["--config", "nowhere.toml"], "nowhere.toml");
    said(&["--listen", "somewhere"], "--listen");
    said(&["--log-format", "xml"], "json");
    said(&["--store", "http://127.0.0.1:7878"], "http://127.0.0.1:7878");
    said(&["--store", "nonsense"], "nonsense");
    fs::write(&settings, "[server]\nlisten = \"127.0.0.1:0\"\n\n[operation.generate]\ncommand = [\"true\"]\n").unwrap();
    said(&[], "buildlock.toml:4");
    said(&[], "operations");
}

#[test]
fn settings_are_found_and_what_is_said_counts_more() {
    let sandbox = Sandbox::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = format!(
        "[server]\nlisten = \"{}\"\n\n[operations.generate]\ncommand = [\"true\"]\n",
        taken.local_addr().unwrap()
    );
    fs::write(sandbox.path().join("buildlock.toml"), settings).unwrap();
    let (code, _) = refused(&mut sandbox.buildlock(&["serve"]));
    assert_eq!(code, Some(69), "the file's address is not used");
    for (variable, value) in [("BUILDLOCK_LISTEN", "127.0.0.1:0"), ("PORT", "0")] {
        let mut process = Running::start(sandbox.buildlock(&["serve"]).env(variable, value));
        process.await_line("buildlock serves http://127.0.0.1:");
        process.await_line("buildlock.toml (generate)");
        kill(process.pid(), "TERM");
        assert_eq!(process.end(), Some(0));
    }
    // Some shells put the machine's name in HOST.
    for (host, listens_on) in [("127.0.0.2", "127.0.0.2"), ("localhost", "127.0.0.1"), ("my-laptop", "127.0.0.1")] {
        let mut process = Running::start(sandbox.buildlock(&["serve"]).env("PORT", "0").env("HOST", host));
        process.await_line(&format!("buildlock serves http://{listens_on}:"));
        kill(process.pid(), "TERM");
        assert_eq!(process.end(), Some(0));
    }
}

#[test]
fn the_repository_is_served_with_the_example_builder_and_nothing_to_configure() {
    let sandbox = Sandbox::new();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut process = Running::start(serve(&sandbox).current_dir(repository));
    process.await_line("examples/site-builder/buildlock.toml (edit, generate)");
}

#[test]
fn without_settings_projects_can_be_locked() {
    let sandbox = Sandbox::new();
    let mut process = Running::start(&mut serve(&sandbox));
    process.await_line("no operation has a builder");
}

#[test]
fn systemd_is_told_when_the_server_is_ready_that_it_works_and_that_it_stops() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut message = [0; 200];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    };
    let mut command = serve(&sandbox);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "50000");
    let mut server = Serving::start(&mut command);
    let mut heard = vec![hear(), hear(), hear()];
    heard.sort();
    heard.dedup();
    assert_eq!(heard, ["READY=1", "WATCHDOG=1"]);
    server.signal("TERM");
    while hear() != "STOPPING=1" {}
    assert_eq!(server.process.end(), Some(0));
}

#[test]
fn the_log_is_json_if_asked_for_and_has_no_secret_in_it() {
    let sandbox = Sandbox::new();
    let mut command = serve(&sandbox);
    command.args(["--quiet", "--log-format", "json"]).env("RUST_LOG", "trace");
    let mut process = Running::start(&mut command);
    let line = process.await_line("\"message\":\"listening\"");
    let listening: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = listening["address"].as_str().unwrap().to_owned();
    let key = fs::read_to_string(sandbox.path().join("locks.db.operator-key")).unwrap();
    let mut server = Serving { process, address, link: String::new() };
    let authorization = format!("Authorization: Bearer {}", key.trim());
    server.ask(&format!("GET /v1/me HTTP/1.1\r\nX-Request-Id: seven\r\n{authorization}"));
    let made = server.ask(&format!("POST /v1/sign-in-links HTTP/1.1\r\n{authorization}"));
    let code = made.split_once("code=").unwrap().1.split_once('"').unwrap().0.to_owned();
    let signed_in = server.ask(&format!("GET /sign-in?code={code} HTTP/1.1"));
    let cookie = signed_in.split_once("set-cookie: ").unwrap().1.split_once(';').unwrap().0.to_owned();
    assert!(server.ask(&format!("GET /v1/me HTTP/1.1\r\nCookie: {cookie}")).contains("operator"));
    server.signal("TERM");
    assert_eq!(server.process.end(), Some(0));
    let log = server.process.rest();
    let secret = cookie.split_once('=').unwrap().1;
    for line in &log {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["timestamp"].is_string() && entry["level"].is_string(), "{line}");
        for secret in [key.trim(), &code, secret] {
            assert!(!line.contains(secret), "{line}");
        }
    }
    assert!(log.iter().any(|line| line.contains("\"id\":\"seven\"") && line.contains("/v1/me")), "{log:#?}");
}
