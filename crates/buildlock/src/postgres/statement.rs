//! The statements that a store sends: each calls one function, or reads, and is a transaction of its own.

use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};

/// How long a statement may take. What the lock is asked takes milliseconds, and a second when the disk is
/// slow.
const USUAL_PATIENCE: Duration = Duration::from_secs(4);

/// How long one may take that reads much, as an operator's do.
const LONG_PATIENCE: Duration = Duration::from_secs(60);

/// A statement, with the types of its parameters: a pooler cannot be asked for them.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: &'static str,
    pub(super) types: &'static [Type],
    pub(super) patience: Duration,
    /// Whether it may be sent again when its answer was lost.
    pub(super) is_repeatable: bool,
}

/// The values of a statement's parameters.
pub(super) type Parameters = Vec<Box<dyn ToSql + Sync + Send>>;

impl Statement {
    /// A statement that changes nothing, or the same when it is sent again.
    pub(super) const fn new(sql: &'static str, types: &'static [Type]) -> Self {
        Self { sql, types, patience: USUAL_PATIENCE, is_repeatable: true }
    }

    /// It would do more when it is sent again.
    pub(super) const fn once(self) -> Self {
        Self { is_repeatable: false, ..self }
    }

    /// It may take long.
    pub(super) const fn patient(self) -> Self {
        Self { patience: LONG_PATIENCE, ..self }
    }
}

/// The values of a statement's parameters, each of any type that SQL knows.
macro_rules! parameters {
    ($($value:expr),* $(,)?) => {
        vec![$(Box::new($value) as Box<dyn tokio_postgres::types::ToSql + Sync + Send>),*]
    };
}
pub(super) use parameters;

pub(super) static APPLY: Statement = Statement::new(
    include_str!("sql/calls/apply.sql"),
    &[
        Type::INT8,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::UUID_ARRAY,
        Type::INT8_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::INT8_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
    ],
);
pub(super) static PROJECT_STATUS: Statement =
    Statement::new(include_str!("sql/calls/project_status.sql"), &[Type::INT8, Type::TEXT]);
pub(super) static PROJECTS: Statement =
    Statement::new(include_str!("sql/calls/projects.sql"), &[Type::INT8, Type::TEXT, Type::INT4]).patient();
pub(super) static CREATE_PROJECT: Statement =
    Statement::new(include_str!("sql/calls/create_project.sql"), &[Type::INT8, Type::TEXT, Type::TEXT]);
pub(super) static DELETE_PROJECT: Statement =
    Statement::new(include_str!("sql/calls/delete_project.sql"), &[Type::INT8, Type::TEXT, Type::TEXT]);
pub(super) static HISTORY: Statement =
    Statement::new(include_str!("sql/calls/history.sql"), &[Type::TEXT, Type::INT8, Type::INT4]).patient();
pub(super) static EVENTS_AFTER: Statement =
    Statement::new(include_str!("sql/calls/events_after.sql"), &[Type::INT8, Type::INT4]).patient();
pub(super) static SETTLE_DUE: Statement =
    Statement::new(include_str!("sql/calls/settle_due.sql"), &[Type::INT8, Type::INT4]).patient();
pub(super) static RETENTION: Statement = Statement::new(include_str!("sql/calls/retention.sql"), &[]);
pub(super) static SET_RETENTION: Statement =
    Statement::new(include_str!("sql/calls/set_retention.sql"), &[Type::INT8, Type::INT8]);
pub(super) static COUNTS: Statement = Statement::new(include_str!("sql/calls/counts.sql"), &[]).patient();
pub(super) static NEWEST: Statement = Statement::new(include_str!("sql/calls/newest.sql"), &[]);
pub(super) static FRONTIER: Statement =
    Statement::new(include_str!("sql/calls/frontier.sql"), &[Type::INT8, Type::INT8]);
pub(super) static HAPPENED: Statement =
    Statement::new(include_str!("sql/calls/happened.sql"), &[Type::INT8, Type::INT8]);
pub(super) static TAKERS: Statement = Statement::new(include_str!("sql/calls/takers.sql"), &[]);
pub(super) static LOOK: Statement =
    Statement::new(include_str!("sql/calls/look.sql"), &[Type::UUID_ARRAY, Type::INT8_ARRAY]);
pub(super) static VERSION_OF: Statement = Statement::new(include_str!("sql/calls/version.sql"), &[]);
