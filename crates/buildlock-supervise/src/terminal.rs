//! The terminal, put back as it was after a build that was killed and could not do so itself.

use std::fs::File;
use std::mem::MaybeUninit;
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

/// The terminal of a job in its foreground.
#[derive(Debug)]
pub(crate) struct Terminal {
    tty: File,
    job: Pid,
    modes: Termios,
}

impl Terminal {
    /// The terminal as it is now; none if this process group is not in the foreground of one: what a
    /// shell does to its terminal while it reads a line is not how it was.
    pub(crate) fn of(job: Pid) -> Option<Self> {
        let tty = File::open("/dev/tty").ok()?;
        if tcgetpgrp(&tty) != Ok(job) {
            return None;
        }
        let modes = tcgetattr(&tty).ok()?;
        Some(Self { tty, job, modes })
    }

    /// Puts the terminal back, unless somebody else who lives has it by now. All is over for the job
    /// otherwise, so whoever fails here has lost the terminal, and there is nothing to put back.
    pub(crate) fn put_back(&self) {
        let Ok(foreground) = tcgetpgrp(&self.tty) else { return };
        if foreground == self.job || test_kill_process_group(foreground) == Err(Errno::SRCH) {
            without_ttou(|| {
                let _ = tcsetpgrp(&self.tty, self.job);
                let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.modes);
            });
        }
    }
}

/// Does something to the terminal, which would stop a process that is not in its foreground
/// (tcsetattr(3)) unless SIGTTOU is blocked.
fn without_ttou(work: impl FnOnce()) {
    let mut ttou = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are this function's own, and `sigemptyset` makes the first a valid one.
    #[allow(unsafe_code)]
    unsafe {
        libc::sigemptyset(ttou.as_mut_ptr());
        libc::sigaddset(ttou.as_mut_ptr(), libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, ttou.as_ptr(), before.as_mut_ptr());
    }
    work();
    // SAFETY: the call above has filled `before`: it fails only for a bad first argument.
    #[allow(unsafe_code)]
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
    }
}
