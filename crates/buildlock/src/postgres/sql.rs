//! The SQL: tables, by numbered migrations, and functions, which every migration makes anew.

/// The version of the tables: how many migrations there are.
pub(super) const VERSION: u32 = TABLES.len() as u32;

/// What makes the tables of each version from those of the one before.
pub(super) const TABLES: &[&str] = &[include_str!("sql/0001_locks.sql"), include_str!("sql/0002_builds.sql")];

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
    include_str!("sql/functions/keys.sql"),
    include_str!("sql/functions/servers.sql"),
];
