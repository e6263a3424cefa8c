//! The operator's own key: one that is given to the server, or one that it makes when it first starts on a
//! store. That stands in a file that its owner alone can read, and is never shown.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use buildlock::{ApiKey, Holder, KeyHash, KeyStore, Role, fresh_key};

use crate::owner::beside;
use crate::serve::ServeError;

/// The variable with an operator's key for a server to start with.
pub const OPERATOR_KEY_VARIABLE: &str = "BUILDLOCK_OPERATOR_KEY";

/// What a key must have at least: whoever guesses it may do everything. `openssl rand -hex 32` makes 64.
const MIN_KEY_CHARS: usize = 32;

/// The operator's key of a store.
#[derive(Debug)]
pub struct OperatorKey {
    /// The file in which it stands; none if it was given.
    pub path: Option<PathBuf>,
    /// Its hash.
    pub hash: KeyHash,
}

impl OperatorKey {
    /// Where the key of the store in this file stands.
    pub fn path(store: &Path) -> PathBuf {
        beside(store, ".operator-key")
    }

    /// Takes a key that was given, and puts it on record as the owner's if it is not there yet.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if the store cannot answer, or the key is no operator's.
    pub async fn given(keys: &dyn KeyStore, key: &str, owner: &Holder) -> Result<Self, ServeError> {
        if key.chars().count() < MIN_KEY_CHARS {
            let problem =
                format!("is too short; allowed: {MIN_KEY_CHARS} characters or more, as from \"openssl rand -hex 32\"");
            return Err(ServeError::OperatorKey { problem });
        }
        let hash = KeyHash::of(key);
        match keys.add_key(hash, owner, Role::Operator).await? {
            Some(ApiKey { role: Role::Operator, .. }) => Ok(Self { path: None, hash }),
            Some(ApiKey { owner, role, .. }) => {
                let problem =
                    format!("is on record as the key of {owner}, with the role {:?}; give another", role.as_str());
                Err(ServeError::OperatorKey { problem })
            }
            None => Err(ServeError::OperatorKey { problem: "was revoked; give another".to_owned() }),
        }
    }

    /// The key in this file. If there is none, or the one in the file was revoked, one is made that is the owner's.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if the store cannot answer, or the file cannot be read or written.
    pub async fn find_or_make(keys: &dyn KeyStore, path: PathBuf, owner: &Holder) -> Result<Self, ServeError> {
        if let Some(hash) = find(keys, &path).await? {
            return Ok(Self { path: Some(path), hash });
        }
        make(keys, path, owner).await
    }

    /// The same for a store that servers on many machines share: the first of them makes a key. None if the file has
    /// none, and the store has an operator already.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if the store cannot answer, or the file cannot be read or written.
    pub async fn find_or_make_first(
        keys: &dyn KeyStore,
        path: PathBuf,
        owner: &Holder,
    ) -> Result<Option<Self>, ServeError> {
        if let Some(hash) = find(keys, &path).await? {
            return Ok(Some(Self { path: Some(path), hash }));
        }
        if keys.keys().await?.iter().any(|key| key.role == Role::Operator) {
            // Another server on this machine may have written the file meanwhile, before the key was on record.
            return Ok(find(keys, &path).await?.map(|hash| Self { path: Some(path), hash }));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| ServeError::Beside { path: folder.to_owned(), error })?;
        }
        make(keys, path, owner).await.map(Some)
    }
}

/// The hash of the key in this file, if it is an operator's.
async fn find(keys: &dyn KeyStore, path: &Path) -> Result<Option<KeyHash>, ServeError> {
    let failed = |error| ServeError::Beside { path: path.to_owned(), error };
    let key = match fs::read_to_string(path) {
        Ok(key) => key,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let hash = KeyHash::of(key.trim());
    if keys.key(hash).await?.is_none_or(|key| key.role != Role::Operator) {
        return Ok(None);
    }
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(Some(hash))
}

async fn make(keys: &dyn KeyStore, path: PathBuf, owner: &Holder) -> Result<OperatorKey, ServeError> {
    let failed = |error| ServeError::Beside { path: path.clone(), error };
    let key = fresh_key().map_err(failed)?;
    let hash = KeyHash::of(&key);
    // The file first: a key on record that nobody has would stay for ever.
    write_alone(&path, &format!("{key}\n")).map_err(failed)?;
    keys.add_key(hash, owner, Role::Operator).await?;
    Ok(OperatorKey { path: Some(path), hash })
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

    async fn store() -> (tempfile::TempDir, SqliteStore, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("locks.db")).await.unwrap();
        let path = folder.path().join("keys").join("operator-key");
        (folder, store, path)
    }

    fn ana() -> Holder {
        "ana@laptop".parse().unwrap()
    }

    #[tokio::test]
    async fn the_key_is_made_once_and_again_when_it_was_revoked() {
        let (folder, store, _) = store().await;
        let path = folder.path().join("operator-key");
        let find_or_make = async || OperatorKey::find_or_make(&store, path.clone(), &ana()).await.unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let first = find_or_make().await;
        assert_eq!((first.path.as_ref(), mode()), (Some(&path), 0o600));

        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let same = find_or_make().await;
        assert!(first.hash == same.hash);
        assert_eq!(mode(), 0o600);

        let key = store.key(first.hash).await.unwrap().unwrap();
        assert_eq!((key.owner, key.role), (ana(), Role::Operator));
        store.revoke_key(key.number).await.unwrap();
        let second = find_or_make().await;
        assert!(first.hash != second.hash);
        assert_eq!(store.key(first.hash).await.unwrap(), None);
        assert!(store.key(second.hash).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn of_servers_that_share_a_store_the_first_makes_a_key() {
        let (folder, store, path) = store().await;
        let find_or_make =
            async |path: &Path| OperatorKey::find_or_make_first(&store, path.to_owned(), &ana()).await.unwrap();
        let first = find_or_make(&path).await.unwrap();
        assert!(find_or_make(&path).await.unwrap().hash == first.hash);
        let elsewhere = folder.path().join("elsewhere").join("operator-key");
        assert!(find_or_make(&elsewhere).await.is_none());
        assert!(!elsewhere.exists());
        assert_eq!(store.keys().await.unwrap().len(), 1);

        let number = store.key(first.hash).await.unwrap().unwrap().number;
        store.revoke_key(number).await.unwrap();
        assert!(find_or_make(&elsewhere).await.unwrap().hash != first.hash);
    }

    #[tokio::test]
    async fn a_key_that_is_given_is_the_operators_unless_it_is_somebody_elses() {
        let (_folder, store, _) = store().await;
        let given = async |key: &str| OperatorKey::given(&store, key, &ana()).await.map_err(|error| error.to_string());
        let key = "k".repeat(MIN_KEY_CHARS);
        for _ in 0..2 {
            let first = given(&key).await.unwrap();
            assert_eq!(first.path, None);
            assert_eq!(store.key(first.hash).await.unwrap().unwrap().role, Role::Operator);
        }
        assert!(given(&key[1..]).await.unwrap_err().contains("is too short"));
        store.revoke_key(1).await.unwrap();
        assert!(given(&key).await.unwrap_err().contains("was revoked"));
        let users = fresh_key().unwrap();
        store.add_key(KeyHash::of(&users), &ana(), Role::User).await.unwrap();
        assert!(given(&users).await.unwrap_err().contains("the key of ana@laptop, with the role \"user\""));
    }
}
