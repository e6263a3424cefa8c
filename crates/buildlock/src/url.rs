//! A store's URL: the one name that a store has everywhere.

use std::sync::Arc;

use crate::{LockStore, PostgresStore, RemoteStore, SqliteStore, StoreError};

/// Opens the store with this URL: `sqlite:PATH`, `postgres://USER@HOST/DATABASE`, or a server's `https://HOST`.
///
/// The path may be absolute or relative, and has no escapes: it is taken as it is. A server's key is
/// taken from the environment variable `BUILDLOCK_API_KEY`.
///
/// # Errors
///
/// [`StoreError::BadUrl`] if the URL names no kind of store that this program knows; any other if
/// the store cannot be opened.
pub async fn open_store(url: &str) -> Result<Arc<dyn LockStore>, StoreError> {
    let bad = |problem: &'static str| StoreError::BadUrl { url: url.to_owned(), problem: problem.into() };
    let (scheme, _) = url.split_once(':').ok_or_else(|| bad("it has no kind, such as \"sqlite:\""))?;
    match scheme {
        "sqlite" => Ok(Arc::new(open_file(url).await?)),
        "http" | "https" => Ok(Arc::new(RemoteStore::open(url).await?)),
        "postgres" | "postgresql" => Ok(Arc::new(PostgresStore::open(url).await?)),
        _ => Err(bad("its kind is unknown")),
    }
}

/// Opens the file with this URL, `sqlite:PATH`, which has more to it than locks.
///
/// # Errors
///
/// As [`open_store`]; [`StoreError::BadUrl`] if the URL names no file.
pub async fn open_file(url: &str) -> Result<SqliteStore, StoreError> {
    let bad = |problem: &'static str| StoreError::BadUrl { url: url.to_owned(), problem: problem.into() };
    let path = url.strip_prefix("sqlite:").ok_or_else(|| bad("it is no file"))?;
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.contains('\0') {
        return Err(bad("it has no path"));
    }
    SqliteStore::open(path).await
}
