//! Brings a database's schema `buildlock` to this program's version.

use tokio_postgres::{Client, NoTls};

use super::script::{Adopt, migration};
use super::sql::VERSION;
use crate::StoreError;

/// What a migration has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version of the tables before; 0: there were none.
    pub from: u32,
    /// The version now.
    pub to: u32,
}

/// Brings the database with this URL to the newest version, and adopts the table, if one is named. Safe to run
/// twice, and by two at once. What cannot be applied changes nothing.
///
/// # Errors
///
/// [`StoreError`] if the database cannot be reached, is of a newer version, or refuses.
pub async fn migrate(url: &str, adopt: Option<&Adopt>) -> Result<Migrated, StoreError> {
    let protocol = |error: tokio_postgres::Error| StoreError::Protocol(describe(&error));
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(protocol)?;
    let connection = tokio::spawn(connection);
    let migrated = apply(&client, adopt).await.map_err(protocol);
    drop(client);
    // What the connection met with, the client was told.
    let _ = connection.await;
    migrated
}

async fn apply(client: &Client, adopt: Option<&Adopt>) -> Result<Migrated, tokio_postgres::Error> {
    let exists: bool = client.query_one("select to_regclass('buildlock.store') is not null", &[]).await?.get(0);
    let from = if exists {
        let row = client.query_opt("select version from buildlock.store", &[]).await?;
        row.map_or(0, |row| row.get::<_, i32>(0).unsigned_abs())
    } else {
        0
    };
    client.batch_execute(&migration(adopt)).await?;
    Ok(Migrated { from, to: VERSION })
}

fn describe(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}
