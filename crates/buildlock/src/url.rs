//! A store's URL: the one name that a store has everywhere.

use std::sync::Arc;

use crate::{LockStore, SqliteStore, StoreError};

/// Opens the store with this URL: `sqlite:PATH`.
///
/// The path may be absolute or relative, and has no escapes: it is taken as it is.
///
/// # Errors
///
/// [`StoreError::BadUrl`] if the URL names no kind of store that this program knows; any other if
/// the store cannot be opened.
pub async fn open_store(url: &str) -> Result<Arc<dyn LockStore>, StoreError> {
    let bad = |problem| StoreError::BadUrl { url: url.to_owned(), problem };
    let (scheme, rest) = url.split_once(':').ok_or_else(|| bad("it has no kind, such as \"sqlite:\""))?;
    match scheme {
        "sqlite" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() || path.contains('\0') {
                return Err(bad("it has no path"));
            }
            Ok(Arc::new(SqliteStore::open(path).await?))
        }
        "postgres" | "postgresql" | "http" | "https" => Err(bad("this version knows only SQLite files")),
        _ => Err(bad("its kind is unknown")),
    }
}
