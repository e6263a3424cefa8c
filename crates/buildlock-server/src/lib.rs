//! buildlock over HTTP: the lock's API, builds and their logs, and a page.
//!
//! No rule of the lock is written here. [`Server`] is what a program starts. What all requests share
//! is in `app.rs`; who sends one and what they may do in `caller.rs`, how it fails in `problem.rs`, the
//! routes and what they have in common in `http/`.

mod app;
mod auth;
mod builds;
mod caller;
mod config;
mod feed;
mod http;
mod jwt;
mod limits;
mod linger;
mod metrics;
mod operator;
mod owner;
mod page;
mod problem;
mod serve;
mod session;
mod sites;
mod systemd;

pub use app::ServerStore;
pub use builds::SupervisorProgram;
pub use config::{
    AuthConfig, Builder, BuildsConfig, CommandBuilder, Config, ConfigError, Jwks, JwtConfig, JwtSecret,
    OperationConfig, PASSED_ALWAYS, ServerConfig, SitesConfig,
};
pub use limits::Limits;
pub use operator::{OPERATOR_KEY_VARIABLE, OperatorKey};
pub use owner::{StoreOwner, server_of};
pub use serve::{Options, ServeError, Server, Stop};
