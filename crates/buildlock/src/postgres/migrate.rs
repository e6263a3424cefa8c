//! Brings a database's schema `buildlock` to this program's version, in one transaction.

use tokio_postgres::{Client, NoTls};

use super::sql::{FUNCTIONS, TABLES, VERSION};
use crate::StoreError;

/// Keeps two migrations apart, whoever runs them. A number that nobody else is likely to use.
const MIGRATION_LOCK: i64 = 0x6275_696c_646c_6f63;

/// What a migration has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version of the tables before; 0: there were none.
    pub from: u32,
    /// The version now.
    pub to: u32,
}

/// The SQL that brings a database from this version of the tables to the newest, without the transaction
/// around it. Version 0 is a database without buildlock.
pub fn migration(from: u32) -> String {
    let tables = TABLES.iter().skip(from as usize).copied();
    let version = format!(
        "insert into buildlock.store (version)\nvalues ({VERSION})\non conflict (id) do update set version = excluded.version;\n"
    );
    tables.chain(FUNCTIONS.iter().copied()).chain([version.as_str()]).collect::<Vec<_>>().join("\n")
}

/// Brings the database with this URL to the newest version. Safe to run twice, and by two at once. What
/// cannot be applied changes nothing.
///
/// # Errors
///
/// [`StoreError`] if the database cannot be reached, is of a newer version, or refuses.
pub async fn migrate(url: &str) -> Result<Migrated, StoreError> {
    let protocol = |error: tokio_postgres::Error| StoreError::Protocol(describe(&error));
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(protocol)?;
    let connection = tokio::spawn(connection);
    let migrated = apply(&mut client).await.map_err(protocol);
    drop(client);
    // What the connection met with, the client was told.
    let _ = connection.await;
    migrated
}

async fn apply(client: &mut Client) -> Result<Migrated, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.execute("select pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await?;
    let exists: bool = transaction.query_one("select to_regclass('buildlock.store') is not null", &[]).await?.get(0);
    let from = if exists {
        let row = transaction.query_opt("select version from buildlock.store", &[]).await?;
        row.map_or(0, |row| row.get::<_, i32>(0).unsigned_abs())
    } else {
        0
    };
    transaction.batch_execute(&migration(from)).await?;
    transaction.commit().await?;
    Ok(Migrated { from, to: VERSION })
}

fn describe(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}
