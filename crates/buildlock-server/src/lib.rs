//! buildlock over HTTP: the lock's API, builds and their logs, and a page.
//!
//! No rule of the lock is written here. What a request may do is in `caller.rs`, how it fails in
//! `problem.rs`, what it reaches in `app.rs`.

mod app;
mod caller;
mod problem;

pub use app::ServerStore;
