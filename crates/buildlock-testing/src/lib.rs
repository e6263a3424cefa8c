//! For buildlock's own tests: a PostgreSQL of their own.
//!
//! A test asks for a database: [`TestPg::fresh`], [`TestPg::empty`], [`TestPg::emulated`]. The cluster is shared by
//! all tests of one target folder, started by the first and ended soon after the last has gone, even by SIGKILL.
//! A test that stops the cluster, or wants other settings, starts a [`TestCluster`] of its own. The programs are
//! looked for in `$PATH` and where Debian keeps them. [`SERVER_VARIABLE`] names a server to use instead.

mod cluster;
mod database;
mod pooler;
mod programs;
mod shared;
mod standby;

pub use cluster::{ClusterOptions, TestCluster};
pub use database::TestPg;
pub use pooler::TestPooler;

/// The variable with the URL of a PostgreSQL, and of a user in it who may make databases and roles.
pub const SERVER_VARIABLE: &str = "BUILDLOCK_TEST_POSTGRES";

/// The user who may do everything in a cluster made here. It is not called `postgres`, which on Supabase is a
/// user who may not.
pub const SUPERUSER: &str = "supabase_admin";
