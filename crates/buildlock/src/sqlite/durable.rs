//! Makes commits durable (rule 12): the disk's part of a commit, which goes on while the next group
//! of requests is decided.
//!
//! SQLite is told not to wait for the disk at a commit (`synchronous = normal`), which keeps the file
//! sound but may lose the latest commits when the power fails. So the log is synced here, and nobody
//! is answered before that.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::fs::fdatasync;

use super::inbox::{Job, Jobs};
use super::rows::NewEvent;
use super::writer::Shared;
use crate::StoreError;
use crate::answers;
use crate::store::EventId;
use crate::tally::Happened;

/// Requests whose transaction has been committed, to be answered when it is durable.
pub(super) struct Group {
    pub(super) jobs: Jobs,
    /// How long it took to decide and to write them.
    pub(super) worked: Duration,
    pub(super) events: Vec<NewEvent>,
    pub(super) newest: EventId,
    pub(super) wrote: bool,
}

/// The store's log on the disk.
struct Log {
    path: PathBuf,
    file: File,
    shared: Arc<Shared>,
}

/// Syncs the log, on a thread of its own where somebody waits meanwhile.
pub(super) struct Durable {
    log: Arc<Log>,
    groups: Option<Sender<Group>>,
    thread: Option<JoinHandle<()>>,
}

impl Durable {
    /// For the store at `path`, whose log exists as long as this connection is open.
    pub(super) fn new(path: PathBuf, connection: &Connection, shared: Arc<Shared>) -> Result<Self, StoreError> {
        let failed = |problem: String| StoreError::CannotOpen { path: path.clone(), problem };
        // As SQLite names it: links in the path are followed.
        let name = connection.path().ok_or_else(|| failed("it has no path".to_owned()))?;
        let file = File::open(format!("{name}-wal")).map_err(|error| failed(error.to_string()))?;
        Self::of_log(path.clone(), file, shared).map_err(|error| failed(error.to_string()))
    }

    fn of_log(path: PathBuf, file: File, shared: Arc<Shared>) -> std::io::Result<Self> {
        let log = Arc::new(Log { path, file, shared });
        let (groups, committed) = mpsc::channel::<Group>();
        let thread = {
            let log = Arc::clone(&log);
            thread::Builder::new().name("buildlock-sync".to_owned()).spawn(move || {
                while let Ok(first) = committed.recv() {
                    let mut groups = vec![first];
                    groups.extend(committed.try_iter());
                    log.make_durable(groups);
                }
            })?
        };
        Ok(Self { log, groups: Some(groups), thread: Some(thread) })
    }

    /// Answers a group once it is durable: before this returns if nobody else waits.
    pub(super) fn answer(&self, group: Group) {
        if self.log.shared.inbox.committed(group.jobs.len(), group.worked) {
            self.log.make_durable(vec![group]);
        } else if let Some(groups) = &self.groups
            && let Err(mpsc::SendError(group)) = groups.send(group)
        {
            // The thread has panicked, which was told; the work goes on without it.
            self.log.make_durable(vec![group]);
        }
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.groups = None;
        if let Some(thread) = self.thread.take() {
            // A panic was told by the thread itself; here is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Log {
    fn make_durable(&self, groups: Vec<Group>) {
        let wrote = groups.iter().any(|group| group.wrote);
        let started = Instant::now();
        let done = if wrote { fdatasync(&self.file) } else { Ok(()) };
        let requests = groups.iter().map(|group| group.jobs.len()).sum();
        self.shared.inbox.synced(requests, wrote.then(|| started.elapsed()));
        let done = done.map_err(|error| {
            let problem = format!("its disk did not take a write ({error}); see to the disk, then start again");
            StoreError::Unavailable { path: self.path.clone(), problem }
        });
        if let Err(error) = &done {
            // How much of the log the disk has by now nobody knows, so nothing that is written after it
            // would be safe.
            self.shared.broken.get_or_init(|| error.clone());
            self.shared.watches.tell_all();
        }
        for group in groups {
            if done.is_ok() {
                let events = || group.events.iter().map(|event| &event.recorded.event);
                self.shared.watches.tell(events());
                if let Some(tally) = self.shared.tally.get() {
                    tally.count(events().map(Happened::from));
                }
                self.shared.tell_newest(group.newest);
            }
            let answer = |mut job: Box<dyn Job>| {
                let done = done.clone();
                (job.runtime(), move || job.finish(done))
            };
            answers::give(group.jobs.into_iter().map(answer).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;
    use tokio::sync::oneshot;

    use super::super::writer::Writer;
    use super::*;

    /// A request that only passes on how it ended.
    struct Told(oneshot::Sender<Result<(), StoreError>>);

    impl Job for Told {
        fn run(&mut self, _: &mut Writer<'_>) -> rusqlite::Result<()> {
            Ok(())
        }

        fn runtime(&mut self) -> Option<Handle> {
            None
        }

        fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
            self.0.send(committed).unwrap();
        }
    }

    fn group() -> (Group, oneshot::Receiver<Result<(), StoreError>>) {
        let (told, answer) = oneshot::channel();
        let jobs: Jobs = vec![Box::new(Told(told))];
        (Group { jobs, worked: Duration::ZERO, events: Vec::new(), newest: EventId(0), wrote: true }, answer)
    }

    /// Rule 12: what the disk did not take is not acknowledged, and nothing after it either.
    #[test]
    fn a_disk_that_takes_no_write_is_told_and_ends_the_store() {
        let shared = Arc::new(Shared::default());
        // A device that cannot be synced: fdatasync(2) fails with EINVAL.
        let device = File::open("/dev/null").unwrap();
        let durable = Durable::of_log("locks.db".into(), device, Arc::clone(&shared)).unwrap();
        let (group, answer) = group();
        durable.answer(group);
        let told = answer.blocking_recv().unwrap().unwrap_err();
        assert!(matches!(&told, StoreError::Unavailable { problem, .. } if problem.contains("did not take a write")));
        assert_eq!(shared.broken.get().map(ToString::to_string), Some(told.to_string()));
    }
}
