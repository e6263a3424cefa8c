//! Between columns and the types of `buildlock-core` and of this crate.

use buildlock_core::{EventKind, Holder, Message, Operation, ProjectId, Reason, RequestId, Timestamp, Token, Ttl};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, Value, ValueRef};
use rusqlite::{Result, Row, ToSql};
use uuid::Uuid;

use crate::builds::{BuildId, BuildStatus, LogStream};
use crate::keys::{KeyHash, Role};
use crate::store::EventId;

/// Whether a value was read that no store would have written.
pub(super) fn is_nonsense(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..))
}

/// The rows that can be read: one that was spoilt must not keep all others from being read.
pub(super) fn readable<T>(rows: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let mut good = Vec::new();
    for row in rows {
        match row {
            Err(error) if is_nonsense(&error) => tracing::warn!(%error, "a row that makes no sense is left out"),
            row => good.push(row?),
        }
    }
    Ok(good)
}

/// A column that may be null.
pub(super) fn optional<T>(row: &Row<'_>, column: usize) -> Result<Option<T>>
where
    Sql<T>: FromSql,
{
    Ok(row.get::<_, Option<Sql<T>>>(column)?.map(|Sql(value)| value))
}

/// A value of `buildlock-core` as a column. What is read is checked as strictly as what users send:
/// a file may have been written by anybody.
pub(super) struct Sql<T>(pub(super) T);

macro_rules! integer {
    ($type:ty, $to:expr, $from:expr) => {
        impl ToSql for Sql<$type> {
            fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
                let number: u64 = $to(self.0);
                Ok(ToSqlOutput::Owned(Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))))
            }
        }

        impl FromSql for Sql<$type> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let number = u64::try_from(value.as_i64()?).map_err(FromSqlError::other)?;
                $from(number).map(Sql)
            }
        }
    };
}

integer!(Timestamp, Timestamp::as_millis, |ms| Ok(Timestamp::from_millis(ms)));
integer!(Token, Token::get, |number| Token::new(number).map_err(FromSqlError::other));
integer!(EventId, |id: EventId| id.0, |id| Ok(EventId(id)));

macro_rules! text {
    ($($type:ty),*) => {$(
        impl FromSql for Sql<$type> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_str()?.parse().map(Sql).map_err(FromSqlError::other)
            }
        }
    )*};
}

text!(ProjectId, Holder, Operation, Message, Reason);

impl FromSql for Sql<Ttl> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let ms = u64::try_from(value.as_i64()?).map_err(FromSqlError::other)?;
        Ttl::new(std::time::Duration::from_millis(ms)).map(Sql).map_err(FromSqlError::other)
    }
}

macro_rules! uuid {
    ($($type:ty),*) => {$(
        impl ToSql for Sql<$type> {
            fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.0.as_uuid().as_bytes())))
            }
        }

        impl FromSql for Sql<$type> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                Uuid::from_slice(value.as_blob()?).map(|id| Sql(id.into())).map_err(FromSqlError::other)
            }
        }
    )*};
}

uuid!(RequestId, BuildId);

macro_rules! named {
    ($($type:ty: $what:literal),* $(,)?) => {$(
        impl FromSql for Sql<$type> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let name = value.as_str()?;
                let known = <$type>::ALL.into_iter().find(|known| known.as_str() == name);
                known.map(Sql).ok_or_else(|| FromSqlError::Other(format!("unknown {} {name:?}", $what).into()))
            }
        }
    )*};
}

named!(
    EventKind: "kind of event",
    BuildStatus: "status of a build",
    LogStream: "stream of a log",
    Role: "role",
);

impl ToSql for Sql<KeyHash> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0.0)))
    }
}

impl FromSql for Sql<KeyHash> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_blob()?.try_into().map(|hash| Sql(KeyHash(hash))).map_err(FromSqlError::other)
    }
}
