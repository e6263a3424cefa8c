//! Prepared statements: one for each .sql file, under its name.

/// Makes a struct of prepared statements, and its constructor. One whose text is no file's is given
/// with its text.
macro_rules! statements {
    ($struct:ident $(($made:ident = $sql:expr))*: $($name:ident),* $(,)?) => {
        /// Prepared statements, for as long as the connection is open.
        pub(super) struct $struct<'c> {
            $($made: rusqlite::Statement<'c>,)*
            $($name: rusqlite::Statement<'c>,)*
        }

        impl<'c> $struct<'c> {
            pub(super) fn prepare(connection: &'c rusqlite::Connection) -> rusqlite::Result<Self> {
                Ok(Self {
                    $($made: connection.prepare_with_flags($sql, rusqlite::PrepFlags::SQLITE_PREPARE_PERSISTENT)?,)*
                    $($name: connection.prepare_with_flags(
                        include_str!(concat!("sql/", stringify!($name), ".sql")),
                        rusqlite::PrepFlags::SQLITE_PREPARE_PERSISTENT,
                    )?,)*
                })
            }
        }
    };
}

pub(super) use statements;
