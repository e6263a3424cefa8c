//! A second handle in one process leaves the first its locks on the file. POSIX takes all of a process's locks
//! on a file from it when it closes any descriptor of that file (sqlite.org/howtocorrupt.html, section 2.2).

mod support;

use std::process::Command;

use buildlock::{LockStore, Outcome, SqliteStore};
use support::ask::{Ask, project, request};
use support::process::{Player, file, playing, report};
use tempfile::tempdir;

/// Rules 1 and 12.
#[tokio::test]
async fn a_second_handle_leaves_the_first_its_locks() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("locks.db");
    let first = SqliteStore::open(&path).await.unwrap();
    first.held("before", "ana").await;
    let second = SqliteStore::open(&path).await.unwrap();
    // An operator looks, as docs/operations.md says. The last to close a file folds its -wal into it.
    let shell = Command::new("sqlite3").arg(&path).arg("select count(*) from projects").output().unwrap();
    assert!(shell.status.success());
    let held = first.held("site", "ana").await;
    let other = Player::start(playing("part::locks", &path)).finish();
    assert_eq!(other, ["refused"], "two hold it: ana has token {}", held.token);
    assert_eq!(second.see("site").await.lease, Some(held));
}

mod part {
    use super::*;

    #[tokio::test]
    #[ignore = "a part of a_second_handle_leaves_the_first_its_locks"]
    async fn locks() {
        let store = SqliteStore::open(file()).await.unwrap();
        match store.lock("site", &request("ben")).await {
            Outcome::Held(lease) => report(&format!("granted, token {}", lease.token)),
            _ => report("refused"),
        }
        drop(store.status(&project("site")).await);
    }
}
