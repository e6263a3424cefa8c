//! PostgreSQL's programs, and the user they run as: they refuse to be root.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Where distributions keep what they leave out of `$PATH`.
const ELSEWHERE: &str = "/usr/lib/postgresql";

/// The user who runs the programs when the test itself is root.
#[derive(Debug, Clone, Copy)]
struct Servant {
    name: &'static str,
    uid: u32,
    gid: u32,
}

/// None: the test is not root, and runs them itself.
static SERVANT: LazyLock<Option<Servant>> = LazyLock::new(|| {
    let is_root = rustix::process::geteuid().is_root();
    is_root.then(|| {
        let servant = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Some(Servant { name, uid: id_of(name, "-u")?, gid: id_of(name, "-g")? }));
        servant.expect("PostgreSQL must not run as root, and there is no user postgres or nobody")
    })
});

fn id_of(name: &str, which: &str) -> Option<u32> {
    let output = Command::new("id").args([which, name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Gives a file or folder to the user whom the programs run as.
pub(crate) fn give(path: &Path) {
    if let Some(Servant { uid, gid, .. }) = *SERVANT {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// The program with this name, as a user who is not root.
pub(crate) fn program(name: &str) -> Command {
    let path = find(name).unwrap_or_else(|| panic!("{name} is not installed: scripts/test installs it"));
    let mut command = match &*SERVANT {
        None => return Command::new(path),
        Some(_) => Command::new("setpriv"),
    };
    if let Some(Servant { name, gid, .. }) = &*SERVANT {
        command.arg(format!("--reuid={name}")).arg(format!("--regid={gid}")).arg("--clear-groups").arg(path);
    }
    command
}

/// The newest version beside `$PATH`, unless it is there.
fn find(name: &str) -> Option<PathBuf> {
    let in_path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&in_path).chain(["/usr/sbin".into()]);
    if let Some(found) = in_path.map(|folder| folder.join(name)).find(|path| path.is_file()) {
        return Some(found);
    }
    let versions = fs::read_dir(ELSEWHERE).ok()?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let version = |path: &PathBuf| path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok());
    let found = versions.map(|path| (version(&path), path.join("bin").join(name)));
    found.filter(|(_, path)| path.is_file()).max().map(|(_, path)| path)
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?} failed: {} {}", said(&output.stdout), said(&output.stderr));
}
