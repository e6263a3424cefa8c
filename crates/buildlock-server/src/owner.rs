//! One server to a store: it runs the store's builds, and may call those lost that it finds running.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::serve::ServeError;

/// Keeps other servers off a store's file for as long as it lives. However this process ends, the system
/// takes the lock back.
#[derive(Debug)]
pub struct StoreOwner {
    file: File,
}

impl StoreOwner {
    /// Takes the store for this process.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if another server has it, or its folder cannot be written.
    pub fn of(store: &Path) -> Result<Self, ServeError> {
        let failed = |error| ServeError::Beside { path: store.to_owned(), error };
        // The same file by whatever name.
        let store = store.canonicalize().map_err(failed)?;
        let path = beside(&store, ".server");
        let failed = |error| ServeError::Beside { path: path.clone(), error };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let (process, _) = read(file);
                return Err(ServeError::StoreInUse { store, process });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let owner = Self { file };
        owner.write(None).map_err(failed)?;
        Ok(owner)
    }

    /// Lets others on this machine know where the server listens.
    ///
    /// # Errors
    ///
    /// If it cannot be written beside the store.
    pub fn announce(&self, address: SocketAddr) -> io::Result<()> {
        self.write(Some(address))
    }

    fn write(&self, address: Option<SocketAddr>) -> io::Result<()> {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        let words = format!("{}\n{address}\n", std::process::id());
        self.file.write_all_at(words.as_bytes(), 0)?;
        self.file.set_len(words.len() as u64)
    }
}

/// The address of the server that has the store, if one has it and listens.
pub fn server_of(store: &Path) -> Option<SocketAddr> {
    let file = File::open(beside(&store.canonicalize().ok()?, ".server")).ok()?;
    // Whoever can lock it sees what an ended server has left.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => read(file).1,
        _ => None,
    }
}

/// What a server has written: its process, and where it listens.
fn read(file: File) -> (Option<u32>, Option<SocketAddr>) {
    let mut text = String::new();
    // A few words for people and for the command; without them all goes on.
    let _ = file.take(MAX_WORDS).read_to_string(&mut text);
    let mut words = text.split_whitespace();
    (words.next().and_then(|word| word.parse().ok()), words.next().and_then(|word| word.parse().ok()))
}

/// More than a process and an address have.
const MAX_WORDS: u64 = 200;

/// A file beside a store's, named after it.
pub(crate) fn beside(store: &Path, ending: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_one_server_whatever_it_is_called_by() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("locks.db");
        File::create(&store).unwrap();
        let owner = StoreOwner::of(&store).unwrap();
        let other = folder.path().join("other.db");
        std::os::unix::fs::symlink(&store, &other).unwrap();
        for name in [&store, &other] {
            let refused = StoreOwner::of(name).unwrap_err();
            assert!(
                matches!(&refused, ServeError::StoreInUse { process: Some(pid), .. } if *pid == std::process::id())
            );
        }
        assert_eq!(server_of(&other), None);
        let address = "127.0.0.1:7878".parse().unwrap();
        owner.announce(address).unwrap();
        assert_eq!(server_of(&other), Some(address));
        drop(owner);
        assert_eq!(server_of(&other), None);
        StoreOwner::of(&store).unwrap();
    }
}
