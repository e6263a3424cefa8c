//! A clock that stands still until the test moves it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buildlock::Clock;

/// Clones share one time, as the processes of one machine do.
#[derive(Debug, Clone)]
pub(crate) struct TestClock(Arc<Mutex<Reading>>);

#[derive(Debug)]
struct Reading {
    boot: u32,
    since_boot: Duration,
    wall: Duration,
}

impl TestClock {
    pub(crate) fn new() -> Self {
        let reading = Reading { boot: 1, since_boot: Duration::from_secs(1_000), wall: Duration::from_secs(1_000_000) };
        Self(Arc::new(Mutex::new(reading)))
    }

    /// Time goes on.
    pub(crate) fn advance(&self, time: Duration) {
        self.with(|reading| {
            reading.since_boot += time;
            reading.wall += time;
        });
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_wall(&self, wall: Duration) {
        self.with(|reading| reading.wall = wall);
    }

    /// The machine is off for a while and starts again.
    pub(crate) fn reboot(&self, off: Duration) {
        self.with(|reading| {
            reading.boot += 1;
            reading.since_boot = Duration::from_secs(3);
            reading.wall += off;
        });
    }

    fn with<T>(&self, look: impl FnOnce(&mut Reading) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }
}

impl Clock for TestClock {
    fn boot_id(&self) -> String {
        self.with(|reading| format!("boot {}", reading.boot))
    }

    fn since_boot(&self) -> Duration {
        self.with(|reading| reading.since_boot)
    }

    fn wall(&self) -> Duration {
        self.with(|reading| reading.wall)
    }
}
