//! Between single columns and the types of `buildlock-core`. What does not fit was written by somebody else.

use std::fmt::Display;
use std::str::FromStr;

use buildlock_core::{EventKind, Holder, Message, Operation, ProjectId, Reason, RequestId, Timestamp, Token, Ttl};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use crate::store::EventId;

/// What is wrong with a row.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct Nonsense(pub(super) String);

impl Nonsense {
    pub(super) fn of(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

/// A row that is read column by column, from the first.
pub(super) struct Columns<'a> {
    row: &'a Row,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn of(row: &'a Row) -> Self {
        Self { row, next: 0 }
    }

    /// The next column as it is.
    pub(super) fn raw<T: FromSql<'a>>(&mut self) -> Result<T, Nonsense> {
        let column = self.next;
        self.next += 1;
        self.row.try_get(column).map_err(Nonsense::of)
    }

    /// The next column, which may be null.
    pub(super) fn optional<T: Column>(&mut self) -> Result<Option<T>, Nonsense> {
        self.raw::<Option<T::Sql>>()?.map(T::read).transpose()
    }

    /// The next column.
    pub(super) fn get<T: Column>(&mut self) -> Result<T, Nonsense> {
        let column = self.next;
        self.optional()?.ok_or_else(|| Nonsense(format!("the column {column} is null")))
    }

    /// The next column, which is an array.
    pub(super) fn array<T: Column>(&mut self) -> Result<Vec<T>, Nonsense> {
        self.raw::<Vec<T::Sql>>()?.into_iter().map(T::read).collect()
    }
}

/// A value that has a column.
pub(super) trait Column: Sized {
    /// What it is in SQL.
    type Sql: for<'a> FromSql<'a>;

    fn read(value: Self::Sql) -> Result<Self, Nonsense>;
}

macro_rules! texts {
    ($($name:ty),*) => {$(
        impl Column for $name {
            type Sql = String;
            fn read(value: String) -> Result<Self, Nonsense> {
                <$name>::from_str(&value).map_err(Nonsense::of)
            }
        }
    )*};
}

texts!(ProjectId, Holder, Operation, Message, Reason);

impl Column for EventKind {
    type Sql = String;
    fn read(value: String) -> Result<Self, Nonsense> {
        let kind = EventKind::ALL.into_iter().find(|kind| kind.as_str() == value);
        kind.ok_or_else(|| Nonsense(format!("{value:?} is no kind of event")))
    }
}

impl Column for u64 {
    type Sql = i64;
    fn read(value: i64) -> Result<Self, Nonsense> {
        u64::try_from(value).map_err(Nonsense::of)
    }
}

impl Column for Timestamp {
    type Sql = i64;
    fn read(value: i64) -> Result<Self, Nonsense> {
        u64::read(value).map(Timestamp::from_millis)
    }
}

impl Column for EventId {
    type Sql = i64;
    fn read(value: i64) -> Result<Self, Nonsense> {
        u64::read(value).map(EventId)
    }
}

impl Column for Token {
    type Sql = i64;
    fn read(value: i64) -> Result<Self, Nonsense> {
        Token::new(u64::read(value)?).map_err(Nonsense::of)
    }
}

impl Column for Ttl {
    type Sql = i64;
    fn read(value: i64) -> Result<Self, Nonsense> {
        Ttl::new(std::time::Duration::from_millis(u64::read(value)?)).map_err(Nonsense::of)
    }
}

impl Column for RequestId {
    type Sql = Uuid;
    fn read(value: Uuid) -> Result<Self, Nonsense> {
        Ok(value.into())
    }
}

/// A number as SQL has it. What does not fit is larger than anything that it is compared with.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
