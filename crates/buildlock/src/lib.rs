//! One build per project: never two at once, never stuck.
//!
//! A platform that builds projects on request asks buildlock before each build. It answers with a
//! [lease](LeaseGuard), or with who is in the way. A lease ends by itself when its holder is gone,
//! carries a fencing [`Token`], and is handed on to whoever [waits](LockService::lock) first.
//!
//! ```
//! use buildlock::{LockError, LockRequest, LockService, SqliteStore, Wait};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("locks.db");
//! let service = LockService::new(SqliteStore::open(path).await?);
//! let project = "my-site".parse()?;
//!
//! let ana = LockRequest::new("ana".parse()?, "generate".parse()?);
//! let lease = service.lock(&project, ana, Wait::NONE).await?;
//!
//! let ben = LockRequest::new("ben".parse()?, "edit".parse()?);
//! let Err(LockError::Locked(busy)) = service.lock(&project, ben, Wait::NONE).await else { panic!() };
//! assert_eq!(busy.lease.holder.as_str(), "ana");
//! assert_eq!(busy.lease.token, lease.token);
//! # Ok(()) }
//! ```
//!
//! - [`LockService`] is what a program embeds.
//! - [`LockStore`] is what it stands on: [`SqliteStore`], a file that several processes share,
//!   [`PostgresStore`], a database that several machines share, or [`RemoteStore`], a server.
//! - The rules of the lock are in `buildlock-core`, whose types are here too.

mod answers;
mod builds;
mod error;
mod keys;
pub mod postgres;
mod remote;
mod service;
mod sqlite;
mod store;
mod tally;
mod url;
mod watches;
pub mod wire;

pub use buildlock_core::*;

pub use builds::{
    AbandonedBuild, Build, BuildEnd, BuildId, BuildProgress, BuildRetention, BuildServer, BuildStatus, BuildStore,
    LogLine, LogStream, NewBuild, SharedBuilds,
};
pub use error::StoreError;
pub use keys::{ApiKey, KeyHash, KeyStore, Role, fresh_key};
pub use postgres::PostgresStore;
pub use remote::{API_KEY_VARIABLE, RemoteStore, http_client};
pub use service::{Changes, LeaseGuard, LockError, LockService, Loss};
pub use sqlite::{Clock, SqliteStore, SystemClock, migrations, since_boot};
pub use store::{
    Answer, CountStore, Counts, Deleted, EventId, Finding, Grant, LockStore, News, Recorded, Retention, Status,
    Verdict, Watcher,
};
pub use url::{open_file, open_store};
