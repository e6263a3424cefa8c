//! One build per project: never two at once, never stuck.

mod error;
mod sqlite;
mod store;

pub use buildlock_core::*;

pub use error::StoreError;
pub use sqlite::{Clock, SqliteStore, SystemClock};
pub use store::*;
