//! What the command does with input that is wrong, huge or hostile: a clear answer, and nothing lost.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use support::Sandbox;

fn refused(sandbox: &Sandbox, arguments: &[&str], code: i32, says: &[&str]) {
    let output = sandbox.run(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for part in says {
        assert!(said.contains(part), "{arguments:?} says {said:?}, not {part:?}");
    }
}

#[test]
fn any_text_is_a_project_and_safe_everywhere() {
    let sandbox = Sandbox::new();
    let longest = "é".repeat(100);
    let ids = [
        "../x",
        "a/b",
        "'; drop table projects; --",
        "--help",
        "-E",
        "🏗️",
        "\u{202e}txt.exe",
        "$(touch pwned)",
        "%s%n",
        " ",
        "*",
        &longest,
    ];
    for id in ids {
        sandbox.ok(&["lock", "--", id]);
        assert_eq!(sandbox.status(id)["project"], id);
        assert_eq!(sandbox.run(&["lock", "--", id]).status.code(), Some(75));
    }
    assert_eq!(sandbox.ok(&["projects"]).lines().count(), ids.len() + 1);
    assert!(!sandbox.ok(&["projects"]).contains('\u{202e}'), "what reorders text is escaped");
    assert!(!sandbox.path().join("pwned").exists());
    let files: Vec<_> = fs::read_dir(sandbox.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(files.iter().all(|file| file.to_string_lossy().starts_with("locks.db")), "{files:?}");
}

#[test]
fn the_next_command_for_a_strange_project_can_be_pasted() {
    let sandbox = Sandbox::new();
    for id in ["a b", "it's", "--help", "$(touch pwned)", "'; drop table projects; --"] {
        sandbox.ok(&["lock", "--", id]);
        let refusal = String::from_utf8(sandbox.run(&["lock", "--", id]).stderr).unwrap();
        for (what, then) in [("If it is stuck", "idle"), ("Wait for your turn", "processing")] {
            let line = refusal.lines().find(|line| line.starts_with(what)).unwrap();
            let command = line.split_once(':').unwrap().1;
            assert!(sandbox.program("sh").args(["-c", command]).status().unwrap().success(), "{command}");
            assert_eq!(sandbox.status(id)["buildStatus"], then);
        }
    }
}

#[test]
fn a_project_in_the_environment_may_be_called_like_a_flag() {
    let sandbox = Sandbox::new();
    let mut run = sandbox.buildlock(&["run", "--", "sh", "-c", "echo $BUILDLOCK_PROJECT"]);
    let output = run.env("BUILDLOCK_PROJECT", "--help").output().unwrap();
    assert_eq!(output.stdout, b"--help\n");
}

#[test]
fn a_bad_value_names_the_field_and_what_is_allowed() {
    let sandbox = Sandbox::new();
    let too_long = "x".repeat(201);
    let long_message = "x".repeat(501);
    let project = ["project", "allowed: 1 to 200 bytes of UTF-8 without control characters"];
    refused(&sandbox, &["lock", ""], 2, &["is empty", project[1]]);
    refused(&sandbox, &["lock", "a\nb"], 2, &["U+000A", project[1]]);
    refused(&sandbox, &["lock", "\u{1b}[31m"], 2, &["U+001B", project[1]]);
    refused(&sandbox, &["lock", &too_long], 2, &["201 bytes", project[1]]);
    refused(&sandbox, &["lock", "p", "--ttl", "999ms"], 2, &["ttl is 0.999 s", "allowed: 1s to 24h"]);
    refused(&sandbox, &["lock", "p", "--ttl", "25h"], 2, &["--ttl", "allowed: 1s to 24h"]);
    refused(&sandbox, &["lock", "p", "--ttl", "30"], 2, &["--ttl", "allowed: such as 30s, 5m, 1h30m"]);
    refused(&sandbox, &["lock", "p", "--wait", "25h"], 2, &["--wait", "allowed: 0s to 24h"]);
    refused(&sandbox, &["lock", "p", "--wait=-1s"], 2, &["--wait", "allowed"]);
    refused(&sandbox, &["lock", "p", "--message", &long_message], 2, &["message is longer than 500 characters"]);
    refused(&sandbox, &["lock", "p", "--operation", ""], 2, &["operation is empty"]);
    refused(&sandbox, &["lock", "p", "--holder", "a\tb"], 2, &["holder has the control character U+0009"]);
    refused(
        &sandbox,
        &["unlock", "p", "--token", "0"],
        2,
        &["token is 0", "allowed: a whole number from 1 to 2^53 - 1"],
    );
    refused(&sandbox, &["unlock", "p", "--token", "9007199254740992"], 2, &["token is 9007199254740992"]);
    refused(&sandbox, &["unlock", "p", "--token", "x"], 2, &["token is \"x\""]);
    refused(&sandbox, &["force-unlock", "p", "--token", "1", "--reason", ""], 2, &["reason is empty"]);
    refused(&sandbox, &["history", "--keep-for", "1h"], 2, &["allowed: 24h or more"]);
    refused(&sandbox, &["history", "-n", "0"], 2, &["--limit"]);
    assert!(!sandbox.path().join("locks.db").exists(), "bad input is refused before anything is touched");
}

#[test]
fn what_is_missing_is_named() {
    let sandbox = Sandbox::new();
    refused(&sandbox, &["run", "p"], 2, &["COMMAND"]);
    refused(&sandbox, &["lock"], 2, &["PROJECT"]);
    refused(&sandbox, &["unlock", "p"], 2, &["--token"]);
    refused(&sandbox, &["force-unlock", "p", "--token", "1"], 2, &["--reason"]);
    refused(&sandbox, &["force-unlock", "p", "--reason", "x"], 2, &["--token"]);
    refused(&sandbox, &["lokc", "p"], 2, &["lokc", "similar"]);
}

#[test]
fn what_is_not_utf_8_is_refused_but_goes_through_to_the_child() {
    let sandbox = Sandbox::new();
    let bytes = OsStr::from_bytes(b"a\xffb");
    let output = sandbox.buildlock(&["lock"]).arg(bytes).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = sandbox.buildlock(&["run", "p", "--", "printf", "%s"]).arg(bytes).output().unwrap();
    assert_eq!(output.stdout, b"a\xffb");
}

/// Rule 4.
#[test]
fn a_request_id_stands_for_one_request() {
    let sandbox = Sandbox::new();
    let lock = ["lock", "p", "--request-id", "deploy 7", "--operation", "edit"];
    assert_eq!(sandbox.ok(&lock), "1\n");
    assert_eq!(sandbox.ok(&lock), "1\n");
    refused(
        &sandbox,
        &["lock", "p", "--request-id", "deploy 7", "--operation", "x"],
        2,
        &["used before", "use a new one"],
    );
    sandbox.ok(&["unlock", "p", "--token", "1"]);
    refused(&sandbox, &lock, 79, &["is lost: it was unlocked by ana@laptop"]);
}

#[test]
fn a_store_that_cannot_be_used_says_why_and_is_left_alone() {
    let sandbox = Sandbox::new();
    let at = |name: &str| format!("sqlite:{}", sandbox.path().join(name).display());
    fs::write(sandbox.path().join("notes.txt"), "not a store at all, but something dear to somebody\n").unwrap();
    fs::create_dir(sandbox.path().join("folder")).unwrap();
    refused(&sandbox, &["status", "--store", &at("notes.txt")], 69, &["is not a buildlock store", "left as it is"]);
    refused(&sandbox, &["status", "--store", &at("folder")], 69, &["it is a folder"]);
    refused(
        &sandbox,
        &["status", "--store", &at("no/such/folder/locks.db")],
        69,
        &["there is no folder", "make it first"],
    );
    refused(&sandbox, &["status", "--store", "redis://x"], 2, &["its kind is unknown", "use sqlite:PATH"]);
    let away = "postgres://ana:secret@%2Fno%2Fsuch%2Ffolder/locks";
    refused(
        &sandbox,
        &["status", "--store", away],
        69,
        &["postgres://ana@%2Fno%2Fsuch%2Ffolder/locks", "not available"],
    );
    refused(&sandbox, &["status", "--store", "postgres://ana@/locks?sslmode=sure"], 2, &["names no store"]);
    refused(&sandbox, &["status", "--store", "locks.db"], 2, &["it has no kind"]);
    refused(&sandbox, &["status", "--store", "sqlite:"], 2, &["it has no path"]);
    let text = fs::read_to_string(sandbox.path().join("notes.txt")).unwrap();
    assert_eq!(text, "not a store at all, but something dear to somebody\n");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    for project in ["a", "b", "c"] {
        sandbox.ok(&["lock", project]);
    }
    let output =
        sandbox.program("bash").args(["-c", "set -o pipefail; buildlock status | head -n 1"]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_default_store_is_made_in_the_users_data_folder() {
    let sandbox = Sandbox::new();
    let output = sandbox.buildlock(&["lock", "p"]).env_remove("BUILDLOCK_STORE").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(sandbox.path().join(".local/share/buildlock/locks.db").exists());
}

/// As people write it: `BUILDLOCK_JSON=1`, or `=0` to take it back.
#[test]
fn a_switch_in_the_environment_is_on_unless_it_says_no() {
    let sandbox = Sandbox::new();
    for (value, is_json) in [("1", true), ("true", true), ("yes", true), ("0", false), ("false", false), ("", false)] {
        let output = sandbox.buildlock(&["status"]).env("BUILDLOCK_JSON", value).output().unwrap();
        assert!(output.status.success(), "{value:?}: {output:?}");
        assert_eq!(output.stdout == b"[]\n", is_json, "{value:?}: {output:?}");
    }
    for switch in ["BUILDLOCK_QUIET", "BUILDLOCK_WATCH"] {
        let output = sandbox.buildlock(&["status"]).env(switch, "0").output().unwrap();
        assert!(output.status.success(), "{switch}: {output:?}");
    }
}
