//! Runs a command so that its whole process tree ends with whoever supervises it, whatever ends that,
//! SIGKILL included. Linux only. Nothing here knows of locks.
//!
//! ```text
//!   shell --> front       in the job's process group: what the shell knows, stops with Ctrl-Z
//!               |
//!               +--> supervisor   in a process group of its own: Ctrl-C, Ctrl-Z and kill %1 pass it by
//!                        |
//!                        +--> child ...   in the job's process group: has the terminal
//! ```
//!
//! Both the front and the supervisor are *child subreapers* (prctl(2)): an orphan below them becomes
//! their child, so whatever forked, changed its session or its process group can still be found.
//! When the front dies, the supervisor ends the tree; when the supervisor dies, the front does. When
//! both are killed at the same instant, the kernel still ends the direct child
//! (`PR_SET_PDEATHSIG`), but nobody is left to look for others.
//!
//! The terminal's own signals (Ctrl-C) reach the child from the kernel, as it is in the foreground
//! process group. What another process sends to the front alone is passed on to the child, so that
//! nothing arrives twice. A child that stops itself, as an editor or a shell may do, stops the front
//! too, so that the shell sees it; what continues one continues the other.
//!
//! A server's builds are supervised by the same two processes, which it starts for each build and
//! talks with over a socket; when the server dies the socket ends, and they end the tree. They are in a
//! session of their own, without a terminal. See [`remote`].

mod child;
mod front;
mod link;
mod processes;
pub mod remote;
mod terminal;
mod tree;

pub use child::{Child, Ended, SpawnError};
pub use front::{Role, stand_in_front, stand_in_front_apart};
pub use link::{Link, Listening, Message, Moment};
pub use processes::Process;
pub use tree::{StopReport, kill_marked};
