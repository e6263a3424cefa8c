//! Locks in one SQLite file: the embedded store. Several processes may use one file at once.
//!
//! Here live the file, its clock, its tables and the thread that writes; not the rules, which are in
//! `buildlock-core`. Only [`SqliteStore`] is for others.

mod builds;
mod checkup;
mod clock;
mod columns;
mod counts;
mod durable;
mod granted;
mod inbox;
mod keys;
mod open;
mod requests;
mod rows;
mod statements;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use buildlock_core::{Command, Holder, ProjectId};
use tokio::runtime;
use tokio::sync::{oneshot, watch as watch_channel};

pub use self::clock::{Clock, SystemClock, since_boot};
use self::columns::is_nonsense;
use self::inbox::{Job, Jobs};
pub use self::open::migrations;
use self::writer::{Shared, Writer};
use crate::store::{Answer, Deleted, EventId, Finding, LockStore, News, Recorded, Retention, Status, Watcher};
use crate::{StoreError, answers};

/// A store of locks in one SQLite file.
///
/// A cheap handle: clones share one connection and one writing thread, which ends when the last of
/// them is dropped, after it has answered all requests.
///
/// ```
/// use buildlock::{Command, IfLocked, LockRequest, LockStore, Outcome, SqliteStore};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("locks.db");
/// let store = SqliteStore::open(path).await?;
/// let request = LockRequest::new("ana".parse()?, "generate".parse()?);
/// let lock = Command::Lock { request, if_locked: IfLocked::Refuse };
///
/// let answer = store.apply(&"my-site".parse()?, lock).await?;
/// assert!(matches!(answer.outcome, Outcome::Held(_)));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    handle: Arc<Handle>,
}

struct Handle {
    path: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the file, which is made, or upgraded, if need be. Its folder must exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file is not buildlock's, is damaged, was made by a newer buildlock, is
    /// on a network drive, or cannot be read and written. It is left as it was.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with_clock(path, Arc::new(SystemClock)).await
    }

    /// Opens the file with a clock of one's own, for tests of what takes long.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`].
    pub async fn open_with_clock(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let shared = Arc::new(Shared::default());
        let (opened, is_open) = oneshot::channel();
        let thread = {
            let (path, shared) = (path.clone(), Arc::clone(&shared));
            thread::Builder::new().name("buildlock-store".to_owned()).spawn(move || {
                let _closing = CloseOnDrop(Arc::clone(&shared));
                serve(&path, clock, shared, opened);
            })
        };
        let thread =
            thread.map_err(|error| StoreError::CannotOpen { path: path.clone(), problem: error.to_string() })?;
        is_open.await.unwrap_or(Err(StoreError::Closed))?;
        Ok(Self { handle: Arc::new(Handle { path, shared, thread: Some(thread) }) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.handle.path
    }

    async fn ask<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Writer<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.push(work).await.unwrap_or(Err(StoreError::Closed))
    }

    /// Leaves the work for the writer. The answer never comes if the store is closed.
    fn push<T, F>(&self, work: F) -> oneshot::Receiver<Result<T, StoreError>>
    where
        T: Send + 'static,
        F: FnMut(&mut Writer<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.handle.shared.inbox.push(Box::new(Call { work, answer: None, reply, runtime: answers::runtime() }));
        answer
    }
}

fn serve(path: &Path, clock: Arc<dyn Clock>, shared: Arc<Shared>, opened: oneshot::Sender<Result<(), StoreError>>) {
    let connection = match open::open(path, &*clock) {
        Ok(connection) => connection,
        Err(error) => return drop(opened.send(Err(error))),
    };
    match Writer::new(path.to_owned(), &connection, clock, shared) {
        Ok(writer) => {
            // A caller that no longer wants the store drops its handle, which ends the writer.
            let _ = opened.send(Ok(()));
            writer.run();
        }
        Err(error) => drop(opened.send(Err(error))),
    }
}

/// One request with its answer on hold.
struct Call<T, F> {
    work: F,
    answer: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    runtime: Option<runtime::Handle>,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnMut(&mut Writer<'_>) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, writer: &mut Writer<'_>) -> rusqlite::Result<()> {
        self.answer = Some(match (self.work)(writer) {
            // What it is about was spoilt; those who share the transaction are about something else.
            Err(error) if is_nonsense(&error) => Err(writer.spoilt(&error)),
            answer => Ok(answer?),
        });
        Ok(())
    }

    fn runtime(&mut self) -> Option<runtime::Handle> {
        self.runtime.take()
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { answer, reply, .. } = *self;
        // A caller that has gone away does not want the answer.
        let _ = reply.send(committed.and_then(|()| answer.unwrap_or(Err(StoreError::Closed))));
    }
}

/// Closes the inbox when the thread ends, even by a panic: nobody must wait for it then.
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.inbox.close();
        self.0.inbox.take(&mut Jobs::new(), Some(Duration::ZERO));
        self.0.watches.tell_all();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.inbox.close();
        if let Some(thread) = self.thread.take() {
            // A panic was told by the thread itself; here is nothing to add.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteStore").field(&self.handle.path).finish()
    }
}

#[async_trait]
impl LockStore for SqliteStore {
    async fn apply(&self, project: &ProjectId, command: Command) -> Result<Answer, StoreError> {
        let project = project.clone();
        let tally = self.handle.shared.tally.get().filter(|_| matches!(command, Command::Lock { .. }));
        let Some(tally) = tally else { return self.ask(move |writer| writer.apply(&project, &command)).await };
        let asked_at = Instant::now();
        let answer = self.ask(move |writer| writer.apply(&project, &command)).await;
        tally.answered(&answer, asked_at.elapsed());
        answer
    }

    fn send(&self, project: &ProjectId, command: Command) {
        let project = project.clone();
        drop(self.push(move |writer| writer.apply(&project, &command)));
    }

    async fn status(&self, project: &ProjectId) -> Result<Option<Status>, StoreError> {
        let project = project.clone();
        self.ask(move |writer| writer.status(&project)).await
    }

    async fn projects(&self, after: Option<&ProjectId>, limit: usize) -> Result<Vec<Status>, StoreError> {
        let after = after.cloned();
        self.ask(move |writer| writer.list(after.as_ref(), limit)).await
    }

    async fn create_project(&self, project: &ProjectId, owner: &Holder) -> Result<bool, StoreError> {
        let (project, owner) = (project.clone(), owner.clone());
        self.ask(move |writer| writer.create(&project, &owner)).await
    }

    async fn delete_project(&self, project: &ProjectId, by: &Holder) -> Result<Deleted, StoreError> {
        let (project, by) = (project.clone(), by.clone());
        self.ask(move |writer| writer.delete(&project, &by)).await
    }

    async fn history(
        &self,
        project: Option<&ProjectId>,
        before: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        let project = project.cloned();
        self.ask(move |writer| writer.history(project.as_ref(), before, limit)).await
    }

    async fn events_after(&self, after: EventId, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        self.ask(move |writer| writer.events_after(after, limit)).await
    }

    fn newest_event(&self) -> watch_channel::Receiver<EventId> {
        let newest = self.handle.shared.newest.subscribe();
        self.handle.shared.inbox.poke();
        newest
    }

    async fn settle_due(&self) -> Result<Option<Duration>, StoreError> {
        self.ask(|writer| writer.settle_due()).await
    }

    async fn retention(&self) -> Result<Retention, StoreError> {
        self.ask(|writer| Ok(writer.store.retention)).await
    }

    async fn set_retention(&self, retention: Retention) -> Result<(), StoreError> {
        self.ask(move |writer| writer.set_retention(retention)).await
    }

    fn version(&self) -> u32 {
        open::VERSION
    }

    async fn checkup(&self) -> Result<Vec<Finding>, StoreError> {
        self.ask(|writer| writer.checkup()).await
    }

    fn watch(&self, _project: &ProjectId, news: News) -> Watcher {
        let watcher = self.handle.shared.watches.watch(news);
        self.handle.shared.inbox.poke();
        watcher
    }
}
