//! A file that cannot be used as a store is told, and left alone: not one byte of it changes.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::thread;

use buildlock::{EventId, LockStore, SqliteStore, StoreError, Verdict};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use support::ask::{Ask, project, request};
use support::files::{assert_untouched, beside, contents, make_store};
use support::process::{Player, file, hear, playing, report};
use tempfile::{TempDir, tempdir};
use tokio::runtime;

const PAGE: usize = 4096;

/// A folder, and a name in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("locks.db");
    (folder, path)
}

/// Opens what is no store, and fails if anything in its folder has changed by that.
async fn refused(path: &Path) -> StoreError {
    let folder = path.parent().unwrap();
    let before = contents(folder);
    let error = SqliteStore::open(path).await.expect_err("it must not be opened");
    assert_untouched(folder, &before);
    error
}

/// What another program does with its database, or an operator with a store.
fn database(path: &Path, sql: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

/// A copy of a database in use, as its program leaves it that dies now.
fn abandoned(path: &Path, copy: &Path) {
    for suffix in ["", "-wal"] {
        fs::copy(beside(path, suffix), beside(copy, suffix)).unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_told() {
    let (_folder, path) = place();
    for bytes in [
        b"?".to_vec(),
        b"[server]\nlisten = \"127.0.0.1:7878\"\n".to_vec(),
        vec![0; PAGE],
        vec![0xa5; 100_000],
        b"SQLite format 3\0".iter().copied().chain([0; 8192]).collect(),
    ] {
        fs::write(&path, &bytes).unwrap();
        let error = refused(&path).await;
        assert!(matches!(&error, StoreError::NotAStore { .. }), "{error:?}");
        let text = "is not a buildlock store: it is not a SQLite file; it was left as it is";
        assert_eq!(error.to_string(), format!("{} {text}", path.display()));
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_told() {
    for sql in [
        "create table notes (text)",
        "pragma application_id = 7",
        "pragma application_id = 7; create table projects (id text, build_status text)",
        "pragma user_version = 1; create table projects (id text, build_status text)",
        "pragma journal_mode = wal; create table notes (text); insert into notes values ('hello')",
    ] {
        let (_folder, path) = place();
        drop(database(&path, sql));
        let error = refused(&path).await;
        assert!(matches!(&error, StoreError::NotAStore { .. }), "{sql}: {error:?}");
        assert!(error.to_string().contains("it is a SQLite database of another program"), "{error}");
    }
}

#[tokio::test]
async fn a_database_that_another_program_is_writing_is_told() {
    let (_folder, path) = place();
    let other = database(&path, "pragma journal_mode = wal; create table notes (text); begin immediate");
    let error = refused(&path).await;
    assert!(matches!(&error, StoreError::NotAStore { .. }), "{error:?}");
    other.execute_batch("insert into notes values ('hello'); commit").unwrap();
}

/// Its `-wal` is a part of it.
#[tokio::test]
async fn a_database_that_another_program_has_left_unfinished_is_told() {
    let (_folder, path) = place();
    let _other = database(&path, "pragma journal_mode = wal; create table notes (text)");
    let (folder, copy) = place();
    abandoned(&path, &copy);
    let before = contents(folder.path());
    let error = SqliteStore::open(&copy).await.expect_err("it must not be opened");
    assert!(matches!(&error, StoreError::NotAStore { .. }), "{error:?}");
    // SQLite's index of the -wal holds nothing: whoever comes next makes it anew.
    let _ = fs::remove_file(beside(&copy, "-shm"));
    assert_untouched(folder.path(), &before);
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_told() {
    let (_folder, path) = place();
    make_store(&path).await;
    drop(database(&path, "pragma user_version = 7"));
    let error = refused(&path).await;
    assert!(matches!(&error, StoreError::NewerVersion { found: 7, known: 3, .. }), "{error:?}");
    let text = "has version 7, this program knows up to 3; it was left as it is: use a newer buildlock";
    assert_eq!(error.to_string(), format!("the store {} {text}", path.display()));
}

/// As when a machine is updated program by program.
#[tokio::test]
async fn a_store_that_a_newer_version_has_in_use_is_told() {
    let (folder, path) = place();
    let history = make_store(&path).await;
    let newer = database(&path, "pragma user_version = 7");
    let error = SqliteStore::open(&path).await.expect_err("it must not be opened");
    assert!(matches!(&error, StoreError::NewerVersion { found: 7, .. }), "{error:?}");
    assert!(contents(folder.path()).contains_key(beside(&path, "-wal").file_name().unwrap()));
    drop(newer);
    drop(database(&path, "pragma user_version = 3"));
    assert_eq!(SqliteStore::open(&path).await.unwrap().all_events(EventId(0)).await, history);
}

/// Whatever page it is.
#[tokio::test]
async fn a_damaged_page_is_told_and_not_written_over() {
    let (_folder, path) = place();
    let history = make_store(&path).await;
    let good = fs::read(&path).unwrap();
    let (mut at_open, mut at_checkup) = (0, 0);
    for page in 0..good.len() / PAGE {
        let mut bytes = good.clone();
        // The file's header stays as it is: it is still a SQLite file.
        bytes[(page * PAGE).max(100)..(page + 1) * PAGE].fill(0xa5);
        fs::write(&path, &bytes).unwrap();
        match SqliteStore::open(&path).await {
            Err(StoreError::Corrupt { .. }) => at_open += 1,
            Err(error) => panic!("page {page}: {error:?}"),
            Ok(store) => {
                assert!(finds_damage(&store).await, "page {page} is damaged and nobody says so");
                match store.events_after(EventId(0), 10_000).await {
                    Ok(events) => assert_eq!(events, history),
                    Err(error) => assert!(matches!(error, StoreError::Corrupt { .. }), "page {page}: {error:?}"),
                }
                at_checkup += 1;
            }
        }
        assert!(fs::read(&path).unwrap() == bytes, "page {page}: the file was changed");
    }
    println!("{at_open} damaged pages are told when the store is opened, {at_checkup} by a checkup");
    assert!(at_open > 0 && at_checkup > 0);
}

async fn finds_damage(store: &SqliteStore) -> bool {
    match store.checkup().await {
        Err(StoreError::Corrupt { .. }) => true,
        Err(error) => panic!("{error:?}"),
        Ok(findings) => findings.iter().any(|found| found.what == "integrity" && found.verdict == Verdict::Bad),
    }
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_told_and_not_written_over() {
    let (_folder, path) = place();
    make_store(&path).await;
    let good = fs::read(&path).unwrap();
    for length in [100, 1000, PAGE, good.len() / 2, good.len() - PAGE] {
        fs::write(&path, &good[..length]).unwrap();
        let error = refused(&path).await;
        assert!(matches!(&error, StoreError::Corrupt { .. }), "{length}: {error:?}");
        let text = format!("the store {} is damaged (database disk image is malformed); stop all", path.display());
        assert!(error.to_string().starts_with(&text), "{error}");
    }
}

#[tokio::test]
async fn damage_met_while_the_store_is_open_is_told_and_not_written_over() {
    let (_folder, path) = place();
    make_store(&path).await;
    let store = SqliteStore::open(&path).await.unwrap();
    assert!(!finds_damage(&store).await);
    let other = database(&path, "");
    for table in ["projects", "events"] {
        let root: u32 =
            other.query_row("select rootpage from sqlite_schema where name = ?1", [table], |row| row.get(0)).unwrap();
        let place = [format!("of={}", path.display()), format!("seek={}", root - 1)];
        // Another process does it: to open the file here would take SQLite's locks from this one.
        let dd =
            Command::new("dd").args(place).args(["if=/dev/urandom", "bs=4096", "count=1", "conv=notrunc"]).output();
        assert!(dd.unwrap().status.success());
    }
    let damaged = fs::read(&path).unwrap();
    // A change by somebody else: nobody may go by what it remembers of the file.
    other.execute_batch("pragma user_version = 2").unwrap();
    for _ in 0..2 {
        let error = store.status(&project("site 3")).await.unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { .. }), "{error:?}");
        let request = request("cleo");
        let lock = buildlock::Command::Lock { request, if_locked: buildlock::IfLocked::Refuse };
        let error = store.apply(&project("new"), lock).await.unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(finds_damage(&store).await);
    }
    drop((store, other));
    assert!(fs::read(&path).unwrap()[PAGE..] == damaged[PAGE..], "a damaged file was written");
}

/// Not every damage breaks SQLite's own rules.
#[tokio::test]
async fn a_value_that_makes_no_sense_is_told() {
    for (nonsense, is_of_all) in [
        ("update projects set owner = ''", false),
        ("update projects set owner = cast(x'ff' as text)", false),
        ("update tickets set ttl_ms = 1", false),
        ("update tickets set request = x'00'", false),
        ("update store set next_token = 0", true),
    ] {
        let (_folder, path) = place();
        make_store(&path).await;
        let store = SqliteStore::open(&path).await.unwrap();
        let rot = database(&path, "");
        rot.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).unwrap();
        assert!(rot.execute(nonsense, []).unwrap() > 0);
        match store.status(&project("site 3")).await.expect_err(nonsense) {
            StoreError::Corrupt { .. } => assert!(is_of_all, "{nonsense}"),
            StoreError::Spoilt { .. } => assert!(!is_of_all, "{nonsense}"),
            error => panic!("{nonsense}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_path_that_leads_nowhere_is_told() {
    let (folder, path) = place();
    fs::write(&path, "text").unwrap();
    let away = folder.path().join("away");
    for (wrong, problem) in [
        (folder.path().to_owned(), "it is a folder; name a file in it".to_owned()),
        (away.join("locks.db"), format!("there is no folder {}; make it first", away.display())),
        (path.join("locks.db"), format!("there is no folder {}; make it first", path.display())),
    ] {
        let error = SqliteStore::open(&wrong).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the store {} cannot be opened: {problem}", wrong.display()));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
}

/// Rule 1: they make one store, not several.
#[test]
fn threads_may_make_the_store_at_the_same_moment() {
    const THREADS: u64 = 8;
    for _ in 0..60 {
        let (_folder, path) = place();
        let start = Arc::new(Barrier::new(THREADS as usize));
        let one = |number| {
            let (path, start) = (path.clone(), Arc::clone(&start));
            thread::spawn(move || {
                let runtime = runtime::Builder::new_current_thread().build().unwrap();
                start.wait();
                runtime.block_on(token_of_a_new_store(&path, number))
            })
        };
        let all: Vec<_> = (0..THREADS).map(one).collect();
        let mut tokens: Vec<_> = all.into_iter().map(|thread| thread.join().unwrap()).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (1..=THREADS).collect::<Vec<_>>());
    }
}

async fn token_of_a_new_store(path: &Path, number: u64) -> u64 {
    let store = SqliteStore::open(path).await.unwrap();
    store.held(&format!("site {number}"), "ana").await.token.get()
}

/// Rule 1.
#[test]
fn processes_may_make_the_store_at_the_same_moment() {
    const PROCESSES: u64 = 6;
    let folder = tempdir().unwrap();
    let mut makers: Vec<_> =
        (0..PROCESSES).map(|_| Player::start(playing("part::makes_stores", folder.path()))).collect();
    makers.iter().for_each(|maker| assert_eq!(maker.line(), "ready"));
    for round in 0..20 {
        for (number, maker) in makers.iter_mut().enumerate() {
            maker.say(&format!("{round} {number}"));
        }
        let mut tokens: Vec<u64> = makers.iter().map(|maker| maker.line().parse().unwrap()).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (1..=PROCESSES).collect::<Vec<_>>());
    }
}

mod part {
    use super::*;

    #[tokio::test]
    #[ignore = "a part of processes_may_make_the_store_at_the_same_moment"]
    async fn makes_stores() {
        report("ready");
        loop {
            let line = hear();
            let (round, number) = line.split_once(' ').unwrap();
            let path = file().join(format!("{round}.db"));
            report(&token_of_a_new_store(&path, number.parse().unwrap()).await.to_string());
        }
    }
}
