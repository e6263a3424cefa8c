//! A lease in a program's hands.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use buildlock_core::{Busy, Command, How, Lease, LeaseDeadline, Outcome, PastLease, ProjectId, Refusal};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::timer::sleep_until;
use super::{LockError, RETRY_EVERY, refusal_text, unlocked};
use crate::Watcher;
use crate::sqlite::since_boot;
use crate::store::{LockStore, News};

/// A lease that renews itself at a third of its TTL, tells when it is lost, and is unlocked when it
/// is dropped: at the end of its scope, on `?`, on panic, on cancellation.
///
/// It says [`lost`](LeaseGuard::lost) early enough to stop the work before the store can grant to
/// another (rule 14); see [`LeaseDeadline`] for the times.
///
/// ```
/// # use buildlock::{LockRequest, LockService, Loss, SqliteStore, Wait};
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let service = LockService::new(SqliteStore::open(folder.path().join("locks.db")).await?);
/// # let project = "my-site".parse()?;
/// # async fn build() {}
/// let request = LockRequest::new("ana".parse()?, "generate".parse()?);
/// let lease = service.lock(&project, request, Wait::NONE).await?;
/// tokio::select! {
///     () = build() => println!("done"),
///     loss = lease.lost() => println!("stopped: {loss}"),
/// }
/// # Ok(()) }
/// ```
pub struct LeaseGuard {
    store: Arc<dyn LockStore>,
    project: ProjectId,
    lease: Lease,
    state: watch::Receiver<State>,
    renewing: AbortHandle,
    /// Nothing is left to unlock.
    is_settled: bool,
}

#[derive(Debug, Clone)]
struct State {
    deadline: LeaseDeadline,
    loss: Option<Loss>,
}

/// How a lease was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The store says that it has ended.
    Ended {
        /// The lease, and how it ended.
        lease: PastLease,
        /// Who holds the project now.
        now: Option<Busy>,
    },
    /// The store does not know it any more, as when its project was deleted by hand or an older copy
    /// of the store was put in its place.
    Unknown {
        /// What the store says instead.
        refusal: Box<Refusal>,
    },
    /// It could not be renewed in time, so the store may soon grant to another.
    NotRenewed {
        /// What the store said last.
        problem: String,
    },
}

impl LeaseGuard {
    pub(super) fn new(store: Arc<dyn LockStore>, project: ProjectId, lease: Lease, deadline: LeaseDeadline) -> Self {
        let (sender, state) = watch::channel(State { deadline, loss: None });
        let end = store.watch(&project, News::End(lease.token));
        let renewer = Renewer { store: Arc::clone(&store), project: project.clone(), lease: lease.clone() };
        let renewing = tokio::spawn(renewer.run(sender, end)).abort_handle();
        Self { store, project, lease, state, renewing, is_settled: false }
    }

    /// The project.
    pub fn project(&self) -> &ProjectId {
        &self.project
    }

    /// Until when the work may go on unless the lease is renewed once more, on the machine's
    /// boot-time clock.
    pub fn deadline(&self) -> LeaseDeadline {
        self.state.borrow().deadline
    }

    /// Resolves with the new deadline when it is no longer this one: to tell whoever does the work
    /// elsewhere. Cancel-safe.
    pub async fn renewed(&self, known: LeaseDeadline) -> LeaseDeadline {
        let mut state = self.state.clone();
        let renewed = state.wait_for(|state| state.deadline != known).await.ok().map(|state| state.deadline);
        match renewed {
            Some(deadline) => deadline,
            // It is not renewed any more.
            None => std::future::pending().await,
        }
    }

    /// Resolves when the lease is lost: somebody ended it, or it could not be renewed and
    /// [`LeaseDeadline::stop_at`] has come. Cancel-safe; may be called any number of times.
    pub async fn lost(&self) -> Loss {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.loss.is_some()).await.ok().and_then(|state| state.loss.clone()) {
            Some(loss) => loss,
            // The renewer ends without a loss only when this guard, which is borrowed here, is dropped
            // or the runtime that it was locked in is shut down.
            None => {
                sleep_until(self.deadline().stop_at()).await;
                Loss::NotRenewed { problem: "the runtime that it was locked in has ended".to_owned() }
            }
        }
    }

    /// Ends the lease, and answers once that is durable. (To drop the guard does the same without
    /// waiting.)
    ///
    /// # Errors
    ///
    /// [`LockError::Lost`] if it had ended before.
    pub async fn unlock(mut self) -> Result<PastLease, LockError> {
        self.renewing.abort();
        let answer = self.store.apply(&self.project, self.unlock_command()).await?;
        self.is_settled = true;
        unlocked(answer.outcome)
    }

    /// Lets go of the lease without ending it: it is renewed and unlocked by its token from now on,
    /// or ends by itself.
    pub fn keep(mut self) -> Lease {
        self.is_settled = true;
        if self.lease.claim_by.is_some() {
            self.store.send(&self.project, renew_command(&self.lease));
        }
        self.lease.clone()
    }

    fn unlock_command(&self) -> Command {
        Command::Unlock { token: self.lease.token, holder: self.lease.holder.clone() }
    }
}

/// The lease as it was granted; what changes since is [`LeaseGuard::deadline`].
impl Deref for LeaseGuard {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.renewing.abort();
        if !self.is_settled {
            self.store.send(&self.project, self.unlock_command());
        }
    }
}

impl fmt::Debug for LeaseGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseGuard").field("project", &self.project).field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Ended { lease, .. } => {
                let by = lease.ended.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
                match lease.ended.how {
                    How::Unlocked => write!(f, "it was unlocked{by}"),
                    How::ForceUnlocked => write!(f, "it was force-unlocked{by}")
                        .and_then(|()| lease.ended.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))),
                    How::Expired => write!(f, "it expired"),
                    How::Unclaimed => write!(f, "it was handed over and not claimed in time"),
                    How::FreedByHand => write!(f, "the project was set to idle by hand"),
                }
            }
            Loss::Unknown { refusal } => write!(f, "the store does not know it: {}", refusal_text(refusal)),
            Loss::NotRenewed { problem } => write!(f, "it could not be renewed in time ({problem})"),
        }
    }
}

/// Renews one lease until it is lost.
struct Renewer {
    store: Arc<dyn LockStore>,
    project: ProjectId,
    lease: Lease,
}

impl Renewer {
    async fn run(self, state: watch::Sender<State>, end: Watcher) {
        let mut deadline = state.borrow().deadline;
        let mut next_try = match self.lease.claim_by {
            Some(_) => since_boot(),
            None => deadline.renew_at().min(since_boot() + FIRST_LOOK_AFTER),
        };
        let loss = loop {
            tokio::select! {
                () = sleep_until(next_try) => {}
                () = end.changed() => {}
            }
            let renewed = tokio::select! {
                biased;
                () = sleep_until(deadline.stop_at()) => {
                    break Loss::NotRenewed { problem: "the store did not answer".to_owned() };
                }
                renewed = self.renew() => renewed,
            };
            let problem = match renewed {
                Ok(renewed) => {
                    deadline = renewed;
                    state.send_modify(|state| state.deadline = renewed);
                    next_try = deadline.renew_at();
                    continue;
                }
                Err(LockError::Lost(loss)) => break *loss,
                Err(LockError::Refused(refusal)) => break Loss::Unknown { refusal },
                Err(error) => error.to_string(),
            };
            next_try = since_boot() + RETRY_EVERY.min(self.lease.ttl.get() / RETRIES_PER_TTL);
            // Whatever the watch says: a store that fails tells all who watch to look again.
            sleep_until(next_try.min(deadline.stop_at())).await;
            if next_try >= deadline.stop_at() {
                break Loss::NotRenewed { problem };
            }
        };
        state.send_modify(|state| state.loss = Some(loss));
    }

    async fn renew(&self) -> Result<LeaseDeadline, LockError> {
        let sent_at = since_boot();
        let answer = self.store.apply(&self.project, renew_command(&self.lease)).await?;
        match answer.outcome {
            Outcome::Held(lease) => Ok(LeaseDeadline::new(sent_at, lease.expires_at.since(answer.now))),
            outcome => Err(LockError::from(outcome)),
        }
    }
}

fn renew_command(lease: &Lease) -> Command {
    Command::Renew { token: lease.token, holder: lease.holder.clone(), ttl: None }
}

/// When a lease is first looked at. Between the store's answer and the watch for the lease's end it
/// may have ended unseen, and a third of a long TTL is too late to learn of that.
const FIRST_LOOK_AFTER: Duration = Duration::from_secs(1);

/// A renewal that failed is tried again at least this often in a TTL.
const RETRIES_PER_TTL: u32 = 16;
