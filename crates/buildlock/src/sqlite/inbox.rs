//! Requests on their way to the writer, which takes all that have come at once: the group of a
//! group commit.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::writer::Writer;
use crate::StoreError;

/// How many requests share a transaction at most. It bounds how long the first of them waits.
const BATCH_LIMIT: usize = 4096;

/// One request. It keeps its answer until the transaction that made it is durable.
pub(super) trait Job: Send {
    fn run(&mut self, writer: &mut Writer<'_>) -> rusqlite::Result<()>;
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    jobs: Vec<Box<dyn Job>>,
    poked: bool,
    closed: bool,
}

impl Inbox {
    /// Leaves a request for the writer; drops it if the store is closed.
    pub(super) fn push(&self, job: Box<dyn Job>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.jobs.push(job);
        if state.jobs.len() == 1 {
            self.arrived.notify_one();
        }
    }

    /// Has the writer look around.
    pub(super) fn poke(&self) {
        self.lock().poked = true;
        self.arrived.notify_one();
    }

    /// Takes no more requests. Those that came before are still answered.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Moves the next batch into `batch`; waits until there is one, at most for `patience`. False
    /// when the store is closed and everything was answered.
    pub(super) fn take(&self, batch: &mut Vec<Box<dyn Job>>, patience: Option<Duration>) -> bool {
        let mut state = self.lock();
        while state.jobs.is_empty() && !state.closed && !mem::take(&mut state.poked) {
            let Some(patience) = patience else {
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.arrived.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            if waited.1.timed_out() {
                break;
            }
        }
        if state.jobs.len() <= BATCH_LIMIT {
            mem::swap(batch, &mut state.jobs);
        } else {
            batch.extend(state.jobs.drain(..BATCH_LIMIT));
        }
        !batch.is_empty() || !state.closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole whenever the lock is free: no statement above can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
