//! A real store at the end of a line that can fail: a test says what goes wrong with which calls, and
//! awaits the calls instead of guessing when they come.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use buildlock::{
    Answer, Command, Deleted, EventId, Finding, Holder, LockStore, News, ProjectId, Recorded, Retention, Status,
    StoreError, Watcher, since_boot,
};
use tokio::sync::watch;

use super::soon;

/// What is asked of a store, as far as these tests tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Lock,
    Withdraw,
    Renew,
    Unlock,
    Events,
    Settle,
    Other,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not arrive.
    Unavailable,
    /// It is done, but the answer is lost.
    AnswerLost,
    /// It arrives when the line is mended.
    HeldUp,
    /// It is done, but its answer arrives when the line is mended.
    AnswerHeldUp,
}

/// A call that was made, and when by [`since_boot`].
#[derive(Debug, Clone, Copy)]
struct Made {
    call: Call,
    at: Duration,
}

#[derive(Debug)]
pub(crate) struct Faulty {
    store: Arc<dyn LockStore>,
    faults: watch::Sender<Vec<(Call, Fault)>>,
    /// The calls that the line has taken.
    made: watch::Sender<Vec<Made>>,
    /// The calls that the store has done.
    done: watch::Sender<Vec<Made>>,
    /// Stands for the store's own news of its newest event, so that a test can close it.
    newest: Mutex<Option<watch::Sender<EventId>>>,
}

impl Faulty {
    pub(crate) fn around(store: Arc<dyn LockStore>) -> Arc<Self> {
        let (faults, made, done) = (watch::Sender::default(), watch::Sender::default(), watch::Sender::default());
        Arc::new(Self { store, faults, made, done, newest: Mutex::new(None) })
    }

    /// From now on this goes wrong with such calls.
    pub(crate) fn fail(&self, call: Call, fault: Fault) {
        self.faults.send_modify(|faults| faults.push((call, fault)));
    }

    /// From now on nothing goes wrong, and what was held up goes on.
    pub(crate) fn mend(&self) {
        self.faults.send_modify(Vec::clear);
    }

    /// How many such calls the line has taken.
    pub(crate) fn count(&self, call: Call) -> usize {
        self.made.borrow().iter().filter(|made| made.call == call).count()
    }

    /// Awaits the call with this number, from 1, on its way to the store: when it was made.
    pub(crate) async fn made(&self, call: Call, number: usize) -> Duration {
        nth(&self.made, call, number).await
    }

    /// Awaits the call with this number, from 1, to be done by the store, whether or not its answer
    /// arrives: when it was done.
    pub(crate) async fn done(&self, call: Call, number: usize) -> Duration {
        nth(&self.done, call, number).await
    }

    /// From now on [`LockStore::newest_event`] is the test's own to tell.
    pub(crate) fn take_over_newest_event(&self) -> watch::Sender<EventId> {
        let sender = watch::Sender::new(*self.store.newest_event().borrow());
        *self.newest.lock().unwrap() = Some(sender.clone());
        sender
    }

    pub(crate) fn close_newest_event(&self) {
        *self.newest.lock().unwrap() = None;
    }

    async fn pass<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let made = Made { call, at: since_boot() };
        self.made.send_modify(|log| log.push(made));
        let fault = self.fault(call);
        match fault {
            Some(Fault::Unavailable) => return Err(unavailable()),
            Some(Fault::HeldUp) => self.mended(call).await,
            Some(Fault::AnswerLost | Fault::AnswerHeldUp) | None => {}
        }
        let answer = work.await;
        let done = Made { call, at: since_boot() };
        self.done.send_modify(|log| log.push(done));
        match fault {
            Some(Fault::AnswerLost) => return Err(unavailable()),
            Some(Fault::AnswerHeldUp) => self.mended(call).await,
            Some(Fault::Unavailable | Fault::HeldUp) | None => {}
        }
        answer
    }

    fn fault(&self, call: Call) -> Option<Fault> {
        self.faults.borrow().iter().find(|(faulty, _)| *faulty == call).map(|(_, fault)| *fault)
    }

    async fn mended(&self, call: Call) {
        let mut faults = self.faults.subscribe();
        let mended = faults.wait_for(|faults| !faults.iter().any(|(faulty, _)| *faulty == call)).await;
        drop(mended.unwrap());
    }
}

async fn nth(log: &watch::Sender<Vec<Made>>, call: Call, number: usize) -> Duration {
    let find = |log: &Vec<Made>| log.iter().filter(|made| made.call == call).nth(number - 1).copied();
    let mut log = log.subscribe();
    let what = format!("the {call:?} with number {number}");
    let made = soon(&what, log.wait_for(|log| find(log).is_some())).await.unwrap();
    find(&made).unwrap().at
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { path: "the line".into(), problem: "it is cut".to_owned() }
}

fn call(command: &Command) -> Call {
    match command {
        Command::Lock { .. } => Call::Lock,
        Command::Withdraw { .. } => Call::Withdraw,
        Command::Renew { .. } => Call::Renew,
        Command::Unlock { .. } => Call::Unlock,
        Command::Verify { .. } | Command::ForceUnlock { .. } | Command::Settle => Call::Other,
    }
}

#[async_trait]
impl LockStore for Faulty {
    async fn apply(&self, project: &ProjectId, command: Command) -> Result<Answer, StoreError> {
        self.pass(call(&command), self.store.apply(project, command)).await
    }

    fn send(&self, project: &ProjectId, command: Command) {
        let made = Made { call: call(&command), at: since_boot() };
        self.made.send_modify(|log| log.push(made));
        if self.fault(made.call) != Some(Fault::Unavailable) {
            self.store.send(project, command);
        }
    }

    async fn events_after(&self, after: EventId, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        self.pass(Call::Events, self.store.events_after(after, limit)).await
    }

    async fn settle_due(&self) -> Result<Option<Duration>, StoreError> {
        self.pass(Call::Settle, self.store.settle_due()).await
    }

    fn newest_event(&self) -> watch::Receiver<EventId> {
        match &*self.newest.lock().unwrap() {
            Some(newest) => newest.subscribe(),
            None => self.store.newest_event(),
        }
    }

    async fn status(&self, project: &ProjectId) -> Result<Option<Status>, StoreError> {
        self.store.status(project).await
    }

    async fn projects(&self, after: Option<&ProjectId>, limit: usize) -> Result<Vec<Status>, StoreError> {
        self.store.projects(after, limit).await
    }

    async fn create_project(&self, project: &ProjectId, owner: &Holder) -> Result<bool, StoreError> {
        self.store.create_project(project, owner).await
    }

    async fn delete_project(&self, project: &ProjectId, by: &Holder) -> Result<Deleted, StoreError> {
        self.store.delete_project(project, by).await
    }

    async fn history(
        &self,
        project: Option<&ProjectId>,
        before: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.store.history(project, before, limit).await
    }

    async fn retention(&self) -> Result<Retention, StoreError> {
        self.store.retention().await
    }

    async fn set_retention(&self, retention: Retention) -> Result<(), StoreError> {
        self.store.set_retention(retention).await
    }

    fn version(&self) -> u32 {
        self.store.version()
    }

    async fn checkup(&self) -> Result<Vec<Finding>, StoreError> {
        self.store.checkup().await
    }

    fn watch(&self, project: &ProjectId, news: News) -> Watcher {
        self.store.watch(project, news)
    }
}
