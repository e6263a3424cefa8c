//! What the tests of the command share: a store of their own, and processes that can be told apart.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing that is awaited here takes nearly as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with a store, and a mark in the environment of whatever is started in it.
pub(crate) struct Sandbox {
    folder: TempDir,
    /// Another store than the file.
    store: Option<String>,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store: None }
    }

    /// A folder, with the store somewhere else.
    pub(crate) fn on(store: &str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store: Some(store.to_owned()) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store(&self) -> String {
        self.store.clone().unwrap_or_else(|| format!("sqlite:{}/locks.db", self.path().display()))
    }

    /// `buildlock` with these arguments.
    pub(crate) fn buildlock(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_buildlock"));
        command.args(arguments);
        command
    }

    /// A program with nothing of the tester's own environment.
    pub(crate) fn program(&self, program: &str) -> Command {
        let folder = Path::new(env!("CARGO_BIN_EXE_buildlock")).parent().unwrap();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", folder.display()))
            .env("HOME", self.path())
            .env("TZ", "UTC")
            .env("BUILDLOCK_STORE", self.store())
            .env("BUILDLOCK_HOLDER", "ana@laptop")
            .env("TEST_MARK", self.mark())
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// What `buildlock` says and how it ends.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.buildlock(arguments).output().unwrap()
    }

    /// The same, which must succeed: its standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A project's status, as JSON.
    pub(crate) fn status(&self, project: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["status", "--json", "--", project])).unwrap()
    }

    /// The kinds of a project's events, oldest first.
    pub(crate) fn events(&self, project: &str) -> Vec<String> {
        let events: Vec<serde_json::Value> =
            serde_json::from_str(&self.ok(&["history", "--json", "--", project])).unwrap();
        events.iter().rev().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }

    fn mark(&self) -> String {
        self.path().display().to_string()
    }

    /// The living processes that were started in this sandbox, whoever their parent is by now.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mark = format!("TEST_MARK={}", self.mark());
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .collect()
    }

    /// Waits until nothing that was started here is alive.
    pub(crate) fn await_no_process(&self) {
        await_that("all processes are gone", || self.processes().is_empty());
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for pid in self.processes() {
            kill(pid, "KILL");
        }
    }
}

/// Looks again and again, because /proc and the store of another process tell nobody of a change.
pub(crate) fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < give_up, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal; a negative id is a process group.
pub(crate) fn kill(pid: i32, signal: &str) {
    let status = Command::new("kill").args(["-s", signal, "--", &pid.to_string()]).stderr(Stdio::null()).status();
    status.unwrap();
}

/// The children of a process.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map(|(_, after)| after).unwrap_or_default();
        after_name.split(' ').nth(1) == Some(&parent.to_string())
    })
    .collect()
}

/// A program under way, whose output can be awaited.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        // A job of its own, as a shell would start it. In the tests' own group, which has no shell to watch
        // it where they run in the background, the kernel would end all with SIGHUP when one is stopped.
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).split(b'\n') {
                    let line = String::from_utf8_lossy(&line.unwrap_or_default()).trim_end().to_owned();
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Self { stdin: child.stdin.take(), child, lines, seen: Vec::new() }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for a line of output that has this in it.
    pub(crate) fn await_line(&mut self, part: &str) -> String {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {part:?} in {:#?}", self.seen)
                }
            }
        }
    }

    /// All lines until the output ends.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        self.seen.extend(self.lines.iter());
        self.seen.clone()
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Waits for the end; the exit code, or none if a signal killed it.
    pub(crate) fn end(&mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.child.wait().unwrap().code()
    }
}
