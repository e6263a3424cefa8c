//! Locks in PostgreSQL: for many machines.
//!
//! The rules are SQL functions in the schema `buildlock`; here is what brings them into a database.

mod migrate;
mod script;
mod sql;

pub use self::migrate::{Migrated, migrate};
pub use self::script::{Adopt, migration, removal};
