//! The process that the shell started: it passes signals on, and watches over the supervisor.

use std::env;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::FdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitStatus, getpgrp, getpid, set_child_subreaper, setsid};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use crate::link::{Handed, Link, Sender};
use crate::processes::{has, ignored_signals};
use crate::terminal::Terminal;
use crate::tree::{Reaped, kill_all, reap};

/// The signals that are passed on.
const PASSED_ON: [i32; 7] = [SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// Rust's exit code of a panic: the supervisor may not have tidied up.
const PANICKED: u8 = 101;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Role {
    /// The front, and all is over: exit with this code.
    Front(u8),
    /// The supervisor: start the [`Child`](crate::Child).
    Supervisor(Link),
}

/// Divides this process in two: the one that was started stays in front, its twin supervises. Must
/// be called on the main thread before any other is started; the twin starts from the beginning of
/// `main` with the same arguments and arrives here too.
///
/// The front returns only when the supervisor has ended: with its exit code, or 128 + n if signal n
/// killed it, after everything below has been killed.
///
/// # Errors
///
/// If the twin cannot be started.
pub fn stand_in_front() -> io::Result<Role> {
    set_child_subreaper(Some(getpid()))?;
    match Link::handed_down()? {
        Some(link) => Ok(Role::Supervisor(link)),
        None => stay_in_front().map(Role::Front),
    }
}

/// As [`stand_in_front`], in a session of its own: no terminal can signal or stop what is below.
///
/// # Errors
///
/// If the twin cannot be started, or this process leads a process group, as a shell's job does.
pub fn stand_in_front_apart() -> io::Result<Role> {
    if env::var_os(Handed::VARIABLE).is_none() {
        setsid()?;
    }
    stand_in_front()
}

fn stay_in_front() -> io::Result<u8> {
    let ignored = ignored_signals();
    let handled = PASSED_ON.into_iter().filter(|signal| !has(ignored, *signal)).chain([SIGCHLD]);
    let mut signals = SignalsInfo::<WithOrigin>::new(handled)?;
    let terminal = Terminal::of(getpgrp());
    let (supervisor, pipe) = start_supervisor()?;
    for Origin { signal, cause, .. } in signals.forever() {
        if signal != SIGCHLD {
            let sender = if matches!(cause, Cause::Kernel) { Sender::Terminal } else { Sender::Process };
            // A supervisor that is gone needs no signal; SIGCHLD tells of it.
            let _ = rustix::io::write(&pipe, &sender.record(signal));
            continue;
        }
        while let Reaped::Child(pid, status) = reap() {
            if pid != supervisor || status.stopped() || status.continued() {
                continue;
            }
            let (code, is_tidy) = end(status);
            if !is_tidy {
                kill_all();
                terminal.inspect(Terminal::put_back);
            }
            return Ok(code);
        }
    }
    unreachable!("signals come for ever")
}

fn start_supervisor() -> io::Result<(Pid, OwnedFd)> {
    let (receiver, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
    // This end goes to the twin. No other thread can start a process that would get it as well.
    rustix::io::fcntl_setfd(&receiver, FdFlags::empty())?;
    let handed = Handed { fd: receiver.as_fd().as_raw_fd(), front: getpid(), group: getpgrp() };
    let mut arguments = env::args_os();
    let twin = Command::new(env::current_exe()?)
        .arg0(arguments.next().unwrap_or_else(|| "buildlock".into()))
        .args(arguments)
        .env(Handed::VARIABLE, handed.to_string())
        .process_group(0)
        .spawn()?;
    let pid = Pid::from_raw(twin.id() as i32).ok_or(io::ErrorKind::InvalidData)?;
    Ok((pid, pipe))
}

/// The exit code for the supervisor's end, and whether the supervisor can have tidied up.
fn end(status: WaitStatus) -> (u8, bool) {
    match (status.terminating_signal(), status.exit_status().map(|code| code as u8)) {
        (Some(signal), _) => (128 + signal as u8, false),
        (None, code) => (code.unwrap_or(PANICKED), code != Some(PANICKED)),
    }
}
