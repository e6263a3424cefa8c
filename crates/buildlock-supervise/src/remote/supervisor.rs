//! The supervision's side of the socket.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep};

use super::{Order, RemoteEnd};
use crate::{Child, Link, Listening, Message, Process, Role, StopReport, stand_in_front_apart};

/// How long processes that the command left behind may take to stop.
const GRACE_WHEN_LEFT_BEHIND: Duration = Duration::from_secs(5);

/// How long a suspend of the machine may go unnoticed once it is over: tokio's clock stands still
/// meanwhile.
const SLICE: Duration = Duration::from_secs(5);

/// Supervises a command for the server whose socket is standard input. Must be called as
/// [`stand_in_front`](crate::stand_in_front) must; returns with an exit code when all is over.
///
/// # Errors
///
/// If no server is at the other end, or the supervision cannot be set up.
pub fn supervise(command: Command) -> io::Result<u8> {
    let socket = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    if socket.peer_addr().is_err() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is for the server's own use"));
    }
    match stand_in_front_apart()? {
        Role::Front(code) => Ok(code),
        Role::Supervisor(link) => {
            // On this thread, because the child dies with the thread that starts it.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(command, socket, link))?;
            Ok(0)
        }
    }
}

/// How many files a command may have open, unless it asks for more: beyond it, select(2) breaks. A server
/// has raised the limit for its connections.
const OPEN_FILES: u64 = 1024;

async fn run(command: Command, socket: StdUnixStream, link: Link) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current.map_or(OPEN_FILES, |current| current.min(OPEN_FILES));
    setrlimit(Resource::Nofile, Rlimit { current: Some(soft), ..limit })?;
    let front = link.listen()?;
    socket.set_nonblocking(true)?;
    let (orders, mut reports) = UnixStream::from_std(socket)?.into_split();
    let mut masters = Masters { orders: BufReader::new(orders).lines(), front, allowed_until: None };
    let Some(input) = masters.start().await else { return Ok(()) };
    let end = match start(command, input) {
        Ok(child) => masters.watch(child).await,
        Err(not_started) => not_started,
    };
    let mut line = serde_json::to_vec(&end)?;
    line.push(b'\n');
    // A server that is gone need not be told.
    let _ = reports.write_all(&line).await;
    Ok(())
}

fn start(mut command: Command, input: String) -> Result<Child, RemoteEnd> {
    let not_started = |exit_code: u8, problem: String| RemoteEnd::NotStarted { exit_code, problem };
    let io_failed = |error: io::Error| not_started(126, format!("cannot make a pipe for its input: {error}"));
    let (mut sender, receiver) = pipe::pipe().map_err(io_failed)?;
    command.stdin(Stdio::from(receiver.into_blocking_fd().map_err(io_failed)?));
    let child = Child::spawn_apart(command).map_err(|error| {
        let problem = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        not_started(error.exit_code(), problem)
    })?;
    tokio::spawn(async move {
        // A command need not read its input.
        let _ = sender.write_all(input.as_bytes()).await;
    });
    Ok(child)
}

/// Those who can tell the supervisor to end the tree, by words or by their silence.
struct Masters {
    orders: Lines<BufReader<OwnedReadHalf>>,
    front: Listening,
    /// A reading of the boot-time clock.
    allowed_until: Option<Duration>,
}

/// The tree must end.
struct MustEnd {
    grace: Duration,
    why: Why,
}

/// Why the tree must end; the larger counts more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// The command has ended.
    LeftBehind,
    /// The server said so.
    Ordered,
    /// Nobody has allowed it to run so long.
    Overdue,
    /// The server or the front is dead.
    Orphaned,
}

impl Masters {
    /// The input of the command; none if there is nobody left to start it for.
    async fn start(&mut self) -> Option<String> {
        loop {
            match self.order().await? {
                Order::Start { input } => return Some(input),
                Order::AllowUntil { boot_ms } => self.allowed_until = Some(Duration::from_millis(boot_ms)),
                Order::Stop { .. } => return None,
            }
        }
    }

    /// The next order; none if the server or the front is dead. Cancel-safe.
    async fn order(&mut self) -> Option<Order> {
        loop {
            tokio::select! {
                line = self.orders.next_line() => return serde_json::from_str(&line.ok()??).ok(),
                message = self.front.next() => if message == Message::FrontDied {
                    return None;
                }
                // Signals are not for the command: the server decides when it ends.
            }
        }
    }

    /// Resolves when the tree must end. Cancel-safe.
    async fn must_end(&mut self) -> MustEnd {
        loop {
            let allowed_until = self.allowed_until;
            tokio::select! {
                order = self.order() => match order {
                    Some(Order::AllowUntil { boot_ms }) => self.allowed_until = Some(Duration::from_millis(boot_ms)),
                    Some(Order::Stop { grace_ms }) => {
                        return MustEnd { grace: Duration::from_millis(grace_ms), why: Why::Ordered };
                    }
                    Some(Order::Start { .. }) => {}
                    None => return MustEnd { grace: Duration::ZERO, why: Why::Orphaned },
                },
                () = boot_time(allowed_until) => return MustEnd { grace: Duration::ZERO, why: Why::Overdue },
            }
        }
    }

    async fn watch(&mut self, mut child: Child) -> RemoteEnd {
        let (report, why) = tokio::select! {
            biased;
            _ = child.wait() => match child.is_over() {
                true => (StopReport::default(), Why::LeftBehind),
                false => {
                    let left_behind = MustEnd { grace: GRACE_WHEN_LEFT_BEHIND, why: Why::LeftBehind };
                    self.stop(&mut child, left_behind).await
                }
            },
            must_end = self.must_end() => self.stop(&mut child, must_end).await,
        };
        if why == Why::Orphaned {
            return RemoteEnd::SupervisionKilled;
        }
        let list = |processes: &[Process]| {
            processes.iter().map(|process| format!("{} ({})", process.name, process.pid)).collect()
        };
        RemoteEnd::Ended {
            exit_code: child.ended().map(crate::Ended::exit_code),
            stopped: list(&report.stopped),
            survivors: list(&report.survivors),
            is_overdue: why == Why::Overdue,
        }
    }

    /// Ends the tree, sooner if somebody says so meanwhile.
    async fn stop(&mut self, child: &mut Child, must_end: MustEnd) -> (StopReport, Why) {
        let MustEnd { grace, mut why } = must_end;
        let mut kill_at = Instant::now() + grace;
        loop {
            let grace = kill_at.saturating_duration_since(Instant::now());
            tokio::select! {
                report = child.stop(grace) => return (report, why),
                sooner = self.must_end(), if !grace.is_zero() => {
                    kill_at = kill_at.min(Instant::now() + sooner.grace);
                    why = why.max(sooner.why);
                }
            }
        }
    }
}

/// Resolves at this reading of the boot-time clock; never if there is none.
async fn boot_time(at: Option<Duration>) {
    let Some(at) = at else { return std::future::pending().await };
    loop {
        let now = clock_gettime(ClockId::Boottime);
        let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
        let left = at.saturating_sub(now);
        if left.is_zero() {
            return;
        }
        sleep(left.min(SLICE)).await;
    }
}
