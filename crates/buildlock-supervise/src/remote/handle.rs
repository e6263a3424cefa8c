//! The server's side of the socket.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::mpsc;

use super::{Order, RemoteEnd};

/// A command under a supervision of its own, which ends the whole tree if this handle is dropped or its
/// process dies.
#[derive(Debug)]
pub struct RemoteChild {
    supervision: Child,
    orders: mpsc::UnboundedSender<Order>,
    reports: Lines<BufReader<OwnedReadHalf>>,
    end: Option<RemoteEnd>,
}

/// The command's output. It ends when the whole tree and its supervision have.
#[derive(Debug)]
pub struct Output {
    /// Its standard output.
    pub stdout: ChildStdout,
    /// Its standard error.
    pub stderr: ChildStderr,
}

impl RemoteChild {
    /// Starts the supervision: `supervision` is a program that calls [`supervise`](super::supervise)
    /// with the command, in the environment and the folder that the command is to have. The command
    /// finds `input` on its standard input.
    ///
    /// # Errors
    ///
    /// If the supervision cannot be started; whether the command could is in [`RemoteChild::wait`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn(mut supervision: Command, input: String) -> io::Result<(Self, Output)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        supervision.stdin(OwnedFd::from(theirs)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = supervision.spawn()?;
        // The command holds their end; with it closed here, the socket ends when they do.
        drop(supervision);
        let (Some(stdout), Some(stderr)) = (process.stdout.take(), process.stderr.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let (reports, writer) = UnixStream::from_std(ours)?.into_split();
        let (orders, receiver) = mpsc::unbounded_channel();
        tokio::spawn(pass_on(receiver, writer));
        let child = Self { supervision: process, orders, reports: BufReader::new(reports).lines(), end: None };
        child.order(Order::Start { input });
        Ok((child, Output { stdout, stderr }))
    }

    /// Has the whole tree ended: asked with SIGTERM, killed after the grace period. Repeated, the sooner
    /// end counts.
    pub fn stop(&self, grace: Duration) {
        self.order(Order::Stop { grace_ms: whole_millis(grace) });
    }

    /// Has the tree killed at this reading of the boot-time clock, whatever becomes of the server, unless
    /// more is allowed until then.
    pub fn allow_until(&self, boot_time: Duration) {
        self.order(Order::AllowUntil { boot_ms: whole_millis(boot_time) });
    }

    fn order(&self, order: Order) {
        // A supervision that is gone needs no orders; `wait` tells of it.
        let _ = self.orders.send(order);
    }

    /// Waits until everything has ended, the supervision too. Cancel-safe; may be called again.
    pub async fn wait(&mut self) -> RemoteEnd {
        if self.end.is_none() {
            let line = self.reports.next_line().await.ok().flatten();
            let end = line.and_then(|line| serde_json::from_str(&line).ok());
            self.end = Some(end.unwrap_or(RemoteEnd::SupervisionKilled));
        }
        // The socket ends with the last of the two processes.
        while let Ok(Some(_)) = self.reports.next_line().await {}
        // It has ended, or is about to: it has closed all that it had.
        let _ = self.supervision.wait().await;
        self.end.clone().unwrap_or(RemoteEnd::SupervisionKilled)
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Writes orders to the socket until the handle is dropped.
async fn pass_on(mut orders: mpsc::UnboundedReceiver<Order>, mut socket: OwnedWriteHalf) {
    while let Some(order) = orders.recv().await {
        let Ok(mut line) = serde_json::to_vec(&order) else { return };
        line.push(b'\n');
        if socket.write_all(&line).await.is_err() {
            return;
        }
    }
}
