//! Every command that the documentation shows is run, and says what the documentation says.
//!
//! A block that begins with ```` ```console ```` is a session: a line with `$ ` is run by a shell, what
//! follows is what it prints, and `[exit code N]` how it ends if not well; times, sizes and paths may differ. A
//! block of ```` ```sh ```` must succeed.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use buildlock_testing::{ClusterOptions, TestCluster};
use snapbox::{Data, assert_data_eq};
use support::{Running, Sandbox, await_that, kill};

/// What buildlock's own tests cannot run within themselves.
const NOT_HERE: &str = "scripts/test";

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)).unwrap()
}

/// The blocks of one kind.
fn blocks<'a>(document: &'a str, kind: &'a str) -> impl Iterator<Item = &'a str> {
    let mut parts = document.split("```").skip(1).step_by(2);
    std::iter::from_fn(move || parts.find_map(|part| part.strip_prefix(kind)?.strip_prefix('\n')))
}

/// The shell that runs a session, so that variables and background jobs live on between commands.
fn shell(sandbox: &Sandbox, script: &str) -> Command {
    // A build that "npm" would do, without npm.
    fs::write(sandbox.path().join("npm"), "#!/bin/sh\n").unwrap();
    let mut shell = sandbox.program("bash");
    shell.args(["-c", script]).stdin(Stdio::null());
    shell
}

/// Runs a session as a reader would, and writes it down as the documentation does.
fn session(block: &str) -> String {
    let sandbox = Sandbox::new();
    let mut script = String::from("exec 2>&1\n");
    for command in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let quoted = command.replace('\'', r"'\''");
        script += &format!("echo '$ {quoted}'\n{command}\n");
        match command.strip_suffix('&') {
            // What the background job prints comes before the next command.
            Some(_) => script += "until [ -n \"$(buildlock -q status | grep processing)\" ]; do :; done; sleep 0.2\n",
            None => script += "code=$?; [ $code = 0 ] || echo \"[exit code $code]\"\n",
        }
    }
    let output = shell(&sandbox, &script).output().unwrap();
    await_that("the session's builds end", || sandbox.processes().is_empty());
    String::from_utf8(output.stdout).unwrap()
}

/// A text without what differs from run to run: times, durations, sizes, versions, paths and the
/// width of columns.
fn timeless(text: &str) -> String {
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let timeless = words.iter().enumerate().map(|(index, word)| {
            let next = words.get(index + 1).copied().unwrap_or_default();
            let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
            let like = |pattern: &str| {
                let same = |(c, p): (char, char)| if p == '0' { c.is_ascii_digit() } else { c == p };
                word.len() == pattern.len() && word.chars().zip(pattern.chars()).all(same)
            };
            match *word {
                _ if like("0000-00-00") => "DATE",
                _ if like("00:00:00") => "TIME",
                _ if is_number && ["s", "s;", "min", "KiB", "KiB,", "MiB"].contains(&next) => "N",
                _ if word.starts_with("3.") => "VERSION",
                _ if word.starts_with("sqlite:") && word.ends_with(".db") => "STORE",
                word => word,
            }
        });
        timeless.collect::<Vec<_>>().join(" ") + "\n"
    };
    text.lines().map(line).collect()
}

fn check_sessions(name: &str) {
    let document = document(name);
    let mut sessions = 0;
    for block in blocks(&document, "console") {
        assert_data_eq!(timeless(&session(block)), Data::text(timeless(block)).raw());
        sessions += 1;
    }
    assert!(sessions > 0, "{name} shows sessions");
}

#[test]
fn the_readme_says_what_is_so() {
    check_sessions("README.md");
}

#[test]
fn the_operators_manual_says_what_is_so() {
    check_sessions("docs/operations.md");
}

#[test]
fn the_commands_that_set_everything_up_work() {
    let readme = document("README.md");
    let commands: Vec<_> = blocks(&readme, "sh").map(str::trim).filter(|command| *command != NOT_HERE).collect();
    let [serve, call, run] = commands[..] else { panic!("{commands:?}") };

    // As in the repository's folder, where the builder is that comes along.
    let sandbox = Sandbox::new();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let serve = serve.replace("cargo run --release -- ", "exec buildlock ") + " --listen 127.0.0.1:0";
    let mut server = shell(&sandbox, &serve);
    let mut server = Running::start(server.env("SITE_BUILDER_PACE", "0").current_dir(&repository));
    let address = server.await_line("buildlock serves http://").split("http://").nth(1).unwrap().to_owned();
    server.await_line("/sign-in?code=");
    let output = shell(&sandbox, &call.replace("127.0.0.1:7878", &address)).output().unwrap();
    assert!(output.status.success(), "{call}: {output:?}");
    let build: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((build["status"].as_str(), build["holder"].as_str()), (Some("succeeded"), Some("my-platform")));
    kill(server.pid(), "TERM");
    assert_eq!(server.end(), Some(0));

    let output = shell(&sandbox, &run.replace("sleep 20", "sleep 0")).output().unwrap();
    assert!(output.status.success(), "{run}: {output:?}");
    assert_eq!(output.stdout, b"building with token 2\n");
}

/// The examples that a help text gives.
fn examples(sandbox: &Sandbox, help: &[&str]) -> Vec<String> {
    let help = sandbox.ok(help);
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let examples = lines.take_while(|line| !line.is_empty());
    examples.map(|line| line.trim().split("  ").next().unwrap().replace("npm run build", "true")).collect()
}

#[test]
fn every_example_in_the_help_works() {
    let examples = examples(&Sandbox::new(), &["--help"]);
    assert_eq!(examples.len(), 4, "{examples:?}");
    let sandbox = Sandbox::new();
    sandbox.ok(&["lock", "other"]);
    for example in examples {
        let output = shell(&sandbox, &example).output().unwrap();
        // There is no lease 57 to end, and it says so.
        let expected = if example.contains("force-unlock") { 1 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{example}: {output:?}");
    }
}

#[tokio::test]
async fn every_example_in_the_help_of_a_command_works() {
    let mut count = 0;
    // The doctor finds nothing wrong with one that keeps what it has acknowledged.
    let cluster = TestCluster::start(&ClusterOptions { is_durable: true, ..ClusterOptions::default() });
    let database = cluster.fresh().await;
    for (command, before) in [
        ("run", ""),
        ("lock", ""),
        ("renew", "buildlock lock my-site"),
        ("unlock", "buildlock lock my-site"),
        ("status", "buildlock lock my-site"),
        ("force-unlock", "buildlock lock my-site"),
        ("history", "buildlock lock my-site"),
        ("projects", "buildlock projects add my-site"),
        ("keys", "buildlock keys add ben"),
        ("migrate", ""),
        ("doctor", ""),
        ("completions", ""),
        ("man", ""),
    ] {
        for example in examples(&Sandbox::new(), &[command, "--help"]) {
            let sandbox = Sandbox::new();
            let example = example.replace("57", "1").replace(" --watch", "");
            let example = example.replace("postgres://buildlock@db.example.com/buildlock", &database.url());
            assert!(example.contains("buildlock ") && example.contains(&format!(" {command}")), "{example}");
            let output = shell(&sandbox, &format!("{before}\n{example}")).output().unwrap();
            assert!(output.status.success(), "{example}: {output:?}");
            count += 1;
        }
    }
    assert!(count > 25, "there are {count} examples");
}
