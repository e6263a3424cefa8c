//! Rule 10 in a file: a lease lasts its TTL of real time, whatever is done to the machine's clocks and
//! whoever opens the file.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use buildlock::{Clock, Command, How, Lease, LockStore, SqliteStore, SystemClock, Timestamp, Token, Verdict};
use support::ask::{Ask, lease, lost, request, seconds, ttl};
use support::clock::TestClock;
use support::process::{Player, file, hear, playing, report};
use tempfile::{TempDir, tempdir};

const HOUR: Duration = Duration::from_secs(3600);

/// A machine with one store.
struct Machine {
    clock: TestClock,
    path: PathBuf,
    _folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        Self { clock: TestClock::new(), path: folder.path().join("locks.db"), _folder: folder }
    }

    /// The store as a process has it that is started now.
    async fn open(&self) -> SqliteStore {
        SqliteStore::open_with_clock(&self.path, Arc::new(self.clock.clone())).await.unwrap()
    }

    /// Somebody sets the wall clock on by `ahead`, or back by it.
    fn step(&self, ahead: Duration, back: Duration) {
        self.clock.set_wall(self.clock.wall() + ahead - back);
    }
}

/// How the wall clock is set: on by hours or years, back by an hour, back to the epoch's first days.
const STEPS: [(Duration, Duration); 4] = [
    (HOUR, Duration::ZERO),
    (HOUR.saturating_mul(24 * 365 * 50), Duration::ZERO),
    (Duration::ZERO, HOUR),
    (Duration::ZERO, HOUR.saturating_mul(200)),
];

/// The store's time.
async fn now(store: &SqliteStore) -> Timestamp {
    store.ask("site", Command::Verify { token: Token::FIRST }).await.now
}

/// A lease of 30 seconds that began 10 seconds ago.
async fn held_for_ten_seconds(store: &SqliteStore, machine: &Machine) -> Lease {
    let held = store.held("site", "ana").await;
    machine.clock.advance(seconds(10));
    held
}

/// Fails unless the lease has just `left` to live.
async fn assert_left(store: &SqliteStore, machine: &Machine, held: &Lease, left: Duration) {
    machine.clock.advance(left - Duration::from_millis(1));
    store.settle_due().await.unwrap();
    assert_eq!(lease(store.verify("site", held.token).await), *held, "it was cut short");
    machine.clock.advance(Duration::from_millis(1));
    let (past, _) = lost(store.verify("site", held.token).await);
    assert_eq!((past.ended.how, past.ended.at), (How::Expired, held.expires_at), "it was prolonged");
}

/// Rule 10.
#[tokio::test]
async fn setting_the_wall_clock_changes_nothing() {
    for (ahead, back) in STEPS {
        let machine = Machine::new();
        let store = machine.open().await;
        let held = held_for_ten_seconds(&store, &machine).await;
        machine.step(ahead, back);
        let other = machine.open().await;
        assert_eq!(now(&store).await, now(&other).await);
        assert_left(&other, &machine, &held, seconds(20)).await;
        // And the next one begins when that one ended.
        assert_eq!(store.held("site", "ben").await.acquired_at, held.expires_at);
    }
}

/// Rule 10.
#[tokio::test]
async fn a_restart_of_the_process_changes_nothing() {
    for (ahead, back) in STEPS {
        let machine = Machine::new();
        let store = machine.open().await;
        let held = held_for_ten_seconds(&store, &machine).await;
        drop(store);
        machine.clock.advance(seconds(5));
        machine.step(ahead, back);
        let store = machine.open().await;
        assert_eq!(store.see("site").await.lease.as_ref(), Some(&held));
        assert_left(&store, &machine, &held, seconds(15)).await;
    }
}

/// Rule 10: also when a renewal comes after the step.
#[tokio::test]
async fn a_renewal_lasts_its_ttl_whatever_the_wall_clock_says() {
    for (ahead, back) in STEPS {
        let machine = Machine::new();
        let store = machine.open().await;
        let held = held_for_ten_seconds(&store, &machine).await;
        machine.step(ahead, back);
        let renewed = lease(store.renew("site", &held).await);
        assert_eq!(renewed.expires_at.since(held.acquired_at), seconds(40));
        drop(store);
        let store = machine.open().await;
        assert_left(&store, &machine, &renewed, seconds(30)).await;
    }
}

/// Rule 10: only the wall clock knows how long the machine was off.
#[tokio::test]
async fn a_machine_that_is_off_lets_time_pass() {
    let machine = Machine::new();
    let store = machine.open().await;
    let held = held_for_ten_seconds(&store, &machine).await;
    drop(store);
    machine.clock.reboot(seconds(12));
    let store = machine.open().await;
    assert_eq!(now(&store).await.since(held.acquired_at), seconds(22));
    assert_left(&store, &machine, &held, seconds(8)).await;
}

/// Rule 10.
#[tokio::test]
async fn a_lease_that_ended_while_the_machine_was_off_is_over() {
    let machine = Machine::new();
    let store = machine.open().await;
    let held = held_for_ten_seconds(&store, &machine).await;
    drop(store);
    machine.clock.reboot(HOUR);
    let store = machine.open().await;
    assert_eq!(store.holder("site").await, None);
    let (past, _) = lost(store.verify("site", held.token).await);
    assert_eq!((past.ended.how, past.ended.at), (How::Expired, held.expires_at));
}

/// Rule 10: how far the wall clock was off before is known, and is no time that passed.
#[tokio::test]
async fn a_step_before_a_reboot_is_not_taken_for_time_that_passed() {
    for (ahead, back) in STEPS {
        let machine = Machine::new();
        let store = machine.open().await;
        let held = held_for_ten_seconds(&store, &machine).await;
        machine.step(ahead, back);
        // The store sees the step with its next write, whoever makes it.
        store.held("elsewhere", "ben").await;
        drop(store);
        machine.clock.reboot(seconds(12));
        let store = machine.open().await;
        assert_left(&store, &machine, &held, seconds(8)).await;
    }
}

/// Rule 10: what cannot be known neither turns time back nor lets it pass. The lease has then what it
/// had when the store was last written.
#[tokio::test]
async fn a_wall_clock_that_went_back_over_a_reboot_counts_as_no_time() {
    let machine = Machine::new();
    let store = machine.open().await;
    let held = held_for_ten_seconds(&store, &machine).await;
    store.held("elsewhere", "ben").await;
    let before = now(&store).await;
    drop(store);
    machine.step(Duration::ZERO, HOUR);
    machine.clock.reboot(seconds(12));
    let store = machine.open().await;
    assert_eq!(now(&store).await, before);
    assert_left(&store, &machine, &held, seconds(20)).await;
}

/// Rule 10: reboots do not add up to anything.
#[tokio::test]
async fn time_goes_on_over_any_number_of_reboots() {
    let machine = Machine::new();
    let store = machine.open().await;
    let mut long = request("ana");
    long.ttl = ttl(86_400);
    let held = lease(store.lock("site", &long).await);
    drop(store);
    for _ in 0..20 {
        let store = machine.open().await;
        machine.clock.advance(Duration::from_millis(59_001));
        store.held("elsewhere", "ben").await;
        drop(store);
        machine.clock.reboot(Duration::from_millis(999));
    }
    let store = machine.open().await;
    assert_eq!(now(&store).await.since(held.acquired_at), seconds(20 * 60));
    assert_left(&store, &machine, &held, seconds(86_400 - 20 * 60)).await;
}

/// Nobody counts on the store's time while nothing is held.
#[tokio::test]
async fn a_clock_that_was_wrong_is_put_right_when_nothing_is_held() {
    let machine = Machine::new();
    let store = machine.open().await;
    // The wall clock of a machine without a battery, before it has heard of the true time.
    let held = store.held("site", "ana").await;
    machine.step(HOUR * 24 * 365, Duration::ZERO);
    let wrong = |now: Timestamp| now.as_millis().abs_diff(machine.clock.wall().as_millis() as u64) > 1_000;
    drop(store);
    let store = machine.open().await;
    assert!(wrong(now(&store).await), "it is held");
    let waiter = store.queued("site", "ben").await;
    drop(store);
    let store = machine.open().await;
    assert!(wrong(now(&store).await), "somebody waits");
    let clock = store.checkup().await.unwrap().into_iter().find(|found| found.what == "clock").unwrap();
    assert_eq!(clock.verdict, Verdict::Warning, "{clock:?}");
    store.unlock("site", &held).await;
    store.withdraw("site", waiter.id).await;
    assert!(wrong(now(&store).await), "it is put right only when it is opened");
    let other = machine.open().await;
    assert!(!wrong(now(&other).await));
    assert_eq!(now(&store).await, now(&other).await, "for all who use it");
    let next = store.held("site", "cleo").await;
    assert!(next.token > held.token);
    let clock = other.checkup().await.unwrap().into_iter().find(|found| found.what == "clock").unwrap();
    assert_eq!(clock.verdict, Verdict::Good, "{clock:?}");
    assert_left(&other, &machine, &next, seconds(30)).await;
}

/// A clock's ordinary correction.
#[tokio::test]
async fn a_clock_that_is_off_by_less_than_a_second_is_left_alone() {
    let machine = Machine::new();
    let store = machine.open().await;
    machine.step(Duration::from_millis(900), Duration::ZERO);
    let before = now(&store).await;
    assert_eq!(now(&machine.open().await).await, before);
}

/// Rule 10: to the millisecond, also when the clocks are not at a whole one.
#[tokio::test]
async fn two_handles_agree_to_the_millisecond() {
    let machine = Machine::new();
    machine.clock.advance(Duration::from_micros(700));
    let first = machine.open().await;
    machine.clock.advance(Duration::from_micros(700));
    let second = machine.open().await;
    machine.step(Duration::from_micros(123_456), Duration::ZERO);
    let third = machine.open().await;
    for _ in 0..100 {
        machine.clock.advance(Duration::from_micros(333));
        let times = [now(&first).await, now(&second).await, now(&third).await];
        assert_eq!(times, [times[0]; 3]);
    }
}

/// Rule 10, with the machine's own clocks: asked in turns, no process is ever behind what another said.
#[tokio::test]
async fn processes_agree_to_the_millisecond() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("locks.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let mut others: Vec<_> = (0..2).map(|_| Player::start(playing("part::tells_the_time", &path))).collect();
    let start = SystemClock.since_boot();
    let first = now(&store).await;
    let mut last = first;
    for _ in 0..50 {
        for other in &mut others {
            other.say("?");
            let time = Timestamp::from_millis(other.line().parse().unwrap());
            assert!(time >= last, "{time:?} after {last:?}");
            last = time.max(now(&store).await);
            assert!(last >= time, "{last:?} after {time:?}");
        }
    }
    let passed = SystemClock.since_boot() - start;
    let told = last.since(first);
    assert!(told <= passed + Duration::from_millis(1), "{told:?} were told to have passed in {passed:?}");
}

mod part {
    use super::*;

    #[tokio::test]
    #[ignore = "a part of processes_agree_to_the_millisecond"]
    async fn tells_the_time() {
        let store = SqliteStore::open(file()).await.unwrap();
        while hear() == "?" {
            let told = store.ask("site", Command::Verify { token: Token::FIRST }).await.now;
            report(&told.as_millis().to_string());
        }
    }
}
