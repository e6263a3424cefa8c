//! `migrate`: makes a store, or brings it up to this version.

use buildlock::migrations;
use buildlock::postgres::{self, Adopt, Migrated};
use serde::Serialize;

use super::{print_json, print_line};
use crate::cli::{self, Global};
use crate::exit::Failure;
use crate::place;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MigratedJson<'a> {
    store: &'a str,
    version: u32,
    /// The table that is adopted, in PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    adopted: Option<&'a str>,
}

pub(crate) async fn migrate(global: &Global, options: cli::Migrate) -> Result<(), Failure> {
    let cli::Migrate { print, adopt, owner_column, down } = options;
    let url = place::store_url(global)?;
    let is_postgres = url.starts_with("postgres:") || url.starts_with("postgresql:");
    // To name a table is to speak of PostgreSQL, also where only its SQL is wanted.
    let is_meant = is_postgres || down || print && adopt.is_some();
    if owner_column.is_some() && adopt.is_none() {
        return Err(Failure::usage("--owner-column is of a table: name it too, as in --adopt public.projects"));
    }
    if adopt.is_some() && !is_meant {
        let problem = format!("{url} has no table to adopt; name a database: --store postgres://…");
        return Err(Failure::usage(problem));
    }
    let adopt = adopt.map(|table| Adopt { table, owner_column });
    match (print, is_meant) {
        (true, true) if down => print_line(postgres::removal().trim_end()),
        (true, true) => print_line(postgres::migration(adopt.as_ref()).trim_end()),
        (true, false) => print_line(migrations().trim_end()),
        (false, true) => {
            let migrated = postgres::migrate(&url, adopt.as_ref()).await?;
            tell_of_database(global, &without_password(&url), &migrated)
        }
        (false, false) => {
            // To open a store is to bring it up to date.
            let store = place::open(global).await?;
            tell(global, &MigratedJson { store: &url, version: store.version(), adopted: None })
        }
    }
}

fn tell(global: &Global, migrated: &MigratedJson<'_>) -> Result<(), Failure> {
    let MigratedJson { store, version, .. } = migrated;
    if global.json {
        return print_json(migrated);
    }
    if !global.quiet {
        eprintln!("{store} is at version {version}, the newest that this program knows");
    }
    Ok(())
}

fn tell_of_database(global: &Global, url: &str, migrated: &Migrated) -> Result<(), Failure> {
    let adopted = migrated.adopted.as_deref();
    tell(global, &MigratedJson { store: url, version: migrated.to, adopted })?;
    if global.json || global.quiet {
        return Ok(());
    }
    if let Some(table) = adopted {
        eprintln!("{table} is adopted: its columns build_status, locked_by and locked_at tell who builds what");
    }
    if migrated.has_supabase_migrations {
        let adopt = adopted.map(|table| format!(" --adopt {table}")).unwrap_or_default();
        eprintln!(
            "\nSupabase's own command keeps account of this database's migrations. So that it knows this one too:\n\n  \
             stamp=$(date -u +%Y%m%d%H%M%S)\n  \
             buildlock --store postgres: migrate{adopt} --print > supabase/migrations/${{stamp}}_buildlock.sql\n  \
             supabase migration repair --status applied $stamp\n\n\
             Where it is not applied yet, supabase db push applies it."
        );
    }
    Ok(())
}

/// The URL as others may see it.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((user, host)) = authority.rsplit_once('@') else { return url.to_owned() };
    let name = user.split(':').next().unwrap_or_default();
    // A password may also stand in the query.
    let path = match path.split_once('?') {
        Some((path, query)) => {
            let shown: Vec<_> = query.split('&').filter(|part| !part.starts_with("password=")).collect();
            format!("{path}?{}", shown.join("&"))
        }
        None => path.to_owned(),
    };
    format!("{scheme}://{name}@{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            ("postgres://ana:secret@db.example/app?sslmode=require", "postgres://ana@db.example/app?sslmode=require"),
            ("postgres://ana@db.example/app", "postgres://ana@db.example/app"),
            ("postgres://ana:s@cret@db.example:6543/app", "postgres://ana@db.example:6543/app"),
            ("postgres://ana@h/app?password=secret&sslmode=require", "postgres://ana@h/app?sslmode=require"),
            ("postgres://db.example/app", "postgres://db.example/app"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
