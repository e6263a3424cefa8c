//! `buildlock run` in a terminal: a real shell with job control in a pseudo-terminal, by script(1).

mod support;

use support::{Running, Sandbox, await_that, children, kill};

/// An interactive shell; what is typed goes through the terminal's line discipline.
fn shell(sandbox: &Sandbox) -> Running {
    let mut command = sandbox.program("script");
    command.args(["-qec", "bash --norc --noprofile -i", "/dev/null"]).env("PS1", "shell> ").env("TERM", "dumb");
    let mut shell = Running::start(&mut command);
    shell.type_in("stty -echo; echo up$((1 + 1))\n");
    shell.await_line("up2");
    shell
}

#[test]
fn ctrl_c_reaches_an_interactive_child_exactly_once() {
    let sandbox = Sandbox::new();
    let script = "n=0; trap 'n=$((n+1)); echo got $n' INT; echo ready; while ! read -r line; do :; done; \
                  echo line $line after $n";
    std::fs::write(sandbox.path().join("build.sh"), script).unwrap();
    let mut shell = shell(&sandbox);
    shell.type_in("buildlock run p -- bash build.sh; echo code=$?\n");
    shell.await_line("ready");
    shell.type_in("\x03");
    shell.await_line("got 1");
    shell.type_in("typed\n");
    shell.await_line("line typed after 1");
    shell.await_line("code=0");
}

#[test]
fn ctrl_c_ends_a_child_and_gives_the_lock_back() {
    let sandbox = Sandbox::new();
    let mut shell = shell(&sandbox);
    shell.type_in("buildlock run p -- sh -c 'echo ready; exec sleep 1000'; echo code=$?\n");
    shell.await_line("ready");
    shell.type_in("\x03");
    shell.await_line("code=130");
    assert_eq!(sandbox.events("p"), ["granted", "unlocked"]);
}

#[test]
fn ctrl_c_ends_a_wait() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["lock", "p"]);
    let mut shell = shell(&sandbox);
    shell.type_in("buildlock run p --wait 1h -- true; echo code=$?\n");
    shell.await_line("you are next");
    shell.type_in("\x03");
    shell.await_line("code=130");
    assert_eq!(sandbox.events("p"), ["granted", "queued", "left"]);
}

/// Rule 14: a build that is stopped keeps its lease, as it keeps its files; `fg` goes on with it.
#[test]
fn ctrl_z_stops_the_build_and_fg_continues_it_under_the_same_lease() {
    let sandbox = Sandbox::new();
    let mut shell = shell(&sandbox);
    shell.type_in("buildlock run p --ttl 1s -- sh -c 'echo ready; read line; echo line $line'; echo code=$?\n");
    shell.await_line("ready");
    let token = sandbox.status("p")["lease"]["token"].clone();
    let ends_at = || sandbox.status("p")["lease"]["expiresAt"].as_str().unwrap().to_owned();
    shell.type_in("\x1a");
    shell.await_line("Stopped");
    for _ in 0..3 {
        let before = ends_at();
        await_that("the lease is renewed while the build is stopped", || ends_at() > before);
    }
    assert_eq!(sandbox.status("p")["lease"]["token"], token);
    shell.type_in("fg\n");
    shell.await_line("buildlock run");
    shell.type_in("typed\n");
    shell.await_line("line typed");
    await_that("the project is free", || sandbox.status("p")["buildStatus"] == "idle");
}

#[test]
fn a_build_that_loses_its_lease_while_it_is_stopped_is_ended() {
    let sandbox = Sandbox::new();
    let mut shell = shell(&sandbox);
    shell.type_in("buildlock run p -- sh -c 'echo ready; exec sleep 1000'; echo code=$?\n");
    shell.await_line("ready");
    shell.type_in("\x1a");
    shell.await_line("Stopped");
    sandbox.ok(&["force-unlock", "p", "--token", "1", "--reason", "went home"]);
    shell.await_line("the build was stopped");
    await_that("the build is gone", || {
        let is_sleep =
            |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"));
        !sandbox.processes().iter().any(is_sleep)
    });
}

#[test]
fn the_child_has_the_terminal() {
    let sandbox = Sandbox::new();
    let mut shell = shell(&sandbox);
    let check = "buildlock run p -- sh -c 'test -t 0 && test -t 1 && test -t 2 && stty size >/dev/null && echo is a terminal'\n";
    shell.type_in(check);
    shell.await_line("is a terminal");
}

/// What stops itself, as editors and shells do, stops the job; the shell has the terminal meanwhile.
#[test]
fn a_child_that_stops_itself_stops_the_job_and_fg_continues_it() {
    let sandbox = Sandbox::new();
    let mut shell = shell(&sandbox);
    shell.type_in("buildlock run p -- sh -c 'kill -STOP $$; read line; echo line $line'; echo code=$?\n");
    shell.await_line("Stopped");
    shell.type_in("echo mine$((1 + 1)); fg\n");
    shell.await_line("mine2");
    shell.await_line("buildlock run");
    shell.type_in("typed\n");
    shell.await_line("line typed");
}

#[test]
fn an_interactive_shell_in_a_build_can_be_suspended() {
    let sandbox = Sandbox::new();
    let mut shell = shell(&sandbox);
    shell.type_in("buildlock run p -- bash --norc --noprofile -i\n");
    for _ in 0..20 {
        shell.type_in("echo inner $BUILDLOCK_TOKEN\n");
        shell.await_line("inner 1");
        shell.type_in("suspend\n");
        shell.await_line("Stopped");
        shell.type_in("echo outer $((1 + 1)); fg\n");
        shell.await_line("outer 2");
        shell.await_line("buildlock run");
    }
    shell.type_in("exit 5\n");
    shell.type_in("echo code=$?\n");
    shell.await_line("code=5");
}

/// An editor that is killed cannot put the terminal right.
#[test]
fn a_build_that_is_killed_leaves_the_terminal_as_it_was() {
    let sandbox = Sandbox::new();
    let the_supervisor = |sandbox: &Sandbox| {
        let is_ours =
            |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "buildlock\n");
        let ours: Vec<_> = sandbox.processes().into_iter().filter(is_ours).collect();
        *ours.iter().find(|pid| ours.iter().any(|front| children(*front).contains(pid))).unwrap()
    };
    type End<'a> = (&'a str, &'a dyn Fn(&Sandbox), i32);
    let ends: [End<'_>; 3] = [
        ("force unlock", &|sandbox| drop(sandbox.ok(&["force-unlock", "p", "--token", "1", "--reason", "test"])), 79),
        ("child", &|sandbox| children(the_supervisor(sandbox)).into_iter().for_each(|child| kill(child, "KILL")), 137),
        ("supervisor", &|sandbox| kill(the_supervisor(sandbox), "KILL"), 137),
    ];
    let mut shell = shell(&sandbox);
    for (what, end, code) in ends {
        shell.type_in("buildlock run p --ttl 1s --wait 1m -- sh -c 'stty raw; printf \"ready\\r\\n\"; exec sleep 1000'; echo code=$?\n");
        shell.await_line("ready");
        end(&sandbox);
        shell.await_line(&format!("code={code}"));
        shell.type_in("stty -a | grep -q -- -icanon && echo ra'w' || echo as it wa's'\n");
        shell.await_line("as it was");
        println!("{what}: as it was");
    }
}

/// The shell's prompt is on that line by now.
#[test]
fn a_wait_that_is_stopped_or_in_the_background_draws_nothing() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["lock", "p", "--ttl", "1h"]);
    let mut shell = shell(&sandbox);
    shell.type_in("export TERM=xterm; buildlock run p --wait 1h -- true\n");
    await_that("it waits", || !sandbox.status("p")["queue"].as_array().unwrap().is_empty());
    shell.type_in("\x1a");
    shell.await_line("Stopped");
    shell.type_in("sleep 1; echo quiet$((1 + 1))\n");
    let line = shell.await_line("quiet2");
    assert!(!line.contains("locked by"), "{line:?}");
    shell.type_in("bg; sleep 1; echo quiet$((2 + 1))\n");
    let line = shell.await_line("quiet3");
    assert!(!line.contains("locked by"), "{line:?}");
    shell.type_in("kill %1; wait; echo over$((1 + 1))\n");
    shell.await_line("given up");
    shell.await_line("over2");
}
