//! What a Rust program embeds: locks that renew themselves, tell when they are lost, and are given
//! back whatever happens.

mod changes;
mod guard;
mod timer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buildlock_core::{
    Busy, Command, IfLocked, KEEP_IN_TOUCH_EVERY, Lease, LeaseDeadline, LockRequest, Outcome, PastLease, Place,
    ProjectId, Refusal, TICKET_LIFE, Timestamp, Wait,
};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

pub use self::changes::Changes;
pub use self::guard::{LeaseGuard, Loss};
use crate::sqlite::since_boot;
use crate::store::{EventId, Grant, LockStore, News};
use crate::{StoreError, open_store};

/// How often time is looked at, so that the next waiter is granted within a second of an expiry
/// (rule 8).
const SETTLE_EVERY: Duration = Duration::from_millis(500);

/// How soon a waiter or a holder asks again when the store could not answer.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Locks projects for a program.
///
/// A cheap handle to one store. As long as a clone of it lives, it also does what time makes due in
/// the store (rule 8).
///
/// ```
/// use buildlock::{LockRequest, LockService, SqliteStore, Wait};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("locks.db");
/// let service = LockService::new(SqliteStore::open(path).await?);
/// let project = "my-site".parse()?;
///
/// let lease = service.lock(&project, LockRequest::new("ana".parse()?, "generate".parse()?), Wait::NONE).await?;
/// println!("building with fencing token {}", lease.token);
/// lease.unlock().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LockService {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn LockStore>,
    /// None where the store does it itself.
    settling: Option<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(settling) = &self.settling {
            settling.abort();
        }
    }
}

impl LockService {
    /// A service on a store.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(store: impl LockStore + 'static) -> Self {
        Self::with_store(Arc::new(store))
    }

    /// A service on the store with this URL; see [`open_store`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be opened.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self::with_store(open_store(url).await?))
    }

    /// A service on a store that others may use as well.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn with_store(store: Arc<dyn LockStore>) -> Self {
        let settling = (!store.settles_itself()).then(|| tokio::spawn(settle(Arc::clone(&store))).abort_handle());
        Self { inner: Arc::new(Inner { store, settling }) }
    }

    /// The store, for what needs no service: status, history, force unlock.
    pub fn store(&self) -> &dyn LockStore {
        &*self.inner.store
    }

    /// Locks a project; waits for it in the queue if it is locked, for as long as `wait` says.
    ///
    /// To drop the future takes the request back: a place in the queue is given up, a lease that
    /// was granted meanwhile is unlocked.
    ///
    /// # Errors
    ///
    /// [`LockError::Locked`] without a wait, [`LockError::WaitOver`] after it. A repeated request
    /// whose lease has ended is [`LockError::Lost`] (rule 4).
    pub async fn lock(&self, project: &ProjectId, request: LockRequest, wait: Wait) -> Result<LeaseGuard, LockError> {
        self.lock_telling(project, request, wait, |_, _| {}).await
    }

    /// As [`LockService::lock`], and tells of each new look at the queue while it waits: the place,
    /// and the store's time then.
    ///
    /// # Errors
    ///
    /// As [`LockService::lock`].
    pub async fn lock_telling(
        &self,
        project: &ProjectId,
        request: LockRequest,
        wait: Wait,
        mut tell: impl FnMut(&Place, Timestamp),
    ) -> Result<LeaseGuard, LockError> {
        let store = &self.inner.store;
        let over_at = Instant::now() + wait.get();
        let if_locked = if wait == Wait::NONE { IfLocked::Refuse } else { IfLocked::Queue };
        let turn = store.watch(project, News::Turn(request.id));
        let mut taken_back = TakeBack { store: Some(Arc::clone(store)), project, request: &request };
        let mut last_heard = Instant::now();
        let mut last_place = None;
        loop {
            let sent_at = since_boot();
            let lock = Command::Lock { request: request.clone(), if_locked };
            let answer = tokio::select! {
                biased;
                answer = store.apply(project, lock) => Some(answer),
                // Whoever has no place yet cannot be told where it stood.
                () = sleep_until(over_at), if last_place.is_some() => None,
            };
            match answer {
                Some(Ok(answer)) => match answer.outcome {
                    Outcome::Held(lease) => {
                        // Not the TTL: an answer to a repeated request may tell of an older grant.
                        let deadline = LeaseDeadline::new(sent_at, lease.ends_at().since(answer.now));
                        let lease = LeaseGuard::new(Arc::clone(store), project.clone(), lease, deadline);
                        taken_back.store = None;
                        return Ok(lease);
                    }
                    Outcome::Queued(place) => {
                        tell(&place, answer.now);
                        last_place = Some(place);
                        last_heard = Instant::now();
                        tokio::select! {
                            () = turn.changed() => {}
                            () = sleep_until(over_at.min(last_heard + KEEP_IN_TOUCH_EVERY)) => {}
                        }
                        // Told of its grant, it need not ask: the guard's first renewal claims the lease.
                        if let Some(Grant { token, at }) = turn.grant() {
                            let lease = Lease::handed_over(&request, token, at);
                            let deadline = LeaseDeadline::new(sent_at, lease.ends_at().since(answer.now));
                            if since_boot() < deadline.stop_at() {
                                let lease = LeaseGuard::new(Arc::clone(store), project.clone(), lease, deadline);
                                taken_back.store = None;
                                return Ok(lease);
                            }
                        }
                    }
                    outcome => {
                        taken_back.store = None;
                        return Err(LockError::from(outcome));
                    }
                },
                // Whatever the watch says: a store that fails tells all who watch to look again.
                Some(Err(error)) if error.may_pass() && last_place.is_some() && last_heard.elapsed() < TICKET_LIFE => {
                    sleep_until(over_at.min(Instant::now() + RETRY_EVERY)).await;
                }
                Some(Err(error)) => return Err(error.into()),
                None => {}
            }
            if let Some(place) = last_place.take_if(|_| Instant::now() >= over_at) {
                return Err(LockError::WaitOver(Box::new(place)));
            }
        }
    }

    /// Does `work` under the project's lock: the `finally` nobody can forget. The lock is given back
    /// when the work is done, fails or panics. When the lease is lost the work is dropped where it
    /// stands (rule 14).
    ///
    /// ```
    /// # use buildlock::{LockRequest, LockService, SqliteStore, Wait};
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let service = LockService::new(SqliteStore::open(folder.path().join("locks.db")).await?);
    /// # let project = "my-site".parse()?;
    /// let request = LockRequest::new("ana".parse()?, "edit".parse()?);
    /// let pages = service
    ///     .with_lock(&project, request, Wait::NONE, async |lease| {
    ///         println!("editing with fencing token {}", lease.token);
    ///         3
    ///     })
    ///     .await?;
    /// assert_eq!(pages, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`LockService::lock`]; [`LockError::Lost`] also when the lease ended while the work went
    /// on.
    pub async fn with_lock<T>(
        &self,
        project: &ProjectId,
        request: LockRequest,
        wait: Wait,
        work: impl AsyncFnOnce(&LeaseGuard) -> T,
    ) -> Result<T, LockError> {
        let lease = self.lock(project, request, wait).await?;
        let done = tokio::select! {
            done = work(&lease) => done,
            loss = lease.lost() => return Err(LockError::Lost(Box::new(loss))),
        };
        match lease.unlock().await {
            Err(LockError::Store(error)) => {
                tracing::warn!(%error, %project, "cannot unlock; the lease ends by itself");
                Ok(done)
            }
            Err(error) => Err(error),
            Ok(_) => Ok(done),
        }
    }

    /// Everything that happens in the store after `after`; from now on if there is none. What another
    /// process wrote in the last half second may then be among it.
    ///
    /// ```
    /// # use buildlock::{EventKind, LockRequest, LockService, SqliteStore, Wait};
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let service = LockService::new(SqliteStore::open(folder.path().join("locks.db")).await?);
    /// let mut changes = service.changes(None);
    /// let request = LockRequest::new("ana".parse()?, "edit".parse()?);
    /// let _lease = service.lock(&"my-site".parse()?, request, Wait::NONE).await?;
    ///
    /// assert_eq!(changes.next().await?.event.kind, EventKind::Granted);
    /// # Ok(()) }
    /// ```
    pub fn changes(&self, after: Option<EventId>) -> Changes {
        Changes::new(Arc::clone(&self.inner.store), after)
    }
}

impl fmt::Debug for LockService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockService").field(&self.inner.store).finish()
    }
}

/// Takes a lock request back that its caller no longer waits for.
struct TakeBack<'a> {
    store: Option<Arc<dyn LockStore>>,
    project: &'a ProjectId,
    request: &'a LockRequest,
}

impl Drop for TakeBack<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            store.send(self.project, Command::Withdraw { request: self.request.id });
        }
    }
}

/// Does what time makes due, for as long as the service lives.
async fn settle(store: Arc<dyn LockStore>) {
    loop {
        let next = match store.settle_due().await {
            Ok(next) => next.unwrap_or(SETTLE_EVERY).min(SETTLE_EVERY),
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot end what is over");
                SETTLE_EVERY
            }
        };
        sleep(next).await;
    }
}

/// Why a program has no lock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody holds the project, and the request did not want to wait.
    #[error("the project is locked: {} holds it for {:?}", .0.lease.holder, .0.lease.operation.as_str())]
    Locked(Box<Busy>),
    /// Somebody holds the project, and no more can wait for it.
    #[error("the project is locked and its queue is full: {} wait", .0.queue_length)]
    QueueFull(Box<Busy>),
    /// The wait ran out. The request has been taken back.
    #[error("the wait for the project is over: {} holds it, {} would have been before you", .0.busy.lease.holder, .0.position - 1)]
    WaitOver(Box<Place>),
    /// The lease has ended.
    #[error("the lease is lost: {0}")]
    Lost(Box<Loss>),
    /// The request, or the token, does not fit what the store knows.
    #[error("{}", refusal_text(.0))]
    Refused(Box<Refusal>),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An outcome that is not the one that the command wished for.
impl From<Outcome> for LockError {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Refused(refusal) => match *refusal {
                Refusal::Locked(busy) => LockError::Locked(Box::new(busy)),
                Refusal::QueueFull(busy) => LockError::QueueFull(Box::new(busy)),
                Refusal::Lost { lease, now } => LockError::Lost(Box::new(Loss::Ended { lease, now })),
                refusal => LockError::Refused(Box::new(refusal)),
            },
            // No store answers a command with another command's outcome.
            outcome => LockError::Store(StoreError::Protocol(format!("{outcome:?}"))),
        }
    }
}

fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Locked(busy) | Refusal::QueueFull(busy) => format!("the project is locked by {}", busy.lease.holder),
        Refusal::Lost { lease, .. } => format!("the lease with token {} has ended", lease.token),
        Refusal::NotHolder(busy) => format!("the lease is somebody else's: {} holds it", busy.lease.holder),
        Refusal::NeverGranted { token, .. } => format!("the project never had a lease with token {token}"),
        Refusal::RequestReused => {
            "the request id was used before with another holder, operation, message or TTL; use a new one".to_owned()
        }
        Refusal::UnknownProject => "there is no such project".to_owned(),
    }
}

fn unlocked(outcome: Outcome) -> Result<PastLease, LockError> {
    match outcome {
        Outcome::Ended(lease) => Ok(lease),
        outcome => Err(LockError::from(outcome)),
    }
}
