//! Ending everything below this process.

use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};

use crate::processes::{Process, descendants, marked};

/// How often to look for processes that were forked while others were killed.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a killed process may take to be gone: it may be in the midst of a slow write.
pub(crate) const KILL_TAKES: Duration = Duration::from_secs(5);

/// What became of a tree that was stopped.
#[derive(Debug, Default)]
pub struct StopReport {
    /// The processes that were asked or made to end.
    pub stopped: Vec<Process>,
    /// Those that live on: of another user, such as with sudo, or stuck in the kernel.
    pub survivors: Vec<Process>,
}

impl StopReport {
    /// Signals everything that is there now.
    pub(crate) fn signal_all(&mut self, signal: Signal) {
        // Without /proc nothing can be found; whoever waits for the tree to end then says so.
        self.signal_each(descendants().unwrap_or_default(), signal);
    }

    fn signal_each(&mut self, processes: Vec<Process>, signal: Signal) {
        for process in processes {
            // What may not be signalled is found to survive at the end.
            let _ = process.signal(signal);
            if !self.stopped.contains(&process) {
                self.stopped.push(process);
            }
        }
    }

    pub(crate) fn finish(self) -> Self {
        self.finish_with(descendants().unwrap_or_default())
    }

    fn finish_with(mut self, survivors: Vec<Process>) -> Self {
        self.survivors = survivors;
        self.stopped.retain(|process| !self.survivors.contains(process));
        self
    }
}

/// What has become of one child, or that there are none left.
pub(crate) enum Reaped {
    Child(Pid, WaitStatus),
    NoneYet,
    NoneLeft,
}

/// Takes notice of one child that has ended, stopped or gone on, orphans that became ours included.
pub(crate) fn reap() -> Reaped {
    loop {
        match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED) {
            Ok(Some((pid, status))) => return Reaped::Child(pid, status),
            Ok(None) => return Reaped::NoneYet,
            Err(Errno::INTR) => {}
            // No child is left; nothing else can be wrong with these arguments.
            Err(_) => return Reaped::NoneLeft,
        }
    }
}

/// Kills everything below this process, and waits until it is gone.
pub(crate) fn kill_all() -> StopReport {
    let mut report = StopReport::default();
    let give_up = Instant::now() + KILL_TAKES;
    loop {
        match reap() {
            Reaped::NoneLeft => return report,
            Reaped::Child(..) => {}
            Reaped::NoneYet if Instant::now() >= give_up => return report.finish(),
            Reaped::NoneYet => {
                report.signal_all(Signal::KILL);
                thread::sleep(LOOK_EVERY);
            }
        }
    }
}

/// Kills every process of this machine that was started with one of these variables (`NAME=VALUE`) in
/// its environment, and waits until it is gone: for trees that have lost all who watched over them.
pub fn kill_marked(marks: &[String]) -> StopReport {
    let mut report = StopReport::default();
    let give_up = Instant::now() + KILL_TAKES;
    loop {
        let left = marked(marks).unwrap_or_default();
        if left.is_empty() {
            return report;
        }
        if Instant::now() >= give_up {
            return report.finish_with(left);
        }
        report.signal_each(left, Signal::KILL);
        thread::sleep(LOOK_EVERY);
    }
}
