//! The operator's own key, which a server makes when it first starts on a store. It stands in a file that
//! its owner alone can read, and is never shown.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use buildlock::{Holder, KeyHash, KeyStore, Role, fresh_key};

use crate::owner::beside;
use crate::serve::ServeError;

/// The operator's key of a store.
#[derive(Debug)]
pub struct OperatorKey {
    /// The file in which it stands.
    pub path: PathBuf,
    /// Its hash.
    pub hash: KeyHash,
}

impl OperatorKey {
    /// Where the key of the store at this path stands.
    pub fn path(store: &Path) -> PathBuf {
        beside(store, ".operator-key")
    }

    /// Finds the key of the store at this path. If there is none, or the one in the file was revoked, one is
    /// made that is the owner's.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if the store cannot answer, or the file cannot be read or written.
    pub async fn find_or_make(keys: &dyn KeyStore, store: &Path, owner: &Holder) -> Result<Self, ServeError> {
        let path = Self::path(store);
        let failed = |error| ServeError::Beside { path: path.clone(), error };
        match fs::read_to_string(&path) {
            Ok(key) => {
                let hash = KeyHash::of(key.trim());
                if keys.key(hash).await?.is_some_and(|key| key.role == Role::Operator) {
                    fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
                    return Ok(Self { path, hash });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let key = fresh_key().map_err(failed)?;
        let hash = KeyHash::of(&key);
        // The file first: a key on record that nobody has would stay for ever.
        write_alone(&path, &format!("{key}\n")).map_err(failed)?;
        keys.add_key(hash, owner, Role::Operator).await?;
        Ok(Self { path, hash })
    }
}

/// Writes a file that only its owner can read, at no moment anybody else, and at no moment half of it.
fn write_alone(path: &Path, text: &str) -> io::Result<()> {
    let new = beside(path, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use buildlock::SqliteStore;

    use super::*;

    #[tokio::test]
    async fn the_key_is_made_once_and_again_when_it_was_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks.db");
        let store = SqliteStore::open(&path).await.unwrap();
        let ana = "ana@laptop".parse().unwrap();
        let first = OperatorKey::find_or_make(&store, &path, &ana).await.unwrap();
        assert_eq!(fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o600);

        fs::set_permissions(&first.path, Permissions::from_mode(0o644)).unwrap();
        let same = OperatorKey::find_or_make(&store, &path, &ana).await.unwrap();
        assert!(first.hash == same.hash);
        assert_eq!(fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o600);

        let key = store.key(first.hash).await.unwrap().unwrap();
        assert_eq!((key.owner, key.role), (ana.clone(), Role::Operator));
        store.revoke_key(key.number).await.unwrap();
        let second = OperatorKey::find_or_make(&store, &path, &ana).await.unwrap();
        assert!(first.hash != second.hash);
        assert_eq!(store.key(first.hash).await.unwrap(), None);
        assert!(store.key(second.hash).await.unwrap().is_some());
    }
}
