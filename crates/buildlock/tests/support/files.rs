//! Files on disk as a test looks at them: every byte of them, and what is beside them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use buildlock::{EventId, Recorded, SqliteStore};

use super::ask::Ask;

/// Every file in a folder, and its bytes.
pub(crate) fn contents(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files.map(|path| (path.file_name().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

/// Fails unless the folder has the same files with the same bytes as it had.
#[track_caller]
pub(crate) fn assert_untouched(folder: &Path, before: &BTreeMap<OsString, Vec<u8>>) {
    let after = contents(folder);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "files came or went");
    for (name, bytes) in before {
        assert!(after[name] == *bytes, "{} was changed", name.display());
    }
}

/// The other file of a SQLite database, such as `-wal`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes a store with projects, leases and waiters in it, and tells its history.
pub(crate) async fn make_store(path: &Path) -> Vec<Recorded> {
    let store = SqliteStore::open(path).await.unwrap();
    for number in 0..40 {
        let site = format!("site {number}");
        let held = store.held(&site, "ana").await;
        store.queued(&site, "ben").await;
        if number % 2 == 0 {
            store.unlock(&site, &held).await;
        }
    }
    store.all_events(EventId(0)).await
}
