//! Why a store could not answer.

use std::borrow::Cow;
use std::path::PathBuf;

/// A store could not answer. *Locked* and *lease lost* are answers; see [`buildlock_core::Outcome`].
///
/// Each variant is one thing that its reader can do; the text says what.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL names no store that this program knows.
    #[error(
        "{url:?} names no store: {problem}; use sqlite:PATH, such as sqlite:/var/lib/buildlock/locks.db, \
         postgres://USER@HOST/DATABASE, or a server's http(s)://HOST"
    )]
    BadUrl {
        /// The URL as it was given.
        url: String,
        /// What is wrong with it.
        problem: Cow<'static, str>,
    },
    /// The file, or what else is needed, cannot be opened.
    #[error("the store {} cannot be opened: {problem}", path.display())]
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// What is in the way and what to do.
        problem: String,
    },
    /// The file is on a network drive, where SQLite's locks do not hold.
    #[error(
        "the store {} is on a network drive ({file_system}), where file locks do not hold; \
         put it on a local disk, or use a server or PostgreSQL for many machines", path.display()
    )]
    NetworkDrive {
        /// The file.
        path: PathBuf,
        /// The file system's type.
        file_system: String,
    },
    /// The file is not buildlock's. It was left as it is.
    #[error("{} is not a buildlock store: {problem}; it was left as it is", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        problem: String,
    },
    /// The database has no tables of buildlock's, or those of an older version.
    #[error("the database {store} {problem}; bring it up to date: buildlock migrate --store {store}")]
    NeedsMigration {
        /// The database's URL, without a password.
        store: String,
        /// What it has instead.
        problem: String,
    },
    /// A newer buildlock made the file, or the database's tables. It was left as it is.
    #[error(
        "the store {} has version {found}, this program knows up to {known}; \
         it was left as it is: use a newer buildlock", path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// The file is damaged.
    #[error(
        "the store {} is damaged ({detail}); stop all that use it, keep a copy, and restore a backup \
         or let it be made anew by moving it away", path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// What was asked for makes no sense as it stands in the file: somebody else has written it. All else
    /// goes on.
    #[error(
        "a row of the store {} makes no sense ({detail}) and was left as it is; \"buildlock doctor\" says whose it is",
        path.display()
    )]
    Spoilt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The store could not write or read just now, or the database cannot be reached. Nothing was changed by the call, unless it was
    /// the answer that was lost; to repeat the call is safe.
    #[error("the store {} is not available: {problem}", path.display())]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What happened and what to do.
        problem: String,
    },
    /// The server does not answer, or not now. Nothing was changed by the call, unless it was the answer
    /// that was lost; to repeat the call is safe.
    #[error("the server {url} cannot be reached: {problem}; is it running, and is the URL right?")]
    Unreachable {
        /// The server.
        url: String,
        /// What happened.
        problem: String,
    },
    /// The server, or the database, does not know its client, or does not let it do this.
    #[error("the server {url} does not allow this: {problem}")]
    NotAllowed {
        /// The server.
        url: String,
        /// What the server says.
        problem: String,
    },
    /// The database refused the migration. Nothing was changed.
    #[error("the database was not migrated: {0}")]
    MigrationRefused(String),
    /// The store gave an answer that makes no sense, as one of another version might.
    #[error("the store's answer is not understood: {0}")]
    Protocol(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed in a while.
    pub fn may_pass(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. } | StoreError::Unreachable { .. })
    }
}
