//! buildlock over HTTP: the lock's API, builds and their logs, and a page.
//!
//! No rule of the lock is written here. What a request may do is in `caller.rs`, how it fails in
//! `problem.rs`, what it reaches in `app.rs`.

mod app;
mod caller;
mod config;
mod page;
mod problem;

pub use app::ServerStore;
pub use config::{
    Builder, BuildsConfig, CommandBuilder, Config, ConfigError, OperationConfig, PASSED_ALWAYS, ServerConfig,
};
