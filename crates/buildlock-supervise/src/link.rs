//! What the front tells the supervisor: signals, and by its silence that it is dead.

use std::env;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::task::Poll;

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use crate::processes::{Process, has, ignored_signals};

/// The supervisor's end.
#[derive(Debug)]
pub struct Link {
    pipe: OwnedFd,
    pub(crate) front: Pid,
    pub(crate) group: Pid,
}

/// What the supervisor is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Somebody pressed a key for it, or the terminal is gone. The child has had it already.
    FromTerminal(Signal),
    /// Another process sent it, at this moment: it is to be passed on.
    FromProcess(Signal, Moment),
    /// The front is dead: everything must end.
    FrontDied,
}

/// When a signal came to the front: by the machine's monotonic clock, which all processes read alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
    }
}

/// Who sent a signal to the front.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sender {
    Terminal = 0,
    Process = 1,
}

impl Sender {
    /// A signal on its way through the pipe.
    pub(crate) fn record(self, signal: i32) -> [u8; RECORD] {
        let mut record = [self as u8, signal as u8, 0, 0, 0, 0, 0, 0, 0, 0];
        record[2..].copy_from_slice(&Moment::now().0.to_ne_bytes());
        record
    }
}

/// Who sent it, which signal it is, and when it came. It is far shorter than PIPE_BUF, so it comes whole or not at all
/// (pipe(7)).
const RECORD: usize = 10;

/// What the front hands down to its twin, as a variable in its environment.
pub(crate) struct Handed {
    pub(crate) fd: RawFd,
    pub(crate) front: Pid,
    pub(crate) group: Pid,
}

impl Handed {
    pub(crate) const VARIABLE: &str = "BUILDLOCK_SUPERVISE";
}

impl fmt::Display for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.fd, self.front.as_raw_nonzero(), self.group.as_raw_nonzero())
    }
}

impl Link {
    /// The link that a front handed down; none if this process is a front.
    pub(crate) fn handed_down() -> io::Result<Option<Self>> {
        let Some(value) = env::var_os(Handed::VARIABLE) else { return Ok(None) };
        let numbers = value.to_str().map(|value| value.split(' ').map(str::parse::<i32>).collect::<Vec<_>>());
        let Some(&[Ok(fd @ 3..), Ok(front), Ok(group)]) = numbers.as_deref() else {
            let problem = format!("{} is for buildlock's own use; unset it", Handed::VARIABLE);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        };
        let (Some(front), Some(group)) = (Pid::from_raw(front), Pid::from_raw(group)) else { return Ok(None) };
        // SAFETY: the front opened this descriptor for its twin alone and names it only here, at the
        // start of `main`, before anything else could have opened or taken it.
        #[allow(unsafe_code)]
        let pipe = unsafe { OwnedFd::from_raw_fd(fd) };
        rustix::io::fcntl_setfd(&pipe, FdFlags::CLOEXEC)?;
        Ok(Some(Self { pipe, front, group }))
    }

    /// Begins to listen. From now on this process handles the signals that would end or stop it.
    ///
    /// # Errors
    ///
    /// If a signal cannot be handled.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn listen(self) -> io::Result<Listening> {
        rustix::io::ioctl_fionbio(&self.pipe, true)?;
        let ignored = ignored_signals();
        let handle = |kind: SignalKind| match has(ignored, kind.as_raw_value()) {
            true => Ok(None),
            false => signal(kind).map(Some),
        };
        // Handled, not ignored: what is ignored would be ignored by the child as well.
        let survived = [
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::hangup(),
            SignalKind::from_raw(Signal::TSTP.as_raw()),
            SignalKind::from_raw(Signal::TTIN.as_raw()),
            SignalKind::from_raw(Signal::TTOU.as_raw()),
        ];
        let survived = survived.into_iter().filter_map(|kind| handle(kind).transpose()).collect::<io::Result<_>>()?;
        Ok(Listening {
            pipe: Receiver::from_owned_fd(self.pipe)?,
            front: self.front,
            group: self.group,
            terminate: handle(SignalKind::terminate())?,
            _survived: survived,
        })
    }
}

/// The supervisor's end, in a tokio runtime.
#[derive(Debug)]
pub struct Listening {
    pipe: Receiver,
    front: Pid,
    group: Pid,
    terminate: Option<Signals>,
    _survived: Vec<Signals>,
}

impl Listening {
    /// The next message. After [`Message::FrontDied`] it is always that. Cancel-safe.
    pub async fn next(&mut self) -> Message {
        let Self { pipe, terminate, .. } = self;
        let terminated = poll_fn(|context| match terminate {
            Some(terminate) => terminate.poll_recv(context).map(drop),
            None => Poll::Pending,
        });
        tokio::select! {
            message = read(pipe) => message,
            // SIGTERM to the supervisor itself is as good as one to the front.
            () = terminated => Message::FromProcess(Signal::TERM, Moment::now()),
        }
    }

    /// The process group of the front: the shell's job, which has the terminal when it is in the
    /// foreground.
    pub fn group(&self) -> Pid {
        self.group
    }

    /// The front; none if it is gone.
    pub(crate) fn front(&self) -> Option<Process> {
        Process::read(self.front)
    }

    /// Whether the front has been stopped, by Ctrl-Z for instance.
    pub(crate) fn front_is_stopped(&self) -> bool {
        self.front().is_some_and(|front| front.is_stopped())
    }
}

async fn read(pipe: &Receiver) -> Message {
    loop {
        let mut record = [0; RECORD];
        let length = match pipe.readable().await {
            Ok(()) => pipe.try_read(&mut record),
            Err(error) => Err(error),
        };
        let [sender, signal, moment @ ..] = record;
        let (signal, moment) = (Signal::from_named_raw(signal.into()), Moment(u64::from_ne_bytes(moment)));
        match (length, signal) {
            (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => {}
            (Err(_) | Ok(0), _) => return Message::FrontDied,
            (Ok(_), Some(signal)) if sender == Sender::Terminal as u8 => return Message::FromTerminal(signal),
            (Ok(_), Some(signal)) => return Message::FromProcess(signal, moment),
            (Ok(_), None) => {}
        }
    }
}
