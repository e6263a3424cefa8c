//! Locks in PostgreSQL: the store for many machines.
//!
//! The rules are SQL functions in the schema `buildlock`, which [`migrate`] brings into a database. Here are the
//! connections, and what is sent over them: each request is one statement, which is one transaction, so that a
//! connection may be another one for each of them, as through a pooler in transaction mode.

mod address;
mod builds;
mod checkup;
mod columns;
mod counts;
mod database;
mod frontier;
mod inbox;
mod keys;
mod line;
mod locks;
mod migrate;
mod news;
mod rows;
mod script;
mod sql;
mod statement;
mod text;
mod tls;
mod trouble;

use std::fmt;
use std::sync::Arc;

pub use self::checkup::{checkup, shown_url};
use self::database::{Database, Shared};
pub use self::migrate::{Migrated, migrate};
pub use self::script::{Adopt, migration, removal};
use crate::StoreError;
use crate::sqlite::Clock;

/// A store of locks in a PostgreSQL database, which any number of programs and servers share.
///
/// A cheap handle: clones share the connections and the thread that they live on, which ends when the last of them
/// is dropped, after what was asked has been answered.
///
/// While the database is away, requests wait for it, for some seconds at most; a request whose answer was lost
/// with its connection is sent again, as every request can be.
#[derive(Clone)]
pub struct PostgresStore {
    database: Arc<Database>,
}

impl PostgresStore {
    /// Opens the database with this URL, `postgres://USER:PASSWORD@HOST:PORT/DATABASE?…`, which [`migrate`] must
    /// have prepared.
    ///
    /// The parameters are libpq's, among them `sslmode` (`disable`, `prefer`, `require`, `verify-ca`,
    /// `verify-full`) and `sslrootcert` (a file, or `system`). A password may also come from the variable
    /// `PGPASSWORD`. `pgbouncer=true`, or the port 6543, says that a pooler in transaction mode is before the
    /// database; `connection_limit` is the most connections that are made, beside one that listens.
    ///
    /// # Errors
    ///
    /// [`StoreError::NeedsMigration`] if buildlock's tables are not there, or older than this program;
    /// [`StoreError::NewerVersion`] if they are newer; [`StoreError::Unavailable`] if the database cannot be reached,
    /// [`StoreError::NotAllowed`] if it does not let us in, or is not who it should be.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { database: Arc::new(Database::open(url, None).await?) })
    }

    /// Opens the database with a clock of one's own, whose wall time is the store's, for tests of what takes long. It
    /// is read before the project's row is locked: where two handles ask about one project at once, and the clock moves,
    /// the later decision may have the earlier time.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::open`].
    pub async fn open_with_clock(url: &str, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Ok(Self { database: Arc::new(Database::open(url, Some(clock)).await?) })
    }

    /// The database's URL, without what is secret.
    pub fn url(&self) -> &str {
        &self.shared().address.shown
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.database.shared
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresStore").field(&self.url()).finish()
    }
}
