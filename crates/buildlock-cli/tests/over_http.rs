//! The command on a server's URL does what it does on a file.

#[path = "support/server.rs"]
mod server;
mod support;

use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use server::Server;
use support::{Running, Sandbox, await_that, children, kill};

/// A client of a server, in a sandbox of its own.
struct Client<'a> {
    sandbox: &'a Sandbox,
    url: String,
    key: String,
}

impl<'a> Client<'a> {
    fn operator(sandbox: &'a Sandbox, server: &Server) -> Self {
        Self { sandbox, url: server.url.clone(), key: server.key.clone() }
    }

    /// Somebody with a new key.
    fn with_key(sandbox: &'a Sandbox, server: &Server, owner: &str, role: &str) -> Self {
        let key = sandbox.ok(&["keys", "add", owner, "--role", role]);
        Self { sandbox, url: server.url.clone(), key: key.trim().to_owned() }
    }

    fn buildlock(&self, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.buildlock(arguments);
        command.env("BUILDLOCK_STORE", &self.url).env("BUILDLOCK_API_KEY", &self.key).env_remove("BUILDLOCK_HOLDER");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.buildlock(arguments).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [&["--json"], arguments].concat();
        serde_json::from_str(&self.ok(&arguments)).unwrap()
    }

    /// How the command fails: its exit code, and what it says.
    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn holder(&self, project: &str) -> Value {
        self.json(&["status", project])["lease"]["holder"].clone()
    }

    fn waiters(&self, project: &str) -> usize {
        self.json(&["status", project])["queue"].as_array().unwrap().len()
    }
}

#[test]
fn every_command_works_on_a_server_as_on_a_file() {
    let sandbox = Sandbox::new();
    let server = Server::with_settings(&sandbox, "");
    let ana = Client::operator(&sandbox, &server);
    for project in ["my-site", "../x", "a/b", "..", "🏗️", "it's 100%?#"] {
        let token = ana.ok(&["lock", "--ttl", "60s", "--message", "new header", "--", project]);
        assert_eq!(ana.holder(project), "ana@laptop", "the operator is whoever started the server");
        let refusal = ana.refused(&["lock", "--", project], 75);
        assert!(refusal.contains("new header"), "{refusal}");
        ana.ok(&["renew", "--token", &token, "--ttl", "90s", "--", project]);
        ana.ok(&["unlock", "--token", &token, "--", project]);
        ana.ok(&["unlock", "--token", &token, "--", project]);
        assert!(ana.refused(&["renew", "--token", &token, "--", project], 79).contains("unlocked"));

        let token = ana.ok(&["lock", "--holder", "ben", "--", project]);
        assert_eq!(ana.holder(project), "ben", "an operator may name the holder");
        ana.ok(&["force-unlock", "--token", &token, "--reason", "stuck", "--", project]);
        let kinds: Vec<_> = ana.json(&["history", "--", project]).as_array().unwrap().iter().map(kind).collect();
        assert_eq!(kinds, ["force_unlocked", "granted", "unlocked", "granted"]);
        ana.ok(&["projects", "delete", "--", project]);
        assert!(ana.refused(&["status", "--", project], 1).contains("there is no project"));
    }
    ana.ok(&["projects", "add", "mine"]);
    assert_eq!(ana.json(&["projects"]).as_array().unwrap().len(), 1);
    assert_eq!(ana.json(&["history", "--limit", "3"]).as_array().unwrap().len(), 3);
    assert!(ana.ok(&["doctor"]).contains("others see you as ana@laptop"));
    ana.ok(&["history", "--keep-for", "720h"]);
}

fn kind(event: &Value) -> String {
    event["kind"].as_str().unwrap().to_owned()
}

#[test]
fn who_waits_on_a_server_gets_its_turn_at_once() {
    let sandbox = Sandbox::new();
    let server = Server::with_settings(&sandbox, "");
    let ana = Client::operator(&sandbox, &server);
    let token = ana.ok(&["lock", "--ttl", "1h", "my-site"]);
    let mut waiting = Running::start(&mut ana.buildlock(&["lock", "--wait", "10m", "--message", "next", "my-site"]));
    await_that("it waits", || ana.waiters("my-site") == 1);
    ana.ok(&["unlock", "--token", &token, "my-site"]);
    let began = Instant::now();
    assert_eq!(waiting.end(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "it was told by the stream, not by asking now and then");
    assert_eq!(ana.json(&["status", "my-site"])["lease"]["message"], "next");
}

#[test]
fn who_is_interrupted_while_it_waits_gives_up_its_place() {
    let sandbox = Sandbox::new();
    let server = Server::with_settings(&sandbox, "");
    let ana = Client::operator(&sandbox, &server);
    ana.ok(&["lock", "--ttl", "1h", "my-site"]);
    let mut waiting = Running::start(&mut ana.buildlock(&["lock", "--wait", "10m", "my-site"]));
    await_that("it waits", || ana.waiters("my-site") == 1);
    kill(waiting.pid(), "INT");
    assert_eq!(waiting.end(), Some(130));
    assert_eq!(ana.waiters("my-site"), 0, "the place was given up before the command ended");
    assert_eq!(kind(&ana.json(&["history", "my-site"])[0]), "left");
}

#[test]
fn a_build_runs_under_a_servers_lock() {
    let sandbox = Sandbox::new();
    let server = Server::with_settings(&sandbox, "");
    let ana = Client::operator(&sandbox, &server);
    let script = "echo \"$BUILDLOCK_STORE\"; buildlock status --json my-site; exit 3";
    let output = ana.run(&["run", "my-site", "--", "bash", "-c", script]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let (url, status) = said.split_once('\n').unwrap();
    let status: Value = serde_json::from_str(status).unwrap();
    assert_eq!((url, status["lease"]["holder"].as_str()), (server.url.as_str(), Some("ana@laptop")));
    assert_eq!(ana.holder("my-site"), Value::Null);
    let inner = ana.run(&["run", "my-site", "--", "buildlock", "run", "my-site", "--", "true"]);
    assert_eq!(inner.status.code(), Some(75), "it would wait for itself: {inner:?}");
}

#[test]
fn a_build_stops_when_its_lease_is_ended_by_force_on_the_server() {
    let sandbox = Sandbox::new();
    let server = Server::with_settings(&sandbox, "");
    let ana = Client::operator(&sandbox, &server);
    let mut build = Running::start(&mut ana.buildlock(&["run", "my-site", "--", "sleep", "600"]));
    await_that("it is locked", || ana.run(&["status", "my-site"]).status.success());
    let token = ana.json(&["status", "my-site"])["lease"]["token"].to_string();
    ana.ok(&["force-unlock", "--token", &token, "--reason", "hangs", "my-site"]);
    let began = Instant::now();
    assert_eq!(build.end(), Some(79));
    assert!(began.elapsed() < Duration::from_secs(5), "it was told by the stream, not by its next renewal");
    assert!(build.rest().join("\n").contains("force-unlocked by ana@laptop: hangs"));
}

/// Rule 14.
#[test]
fn a_build_stops_before_its_lease_can_end_when_the_server_is_gone() {
    let sandbox = Sandbox::new();
    let server = Server::with_settings(&sandbox, "");
    let ana = Client::operator(&sandbox, &server);
    let mut build = Running::start(&mut ana.buildlock(&["run", "--ttl", "3s", "my-site", "--", "sleep", "600"]));
    await_that("it runs", || children(build.pid()).iter().any(|supervisor| !children(*supervisor).is_empty()));
    let killed = Instant::now();
    server.kill();
    assert_eq!(build.end(), Some(79));
    assert!(killed.elapsed() < Duration::from_secs(4), "the lease of 3 s was long over: {:?}", killed.elapsed());
    assert!(build.rest().join("\n").contains("could not be renewed in time"));
    sandbox.await_no_process();
}

#[test]
fn a_server_that_starts_again_is_found_by_who_waits() {
    let sandbox = Sandbox::new();
    let mut server = Server::with_settings(&sandbox, "");
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    let ana = Client::operator(&sandbox, &server);
    let token = ana.ok(&["lock", "--ttl", "1h", "my-site"]);
    let mut waiting = Running::start(&mut ana.buildlock(&["lock", "--wait", "10m", "my-site"]));
    await_that("it waits", || ana.waiters("my-site") == 1);
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
    let listen = format!("127.0.0.1:{port}");
    let mut again = Running::start(&mut sandbox.buildlock(&["serve", "--listen", &listen]));
    again.await_line("buildlock serves");
    ana.ok(&["unlock", "--token", &token, "my-site"]);
    assert_eq!(waiting.end(), Some(0));
    let kinds: Vec<_> = ana.json(&["history", "my-site"]).as_array().unwrap().iter().map(kind).collect();
    assert_eq!(kinds, ["granted", "unlocked", "queued", "granted"], "it kept its place");
    kill(again.pid(), "TERM");
    again.end();
}

#[test]
fn who_may_not_is_told_and_ends_with_77() {
    let sandbox = Sandbox::new();
    let server = Server::with_settings(&sandbox, "");
    let operator = Client::operator(&sandbox, &server);
    let ana = Client::with_key(&sandbox, &server, "ana", "user");
    let ben = Client::with_key(&sandbox, &server, "ben", "user");
    let service = Client::with_key(&sandbox, &server, "ci", "service");

    let nobody = Client { key: String::new(), ..Client::operator(&sandbox, &server) };
    assert!(nobody.refused(&["status"], 77).contains("BUILDLOCK_API_KEY"));
    let stranger = Client { key: "bl_wrong".to_owned(), ..Client::operator(&sandbox, &server) };
    assert!(stranger.refused(&["status"], 77).contains("not known"));
    assert!(!stranger.refused(&["status"], 77).contains("bl_wrong"), "no key is shown");

    let token = ana.ok(&["lock", "--ttl", "1h", "my-site"]);
    assert_eq!(ana.holder("my-site"), "ana", "a user is who its key says");
    for arguments in [
        &["status", "my-site"][..],
        &["lock", "my-site"],
        &["history", "my-site"],
        &["unlock", "--token", &token, "my-site"],
        &["force-unlock", "--token", &token, "--reason", "mine", "my-site"],
        &["projects", "delete", "my-site"],
    ] {
        assert!(ben.refused(arguments, 1).contains("there is no project"), "{arguments:?}");
    }
    assert_eq!(ben.json(&["projects"]), serde_json::json!([]));
    assert_eq!(ana.json(&["projects"])[0]["project"], "my-site");
    ben.refused(&["history"], 77);
    ben.refused(&["lock", "--holder", "ana", "other"], 77);
    service.refused(&["force-unlock", "--token", &token, "--reason", "x", "my-site"], 77);
    service.refused(&["unlock", "--token", &token, "my-site"], 77);
    service.refused(&["doctor"], 77);
    service.refused(&["history", "--keep-all"], 77);

    ana.ok(&["force-unlock", "--token", &token, "--reason", "my own", "my-site"]);
    operator.ok(&["lock", "--holder", "ana", "my-site"]);
}

#[test]
fn a_server_that_is_not_there_is_told_soon() {
    let sandbox = Sandbox::new();
    // Nobody listens there any more.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = Client { sandbox: &sandbox, url: format!("http://127.0.0.1:{port}"), key: "bl_x".to_owned() };
    let began = Instant::now();
    let text = nowhere.refused(&["lock", "my-site"], 69);
    assert!(text.contains("is it running"), "{text}");
    nowhere.refused(&["run", "my-site", "--", "true"], 69);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    // Somebody listens and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let silent = Client { sandbox: &sandbox, url, key: "bl_x".to_owned() };
    let began = Instant::now();
    assert!(silent.refused(&["status"], 69).contains("no answer within"));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    for bad in ["http://", "http://user:secret@host", "https://host/?key=x", "ftp://host"] {
        let wrong = Client { sandbox: &sandbox, url: bad.to_owned(), key: "bl_x".to_owned() };
        assert!(!wrong.refused(&["status"], 2).contains("secret"), "{bad}");
    }
}
