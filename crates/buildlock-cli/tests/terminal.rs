//! `buildlock run` in a terminal: a real shell with job control in a pseudo-terminal, by script(1).

mod support;

use support::{Running, Sandbox, await_that};

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
