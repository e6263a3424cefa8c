//! Where the store is and who the user is, when nobody says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use buildlock::{Holder, KeyStore, LockStore, PostgresStore, SqliteStore, StoreError, open_store};

use crate::cli::Global;
use crate::exit::Failure;

/// The store's URL: as it was given, or a file in the user's data folder.
pub(crate) fn store_url(global: &Global) -> Result<String, Failure> {
    if let Some(url) = &global.store {
        return Ok(url.clone());
    }
    let folder = data_folder()
        .ok_or_else(|| Failure::usage("there is no data folder for this user; name a store: --store sqlite:PATH"))?;
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

/// A store with all that a server keeps in it, which is not for the server's clients.
pub(crate) enum OwnStore {
    File(SqliteStore),
    Database(PostgresStore),
}

impl OwnStore {
    /// Opens the store, which must not be a server.
    pub(crate) async fn open(global: &Global) -> Result<Self, Failure> {
        let url = ready(global)?;
        if is_database(&url) {
            return Ok(Self::Database(PostgresStore::open(&url).await?));
        }
        Ok(Self::File(buildlock::open_file(&url).await?))
    }

    pub(crate) fn keys(&self) -> &dyn KeyStore {
        match self {
            Self::File(store) => store,
            Self::Database(store) => store,
        }
    }
}

/// Whether a URL is a database's.
pub(crate) fn is_database(url: &str) -> bool {
    url.starts_with("postgres:") || url.starts_with("postgresql:")
}

/// The folder with buildlock's own files, if this user has one.
pub(crate) fn data_folder() -> Option<PathBuf> {
    Some(dirs::data_dir()?.join("buildlock"))
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

/// Who the user is to others over a database, which knows nobody.
pub(crate) fn holder_of_database(global: &Global) -> Result<Holder, Failure> {
    global.holder.clone().map_or_else(user_at_host, Ok)
}

fn user_at_host() -> Result<Holder, Failure> {
    let user = whoami::username().unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Holder::new(format!("{user}@{host}"))
        .map_err(|error| Failure::usage(format!("{error}; name yourself: --holder NAME")))
}
