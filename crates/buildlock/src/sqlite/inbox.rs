//! Requests on their way to the writer: the groups of a group commit, and when a group is full.
//!
//! While one group is made durable the next is already decided, so that neither the disk nor the
//! processor waits for the other: a crowd goes in two halves that take turns. Where the disk is the
//! slower by far, they would only wait for each other: there all go in one group, which waits a moment
//! for those who were just answered and come again. (The idea of a group commit: DeWitt et al.,
//! "Implementation techniques for main memory database systems", SIGMOD 1984.)

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::writer::Writer;
use crate::StoreError;

/// How many requests share a transaction at most. It bounds how long the first of them waits.
const GROUP_LIMIT: usize = 4096;

/// A crowd is halved into groups of this size at least: each costs a commit.
const HALF_AT_LEAST: usize = 8;

/// One request. It keeps its answer until the transaction that made it is durable.
pub(super) trait Job: Send {
    fn run(&mut self, writer: &mut Writer<'_>) -> rusqlite::Result<()>;
    /// Where the answer is waited for, if that has threads of its own.
    fn runtime(&mut self) -> Option<Handle>;
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

pub(super) type Jobs = Vec<Box<dyn Job>>;

#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: Jobs,
    /// How many requests the writer has taken since its last commit.
    taken: usize,
    /// How many requests have been committed and are not yet durable.
    unanswered: usize,
    /// How many requests there were when some were answered last, durable or not: as many there will be
    /// if all who were answered come again at once.
    known: usize,
    last_work: Option<Work>,
    last_sync: Option<Sync>,
    writer_sleeps: bool,
    poked: bool,
    closed: bool,
}

/// The last time that a group was decided and written.
#[derive(Clone, Copy)]
struct Work {
    took: Duration,
    requests: usize,
}

/// The last time that commits were made durable.
#[derive(Clone, Copy)]
struct Sync {
    took: Duration,
    ended_at: Instant,
}

/// What to do with a group that is being decided.
enum Next {
    Commit,
    Take,
    Wait(Option<Instant>),
}

impl Inbox {
    /// Leaves a request for the writer; drops it if the store is closed.
    pub(super) fn push(&self, job: Box<dyn Job>) {
        let mut state = self.lock();
        if !state.closed {
            state.jobs.push(job);
            self.wake(state);
        }
    }

    /// Has the writer look around.
    pub(super) fn poke(&self) {
        let mut state = self.lock();
        state.poked = true;
        self.wake(state);
    }

    /// Takes no more requests. Those that came before are still answered.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.wake(state);
    }

    /// Moves the first requests of a group into `group`; waits until there are some, at most for
    /// `patience`. False when the store is closed and everything was answered.
    pub(super) fn take(&self, group: &mut Jobs, patience: Option<Duration>) -> bool {
        let give_up = patience.map(|patience| Instant::now() + patience);
        let mut state = self.lock();
        while state.jobs.is_empty() && !state.closed && !mem::take(&mut state.poked) {
            match self.wait(state, give_up) {
                Ok(woken) => state = woken,
                Err(_) => return true,
            }
        }
        state.give(group);
        !group.is_empty() || !state.closed
    }

    /// Moves more requests into a group that has been worked on for this long; waits for them if
    /// that is worth while. False when the group is to be committed now.
    pub(super) fn take_more(&self, group: &mut Jobs, worked: Duration) -> bool {
        let mut state = self.lock();
        loop {
            let until = match state.next(group.len(), worked) {
                Next::Commit => return false,
                Next::Take => {
                    state.give(group);
                    return true;
                }
                Next::Wait(until) => until,
            };
            match self.wait(state, until) {
                Ok(woken) => state = woken,
                Err(_) => return false,
            }
        }
    }

    /// A group of so many requests has been committed, which took so long, and is to be made durable.
    /// True if nothing else is to be done meanwhile.
    pub(super) fn committed(&self, requests: usize, took: Duration) -> bool {
        let mut state = self.lock();
        let is_alone = state.unanswered == 0 && state.jobs.is_empty() && requests >= state.known;
        state.last_work = Some(Work { took, requests });
        state.taken = 0;
        state.unanswered += requests;
        is_alone
    }

    /// So many requests are durable; `took` is none if there was nothing to write.
    pub(super) fn synced(&self, requests: usize, took: Option<Duration>) {
        let mut state = self.lock();
        state.known = state.unanswered + state.taken + state.jobs.len();
        if let Some(took) = took {
            // One that takes long for once says little about the next.
            let took = state.last_sync.map_or(took, |last| took.min(last.took * 5 / 4));
            state.last_sync = Some(Sync { took, ended_at: Instant::now() });
        }
        state.unanswered -= requests;
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if mem::take(&mut state.writer_sleeps) {
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Waits for a change; an error when it is `until`.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> Result<MutexGuard<'a, State>, ()> {
        state.writer_sleeps = true;
        let asleep = |state: &mut State| state.writer_sleeps;
        let Some(until) = until else {
            return Ok(self.changed.wait_while(state, asleep).unwrap_or_else(PoisonError::into_inner));
        };
        let patience = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(state, patience, asleep).unwrap_or_else(PoisonError::into_inner);
        let (mut state, timeout) = waited;
        state.writer_sleeps = false;
        if timeout.timed_out() { Err(()) } else { Ok(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole whenever the lock is free: no statement above can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn give(&mut self, group: &mut Jobs) {
        let room = self.enough().saturating_sub(group.len());
        let before = group.len();
        if group.is_empty() && self.jobs.len() <= room {
            mem::swap(group, &mut self.jobs);
        } else {
            group.extend(self.jobs.drain(..self.jobs.len().min(room)));
        }
        self.taken += group.len() - before;
        self.poked = false;
    }

    /// The half of those who are known, if they are a crowd: if to decide all takes longer than a sync.
    fn half(&self) -> Option<usize> {
        let (sync, work) = self.last_sync.zip(self.last_work)?;
        let half = self.known.div_ceil(2);
        let is_crowd = half >= HALF_AT_LEAST && work.took * self.known as u32 > sync.took * work.requests as u32;
        is_crowd.then_some(half)
    }

    /// How many requests a group has at most.
    fn enough(&self) -> usize {
        self.half().map_or(GROUP_LIMIT, |half| half.min(GROUP_LIMIT))
    }

    /// What to do with a group that has this size and was worked on for this long.
    fn next(&self, size: usize, worked: Duration) -> Next {
        let Some(last) = self.last_sync.filter(|_| size < self.enough()) else { return Next::Commit };
        // With half a sync's work in hand, to go on while that is written is better than to wait.
        let is_enough = self.half().is_none() && worked >= last.took / 2;
        let all_are_here = self.taken >= self.known;
        let (is_idle, until) = (self.unanswered == 0, last.ended_at + last.took / 2);
        if is_idle && (is_enough || all_are_here || self.closed) {
            Next::Commit
        } else if !self.jobs.is_empty() {
            Next::Take
        } else if is_enough || (is_idle && Instant::now() >= until) {
            Next::Commit
        } else {
            Next::Wait(is_idle.then_some(until))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work { took: Duration::from_micros(200), requests: 32 };

    /// After a sync that took so long, when so many were known; the next one is under way.
    fn state(took: Duration, known: usize) -> State {
        let last_sync = Some(Sync { took, ended_at: Instant::now() });
        State { unanswered: 1, known, last_work: Some(WORK), last_sync, ..State::default() }
    }

    #[test]
    fn a_crowd_goes_in_halves() {
        let state = state(Duration::from_micros(300), 64);
        assert_eq!(state.enough(), 32);
        assert!(matches!(state.next(32, WORK.took), Next::Commit));
        assert!(matches!(state.next(31, WORK.took), Next::Wait(None)), "the rest of the half is on its way");
    }

    #[test]
    fn where_the_disk_is_slow_all_go_in_one_group() {
        let state = state(Duration::from_micros(500), 64);
        assert_eq!(state.enough(), GROUP_LIMIT);
        assert!(matches!(state.next(32, WORK.took), Next::Wait(None)));
    }

    #[test]
    fn a_few_are_no_crowd() {
        assert_eq!(state(Duration::ZERO, 14).enough(), GROUP_LIMIT);
        assert_eq!(state(Duration::ZERO, 15).enough(), 8);
    }

    /// Who is left of a crowd is alone once that was seen, also if it only reads.
    #[test]
    fn one_caller_after_a_crowd_is_alone() {
        let inbox = Inbox::default();
        assert!(inbox.committed(64, WORK.took), "nobody is known yet");
        inbox.synced(64, Some(WORK.took));
        assert!(!inbox.committed(1, WORK.took), "others were here just now");
        inbox.synced(1, None);
        assert!(inbox.committed(1, WORK.took));
    }
}
