//! Rule 12 with real kills: what was acknowledged is there when the file is opened again, whenever the
//! processes that use it die and whatever they leave behind.

mod support;

use std::env;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use buildlock::{
    BuildEnd, BuildId, BuildStatus, BuildStore, EventId, LockStore, LogStream, NewBuild, Recorded, SqliteStore, Verdict,
};
use serde::{Deserialize, Serialize};
use support::ask::{Ask, ended, project};
use support::files::beside;
use support::load::{Record, Told, Worker};
use support::process::{Player, file, playing, report};
use support::random::Random;
use support::replay::Replay;
use tempfile::tempdir;
use tokio::task::JoinSet;

const ROUNDS: u64 = 100;
const PROCESSES: u64 = 3;
const TASKS: u64 = 4;

/// The longest time from the first answer to the first kill.
const LONGEST: Duration = Duration::from_millis(60);

/// Where a process is told which load to make.
const SEED: &str = "BUILDLOCK_TEST_SEED";
const ROUND: &str = "BUILDLOCK_TEST_ROUND";

/// Random numbers that the next run can use again, as far as that makes it the same.
fn random() -> Random {
    let seed = env::var(SEED).map_or_else(|_| u64::from(std::process::id()), |seed| seed.parse().unwrap());
    println!("to use the same random numbers again: {SEED}={seed}");
    Random::new(seed)
}

/// Opens the file as whoever comes next does, and reads on in its history.
async fn open_again(path: &Path, record: &mut Record) -> SqliteStore {
    let store = SqliteStore::open(path).await.unwrap();
    let findings = store.checkup().await.unwrap();
    assert!(findings.iter().all(|found| found.verdict != Verdict::Bad), "{findings:?}");
    record.feed(&store.all_events(record.replay.newest).await);
    store
}

/// Rules 1, 2, 4, 6, 11 and 12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_killed_at_100_random_moments_lose_nothing_that_was_acknowledged() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("locks.db");
    let mut random = random();
    let mut record = Record::default();
    let (mut acknowledged, mut left_held) = (0, 0);
    for round in 0..ROUNDS {
        let mut processes: Vec<_> = (0..PROCESSES)
            .map(|_| {
                let mut command = playing("part::works", &path);
                command.env(SEED, random.below(1 << 40).to_string()).env(ROUND, round.to_string());
                Player::start(command)
            })
            .collect();
        let mut lines = vec![processes[0].line()];
        thread::sleep(Duration::from_micros(random.below(LONGEST.as_micros() as u64)));
        // All at once, or one by one while the others go on.
        let one_by_one = random.below(2) * 10_000;
        for process in &mut processes {
            process.kill();
            thread::sleep(Duration::from_micros(random.below(one_by_one + 1)));
        }
        processes.iter_mut().for_each(|process| lines.extend(process.rest()));
        let store = open_again(&path, &mut record).await;
        for line in &lines {
            record.assert_holds(&store, &Told::from_line(line)).await;
        }
        acknowledged += lines.len();
        left_held += store.projects(None, 100_000).await.unwrap().iter().filter(|site| site.lease.is_some()).count();
        // And it goes on: what is due is done, what is asked is answered.
        store.settle_due().await.unwrap();
        let held = store.held(&format!("after round {round}"), "root").await;
        ended(store.unlock(&format!("after round {round}"), &held).await);
    }
    let events = record.replay.events;
    println!("{ROUNDS} times {PROCESSES} processes were killed: {acknowledged} answers acknowledged, {events} events,");
    println!(
        "{} grants; {} leases were held after a kill, on average",
        record.replay.granted.len(),
        left_held as u64 / ROUNDS
    );
    assert!(acknowledged as u64 > ROUNDS * 4 && left_held as u64 > ROUNDS, "too little load to mean anything");
    let store = open_again(&path, &mut record).await;
    for project in record.replay.projects() {
        let chain = store.history(Some(&project), None, 100_000).await.unwrap();
        assert_eq!(chain.iter().map(|recorded| recorded.id).collect::<Vec<_>>(), record.replay.events_of(&project));
    }
}

/// Rule 12, for builds: the lines of a log and how it ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds_of_processes_killed_at_random_moments_lose_nothing_that_was_acknowledged() {
    const ROUNDS: u64 = 30;
    let folder = tempdir().unwrap();
    let path = folder.path().join("locks.db");
    let mut random = random();
    let (mut acknowledged, mut left_running) = (0, 0);
    for _ in 0..ROUNDS {
        let mut processes: Vec<_> = (0..2).map(|_| Player::start(playing("part::builds", &path))).collect();
        let mut lines = vec![processes[0].line()];
        thread::sleep(Duration::from_micros(random.below(LONGEST.as_micros() as u64)));
        processes.iter_mut().for_each(Player::kill);
        processes.iter_mut().for_each(|process| lines.extend(process.rest()));
        let store = SqliteStore::open(&path).await.unwrap();
        for line in &lines {
            match serde_json::from_str(line).unwrap() {
                Built::Said(build, number, text) => {
                    let kept = store.log(build, number - 1, 1).await.unwrap().pop().expect("a line was lost");
                    assert_eq!((kept.number, kept.text), (number, text));
                }
                Built::Ended(build, lines) => {
                    let kept = store.build(build).await.unwrap().expect("a build was lost");
                    assert_eq!((kept.status, kept.log_lines), (BuildStatus::Succeeded, lines), "an end was lost");
                }
            }
        }
        acknowledged += lines.len();
        for build in store.running_builds().await.unwrap() {
            let log = store.log(build.id, 0, 100_000).await.unwrap();
            assert!(log.iter().map(|line| line.number).eq(1..=build.log_lines), "a log has gaps");
            let end = BuildEnd { status: BuildStatus::Lost, exit_code: None, reason: None };
            assert_eq!(store.end_build(build.id, end).await.unwrap().unwrap().status, BuildStatus::Lost);
            left_running += 1;
        }
    }
    println!("{ROUNDS} times: {acknowledged} answers acknowledged, {left_running} builds were running at a kill");
    assert!(acknowledged as u64 > ROUNDS * 4 && left_running > ROUNDS, "too little load to mean anything");
}

/// What a build was told and that it must find again.
#[derive(Serialize, Deserialize)]
enum Built {
    Said(BuildId, u64, String),
    Ended(BuildId, u64),
}

/// Rule 12: the `-wal` of a killed process is cut off, or overwritten with nonsense, at any of its bytes. Every
/// commit before that is there.
#[tokio::test]
async fn a_torn_tail_of_the_wal_costs_no_commit_before_it() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("locks.db");
    let mut process = Player::start(playing("part::locks_and_unlocks", &path));
    (0..40).for_each(|_| drop(process.line()));
    process.kill();
    let acknowledged = 40 + process.rest().len();
    let (file, wal) = (fs::read(&path).unwrap(), fs::read(beside(&path, "-wal")).unwrap());
    let commits = commits(&wal);
    let history = history_with(&file, &wal).await;
    assert!(history.len() >= acknowledged && history.len() < commits.len());
    let mut random = random();
    for lost in [1, 2, 3, 10, 30] {
        // Each of the last commits wrote one event.
        let commit = commits[commits.len() - lost].clone();
        let expected = &history[..history.len() - lost];
        let within = |random: &mut Random| commit.start + random.below(commit.len() as u64) as usize;
        for cut in [commit.start, commit.start + 1, within(&mut random), within(&mut random), commit.end - 1] {
            assert_eq!(history_with(&file, &wal[..cut]).await, expected, "cut at {cut} in {commit:?}");
        }
        for _ in 0..4 {
            let at = within(&mut random);
            let mut garbled = wal.clone();
            garbled[at] ^= 1 << random.below(8);
            assert_eq!(history_with(&file, &garbled).await, expected, "a bit at {at} in {commit:?}");
            garbled[at..].fill_with(|| random.below(256) as u8);
            assert_eq!(history_with(&file, &garbled).await, expected, "garbled from {at} in {commit:?}");
        }
    }
    // What comes after the last commit was not acknowledged.
    let end = commits.last().unwrap().end;
    assert_eq!(history_with(&file, &wal[..end]).await, history);
    let longer: Vec<_> = wal[..end].iter().copied().chain((0..5_000).map(|_| random.below(256) as u8)).collect();
    assert_eq!(history_with(&file, &longer).await, history);
}

/// The history of a store whose processes have left these files; the store must be whole, and go on.
async fn history_with(file: &[u8], wal: &[u8]) -> Vec<Recorded> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("locks.db");
    fs::write(&path, file).unwrap();
    fs::write(beside(&path, "-wal"), wal).unwrap();
    let mut record = Record::default();
    let store = open_again(&path, &mut record).await;
    let history = store.all_events(EventId(0)).await;
    store.held("after", "root").await;
    drop(store);
    let longer = SqliteStore::open(&path).await.unwrap().all_events(EventId(0)).await;
    Replay::default().feed(&longer);
    assert_eq!(longer[..longer.len() - 1], history);
    history
}

/// Where each commit of a `-wal` is in it (sqlite.org/fileformat.html, section 4).
fn commits(wal: &[u8]) -> Vec<Range<usize>> {
    let number = |at: usize| u32::from_be_bytes(wal[at..at + 4].try_into().unwrap());
    let frame = 24 + number(8) as usize;
    let mut commits = Vec::new();
    let mut start = 32;
    let mut at = start;
    while at + frame <= wal.len() && wal[at + 8..at + 16] == wal[16..24] {
        let is_last = number(at + 4) != 0;
        at += frame;
        if is_last {
            commits.push(start..at);
            start = at;
        }
    }
    commits
}

/// What other processes do.
mod part {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "a part of processes_killed_at_100_random_moments_lose_nothing_that_was_acknowledged"]
    async fn works() {
        let path = file();
        let seed: u64 = env::var(SEED).unwrap().parse().unwrap();
        let round = env::var(ROUND).unwrap();
        let store = Arc::new(SqliteStore::open(path).await.unwrap());
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            // What is locked in one round is held by the dead in the next. One task sees to that.
            let round = if task == 0 { "any".to_owned() } else { round.clone() };
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let mut worker = Worker {
                    store: &*store,
                    name: format!("process {}, task {task}", std::process::id()),
                    sites: (0..4).map(|number| format!("site {number} of round {round}")).collect(),
                    random: Random::new(seed + task),
                    tell: |told| report(&told.line()),
                };
                loop {
                    worker.round().await;
                }
            });
        }
        tasks.join_all().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "a part of builds_of_processes_killed_at_random_moments_lose_nothing_that_was_acknowledged"]
    async fn builds() {
        let store = SqliteStore::open(file()).await.unwrap();
        let tell = |built: &Built| report(&serde_json::to_string(built).unwrap());
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let store = store.clone();
            tasks.spawn(async move {
                let site = format!("process {}, task {task}", std::process::id());
                loop {
                    let held = store.held(&site, "ana").await;
                    let new = NewBuild {
                        id: BuildId::fresh(),
                        project: project(&site),
                        operation: held.operation.clone(),
                        holder: held.holder.clone(),
                        token: held.token,
                        request: held.request,
                    };
                    let build = store.start_build(new).await.unwrap().id;
                    for count in [1, 20, 3] {
                        let lines = (0..count).map(|line| (LogStream::Stdout, format!("{build}: {line}"))).collect();
                        for line in store.append_log(build, lines).await.unwrap() {
                            tell(&Built::Said(build, line.number, line.text));
                        }
                    }
                    let end = BuildEnd { status: BuildStatus::Succeeded, exit_code: Some(0), reason: None };
                    let done = store.end_build(build, end).await.unwrap().unwrap();
                    tell(&Built::Ended(build, done.log_lines));
                    ended(store.unlock(&site, &held).await);
                }
            });
        }
        tasks.join_all().await;
    }

    #[tokio::test]
    #[ignore = "a part of a_torn_tail_of_the_wal_costs_no_commit_before_it"]
    async fn locks_and_unlocks() {
        let store = SqliteStore::open(file()).await.unwrap();
        loop {
            let held = store.held("site", "ana").await;
            report("locked");
            ended(store.unlock("site", &held).await);
            report("unlocked");
        }
    }
}
