//! Rule 14 for a server's builds, with real signals: whatever is killed or stopped, nothing of a build is
//! left, the next one starts, and what has become of it is on record.

#[path = "support/server.rs"]
mod server;
mod support;

use std::fs;
use std::time::{Duration, Instant};

use buildlock::{
    BuildEnd, BuildId, BuildStatus, BuildStore, Lease, LockRequest, LockService, NewBuild, SqliteStore, Ttl, Wait,
};
use reqwest::Method;
use serde_json::{Value, json};
use server::{Events, Script, Server, json_of};
use support::{Running, Sandbox, await_that, children, kill};

/// A build that does all it can to get away: grandchildren, a session of their own, a daemon's double
/// fork, a process group of its own, deaf to signals.
const EVASIVE: &str = "
    sleep 1000 &
    setsid sh -c 'sleep 1000 & sleep 1000' &
    setsid sh -c '(setsid sleep 1000 &) & exit' &
    (trap '' TERM INT HUP QUIT; sleep 1000; sleep 1000) &
    bash -mc 'sleep 1000 & wait' &
    nohup sleep 1000 >/dev/null 2>&1 &
    echo ready
    wait";

const QUICK: &str = "echo quick";

fn server(sandbox: &Sandbox, ttl: &str) -> Server {
    let more = format!("ttl = \"{ttl}\"\ncancel_grace = \"1s\"");
    Server::with_scripts(sandbox, &[Script("evade", EVASIVE, &more), Script("quick", QUICK, &more)])
}

/// A build of which the whole tree is up: seven sleeps at least.
async fn begin(sandbox: &Sandbox, server: &Server) -> String {
    let build = server.begin("p", "evade").await;
    server.await_line(&build, "ready").await;
    await_that("the whole tree is up", || {
        let is_sleep =
            |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0");
        sandbox.processes().iter().filter(|pid| is_sleep(pid)).count() >= 7
    });
    build
}

/// The two processes that supervise the one build that runs.
fn supervision(server: &Server) -> [i32; 2] {
    let fronts = children(server.pid());
    assert_eq!(fronts.len(), 1, "one build runs");
    let supervisors = children(fronts[0]);
    assert_eq!(supervisors.len(), 1, "a front has one child");
    [fronts[0], supervisors[0]]
}

fn lost(build: &Value) {
    assert_eq!(build["status"], "lost", "{build}");
    assert_eq!(build["reason"], "the server that ran it ended before it did", "{build}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_leaves_no_process_and_the_next_one_shows_the_build_as_lost_and_builds_at_once() {
    let sandbox = Sandbox::new();
    let server = server(&sandbox, "24h");
    let build = begin(&sandbox, &server).await;
    server.kill();
    sandbox.await_no_process();
    let server = Server::start(&sandbox);
    lost(&server.get(&format!("/v1/builds/{build}")).await);
    assert!(server.log(&build).await.contains("ready\n"));
    lost(&server.ended(&build).await);
    assert_eq!(server.build("p", "quick").await.0, 200);
    assert_eq!(sandbox.events("p"), ["granted", "force_unlocked", "granted", "unlocked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_next_build_starts_within_the_ttl_and_a_second() {
    let sandbox = Sandbox::new();
    let server = server(&sandbox, "2s");
    begin(&sandbox, &server).await;
    let mut next = Running::start(&mut sandbox.buildlock(&["run", "p", "--wait", "1m", "--", "echo", "mine"]));
    next.await_line("you are next");
    let killed_at = Instant::now();
    server.kill();
    next.await_line("mine");
    assert!(killed_at.elapsed() < Duration::from_secs(3), "{:?}", killed_at.elapsed());
    assert_eq!(next.end(), Some(0));
    sandbox.await_no_process();
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_supervisor_is_killed_nothing_of_the_build_is_left_and_the_server_knows() {
    let sandbox = Sandbox::new();
    let server = server(&sandbox, "24h");
    for which in [[true, false], [false, true], [true, true]] {
        let build = begin(&sandbox, &server).await;
        let both = supervision(&server);
        if which == [true, true] {
            // Stopped first, so that neither sees the other die.
            both.iter().for_each(|pid| kill(*pid, "STOP"));
        }
        for (pid, _) in both.into_iter().zip(which).filter(|(_, dies)| *dies) {
            kill(pid, "KILL");
        }
        let ended = server.ended(&build).await;
        assert_eq!(sandbox.processes(), [server.pid()], "{which:?}");
        assert_eq!((&ended["status"], &ended["exitCode"]), (&json!("failed"), &Value::Null), "{which:?}: {ended}");
        assert_eq!(ended["reason"], "its supervision was killed, and so was all of it");
        assert_eq!(server.build("p", "quick").await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_a_supervision_that_are_killed_at_once_leave_what_the_next_server_kills() {
    let sandbox = Sandbox::new();
    let server = server(&sandbox, "24h");
    let build = begin(&sandbox, &server).await;
    let both = supervision(&server);
    let all = [server.pid(), both[0], both[1]];
    all.iter().for_each(|pid| kill(*pid, "STOP"));
    both.iter().for_each(|pid| kill(*pid, "KILL"));
    server.kill();
    let server = Server::start(&sandbox);
    assert_eq!(sandbox.processes(), [server.pid()]);
    lost(&server.ended(&build).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_loses_its_builds_before_the_store_grants_to_another() {
    let sandbox = Sandbox::new();
    let server = server(&sandbox, "3s");
    let build = begin(&sandbox, &server).await;
    let look = "
        for p in /proc/[0-9]*; do
            [ \"$(tr '\\0' ' ' <$p/cmdline)\" = 'sleep 1000 ' ] && grep -qz \"^TEST_MARK=$TEST_MARK$\" $p/environ && echo $p lives
        done 2>/dev/null
        echo mine";
    let now = sandbox.program("bash").args(["-c", look]).output().unwrap();
    assert!(String::from_utf8_lossy(&now.stdout).matches("lives").count() >= 7, "{now:?}");
    let mut next = Running::start(&mut sandbox.buildlock(&["run", "p", "--wait", "1m", "--", "bash", "-c", look]));
    next.await_line("you are next");
    server.signal("STOP");
    next.await_line("mine");
    assert_eq!(next.end(), Some(0));
    let lives: Vec<String> = next.rest().into_iter().filter(|line| line.contains("lives")).collect();
    assert!(lives.is_empty(), "{lives:?}");
    server.signal("CONT");
    let ended = server.ended(&build).await;
    assert_eq!(ended["status"], "lost");
    assert_eq!(sandbox.processes(), [server.pid()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_whose_lease_is_ended_by_force_is_stopped_and_lost() {
    let sandbox = Sandbox::new();
    let server = server(&sandbox, "24h");
    let build = begin(&sandbox, &server).await;
    let token = sandbox.status("p")["lease"]["token"].to_string();
    sandbox.ok(&["force-unlock", "p", "--token", &token, "--reason", "it hangs"]);
    let ended = server.ended(&build).await;
    let reason = "its lease was lost: it was force-unlocked by ana@laptop: it hangs";
    assert_eq!((&ended["status"], &ended["reason"]), (&json!("lost"), &json!(reason)));
    assert_eq!(sandbox.processes(), [server.pid()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_is_asked_and_then_killed_and_nothing_of_it_is_left() {
    let sandbox = Sandbox::new();
    let server = server(&sandbox, "24h");
    let build = begin(&sandbox, &server).await;
    let waiting = tokio::spawn(server.order("p", "quick").send());
    let cancel = || server.request(Method::POST, &format!("/v1/builds/{build}/cancel")).send();
    let cancelled = json_of(cancel().await.unwrap(), 200).await;
    assert_eq!((&cancelled["status"], &cancelled["exitCode"]), (&json!("cancelled"), &json!(143)));
    let by = cancelled["reason"].as_str().unwrap();
    assert!(by.starts_with("it was cancelled by "), "{by}");
    assert!(server.log(&build).await.contains("buildlock: stopped: "));
    // The next in line has its turn.
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    assert_eq!(sandbox.processes(), [server.pid()]);
    // Once more changes nothing.
    assert_eq!(json_of(cancel().await.unwrap(), 200).await, cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_may_tidy_up_when_it_is_cancelled() {
    let sandbox = Sandbox::new();
    let script = "trap 'echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let server = Server::with_scripts(&sandbox, &[Script("generate", script, "cancel_grace = \"10m\"")]);
    let answer = server.order("p", "generate").header("accept", "text/event-stream").send().await.unwrap();
    let mut events = Events::of(answer);
    let (_, build) = events.next().await.unwrap();
    let id = build["id"].as_str().unwrap();
    server.await_line(id, "ready").await;
    let cancel = server.request(Method::POST, &format!("/v1/builds/{id}/cancel")).header("prefer", "respond-async");
    json_of(cancel.send().await.unwrap(), 202).await;
    let ended = server.ended(id).await;
    assert_eq!((&ended["status"], &ended["exitCode"]), (&json!("cancelled"), &json!(0)));
    assert!(server.log(id).await.contains("tidy\n"));
    let (mut last, mut next) = (None, events.next().await);
    while next.is_some() {
        last = std::mem::replace(&mut next, events.next().await);
    }
    assert_eq!(last.unwrap(), ("end".to_owned(), ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_lets_builds_end_and_takes_no_more() {
    let sandbox = Sandbox::new();
    let script = "echo ready; until [ -e go ]; do sleep 0.01; done; echo done";
    let mut server = Server::with_scripts(&sandbox, &[Script("generate", script, "")]);
    let answer = tokio::spawn(server.order("p", "generate").send());
    await_that("the build runs", || !sandbox.status("p")["lease"].is_null());
    let waiting = tokio::spawn(server.order("p", "generate").send());
    await_that("another waits", || sandbox.status("p")["queue"].as_array().unwrap().len() == 1);
    server.signal("TERM");
    let refused = json_of(waiting.await.unwrap().unwrap(), 503).await;
    assert_eq!(refused["code"], "STOPPING");
    assert_eq!(sandbox.status("p")["queue"], json!([]));
    fs::write(sandbox.path().join("go"), "").unwrap();
    assert_eq!(json_of(answer.await.unwrap().unwrap(), 200).await["status"], "succeeded");
    assert_eq!(server.end(), Some(0));
    assert_eq!(sandbox.events("p"), ["granted", "queued", "left", "unlocked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_that_outlast_the_drain_time_are_cancelled() {
    let sandbox = Sandbox::new();
    let settings = format!(
        "[server]\ndrain_time = \"100ms\"\n[operations.evade]\ncommand = [\"bash\", \"-c\", {}]\npass_env = [\"TEST_MARK\"]\ncancel_grace = \"1s\"\n",
        server::toml_text(EVASIVE)
    );
    let mut server = Server::with_settings(&sandbox, &settings);
    let build = begin(&sandbox, &server).await;
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
    assert!(sandbox.processes().is_empty());
    assert_eq!(sandbox.events("p"), ["granted", "unlocked"]);
    let server = Server::start(&sandbox);
    let ended = server.get(&format!("/v1/builds/{build}")).await;
    assert_eq!(ended["status"], "cancelled");
    assert_eq!(ended["reason"], "the server was stopped, and it did not end within the drain time");
}

/// Rule 4: the place belongs to the request, not to the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_can_be_repeated_keeps_its_place_when_the_call_or_the_server_ends() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["lock", "p"]);
    let mut server = Server::with_scripts(&sandbox, &[Script("generate", "true", "")]);
    let order = |server: &Server| server.order("p", "generate").header("idempotency-key", "mine");
    let first_in_line = || sandbox.status("p")["queue"][0]["queuedAt"].clone();
    let waiting = tokio::spawn(order(&server).send());
    await_that("it waits", || !first_in_line().is_null());
    let since = first_in_line();
    waiting.abort();
    let waiting = tokio::spawn(order(&server).send());
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));
    if let Ok(answer) = waiting.await.unwrap() {
        assert_eq!(json_of(answer, 503).await["code"], "STOPPING");
    }
    let server = Server::start(&sandbox);
    let waiting = tokio::spawn(order(&server).send());
    let another = tokio::spawn(server.order("p", "generate").send());
    await_that("both wait", || sandbox.status("p")["queue"].as_array().unwrap().len() == 2);
    assert_eq!(first_in_line(), since);
    sandbox.ok(&["unlock", "p", "--token", "1"]);
    let first = json_of(waiting.await.unwrap().unwrap(), 200).await;
    let second = json_of(another.await.unwrap().unwrap(), 200).await;
    assert!(first["token"].as_u64() < second["token"].as_u64(), "{first} {second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_runs_no_more_builds_than_it_is_set_to() {
    let sandbox = Sandbox::new();
    let settings = "[builds]\nmax_running = 1\n[operations.generate]\ncommand = [\"bash\", \"-c\", \"until [ -e go ]; do sleep 0.01; done\"]";
    let server = Server::with_settings(&sandbox, settings);
    let first = server.begin("p", "generate").await;
    let body = json!({"projectId": "q"});
    let answer = server.request(Method::POST, "/api/generate").json(&body).send().await.unwrap();
    assert_eq!(json_of(answer, 503).await["code"], "OVERLOADED");
    assert_eq!(sandbox.status("q")["buildStatus"], "idle");
    // Whoever waits gets its turn here as well.
    let second = tokio::spawn(server.order("q", "generate").send());
    await_that("the second has its lock", || sandbox.status("q")["buildStatus"] == "processing");
    fs::write(sandbox.path().join("go"), "").unwrap();
    assert_eq!(server.ended(&first).await["status"], "succeeded");
    assert_eq!(json_of(second.await.unwrap().unwrap(), 200).await["status"], "succeeded");
}

/// As when it was killed between the two. The random kills of `serve_crash.rs` have found it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_a_killed_server_left_when_its_build_had_ended_is_ended_by_the_next() {
    let sandbox = Sandbox::new();
    let store = SqliteStore::open(sandbox.path().join("locks.db")).await.unwrap();
    let request = LockRequest {
        ttl: Ttl::new(Duration::from_secs(24 * 60 * 60)).unwrap(),
        ..LockRequest::new("ana".parse().unwrap(), "quick".parse().unwrap())
    };
    let project = "p".parse().unwrap();
    let lease = LockService::new(store.clone()).lock(&project, request, Wait::NONE).await.unwrap().keep();
    let Lease { holder, operation, token, request, .. } = lease;
    let id = BuildId::fresh();
    store.start_build(NewBuild { id, project, operation, holder, token, request }).await.unwrap();
    let end = BuildEnd { status: BuildStatus::Succeeded, exit_code: Some(0), reason: None };
    store.end_build(id, end).await.unwrap();
    drop(store);
    assert_eq!(sandbox.status("p")["buildStatus"], "processing");
    let server = server(&sandbox, "24h");
    assert_eq!(server.build("p", "quick").await.0, 200);
    assert_eq!(server.get(&format!("/v1/builds/{id}")).await["status"], "succeeded");
    assert_eq!(sandbox.events("p"), ["granted", "unlocked", "granted", "unlocked"]);
}
