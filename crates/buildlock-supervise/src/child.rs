//! The supervised command and everything below it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitStatus, getpid, getppid, kill_process, set_parent_process_death_signal};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::{Instant, timeout};

use crate::link::{Handed, Listening, Moment};
use crate::processes::Process;
use crate::terminal::Terminal;
use crate::tree::{KILL_TAKES, LOOK_EVERY, Reaped, StopReport, reap};

/// A command under supervision.
///
/// It ends with the thread that spawned it, so that must be one that lasts: the main thread with a
/// `current_thread` runtime. It reaps every child of this process; nothing else in it may wait for
/// processes.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    ended: Option<Ended>,
    /// When it was last found to have stopped.
    stopped_at: Option<Moment>,
    front: Front,
    terminal: Option<Terminal>,
    children_change: Signals,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an exit code.
    Exited(u8),
    /// By this signal.
    Killed(i32),
}

impl Ended {
    /// The exit code as a shell tells it: 128 + n for signal n.
    pub fn exit_code(self) -> u8 {
        match self {
            Ended::Exited(code) => code,
            Ended::Killed(signal) => 128_u8.saturating_add(signal as u8),
        }
    }
}

/// A command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program.
    #[error("cannot find the command {}", .program.display())]
    NotFound {
        /// The program.
        program: OsString,
    },
    /// It cannot be executed.
    #[error("cannot execute the command {}", .program.display())]
    NotExecutable {
        /// The program.
        program: OsString,
        /// What the system says.
        source: io::Error,
    },
}

impl SpawnError {
    /// The exit code as a shell gives it: 127 or 126.
    pub fn exit_code(&self) -> u8 {
        match self {
            SpawnError::NotFound { .. } => 127,
            SpawnError::NotExecutable { .. } => 126,
        }
    }
}

impl Child {
    /// Starts a command in the front's process group. If the front is stopped, so is the child, and
    /// the same `fg` continues both.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] if it cannot be started.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn(command: Command, listening: &Listening) -> Result<Self, SpawnError> {
        let terminal = Terminal::of(listening.group());
        let mut child = Self::start(command, listening.group().as_raw_nonzero().get())?;
        child.terminal = terminal;
        child.front.process = listening.front();
        if listening.front_is_stopped() {
            child.signal(Signal::STOP);
        }
        Ok(child)
    }

    /// Starts a command in a process group of its own: it has no terminal, and if it is stopped, it is
    /// alone in that.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] if it cannot be started.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn_apart(command: Command) -> Result<Self, SpawnError> {
        // A group with the child's own id.
        Self::start(command, 0)
    }

    fn start(mut command: Command, group: i32) -> Result<Self, SpawnError> {
        let program = command.get_program().to_owned();
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => SpawnError::NotFound { program: program.clone() },
            _ => SpawnError::NotExecutable { program: program.clone(), source },
        };
        let children_change = signal(SignalKind::child()).map_err(failed)?;
        let supervisor = getpid();
        command.process_group(group).env_remove(Handed::VARIABLE);
        // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                // The supervisor may have died before that line.
                if getppid() == Some(supervisor) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
            });
        }
        let child = command.spawn().map_err(failed)?;
        let front = Front { process: None, is_stopped_with_child: false };
        let pid = Pid::from_raw(child.id() as i32).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
        Ok(Self { pid, ended: None, stopped_at: None, front, terminal: None, children_change })
    }

    /// Waits for the command itself; others that it started may live on. Cancel-safe; once it has
    /// ended, answers at once.
    pub async fn wait(&mut self) -> Ended {
        loop {
            self.reap_all();
            if let Some(ended) = self.ended {
                return ended;
            }
            self.children_change.recv().await;
        }
    }

    /// How the command itself has ended, if it has.
    pub fn ended(&mut self) -> Option<Ended> {
        self.reap_all();
        self.ended
    }

    /// Passes a signal on to the command itself, which came to the front at this moment. One that runs is not continued,
    /// nor one that has stopped since: whoever continues a job continues both, and a child may have stopped itself
    /// again by the time that the front's signal arrives here.
    pub fn pass_on(&mut self, signal: Signal, sent: Moment) {
        if signal == Signal::CONT {
            let is_stopped = Process::read(self.pid).is_some_and(|child| child.is_stopped());
            // After that look, so that the time of every stop that it can show is known.
            self.reap_all();
            if !is_stopped || self.stopped_at.is_some_and(|stopped_at| sent < stopped_at) {
                return;
            }
        }
        self.signal(signal);
    }

    fn signal(&self, signal: Signal) {
        // The id is the child's own until it has been reaped.
        if self.ended.is_none() {
            // One that has ended needs no signal; one that may not be signalled is found by `stop`.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Whether no process of the tree is left.
    pub fn is_over(&mut self) -> bool {
        self.reap_all()
    }

    /// Ends the whole tree: asks with SIGTERM, and after the grace period kills what is left. Zero
    /// kills at once. May be dropped and called again with less grace.
    pub async fn stop(&mut self, grace: Duration) -> StopReport {
        let kill_at = Instant::now() + grace;
        let give_up = kill_at + KILL_TAKES;
        let mut report = StopReport::default();
        if !grace.is_zero() {
            report.signal_all(Signal::TERM);
            // A stopped process must run to notice.
            report.signal_all(Signal::CONT);
        }
        while !self.reap_all() {
            let now = Instant::now();
            if now >= give_up {
                report = report.finish();
                break;
            }
            let next_look = if now < kill_at {
                kill_at - now
            } else {
                report.signal_all(Signal::KILL);
                LOOK_EVERY
            };
            // Either way the next round looks again.
            let _ = timeout(next_look, self.children_change.recv()).await;
        }
        self.terminal.as_ref().inspect(|terminal| terminal.put_back());
        report
    }

    /// Takes notice of what has become of all children; true if none is left.
    fn reap_all(&mut self) -> bool {
        loop {
            match reap() {
                Reaped::NoneLeft => return true,
                Reaped::NoneYet => return false,
                Reaped::Child(pid, status) if pid == self.pid => self.notice(status),
                Reaped::Child(..) => {}
            }
        }
    }

    /// Takes notice of what has become of the command itself.
    fn notice(&mut self, status: WaitStatus) {
        if status.stopped() {
            // What has come to the front before it stops as well is not about this stop; what comes after that is.
            self.stopped_at = Some(Moment::now());
            return self.front.stop();
        }
        self.front.go_on();
        self.ended = self.ended.or(ended(status));
        if matches!(self.ended, Some(Ended::Killed(_))) {
            self.terminal.as_ref().inspect(|terminal| terminal.put_back());
        }
    }
}

/// The front, as far as it stops and goes on with the child.
#[derive(Debug)]
struct Front {
    process: Option<Process>,
    is_stopped_with_child: bool,
}

impl Front {
    /// The child has stopped. Ctrl-Z has stopped the front as well; nobody else has.
    fn stop(&mut self) {
        if let Some(front) = self.process.as_ref().and_then(|front| Process::read(front.pid))
            && !front.is_stopped()
        {
            self.is_stopped_with_child = front.signal(Signal::STOP).is_ok();
        }
    }

    /// The child goes on, or has ended.
    fn go_on(&mut self) {
        if std::mem::take(&mut self.is_stopped_with_child)
            && let Some(front) = &self.process
        {
            // One that is gone need not go on.
            let _ = front.signal(Signal::CONT);
        }
    }
}

fn ended(status: WaitStatus) -> Option<Ended> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Ended::Exited(code as u8)),
        (_, Some(signal)) => Some(Ended::Killed(signal)),
        _ => None,
    }
}
