//! The SQL: tables, by numbered migrations, and functions, which every migration makes anew.

/// The version of the tables: how many migrations there are.
pub(super) const VERSION: u32 = TABLES.len() as u32;

/// What makes the tables of each version from those of the one before.
pub(super) const TABLES: &[&str] =
    &[include_str!("sql/0001_locks.sql"), include_str!("sql/0002_builds.sql"), include_str!("sql/0003_plain_rows.sql")];

/// The functions, each after those that it needs to be made.
pub(super) const FUNCTIONS: &[&str] = &[
    include_str!("sql/functions/clock.sql"),
    include_str!("sql/functions/adopted.sql"),
    include_str!("sql/functions/steps.sql"),
    include_str!("sql/functions/decide.sql"),
    include_str!("sql/functions/apply.sql"),
    include_str!("sql/functions/due.sql"),
    include_str!("sql/functions/projects.sql"),
    include_str!("sql/functions/history.sql"),
    include_str!("sql/functions/builds.sql"),
    include_str!("sql/functions/by_hand.sql"),
    include_str!("sql/functions/callers.sql"),
    include_str!("sql/functions/keys.sql"),
    include_str!("sql/functions/refusals.sql"),
    include_str!("sql/functions/requests.sql"),
    include_str!("sql/functions/servers.sql"),
];

/// What begins a migration, and keeps two apart.
pub(super) const BEGIN: &str = include_str!("sql/begin.sql");

/// Checks the table to adopt, and makes what buildlock asks and tells it.
pub(super) const ADOPT: &str = include_str!("sql/adopt.sql");

/// The functions for a platform's own code.
pub(super) fn public() -> String {
    let short_way = |way: &str| include_str!("sql/short_way/start.sql").to_owned() + way;
    include_str!("sql/public.sql")
        .replace("{short way to lock}\n", &short_way(include_str!("sql/short_way/lock.sql")))
        .replace("{short way to unlock}\n", &short_way(include_str!("sql/short_way/unlock.sql")))
}

/// Who may what.
pub(super) const PRIVILEGES: &str = include_str!("sql/privileges.sql");

/// Changes the adopted table.
pub(super) const ADOPT_TABLE: &str = include_str!("sql/adopt_table.sql");

/// What is left to do after the commit.
pub(super) const AFTER: &str = include_str!("sql/after.sql");

/// Takes it all out again.
pub(super) const DOWN: &str = include_str!("sql/down.sql");
