//! Processes of their own: this test binary again, which runs one ignored test with a role.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::LONG_ENOUGH;

/// Where the process is told which file it is about.
const FILE: &str = "BUILDLOCK_TEST_FILE";

/// Before what a process reports, among what the test harness says.
const REPORT: &str = "report: ";

/// A process that runs the ignored test with this name on this file.
pub(crate) fn playing(test: &str, file: &Path) -> Command {
    program(env::current_exe().unwrap(), test, file)
}

fn program(program: PathBuf, test: &str, file: &Path) -> Command {
    let mut command = Command::new(program);
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env(FILE, file);
    command
}

/// As [`playing`], through another command, such as `setpriv --reuid=65534`.
pub(crate) fn playing_under(wrapper: &[&str], test: &str, file: &Path) -> Command {
    wrapped(wrapper, playing(test, file), file)
}

fn wrapped(wrapper: &[&str], inner: Command, file: &Path) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(inner.get_program()).args(inner.get_args()).env(FILE, file);
    command
}

/// As [`playing`], where only this process sees what the shell script `mount` has mounted. The script
/// finds the file in `$BUILDLOCK_TEST_FILE` and its folder in `$FOLDER`.
pub(crate) fn playing_mounted(mount: &str, test: &str, file: &Path) -> Command {
    let script = format!("set -e\n{mount}\nexec \"$@\"");
    let mut wrapper = vec!["unshare", "--mount"];
    if !is_root() {
        wrapper.push("--map-root-user");
    }
    wrapper.extend(["sh", "-c", &script, "sh"]);
    let mut command = playing_under(&wrapper, test, file);
    command.env("FOLDER", file.parent().unwrap());
    command
}

/// As [`playing`], as a user who owns no file and may read and write only what everybody may.
pub(crate) fn playing_nobody(test: &str, file: &Path, stage: &Path) -> Command {
    // Nobody may not even be let in where this binary is.
    let copy = stage.join("test");
    if !copy.exists() {
        fs::copy(env::current_exe().unwrap(), &copy).unwrap();
        set_mode(stage, 0o755);
        set_mode(&copy, 0o755);
    }
    let inner = program(copy, test, file);
    if is_root() {
        wrapped(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], inner, file)
    } else {
        inner
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The file that this process is about. From now on the process dies with the test, however that ends.
pub(crate) fn file() -> PathBuf {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    env::var_os(FILE).unwrap_or_else(|| panic!("this is a part of another test, which sets {FILE}")).into()
}

/// Tells the test that started this process; it is told when this returns, whatever happens next.
pub(crate) fn report(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{REPORT}{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Waits for the test that started this process to say something.
pub(crate) fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    assert!(line.ends_with('\n'), "the test has gone away");
    line.trim_end().to_owned()
}

/// Fails the test with what the process said, unless its own test passed.
#[track_caller]
pub(crate) fn assert_passed(output: &Output) {
    let text = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "the process failed: {text}");
    print!("{text}");
}

/// A process that runs beside the test and is killed when the test ends.
pub(crate) struct Player {
    child: Child,
    lines: Receiver<String>,
}

impl Player {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some((_, report)) = line.split_once(REPORT) {
                    // A test that has seen enough has dropped the receiver.
                    let _ = sender.send(report.to_owned());
                }
            }
        });
        Self { child, lines }
    }

    /// The next line that it reports.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(LONG_ENOUGH).expect("the process reports nothing")
    }

    /// Says something to it.
    pub(crate) fn say(&mut self, line: &str) {
        self.child.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Sends it SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Sends it SIGSTOP, or SIGCONT: it stands still, as if the machine had gone to sleep.
    pub(crate) fn pause(&self, is_paused: bool) {
        use rustix::process::{Pid, Signal, kill_process};
        let signal = if is_paused { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end: everything that it has reported by then and that was not read yet.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        let lines = self.lines.iter().collect();
        self.child.wait().unwrap();
        lines
    }

    /// As [`Player::rest`]; its end must be a good one.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Vec<String> {
        let rest = self.rest();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the process failed: {status}");
        rest
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may be gone by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
