//! Counts for metrics. They are taken on a connection of its own that only reads: the writer is kept from
//! nothing.

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags};
use tokio::task::spawn_blocking;

use super::SqliteStore;
use crate::StoreError;
use crate::store::{CountStore, Counts};
use crate::tally::Tally;

#[async_trait]
impl CountStore for SqliteStore {
    fn begin_to_count(&self) {
        self.handle.shared.tally.get_or_init(Tally::new);
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let path = self.path().to_owned();
        let counted = {
            let path = path.clone();
            spawn_blocking(move || {
                let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                connection.query_row(include_str!("sql/counts.sql"), [], |row| {
                    Ok(Counts { held: row.get::<_, i64>(0)? as u64, waiting: row.get::<_, i64>(1)? as u64 })
                })
            })
        };
        match counted.await {
            Ok(counted) => counted.map_err(|error| StoreError::Unavailable { path, problem: error.to_string() }),
            Err(_) => Err(StoreError::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use buildlock_core::{Command, IfLocked, LockRequest};

    use super::*;
    use crate::LockStore;

    #[tokio::test]
    async fn what_is_held_and_who_waits_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("locks.db")).await.unwrap();
        assert_eq!(store.counts().await.unwrap(), Counts { held: 0, waiting: 0 });
        for (project, holder) in [("a", "ana"), ("a", "ben"), ("b", "ana"), ("a", "cleo")] {
            let request = LockRequest::new(holder.parse().unwrap(), "edit".parse().unwrap());
            let lock = Command::Lock { request, if_locked: IfLocked::Queue };
            store.apply(&project.parse().unwrap(), lock).await.unwrap();
        }
        assert_eq!(store.counts().await.unwrap(), Counts { held: 2, waiting: 2 });
    }
}
