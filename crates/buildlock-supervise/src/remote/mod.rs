//! A command that is supervised for a server: the supervision is two processes of its own, and the
//! server talks with them over a socket, one JSON message a line.
//!
//! ```text
//!   server ==socket==> front ==> supervisor ==> command ...
//! ```
//!
//! The socket is standard input of both; the command's output goes past them, straight to the server.
//! Whatever is killed, the rest ends the tree: the server's end of the socket closes with it, and the
//! front and the supervisor watch each other. Only if both of these are killed at the same instant does
//! the server have to look for what is left ([`kill_marked`](crate::kill_marked)).

mod handle;
mod supervisor;

use serde::{Deserialize, Serialize};

pub use self::handle::{Output, RemoteChild};
pub use self::supervisor::supervise;

/// What the server tells the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// Comes first: start, with this on standard input.
    Start { input: String },
    /// End the whole tree: ask, and after so many milliseconds kill. Repeated, the sooner end counts.
    Stop { grace_ms: u64 },
    /// Unless more is allowed by then, kill the whole tree at this reading of the boot-time clock.
    AllowUntil { boot_ms: u64 },
}

/// How a supervised command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemoteEnd {
    /// It could not be started.
    NotStarted {
        /// 127 if there is no such program, 126 if it cannot be executed.
        exit_code: u8,
        /// Why, in words for people.
        problem: String,
    },
    /// It has ended, and so has everything that it started.
    Ended {
        /// As a shell tells it: 128 + n for signal n. None if it lives on, among the survivors.
        exit_code: Option<u8>,
        /// Processes that had to be stopped, each as `NAME (ID)`: those that outlived the command
        /// itself, or all if it was to stop.
        stopped: Vec<String>,
        /// Those that could not be stopped: of another user, or stuck in the kernel.
        survivors: Vec<String>,
        /// Whether it was killed because nobody had allowed it to run so long.
        is_overdue: bool,
    },
    /// The supervision was killed. Whoever of it was left has ended the tree; if nobody was, some of it
    /// may live.
    SupervisionKilled,
}
