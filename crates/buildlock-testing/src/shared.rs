//! The cluster that all tests of one target folder share.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::{ClusterOptions, TestCluster};

/// How long the cluster goes on when its last user has gone: the next test program may be about to start.
const LINGER: Duration = Duration::from_secs(15);

static SHARED: OnceLock<TestCluster> = OnceLock::new();

/// The shared cluster, which is started if need be.
pub(crate) fn cluster() -> &'static TestCluster {
    SHARED.get_or_init(|| {
        let place = target_folder().join("tmp");
        fs::create_dir_all(&place).unwrap();
        // One process starts it, the others wait.
        let turn = open(&place.join("postgres.lock"));
        turn.lock().unwrap();
        let known = place.join("postgres.folder");
        let folder = fs::read_to_string(&known).ok().map(PathBuf::from);
        folder.and_then(|folder| TestCluster::join(&folder)).unwrap_or_else(|| {
            let cluster = TestCluster::start_for(&ClusterOptions::default(), LINGER);
            fs::write(&known, cluster.folder().to_str().unwrap()).unwrap();
            cluster
        })
    })
}

fn open(path: &Path) -> File {
    OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap()
}

/// Where this program was built; a folder for temporary files if it was copied elsewhere.
fn target_folder() -> PathBuf {
    let program = env::current_exe().unwrap();
    let built = program.ancestors().find(|folder| folder.file_name() == Some(OsStr::new("deps")));
    let target = built.and_then(Path::parent).and_then(Path::parent);
    let user = rustix::process::geteuid().as_raw();
    target.map_or_else(|| env::temp_dir().join(format!("buildlock-tests-of-{user}")), Path::to_owned)
}
