//! The store's clock (rule 10): the boot-time clock, which neither steps nor stops in suspend, plus
//! an offset that is kept in the file, so that all processes that use the file agree.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buildlock_core::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Where the time comes from. Tests bring their own; everything else uses [`SystemClock`].
pub trait Clock: Send + Sync + fmt::Debug {
    /// Names the machine's current boot.
    fn boot_id(&self) -> String;
    /// Time since that boot, suspend included.
    fn since_boot(&self) -> Duration;
    /// The wall clock, as time since the Unix epoch.
    fn wall(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boot_id(&self) -> String {
        // A machine without one is taken as never rebooted, which is right for a container.
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    }

    fn since_boot(&self) -> Duration {
        since_boot()
    }

    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// Time since the machine's boot, suspend included: the clock that [`LeaseDeadline`] is read against.
///
/// [`LeaseDeadline`]: buildlock_core::LeaseDeadline
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// What the file keeps of the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClockRecord {
    pub(crate) boot_id: String,
    pub(crate) offset_ms: i64,
    pub(crate) wall_ahead_ms: i64,
    pub(crate) latest_ms: i64,
}

impl ClockRecord {
    /// The record of a new file: its time starts as the wall clock's.
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        let wall_ms = millis(clock.wall());
        Self {
            boot_id: clock.boot_id(),
            offset_ms: wall_ms - millis(clock.since_boot()),
            wall_ahead_ms: 0,
            latest_ms: wall_ms,
        }
    }

    /// The record as it must be for the machine's current boot. After a reboot only the wall clock
    /// knows how long the machine was down; what it was ahead of the store's time before, it is
    /// ahead still, so a step that happened in between is not mistaken for time that passed.
    pub(crate) fn for_this_boot(self, clock: &dyn Clock) -> Self {
        let boot_id = clock.boot_id();
        if boot_id == self.boot_id {
            return self;
        }
        let now_ms = (millis(clock.wall()) - self.wall_ahead_ms).max(self.latest_ms);
        Self { boot_id, offset_ms: now_ms - millis(clock.since_boot()), latest_ms: now_ms, ..self }
    }

    pub(crate) fn now(&self, clock: &dyn Clock) -> Timestamp {
        let now_ms = self.offset_ms.saturating_add(millis(clock.since_boot()));
        Timestamp::from_millis(u64::try_from(now_ms).unwrap_or_default())
    }

    /// How far the wall clock is ahead of the store's time now.
    pub(crate) fn wall_ahead_ms(&self, clock: &dyn Clock) -> i64 {
        millis(clock.wall()) - millis(clock.since_boot()) - self.offset_ms
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone)]
    struct Fake {
        boot: &'static str,
        since_boot: u64,
        wall: u64,
    }

    impl Clock for Fake {
        fn boot_id(&self) -> String {
            self.boot.to_owned()
        }
        fn since_boot(&self) -> Duration {
            Duration::from_secs(self.since_boot)
        }
        fn wall(&self) -> Duration {
            Duration::from_secs(self.wall)
        }
    }

    fn seconds(record: &ClockRecord, clock: &Fake) -> u64 {
        record.now(clock).as_millis() / 1_000
    }

    /// Rule 10.
    #[test]
    fn a_step_of_the_wall_clock_changes_nothing() {
        let start = Fake { boot: "a", since_boot: 100, wall: 1_000 };
        let record = ClockRecord::new(&start);
        assert_eq!(seconds(&record, &start), 1_000);
        for wall in [0, 1_010, 9_999_999] {
            let later = Fake { since_boot: 110, wall, ..start.clone() };
            assert_eq!(seconds(&record.clone().for_this_boot(&later), &later), 1_010);
        }
    }

    /// Rule 10.
    #[test]
    fn a_reboot_lasts_as_long_as_the_wall_clock_says() {
        let record = ClockRecord::new(&Fake { boot: "a", since_boot: 100, wall: 1_000 });
        let after = Fake { boot: "b", since_boot: 5, wall: 1_060 };
        assert_eq!(seconds(&record.for_this_boot(&after), &after), 1_060);
    }

    /// Rule 10.
    #[test]
    fn a_step_before_a_reboot_is_not_taken_for_time_that_passed() {
        let mut record = ClockRecord::new(&Fake { boot: "a", since_boot: 100, wall: 1_000 });
        let stepped = Fake { boot: "a", since_boot: 110, wall: 4_610 };
        record.wall_ahead_ms = record.wall_ahead_ms(&stepped);
        record.latest_ms = record.now(&stepped).as_millis() as i64;
        let after = Fake { boot: "b", since_boot: 5, wall: 4_670 };
        assert_eq!(seconds(&record.for_this_boot(&after), &after), 1_070);
    }

    /// Rule 10.
    #[test]
    fn a_clock_that_went_back_over_a_reboot_does_not_turn_time_back() {
        let record = ClockRecord::new(&Fake { boot: "a", since_boot: 100, wall: 1_000 });
        let after = Fake { boot: "b", since_boot: 5, wall: 10 };
        assert_eq!(seconds(&record.for_this_boot(&after), &after), 1_000);
    }
}
