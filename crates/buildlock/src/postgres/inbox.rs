//! What waits to be sent: commands, by project, and calls. Whoever has a free connection takes what waits;
//! the commands on one project are sent in the order in which they came, and never by two connections at once.
//!
//! What travels together is cheaper than what travels alone. Whoever was answered asks again soon, so while commands
//! are on their way those that come wait for each other, until they are half of the crowd: two connections then take
//! turns with half of it each. Nobody waits who is alone, nor for longer than a trip takes, nor for one that takes long.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buildlock_core::{Command, ProjectId};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_postgres::Row;

use super::statement::{Parameters, Statement};
use super::trouble::unavailable;
use crate::store::Answer;
use crate::{StoreError, answers};

/// How many commands travel together at most. More would not be faster, and one transaction that is slow holds
/// up all of them.
const GROUP_LIMIT: usize = 256;

/// A crowd is parted into groups of this size at least: each costs a commit.
const PART_AT_LEAST: usize = 8;

/// How long what was asked may wait to be sent. It outlasts a restart of the database; whoever holds a lease
/// must hear in time that it cannot be renewed.
const WAIT_AT_MOST: Duration = Duration::from_secs(5);

/// How often what waits is looked through for what has waited too long.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A command that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) project: ProjectId,
    pub(super) command: Command,
    /// None: nobody waits for it.
    pub(super) reply: Option<oneshot::Sender<Result<Answer, StoreError>>>,
    /// Where it is waited for.
    runtime: Option<Handle>,
    give_up_at: Instant,
}

impl Pending {
    /// The answer to be given, and where.
    pub(super) fn answered(mut self, answer: Result<Answer, StoreError>) -> (Option<Handle>, impl FnOnce() + Send) {
        (self.runtime.take(), move || self.answer(answer))
    }

    pub(super) fn answer(self, answer: Result<Answer, StoreError>) {
        match self.reply {
            // A caller that has gone away does not want the answer.
            Some(reply) => drop(reply.send(answer)),
            None => {
                if let Err(error) = answer {
                    tracing::warn!(%error, project = %self.project, "a request that nobody waits for was not answered");
                }
            }
        }
    }
}

/// A statement that waits for its answer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) statement: &'static Statement,
    pub(super) parameters: Parameters,
    pub(super) reply: oneshot::Sender<Result<Vec<Row>, StoreError>>,
    give_up_at: Instant,
}

/// Commands are on their way.
#[derive(Debug)]
pub(super) struct Trip<'a> {
    inbox: &'a Inbox,
}

impl Drop for Trip<'_> {
    fn drop(&mut self) {
        let mut state = self.inbox.lock();
        state.trips -= 1;
        let may_go = state.may_go();
        drop(state);
        if may_go {
            self.inbox.filled.notify_one();
        }
    }
}

/// What a connection does.
#[derive(Debug)]
pub(super) enum Work {
    Commands(Vec<Pending>),
    Call(Call),
}

/// What a connection takes from the inbox.
#[derive(Debug)]
pub(super) enum Taken<'a> {
    /// The trip lasts until the work is done; that of a call is nobody else's business.
    Work(Work, Option<Trip<'a>>),
    /// The database is away: whoever looks after it is to reach it again.
    Away,
    /// The store is closed, and nothing waits any more.
    Closed,
}

#[derive(Debug)]
pub(super) struct Inbox {
    shown: String,
    state: Mutex<State>,
    /// There is something to take, or the store is closed.
    filled: Notify,
    /// Something waits.
    waits: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Projects with commands to take, and calls, each with its place in the line.
    ready: VecDeque<(u64, ProjectId)>,
    calls: VecDeque<(u64, Call)>,
    next_place: u64,
    projects: HashMap<ProjectId, Line>,
    /// How many of them have commands on their way.
    taken: usize,
    /// How many trips are under way, without those that take long.
    trips: usize,
    /// How many projects were lately asked about at once.
    crowd: usize,
    /// In how many parts they go: in halves, unless there is but one connection.
    parts: usize,
    closed: bool,
    away: Option<Away>,
}

/// The commands on one project.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Pending>,
    /// Some are on their way: the others wait for them.
    is_taken: bool,
}

/// The database cannot be reached.
#[derive(Debug, Clone)]
struct Away {
    since: Instant,
    error: StoreError,
}

impl Inbox {
    /// For so many connections.
    pub(super) fn new(shown: String, connections: usize) -> Self {
        let state = State { parts: connections.min(2), ..State::default() };
        Self { shown, state: Mutex::new(state), filled: Notify::new(), waits: Notify::new() }
    }

    /// Leaves a command for the next connection.
    pub(super) fn push(
        &self,
        project: &ProjectId,
        command: Command,
        reply: Option<oneshot::Sender<Result<Answer, StoreError>>>,
    ) {
        let mut state = self.lock();
        let give_up_at = state.give_up_at();
        let pending = Pending { project: project.clone(), command, reply, runtime: answers::runtime(), give_up_at };
        match state.refusal() {
            Some(error) => {
                drop(state);
                pending.answer(Err(error));
            }
            None => {
                state.add(pending, false);
                let may_go = state.may_go();
                drop(state);
                if may_go {
                    self.filled.notify_one();
                }
                self.waits.notify_one();
            }
        }
    }

    /// Leaves a call for the next connection.
    pub(super) fn call(
        &self,
        statement: &'static Statement,
        parameters: Parameters,
        reply: oneshot::Sender<Result<Vec<Row>, StoreError>>,
    ) {
        let mut state = self.lock();
        let give_up_at = state.give_up_at();
        if let Some(error) = state.refusal() {
            drop(state);
            // A caller that has gone away does not want the answer.
            let _ = reply.send(Err(error));
            return;
        }
        let place = state.place();
        state.calls.push_back((place, Call { statement, parameters, reply, give_up_at }));
        drop(state);
        self.filled.notify_one();
        self.waits.notify_one();
    }

    /// Takes what has waited longest, with all commands that can travel with it. While the database is away
    /// only that connection goes on that looks after it. Cancel-safe.
    pub(super) async fn take(&self, looks_after: bool) -> Taken<'_> {
        loop {
            let mut filled = pin!(self.filled.notified());
            filled.as_mut().enable();
            {
                let mut state = self.lock();
                let is_over = state.closed && state.projects.is_empty() && state.calls.is_empty();
                if is_over {
                    return Taken::Closed;
                }
                if state.away.is_some() {
                    if looks_after {
                        return Taken::Away;
                    }
                } else if let Some(work) = state.take() {
                    let is_more = state.may_go() || !state.calls.is_empty();
                    let is_trip = matches!(work, Work::Commands(_));
                    drop(state);
                    if is_more {
                        self.filled.notify_one();
                    }
                    return Taken::Work(work, is_trip.then(|| Trip { inbox: self }));
                }
            }
            filled.await;
        }
    }

    /// These have been answered, or put back: what came after them may go.
    pub(super) fn release<'a>(&self, projects: impl IntoIterator<Item = &'a ProjectId>) {
        let mut state = self.lock();
        for project in projects {
            state.release(project);
        }
        let (is_over, may_go) = (state.closed && state.projects.is_empty(), state.may_go());
        drop(state);
        if is_over {
            self.filled.notify_waiters();
        } else if may_go {
            self.filled.notify_one();
        }
    }

    /// Puts back what was not answered. What has waited too long is answered with the error, and so is all if to
    /// wait is no use.
    pub(super) fn put_back(&self, work: Work, error: &StoreError) {
        let is_late = |give_up_at: Instant| give_up_at <= Instant::now() || !error.may_pass();
        let mut late = Vec::new();
        let mut state = self.lock();
        match work {
            Work::Commands(commands) => {
                for pending in commands.into_iter().rev() {
                    match is_late(pending.give_up_at) {
                        false => state.add(pending, true),
                        true => late.push(pending),
                    }
                }
            }
            Work::Call(call) if !is_late(call.give_up_at) => {
                let place = state.place();
                state.calls.push_front((place, call));
            }
            // A caller that has gone away does not want the answer.
            Work::Call(call) => drop(call.reply.send(Err(error.clone()))),
        }
        drop(state);
        late.into_iter().for_each(|pending| pending.answer(Err(error.clone())));
    }

    /// The database cannot be reached. If it is no use to wait for it, all that waits is told so.
    pub(super) fn set_away(&self, error: &StoreError) {
        let mut state = self.lock();
        let since = state.away.as_ref().map_or_else(Instant::now, |away| away.since);
        state.away = Some(Away { since, error: error.clone() });
        let (commands, calls) = if error.may_pass() { Default::default() } else { state.drain(|_| true) };
        drop(state);
        self.filled.notify_waiters();
        refuse(commands, calls, error);
    }

    /// The database has been reached.
    pub(super) fn set_here(&self) {
        let was_away = self.lock().away.take().is_some();
        if was_away {
            self.filled.notify_waiters();
            tracing::info!("the database {} is reached again", self.shown);
        }
    }

    /// Takes no more. What came before is still sent.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Drops what is left.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        state.closed = true;
        let (commands, calls) = state.drain(|_| true);
        drop(state);
        refuse(commands, calls, &StoreError::Closed);
    }

    /// Answers what has waited too long, for as long as it is polled.
    pub(super) async fn watch_over(&self) {
        loop {
            self.waits.notified().await;
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let now = Instant::now();
                let mut state = self.lock();
                let (commands, calls) = state.drain(|give_up_at| give_up_at <= now);
                let error = state.away.as_ref().map(|away| away.error.clone());
                let is_empty = state.calls.is_empty() && state.projects.is_empty();
                drop(state);
                if is_empty {
                    // Whoever waits for the end of a closed store may see it now.
                    self.filled.notify_waiters();
                }
                let error = error.unwrap_or_else(|| {
                    let problem = format!("no answer within {} s", WAIT_AT_MOST.as_secs());
                    unavailable(&self.shown, problem)
                });
                refuse(commands, calls, &error);
                if is_empty {
                    break;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole whenever the lock is free: no statement above can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse(commands: Vec<Pending>, calls: Vec<Call>, error: &StoreError) {
    commands.into_iter().for_each(|pending| pending.answer(Err(error.clone())));
    for call in calls {
        // A caller that has gone away does not want the answer.
        let _ = call.reply.send(Err(error.clone()));
    }
}

impl State {
    fn place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    /// Why nothing more is taken: it is closed, or has been away for so long that to wait is no use.
    fn refusal(&self) -> Option<StoreError> {
        if self.closed {
            return Some(StoreError::Closed);
        }
        let away = self.away.as_ref()?;
        (!away.error.may_pass() || away.since.elapsed() > WAIT_AT_MOST).then(|| away.error.clone())
    }

    /// Until when whoever comes now waits: an outage that is longer is longer for all.
    fn give_up_at(&self) -> Instant {
        self.away.as_ref().map_or_else(Instant::now, |away| away.since) + WAIT_AT_MOST
    }

    fn add(&mut self, pending: Pending, is_first: bool) {
        let project = pending.project.clone();
        let line = self.projects.entry(project.clone()).or_default();
        let is_new = line.waiting.is_empty() && !line.is_taken;
        match is_first {
            true => line.waiting.push_front(pending),
            false => line.waiting.push_back(pending),
        }
        if is_new {
            let place = self.place();
            self.ready.push_back((place, project));
        }
    }

    /// Whether those that wait are enough to travel.
    fn may_go(&self) -> bool {
        !self.ready.is_empty() && (self.trips == 0 || self.closed || self.ready.len() >= self.enough())
    }

    /// How many need not wait for more.
    fn enough(&self) -> usize {
        self.crowd.div_ceil(self.parts).min(GROUP_LIMIT)
    }

    fn take(&mut self) -> Option<Work> {
        let project = self.ready.front().filter(|_| self.may_go());
        let is_call = match (project, self.calls.front()) {
            (None, None) => return None,
            (Some((project, _)), Some((call, _))) => call < project,
            (project, _) => project.is_none(),
        };
        if is_call {
            return self.calls.pop_front().map(|(_, call)| Work::Call(call));
        }
        // It shrinks slowly: those who were answered just now are about to come back.
        self.crowd = (self.ready.len() + self.taken).max(self.crowd - self.crowd.div_ceil(8));
        let limit = self.enough().max(PART_AT_LEAST);
        let mut commands = Vec::new();
        while let Some((place, project)) = self.ready.pop_front() {
            let Some(line) = self.projects.get_mut(&project) else { continue };
            if !commands.is_empty() && commands.len() + line.waiting.len() > limit {
                self.ready.push_front((place, project));
                break;
            }
            let count = line.waiting.len().min(GROUP_LIMIT);
            line.is_taken = true;
            self.taken += 1;
            commands.extend(line.waiting.drain(..count));
        }
        if commands.is_empty() {
            return None;
        }
        self.trips += 1;
        Some(Work::Commands(commands))
    }

    fn release(&mut self, project: &ProjectId) {
        let Some(line) = self.projects.get_mut(project) else { return };
        line.is_taken = false;
        self.taken -= 1;
        if line.waiting.is_empty() {
            self.projects.remove(project);
        } else {
            let place = self.place();
            self.ready.push_back((place, project.clone()));
        }
    }

    /// Takes out what is to be given up.
    fn drain(&mut self, is_over: impl Fn(Instant) -> bool) -> (Vec<Pending>, Vec<Call>) {
        let mut commands = Vec::new();
        for line in self.projects.values_mut() {
            if line.waiting.iter().any(|pending| is_over(pending.give_up_at)) {
                let (over, waiting) = line.waiting.drain(..).partition(|pending| is_over(pending.give_up_at));
                line.waiting = waiting;
                commands.extend::<VecDeque<_>>(over);
            }
        }
        self.projects.retain(|_, line| line.is_taken || !line.waiting.is_empty());
        let projects = &self.projects;
        self.ready.retain(|(_, project)| projects.contains_key(project));
        let (over, calls) = self.calls.drain(..).partition::<Vec<_>, _>(|(_, call)| is_over(call.give_up_at));
        self.calls = calls.into();
        (commands, over.into_iter().map(|(_, call)| call).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An inbox with a command on each of so many projects.
    fn inbox(crowd: usize) -> Inbox {
        let inbox = Inbox::new("postgres://nowhere".to_owned(), 2);
        for number in 0..crowd {
            inbox.push(&format!("project-{number}").parse().unwrap(), Command::Settle, None);
        }
        inbox
    }

    /// The sizes of the groups that may go at once, each on a connection of its own.
    async fn groups(inbox: &Inbox) -> Vec<usize> {
        let mut groups = Vec::new();
        let mut trips = Vec::new();
        while inbox.lock().may_go() {
            let Taken::Work(Work::Commands(commands), trip) = inbox.take(false).await else { panic!("no commands") };
            groups.push(commands.len());
            trips.push(trip);
        }
        groups
    }

    #[tokio::test]
    async fn a_crowd_goes_in_halves() {
        assert_eq!(groups(&inbox(64)).await, [32, 32]);
        assert_eq!(groups(&inbox(1)).await, [1]);
        assert_eq!(groups(&inbox(8)).await, [8], "each commit costs");
    }

    #[tokio::test]
    async fn a_large_crowd_goes_in_groups_of_bounded_size() {
        let inbox = inbox(700);
        assert_eq!(groups(&inbox).await, [GROUP_LIMIT, GROUP_LIMIT]);
        assert_eq!(groups(&inbox).await, [700 - 2 * GROUP_LIMIT], "what is left goes after these");
    }
}
