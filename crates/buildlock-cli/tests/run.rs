//! `buildlock run`: exit codes, what the child sees, waiting, and leases that end under a build.

mod support;

use std::time::{Duration, Instant};

use support::{Running, Sandbox, await_that, kill};

fn code(sandbox: &Sandbox, arguments: &[&str]) -> i32 {
    sandbox.run(arguments).status.code().unwrap()
}

fn stderr(sandbox: &Sandbox, arguments: &[&str]) -> String {
    String::from_utf8(sandbox.run(arguments).stderr).unwrap()
}

#[test]
fn the_exit_code_is_the_commands_own() {
    let sandbox = Sandbox::new();
    assert_eq!(code(&sandbox, &["run", "p", "--", "true"]), 0);
    assert_eq!(code(&sandbox, &["run", "p", "--", "sh", "-c", "exit 7"]), 7);
    assert_eq!(code(&sandbox, &["run", "p", "--", "sh", "-c", "kill -9 $$"]), 137);
    assert_eq!(code(&sandbox, &["run", "p", "--", "sh", "-c", "kill -TERM $$"]), 143);
    assert_eq!(sandbox.events("p"), ["granted", "unlocked"].repeat(4));
}

#[test]
fn a_command_that_cannot_be_started_gives_126_or_127_and_the_lock_back() {
    let sandbox = Sandbox::new();
    assert_eq!(code(&sandbox, &["run", "p", "--", "no-such-command"]), 127);
    assert_eq!(code(&sandbox, &["run", "p", "--", "/etc/passwd"]), 126);
    assert!(
        stderr(&sandbox, &["run", "p", "--", "no-such-command"]).contains("cannot find the command no-such-command")
    );
    assert_eq!(sandbox.status("p")["buildStatus"], "idle");
}

#[test]
fn the_child_knows_its_lease_and_can_use_it() {
    let sandbox = Sandbox::new();
    let script = "echo $BUILDLOCK_PROJECT,$BUILDLOCK_OPERATION,$BUILDLOCK_TOKEN,$BUILDLOCK_HOLDER,$BUILDLOCK_STORE; \
                  date -d \"$BUILDLOCK_EXPIRES_AT\" +%s; buildlock renew --ttl 5m";
    let said = sandbox.ok(&["run", "p", "--operation", "generate", "--", "sh", "-c", script]);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], format!("p,generate,1,ana@laptop,{}", sandbox.store()));
    assert!(lines[1].parse::<u64>().unwrap() > 1_700_000_000);
    assert_eq!(lines[2], "1");
}

#[test]
fn nothing_of_the_supervision_is_left_in_the_childs_environment() {
    let sandbox = Sandbox::new();
    assert!(!sandbox.ok(&["run", "p", "--", "env"]).contains("BUILDLOCK_SUPERVISE"));
}

#[test]
fn standard_input_and_output_are_the_childs() {
    let sandbox = Sandbox::new();
    let mut run = Running::start(&mut sandbox.buildlock(&["run", "p", "--", "cat"]));
    run.type_in("one\ntwo\n");
    assert_eq!(run.end(), Some(0));
    assert_eq!(run.rest(), ["one", "two"]);
}

#[test]
fn a_relative_store_is_the_same_one_for_a_child_that_goes_elsewhere() {
    let sandbox = Sandbox::new();
    let script = "cd / && buildlock status p --json";
    let said = sandbox.ok(&["--store", "sqlite:locks.db", "run", "p", "--", "sh", "-c", script]);
    assert!(said.contains(r#""buildStatus":"processing""#), "{said}");
}

/// Rule 5.
#[test]
fn a_locked_project_is_refused_at_once_with_75_or_the_code_that_was_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["lock", "p"]);
    assert_eq!(code(&sandbox, &["run", "p", "--", "true"]), 75);
    assert_eq!(code(&sandbox, &["run", "p", "-E", "9", "--", "true"]), 9);
    assert_eq!(code(&sandbox, &["run", "other", "--", "true"]), 0);
}

#[test]
fn a_wait_that_runs_out_gives_124_and_the_place_back() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["lock", "p"]);
    assert_eq!(code(&sandbox, &["run", "p", "--wait", "100ms", "--", "true"]), 124);
    assert_eq!(sandbox.events("p"), ["granted", "queued", "left"]);
}

/// Rule 6.
#[test]
fn waiters_get_their_turn_in_the_order_in_which_they_came() {
    let sandbox = Sandbox::new();
    let mut first = Running::start(&mut sandbox.buildlock(&["run", "p", "--", "sh", "-c", "echo ready; read line"]));
    first.await_line("ready");
    let mut waiters: Vec<_> = (1..=3)
        .map(|number| {
            let append = format!("echo {number} >> order");
            let command = ["run", "p", "--wait", "1m", "--", "sh", "-c", &append];
            let mut waiter = Running::start(&mut sandbox.buildlock(&command));
            waiter.await_line(if number == 1 { "you are next" } else { "in line" });
            waiter
        })
        .collect();
    assert_eq!(sandbox.status("p")["queue"].as_array().unwrap().len(), 3);
    first.type_in("go\n");
    for waiter in &mut waiters {
        assert_eq!(waiter.end(), Some(0));
        assert!(waiter.rest().iter().any(|line| line.contains("it is your turn")));
    }
    assert_eq!(std::fs::read_to_string(sandbox.path().join("order")).unwrap(), "1\n2\n3\n");
}

#[test]
fn whoever_is_told_to_end_while_waiting_gives_up_the_place_at_once() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["lock", "p"]);
    for (signal, expected) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut waiter = Running::start(&mut sandbox.buildlock(&["run", "p", "--wait", "1m", "--", "true"]));
        waiter.await_line("you are next");
        kill(waiter.pid(), signal);
        assert_eq!(waiter.end(), Some(expected));
        assert!(sandbox.status("p")["queue"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_build_inside_a_build_of_the_same_project_is_told_so_at_once() {
    let sandbox = Sandbox::new();
    let inner = ["run", "p", "--", "buildlock", "run", "p", "--wait", "1h", "--", "true"];
    let started = Instant::now();
    assert_eq!(code(&sandbox, &inner), 75);
    assert!(stderr(&sandbox, &inner).contains("already runs inside a build of \"p\""));
    let around =
        ["run", "p", "--", "buildlock", "run", "q", "--", "buildlock", "run", "p", "--wait", "1h", "--", "true"];
    assert_eq!(code(&sandbox, &around), 75);
    for wait in ["0s", "1h"] {
        let lock = ["run", "p", "--", "buildlock", "lock", "p", "--wait", wait, "-E", "3"];
        assert_eq!(code(&sandbox, &lock), 3);
        assert!(stderr(&sandbox, &lock).contains("already runs inside a build of \"p\""));
    }
    assert_eq!(code(&sandbox, &["run", "p", "--", "buildlock", "lock", "q"]), 0);
    assert!(started.elapsed() < Duration::from_secs(20));
}

/// Rule 14.
#[test]
fn a_build_whose_lease_is_force_unlocked_is_stopped_with_79() {
    let sandbox = Sandbox::new();
    let script = "trap '' TERM; sleep 1000 & echo ready; wait";
    let mut run = Running::start(&mut sandbox.buildlock(&["run", "p", "--", "sh", "-c", script]));
    run.await_line("ready");
    sandbox.ok(&["force-unlock", "p", "--token", "1", "--reason", "wrong branch", "--holder", "ops"]);
    assert_eq!(run.end(), Some(79));
    let said = run.rest().join("\n");
    assert!(said.contains("the lease on \"p\" is lost: it was force-unlocked by ops: wrong branch"), "{said}");
    sandbox.await_no_process();
}

/// Rule 13.
#[test]
fn a_project_that_is_freed_by_hand_stops_its_build_and_goes_to_the_next() {
    let sandbox = Sandbox::new();
    let mut run =
        Running::start(&mut sandbox.buildlock(&["run", "p", "--", "sh", "-c", "echo ready; exec sleep 1000"]));
    run.await_line("ready");
    let mut next = Running::start(&mut sandbox.buildlock(&["run", "p", "--wait", "1m", "--", "echo", "mine"]));
    next.await_line("you are next");
    let sql = "update projects set build_status = 'idle', locked_by = null, locked_at = null where id = 'p'";
    let file = sandbox.path().join("locks.db");
    assert!(sandbox.program("sqlite3").arg(file).arg(sql).status().unwrap().success());
    next.await_line("mine");
    assert_eq!(run.end(), Some(79));
    assert_eq!(next.end(), Some(0));
    assert_eq!(sandbox.events("p"), ["granted", "queued", "freed_by_hand", "granted", "unlocked"]);
}

/// Rule 14.
#[test]
fn a_build_whose_store_is_gone_is_stopped_before_another_could_be_granted() {
    let sandbox = Sandbox::new();
    let script = "echo ready; exec sleep 1000";
    let mut run = Running::start(&mut sandbox.buildlock(&["run", "p", "--ttl", "2s", "--", "sh", "-c", script]));
    run.await_line("ready");
    let locked_at = Instant::now();
    // A program that keeps the file locked, as a stuck backup would.
    let script = "import sqlite3,sys\n\
                  c=sqlite3.connect('locks.db',isolation_level=None)\n\
                  c.execute('begin immediate')\n\
                  print('held',flush=True)\n\
                  sys.stdin.read()";
    let mut stuck = Running::start(sandbox.program("python3").args(["-c", script]));
    stuck.await_line("held");
    run.await_line("the build was stopped");
    assert!(
        locked_at.elapsed() < Duration::from_millis(2_700),
        "at most one TTL after a renewal: {:?}",
        locked_at.elapsed()
    );
    drop(stuck.stdin.take());
    assert_eq!(run.end(), Some(79));
    stuck.end();
    sandbox.await_no_process();
}

/// Rule 8.
#[test]
fn a_build_that_takes_longer_than_its_ttl_keeps_its_lease() {
    let sandbox = Sandbox::new();
    let script = "echo ready; read line; exit 3";
    let mut run = Running::start(&mut sandbox.buildlock(&["run", "p", "--ttl", "1s", "--", "sh", "-c", script]));
    run.await_line("ready");
    let acquired: String = sandbox.status("p")["lease"]["acquiredAt"].as_str().unwrap().to_owned();
    let two_ttls = Instant::now() + Duration::from_secs(2);
    await_that("two TTLs pass", || Instant::now() > two_ttls);
    assert_eq!(sandbox.status("p")["lease"]["acquiredAt"], acquired.as_str());
    run.type_in("end\n");
    assert_eq!(run.end(), Some(3));
}

#[test]
fn what_a_build_leaves_behind_is_stopped_before_the_lock_is_given_back() {
    let sandbox = Sandbox::new();
    let output = sandbox.run(&["run", "p", "--", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & exit 5"]);
    assert_eq!(output.status.code(), Some(5));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the build left processes behind; stopped:") && said.contains("(s"), "{said}");
    assert!(sandbox.processes().is_empty());
}

#[test]
fn json_goes_to_standard_error_because_standard_output_is_the_childs() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["lock", "p"]);
    let output = sandbox.run(&["--json", "run", "p", "--", "true"]);
    let problem: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((problem["code"].as_str(), problem["lock"]["token"].as_u64()), (Some("PROJECT_LOCKED"), Some(1)));
    assert!(output.stdout.is_empty());
}
