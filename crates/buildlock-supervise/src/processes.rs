//! The processes of this machine, as /proc shows them.

use std::collections::HashSet;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process, told from a later one with the same id by when it started.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// Its command's name, cut off by the kernel after 15 bytes.
    pub name: String,
    parent: i32,
    state: char,
    started: u64,
}

/// The same process, whatever it does by now.
impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}

impl Eq for Process {}

impl Process {
    /// The process with this id; none if it is gone.
    pub(crate) fn read(pid: Pid) -> Option<Self> {
        let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        Self::parse(pid, &String::from_utf8_lossy(&stat))
    }

    /// Reads a line of /proc/PID/stat: `PID (NAME) STATE PPID … STARTTIME …` (proc_pid_stat(5)). The
    /// name may hold anything, parentheses too.
    fn parse(pid: Pid, stat: &str) -> Option<Self> {
        let (before, after) = stat.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        let state = fields.first()?.chars().next()?;
        Some(Self { pid, name, state, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
    }

    /// Whether it has been stopped, by Ctrl-Z for instance.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Sends a signal to this process and to no other that may have its id by now. One that is gone
    /// needs none.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let send = || {
            // From here on the process cannot be mistaken, if it is still the one that it was.
            let handle = pidfd_open(self.pid, PidfdFlags::empty())?;
            match Self::read(self.pid) {
                Some(process) if process.started == self.started => pidfd_send_signal(handle, signal),
                _ => Ok(()),
            }
        };
        match send() {
            Err(Errno::SRCH) => Ok(()),
            result => Ok(result?),
        }
    }
}

/// All processes of this machine.
fn all() -> io::Result<impl Iterator<Item = Process>> {
    let pids =
        fs::read_dir("/proc")?.filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?));
    Ok(pids.filter_map(Process::read))
}

/// All living processes, save this one, that were started with one of these variables (`NAME=VALUE`)
/// in their environment, and may be looked at.
pub(crate) fn marked(marks: &[String]) -> io::Result<Vec<Process>> {
    let is_marked = |process: &Process| {
        let environment = fs::read(format!("/proc/{}/environ", process.pid.as_raw_nonzero())).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| marks.iter().any(|mark| mark.as_bytes() == variable))
    };
    let own = rustix::process::getpid();
    Ok(all()?.filter(|process| process.pid != own && !process.is_dead() && is_marked(process)).collect())
}

/// All living processes below this one.
pub(crate) fn descendants() -> io::Result<Vec<Process>> {
    let mut others: Vec<Process> = all()?.collect();
    let mut known = HashSet::from([std::process::id() as i32]);
    let mut found = Vec::new();
    loop {
        let (children, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|other| known.contains(&other.parent));
        if children.is_empty() {
            return Ok(found);
        }
        known.extend(children.iter().map(|child| child.pid.as_raw_nonzero().get()));
        found.extend(children.into_iter().filter(|child| !child.is_dead()));
        others = rest;
    }
}

/// The signals that this process was started with as ignored (nohup(1)), as a bit mask: signal 1 is
/// the lowest bit.
pub(crate) fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Whether such a mask has a signal.
pub(crate) fn has(mask: u64, signal: i32) -> bool {
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let pid = Pid::from_raw(7).unwrap();
        let stat = "7 (a) S (b) T 3 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        let process = Process::parse(pid, stat).unwrap();
        assert_eq!((process.name.as_str(), process.parent, process.started), ("a) S (b", 3, 4242));
        assert!(process.is_stopped());
        assert_eq!(Process::parse(pid, "7 (cut off"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = rustix::process::getpid();
        assert_eq!(Process::read(pid).unwrap().pid, pid);
    }
}
