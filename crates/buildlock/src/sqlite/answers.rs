//! Gives a group its answers.
//!
//! Whoever wakes a task from outside its runtime wakes a thread for it, which may take the processor
//! from the one that wakes it: with a crowd, each answer costs two switches of threads. So a runtime is
//! woken once, and its own threads give out the answers.

use tokio::runtime::{Handle, RuntimeFlavor};

use super::inbox::Jobs;
use crate::StoreError;

/// The runtime of whoever calls, if it has threads of its own. One that runs in its caller's thread
/// runs nothing while that is elsewhere.
pub(super) fn runtime() -> Option<Handle> {
    Handle::try_current().ok().filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Tells everyone in the group whether it was committed.
pub(super) fn give(mut jobs: Jobs, committed: &Result<(), StoreError>) {
    while let Some(first) = jobs.first() {
        let runtime = first.runtime().cloned();
        let id = runtime.as_ref().map(Handle::id);
        let (same, others) = jobs.into_iter().partition(|job| job.runtime().map(Handle::id) == id);
        let answers = Answers { jobs: same, committed: committed.clone() };
        if let Some(runtime) = runtime.filter(|_| answers.jobs.len() > 1) {
            runtime.spawn(async { drop(answers) });
        }
        jobs = others;
    }
}

/// Given when this is dropped: a runtime that is shut down drops its tasks without running them.
struct Answers {
    jobs: Jobs,
    committed: Result<(), StoreError>,
}

impl Drop for Answers {
    fn drop(&mut self) {
        for job in self.jobs.drain(..) {
            job.finish(self.committed.clone());
        }
    }
}
