//! One server to a store: it runs the store's builds, and may call those lost that it finds running.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::serve::ServeError;

/// Keeps other servers off a store's file for as long as it lives. However this process ends, the system
/// takes the lock back.
#[derive(Debug)]
pub struct StoreOwner {
    _file: File,
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
        let mut file = OpenOptions::new()
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
                let mut process = String::new();
                // Only a word to the reader, who is told without it as well.
                let _ = file.take(20).read_to_string(&mut process);
                return Err(ServeError::StoreInUse { store, process: process.trim().parse().ok() });
            }
            Err(error) => return Err(failed(error.into())),
        }
        write_process(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn write_process(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

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
        drop(owner);
        StoreOwner::of(&store).unwrap();
    }
}
