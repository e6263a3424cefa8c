//! Places where a store cannot be, or cannot be written for a while. The file systems are real ones, in
//! a mount namespace of the test's own; who may not write is a user who may not.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use buildlock::{
    Command, EventId, EventKind, Finding, IfLocked, LockStore, Outcome, RequestId, SqliteStore, StoreError, Verdict,
};
use support::ask::{Ask, ended, lease, project, request};
use support::files::{assert_untouched, contents, make_store};
use support::process::{Player, assert_passed, file, playing_mounted, playing_nobody, report, set_mode};
use support::replay::Replay;
use tempfile::tempdir;

const FULL: &str = "the disk is full; nothing was changed: free some space and try again";

#[track_caller]
fn assert_full(error: &StoreError) {
    assert!(matches!(error, StoreError::Unavailable { problem, .. } if problem == FULL), "{error:?}");
}

/// Rule 12: with a small disk that the `-wal` fills, and with one that the file itself fills.
#[test]
fn a_full_disk_loses_nothing_and_is_over_when_there_is_space() {
    for size in ["1m", "18m"] {
        let folder = tempdir().unwrap();
        let mount = format!("mount -t tmpfs -o size={size} none \"$FOLDER\"");
        let mut part = playing_mounted(&mount, "part::fills_the_disk", &folder.path().join("locks.db"));
        assert_passed(&part.output().unwrap());
    }
}

/// Rule 12.
#[test]
fn a_disk_with_too_little_space_for_a_store_is_told() {
    let folder = tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=512k none \"$FOLDER\"";
    let mut part = playing_mounted(mount, "part::needs_space", &folder.path().join("locks.db"));
    assert_passed(&part.output().unwrap());
}

/// What the process says that tries to open the store: the error, or "opened".
fn answer(process: std::process::Command) -> String {
    let mut lines = Player::start(process).finish();
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

/// They are told, and leave nothing behind that would keep out who may write.
#[tokio::test]
async fn who_may_not_write_is_told() {
    let in_folder = "this user may not write it in FOLDER; check the permissions or choose another place";
    let in_file = "this user may not write the file or its folder; check the permissions";
    let stage = tempdir().unwrap();
    for (file_mode, folder_mode, problem) in [
        (None, 0o555, in_folder),
        (Some(0o666), 0o555, in_file),
        (Some(0o444), 0o777, in_file),
        (Some(0o444), 0o555, in_file),
        (Some(0o000), 0o777, in_folder),
        (Some(0o666), 0o000, in_folder),
    ] {
        let folder = tempdir().unwrap();
        let path = folder.path().join("locks.db");
        if file_mode.is_some() {
            make_store(&path).await;
        }
        let before = contents(folder.path());
        file_mode.into_iter().for_each(|mode| set_mode(&path, mode));
        set_mode(folder.path(), folder_mode);
        let said = answer(playing_nobody("part::opens", &path, stage.path()));
        set_mode(folder.path(), 0o755);
        file_mode.into_iter().for_each(|_| set_mode(&path, 0o644));
        let problem = problem.replace("FOLDER", folder.path().to_str().unwrap());
        let expected = format!("the store {} cannot be opened: {problem}", path.display());
        assert_eq!(said, expected, "file {file_mode:?}, folder {folder_mode:o}");
        assert_untouched(folder.path(), &before);
    }
}

#[tokio::test]
async fn a_file_system_that_is_mounted_read_only_is_told() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("locks.db");
    make_store(&path).await;
    let before = contents(folder.path());
    let mount = "mount --bind \"$FOLDER\" \"$FOLDER\" && mount -o remount,bind,ro \"$FOLDER\"";
    let said = answer(playing_mounted(mount, "part::opens", &path));
    assert!(said.starts_with(&format!("the store {} cannot be opened: this user may not write", path.display())));
    assert_untouched(folder.path(), &before);
}

/// SQLite's locks do not hold there (rule 1). The mount is a local one that the process believes to be
/// of the network: what it reads in /proc/self/mountinfo says so.
#[test]
fn a_network_drive_is_told() {
    for kind in ["nfs4", "cifs", "9p", "fuse.sshfs"] {
        for name in ["new.db", "there.db"] {
            let folder = tempdir().unwrap();
            let path = folder.path().join(name);
            let mount = format!(
                "mount -t tmpfs none \"$FOLDER\"
                echo 'whatever it is' > \"$FOLDER/there.db\"
                sed \"s| - tmpfs none | - {kind} far:/away |\" /proc/$$/mountinfo > \"$FOLDER/mountinfo\"
                mount --bind \"$FOLDER/mountinfo\" /proc/$$/mountinfo
                cd \"$FOLDER\""
            );
            for path in [path.as_path(), Path::new(name)] {
                let mut process = playing_mounted(&mount, "part::opens_and_leaves_no_trace", path);
                process.env("FOLDER", folder.path());
                let text = format!("is on a network drive ({kind}), where file locks do not hold; put it on a local");
                let said = answer(process);
                assert!(said.starts_with(&format!("the store {} {text}", path.display())), "{said}");
            }
        }
    }
}

/// What other processes do.
mod part {
    use super::*;

    #[tokio::test]
    #[ignore = "a part of other tests"]
    async fn opens() {
        report(&SqliteStore::open(file()).await.map_or_else(|error| error.to_string(), |_| "opened".to_owned()));
    }

    #[tokio::test]
    #[ignore = "a part of a_network_drive_is_told"]
    async fn opens_and_leaves_no_trace() {
        let folder = std::env::current_dir().unwrap();
        let before = contents(&folder);
        report(&SqliteStore::open(file()).await.unwrap_err().to_string());
        assert_untouched(&folder, &before);
    }

    /// What was told to callers, in order.
    type Told = Vec<(EventKind, RequestId)>;

    async fn told(store: &SqliteStore) -> Told {
        let events = store.all_events(EventId(0)).await;
        Replay::default().feed(&events);
        events.iter().map(|recorded| (recorded.event.kind, recorded.event.request.unwrap())).collect()
    }

    /// Locks and unlocks a project until the disk is full.
    async fn fill(store: &SqliteStore, told: &mut Told) {
        let site = project("site");
        let mut held = None;
        loop {
            let command = match held.take() {
                None => Command::Lock { request: request("ana"), if_locked: IfLocked::Refuse },
                Some((token, holder)) => Command::Unlock { token, holder },
            };
            match store.apply(&site, command).await.map(|answer| answer.outcome) {
                Ok(Outcome::Held(lease)) => {
                    told.push((EventKind::Granted, lease.request));
                    held = Some((lease.token, lease.holder));
                }
                Ok(Outcome::Ended(past)) => told.push((EventKind::Unlocked, past.request)),
                Ok(outcome) => panic!("{outcome:?}"),
                Err(error) => return assert_full(&error),
            }
        }
    }

    #[tokio::test]
    #[ignore = "a part of a_full_disk_loses_nothing_and_is_over_when_there_is_space"]
    async fn fills_the_disk() {
        let path = file();
        let ballast = path.with_file_name("ballast");
        fs::write(&ballast, vec![0; 200_000]).unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        let held = store.held("other", "dora").await;
        let waiter = store.queued("other", "emil").await;
        let mut acknowledged = vec![(EventKind::Granted, held.request), (EventKind::Queued, waiter.id)];
        fill(&store, &mut acknowledged).await;
        // Nothing is half done, and it can be read.
        for _ in 0..3 {
            let unlock = Command::Unlock { token: held.token, holder: held.holder.clone() };
            assert_full(&store.apply(&project("other"), unlock).await.unwrap_err());
            let lock = Command::Lock { request: request("cleo"), if_locked: IfLocked::Queue };
            assert_full(&store.apply(&project("new"), lock).await.unwrap_err());
            assert_eq!(store.status(&project("new")).await.unwrap(), None);
            assert_eq!(store.see("other").await.lease.as_ref(), Some(&held));
            assert_eq!(store.waiters("other").await, ["emil"]);
            assert_eq!(told(&store).await, acknowledged);
        }
        let is_nearly_full = |found: &Finding| found.what == "disk" && found.verdict == Verdict::Warning;
        assert!(store.checkup().await.unwrap().iter().any(is_nearly_full));
        println!("{} answers were acknowledged when the disk was full", acknowledged.len());
        // With some space the same handle goes on.
        fs::remove_file(&ballast).unwrap();
        ended(store.unlock("other", &held).await);
        acknowledged.extend([(EventKind::Unlocked, held.request), (EventKind::Granted, waiter.id)]);
        let held = lease(store.queue("other", &waiter).await);
        if let Some(held) = store.see("site").await.lease {
            acknowledged.push((EventKind::Unlocked, held.request));
            ended(store.unlock("site", &held).await);
        }
        fill(&store, &mut acknowledged).await;
        // Whoever comes now, to a full disk, finds all of it.
        drop(store);
        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(store.see("other").await.lease.as_ref(), Some(&held));
        assert_eq!(told(&store).await, acknowledged);
    }

    #[tokio::test]
    #[ignore = "a part of a_disk_with_too_little_space_for_a_store_is_told"]
    async fn needs_space() {
        let path = file();
        let mut ballast = File::create(path.with_file_name("ballast")).unwrap();
        while ballast.write_all(&[0; 4096]).is_ok() {}
        let mut refused = 0;
        while let Err(error) = SqliteStore::open(&path).await {
            assert_full(&error);
            refused += 1;
            let length = ballast.metadata().unwrap().len();
            ballast.set_len(length - 4096).unwrap();
        }
        assert!(refused > 10, "a store needs more than that");
        ballast.set_len(0).unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(store.held("site", "ana").await.token.get(), 1);
    }
}
