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

/// How long to wait for as many requests as shared the last transaction. Those who were just
/// answered come again within this time if they come at once; without it two half-sized groups
/// would take turns. It is less than a commit takes, and a caller that is alone never waits.
const GATHER_FOR: Duration = Duration::from_micros(100);

#[derive(Default)]
struct State {
    jobs: Vec<Box<dyn Job>>,
    /// The writer is to be woken when there are this many.
    wanted: usize,
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
        if state.jobs.len() == state.wanted {
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

    /// Moves the next batch into `batch`; waits until there is one, at most for `patience`, and a
    /// little for as many requests as there were `last` time. False when the store is closed and
    /// everything was answered.
    pub(super) fn take(&self, batch: &mut Vec<Box<dyn Job>>, last: usize, patience: Option<Duration>) -> bool {
        let mut state = self.lock();
        if last > 1 {
            state = self.await_jobs(state, last, Some(GATHER_FOR));
        }
        if state.jobs.is_empty() {
            state = self.await_jobs(state, 1, patience);
        }
        state.poked = false;
        if state.jobs.len() <= BATCH_LIMIT {
            mem::swap(batch, &mut state.jobs);
        } else {
            batch.extend(state.jobs.drain(..BATCH_LIMIT));
        }
        !batch.is_empty() || !state.closed
    }

    fn await_jobs<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        wanted: usize,
        patience: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        state.wanted = wanted;
        let too_few = |state: &mut State| state.jobs.len() < wanted && !state.closed && !state.poked;
        match patience {
            Some(patience) => {
                self.arrived.wait_timeout_while(state, patience, too_few).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.arrived.wait_while(state, too_few).unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole whenever the lock is free: no statement above can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
