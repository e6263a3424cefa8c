//! Brings a database's schema `buildlock` to this program's version.

use std::sync::Arc;

use tokio_postgres::Client;

use super::address::Address;
use super::line::Line;
use super::script::{Adopt, migration};
use super::sql::VERSION;
use crate::StoreError;

/// What a migration has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The version of the tables before; 0: there were none.
    pub from: u32,
    /// The version now.
    pub to: u32,
    /// The adopted table, with its schema, quoted as in SQL where it must be.
    pub adopted: Option<String>,
    /// Whether Supabase's own command keeps account of this database's migrations. It knows nothing of this one.
    pub has_supabase_migrations: bool,
}

/// Brings the database with this URL to the newest version, and adopts the table, if one is named. Safe to run
/// twice, and by two at once. What cannot be applied changes nothing. Dropped, it is given up within a moment,
/// unless it was just done.
///
/// # Errors
///
/// [`StoreError`] if the database cannot be reached, is of a newer version, or refuses.
pub async fn migrate(url: &str, adopt: Option<&Adopt>) -> Result<Migrated, StoreError> {
    let address = Arc::new(Address::parse(url)?);
    let line = Line::connect(&address).await?;
    if !address.is_pooled {
        // Whoever goes away in the middle does not want it any more.
        line.run("set client_connection_check_interval = '100ms'").await?;
    }
    apply(line.client(), adopt).await.map_err(|error| StoreError::MigrationRefused(describe(&error)))
}

async fn apply(client: &Client, adopt: Option<&Adopt>) -> Result<Migrated, tokio_postgres::Error> {
    // The second is nobody's to look into but Supabase's own.
    let is_there = "select to_regclass('buildlock.store') is not null, \
                    exists (select from pg_catalog.pg_namespace where nspname = 'supabase_migrations')";
    let is_there = client.query_typed_one(is_there, &[]).await?;
    let (exists, has_supabase_migrations) = (is_there.get::<_, bool>(0), is_there.get(1));
    let from = if exists {
        let row = client.query_typed_opt("select version from buildlock.store", &[]).await?;
        row.map_or(0, |row| row.get::<_, i32>(0).unsigned_abs())
    } else {
        0
    };
    client.batch_execute(&migration(adopt)).await?;
    let adopted =
        "select format('%I.%I', table_schema, table_name) from buildlock.adoption where table_name is not null";
    let adopted = client.query_typed_opt(adopted, &[]).await?.map(|row| row.get(0));
    Ok(Migrated { from, to: VERSION, adopted, has_supabase_migrations })
}

/// What happened, and what to do.
fn describe(error: &tokio_postgres::Error) -> String {
    let Some(error) = error.as_db_error() else { return error.to_string() };
    [Some(error.message()), error.detail(), error.hint()].into_iter().flatten().collect::<Vec<_>>().join(". ")
}
