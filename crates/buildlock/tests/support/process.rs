//! Processes of their own: this test binary again, which runs one ignored test with a role.

use std::env;
use std::path::Path;
use std::process::{Command, Output};

/// Where the process is told which file it is about.
const FILE: &str = "BUILDLOCK_TEST_FILE";

/// A process that runs the ignored test with this name on this file.
pub(crate) fn playing(test: &str, file: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env(FILE, file);
    command
}

/// As [`playing`], through another command, such as `setpriv --reuid=65534`.
pub(crate) fn playing_under(wrapper: &[&str], test: &str, file: &Path) -> Command {
    let inner = playing(test, file);
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(inner.get_program()).args(inner.get_args()).env(FILE, file);
    command
}

/// The file that this process is about.
pub(crate) fn file() -> std::path::PathBuf {
    env::var_os(FILE).unwrap_or_else(|| panic!("this is a part of another test, which sets {FILE}")).into()
}

/// Fails the test with what the process said, unless its own test passed.
#[track_caller]
pub(crate) fn assert_passed(output: &Output) {
    let text = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "the process failed: {text}");
    print!("{text}");
}
