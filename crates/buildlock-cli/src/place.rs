//! Where the store is and who the user is, when nobody says.

use std::path::Path;
use std::sync::Arc;

use buildlock::{Holder, LockStore, SqliteStore, StoreError, open_store};

use crate::cli::Global;
use crate::exit::Failure;

/// The store's URL: as it was given, or a file in the user's data folder.
pub(crate) fn store_url(global: &Global) -> Result<String, Failure> {
    if let Some(url) = &global.store {
        return Ok(url.clone());
    }
    let folder = dirs::data_dir()
        .ok_or_else(|| Failure::usage("there is no data folder for this user; name a store: --store sqlite:PATH"))?
        .join("buildlock");
    let path = folder.join("locks.db");
    let path = path.to_str().ok_or_else(|| {
        Failure::usage(format!("the data folder {} is no UTF-8; name a store: --store sqlite:PATH", folder.display()))
    })?;
    Ok(format!("sqlite:{path}"))
}

/// Opens the store.
pub(crate) async fn open(global: &Global) -> Result<Arc<dyn LockStore>, Failure> {
    Ok(open_store(&ready(global)?).await?)
}

/// Opens the store, which must be a file: what a server keeps in it is not for its clients.
pub(crate) async fn open_file(global: &Global) -> Result<SqliteStore, Failure> {
    Ok(buildlock::open_file(&ready(global)?).await?)
}

/// The store's URL; the folder of the default one is made if need be.
fn ready(global: &Global) -> Result<String, Failure> {
    let url = store_url(global)?;
    if global.store.is_none()
        && let Some(folder) = Path::new(url.trim_start_matches("sqlite:")).parent()
    {
        std::fs::create_dir_all(folder).map_err(|error| {
            Failure::from(StoreError::CannotOpen { path: folder.to_owned(), problem: error.to_string() })
        })?;
    }
    Ok(url)
}

/// The store's URL for a child that may change its working folder.
pub(crate) fn absolute(url: &str) -> String {
    let Some(path) = url.strip_prefix("sqlite:") else { return url.to_owned() };
    let path = path.strip_prefix("//").unwrap_or(path);
    let absolute = std::path::absolute(path).ok();
    absolute.and_then(|path| Some(format!("sqlite:{}", path.to_str()?))).unwrap_or_else(|| url.to_owned())
}

/// Who the user is to others: as it was given, as a server knows the key, or user@host.
pub(crate) fn holder(global: &Global, store: &dyn LockStore) -> Result<Holder, Failure> {
    match global.holder.as_ref().or_else(|| store.known_as()) {
        Some(holder) => Ok(holder.clone()),
        None => user_at_host(),
    }
}

fn user_at_host() -> Result<Holder, Failure> {
    let user = whoami::username().unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Holder::new(format!("{user}@{host}"))
        .map_err(|error| Failure::usage(format!("{error}; name yourself: --holder NAME")))
}
