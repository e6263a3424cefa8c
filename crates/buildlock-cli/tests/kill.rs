//! Rule 14 with real signals: whatever kills a build's supervision, nothing of the build survives,
//! and the next waiter gets the lock.

mod support;

use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

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
    while [ \"$(pgrep -c -f '^sleep 1000')\" -lt 1 ]; do :; done
    echo ready
    wait";

/// The build's processes, when all of [`EVASIVE`] is up: seven sleeps at least.
fn start(sandbox: &Sandbox, ttl: &str) -> Running {
    let mut command = sandbox.buildlock(&["run", "p", "--ttl", ttl, "--", "bash", "-c", EVASIVE]);
    let mut run = Running::start(command.process_group(0));
    run.await_line("ready");
    await_that("the whole tree is up", || {
        let is_sleep =
            |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0");
        sandbox.processes().iter().filter(|pid| is_sleep(pid)).count() >= 7
    });
    run
}

fn supervisor(run: &Running) -> i32 {
    let children = children(run.pid());
    assert_eq!(children.len(), 1, "the front has one child");
    children[0]
}

/// How long until a waiter that came before the kill has the lock.
fn time_to_next(sandbox: &Sandbox, kill: impl FnOnce()) -> Duration {
    let mut next = Running::start(&mut sandbox.buildlock(&["run", "p", "--wait", "1m", "--", "echo", "mine"]));
    next.await_line("you are next");
    let killed_at = Instant::now();
    kill();
    next.await_line("mine");
    let time = killed_at.elapsed();
    assert_eq!(next.end(), Some(0));
    time
}

/// Rule 14.
#[test]
fn a_killed_front_leaves_no_process_and_the_next_is_granted_at_once() {
    let sandbox = Sandbox::new();
    let mut run = start(&sandbox, "24h");
    let time = time_to_next(&sandbox, || kill(run.pid(), "KILL"));
    assert_eq!(run.end(), None);
    sandbox.await_no_process();
    assert!(time < Duration::from_secs(5), "seen at once, long before the TTL of 24 h: {time:?}");
    assert_eq!(sandbox.events("p"), ["granted", "queued", "unlocked", "granted", "unlocked"]);
}

/// Rule 14, rule 8.
#[test]
fn a_killed_supervisor_leaves_no_process_and_the_next_is_granted_within_the_ttl_and_a_second() {
    let sandbox = Sandbox::new();
    let mut run = start(&sandbox, "2s");
    let supervisor = supervisor(&run);
    let time = time_to_next(&sandbox, || kill(supervisor, "KILL"));
    assert_eq!(run.end(), Some(137));
    sandbox.await_no_process();
    assert!(time < Duration::from_secs(3), "{time:?}");
    assert_eq!(sandbox.events("p"), ["granted", "queued", "expired", "granted", "unlocked"]);
}

/// Rule 14.
#[test]
fn a_killed_job_leaves_no_process() {
    let sandbox = Sandbox::new();
    let mut run = start(&sandbox, "24h");
    // As `kill -9 %1` does: the front and whatever is in its process group.
    kill(-run.pid(), "KILL");
    assert_eq!(run.end(), None);
    sandbox.await_no_process();
    await_that("the project is free", || sandbox.status("p")["buildStatus"] == "idle");
}

/// Rule 14: what can be promised when nobody is left to tidy up.
#[test]
fn when_both_are_killed_at_once_the_command_itself_still_dies() {
    let sandbox = Sandbox::new();
    let mut run =
        Running::start(&mut sandbox.buildlock(&["run", "p", "--", "sh", "-c", "echo ready; exec sleep 1000"]));
    run.await_line("ready");
    let supervisor = supervisor(&run);
    // Stopped first, so that neither sees the other die.
    kill(run.pid(), "STOP");
    kill(supervisor, "STOP");
    kill(supervisor, "KILL");
    kill(run.pid(), "KILL");
    assert_eq!(run.end(), None);
    sandbox.await_no_process();
}

/// Rule 7.
#[test]
fn a_killed_waiter_leaves_the_queue_at_once() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["lock", "p"]);
    let mut waiter = Running::start(&mut sandbox.buildlock(&["run", "p", "--wait", "1h", "--", "true"]));
    waiter.await_line("you are next");
    kill(waiter.pid(), "KILL");
    assert_eq!(waiter.end(), None);
    await_that("the queue is empty", || sandbox.status("p")["queue"].as_array().unwrap().is_empty());
    sandbox.await_no_process();
    assert_eq!(sandbox.events("p"), ["granted", "queued", "left"]);
}

#[test]
fn a_signal_to_the_front_is_passed_on_once() {
    let sandbox = Sandbox::new();
    for signal in ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"] {
        let script =
            format!("trap 'echo got {signal}' {signal}; echo ready; while ! read -r line; do :; done; echo end");
        let mut run = Running::start(&mut sandbox.buildlock(&["run", "p", "--", "bash", "-c", &script]));
        run.await_line("ready");
        kill(run.pid(), signal);
        run.await_line("got");
        run.type_in("end\n");
        run.await_line("end");
        assert_eq!(run.end(), Some(0));
        let got = run.rest().iter().filter(|line| line.contains("got")).count();
        assert_eq!(got, 1, "{signal}");
    }
}

#[test]
fn a_supervisor_that_is_asked_to_end_passes_it_on() {
    let sandbox = Sandbox::new();
    let mut run =
        Running::start(&mut sandbox.buildlock(&["run", "p", "--", "sh", "-c", "echo ready; exec sleep 1000"]));
    run.await_line("ready");
    kill(supervisor(&run), "TERM");
    assert_eq!(run.end(), Some(143));
    assert_eq!(sandbox.status("p")["buildStatus"], "idle");
}

#[test]
fn what_was_ignored_stays_ignored() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.program("nohup");
    command.args(["buildlock", "run", "p", "--", "sh", "-c", "grep SigIgn /proc/self/status; echo ready; read line"]);
    let mut run = Running::start(&mut command);
    let mask = run.await_line("SigIgn");
    let mask = u64::from_str_radix(mask.split_whitespace().last().unwrap(), 16).unwrap();
    assert_eq!(mask & 1, 1, "SIGHUP is ignored: {mask:x}");
    assert_eq!(mask & 0b110, 0, "SIGINT and SIGQUIT are not: {mask:x}");
    run.await_line("ready");
    kill(run.pid(), "HUP");
    run.type_in("go on\n");
    assert_eq!(run.end(), Some(0));
}

fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, after)| after.trim_start().starts_with('T'))
}

/// Whoever started the build sees it stop, as if it had started the command itself.
#[test]
fn the_front_stops_and_goes_on_with_the_child_whoever_does_that() {
    let sandbox = Sandbox::new();
    let mut run =
        Running::start(&mut sandbox.buildlock(&["run", "p", "--", "sh", "-c", "echo ready; read line; exit 4"]));
    run.await_line("ready");
    let child = children(supervisor(&run))[0];
    for _ in 0..2 {
        kill(child, "STOP");
        await_that("the front stops", || is_stopped(run.pid()));
        kill(child, "CONT");
        await_that("the front goes on", || !is_stopped(run.pid()));
        kill(child, "STOP");
        await_that("the front stops", || is_stopped(run.pid()));
        kill(run.pid(), "CONT");
        await_that("the child goes on", || !is_stopped(child));
    }
    run.type_in("end\n");
    assert_eq!(run.end(), Some(4));
}

#[test]
fn a_child_that_is_killed_while_it_is_stopped_ends_the_build() {
    let sandbox = Sandbox::new();
    let mut run =
        Running::start(&mut sandbox.buildlock(&["run", "p", "--", "sh", "-c", "echo ready; exec sleep 1000"]));
    run.await_line("ready");
    let child = children(supervisor(&run))[0];
    kill(child, "STOP");
    await_that("the front stops", || is_stopped(run.pid()));
    kill(child, "KILL");
    assert_eq!(run.end(), Some(137));
    assert_eq!(sandbox.events("p"), ["granted", "unlocked"]);
}
