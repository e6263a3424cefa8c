//! Short ways to ask a store, and to say what the answer must be.

use std::fmt::Debug;
use std::time::Duration;

use buildlock::{
    Answer, Busy, Command, EventId, EventKind, IfLocked, Lease, LockRequest, LockStore, Outcome, PastLease, Place,
    ProjectId, Recorded, Refusal, RequestId, Status, Token, Ttl,
};

pub(crate) fn project(id: &str) -> ProjectId {
    id.parse().unwrap()
}

/// A new request of this holder to `edit`, with a TTL of 30 seconds.
pub(crate) fn request(holder: &str) -> LockRequest {
    LockRequest::new(holder.parse().unwrap(), "edit".parse().unwrap())
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn ttl(seconds: u64) -> Ttl {
    Ttl::new(Duration::from_secs(seconds)).unwrap()
}

#[track_caller]
pub(crate) fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => *refusal,
        outcome => panic!("not refused: {outcome:?}"),
    }
}

/// The lease that is lost, and who holds now.
#[track_caller]
pub(crate) fn lost(outcome: Outcome) -> (PastLease, Option<Busy>) {
    match refusal(outcome) {
        Refusal::Lost { lease, now } => (lease, now),
        refusal => panic!("not lost: {refusal:?}"),
    }
}

#[track_caller]
pub(crate) fn ended(outcome: Outcome) -> PastLease {
    match outcome {
        Outcome::Ended(lease) => lease,
        outcome => panic!("not ended: {outcome:?}"),
    }
}

#[track_caller]
pub(crate) fn lease(outcome: Outcome) -> Lease {
    match outcome {
        Outcome::Held(lease) => lease,
        outcome => panic!("not held: {outcome:?}"),
    }
}

#[track_caller]
pub(crate) fn place(outcome: Outcome) -> Place {
    match outcome {
        Outcome::Queued(place) => place,
        outcome => panic!("not queued: {outcome:?}"),
    }
}

/// Every store can be asked like this. A store that cannot answer fails the test.
pub(crate) trait Ask: LockStore {
    async fn ask(&self, project_id: &str, command: Command) -> Answer {
        self.apply(&project(project_id), command).await.unwrap()
    }

    /// Locks, or is refused.
    async fn lock(&self, project: &str, request: &LockRequest) -> Outcome {
        let command = Command::Lock { request: request.clone(), if_locked: IfLocked::Refuse };
        self.ask(project, command).await.outcome
    }

    /// Locks, or takes a ticket.
    async fn queue(&self, project: &str, request: &LockRequest) -> Outcome {
        let command = Command::Lock { request: request.clone(), if_locked: IfLocked::Queue };
        self.ask(project, command).await.outcome
    }

    /// A new request of this holder, which is granted.
    async fn held(&self, project: &str, holder: &str) -> Lease {
        lease(self.lock(project, &request(holder)).await)
    }

    /// A new request of this holder, which takes a ticket.
    async fn queued(&self, project: &str, holder: &str) -> LockRequest {
        let request = request(holder);
        place(self.queue(project, &request).await);
        request
    }

    async fn renew(&self, project: &str, lease: &Lease) -> Outcome {
        let command = Command::Renew { token: lease.token, holder: lease.holder.clone(), ttl: None };
        self.ask(project, command).await.outcome
    }

    async fn verify(&self, project: &str, token: Token) -> Outcome {
        self.ask(project, Command::Verify { token }).await.outcome
    }

    async fn unlock(&self, project: &str, lease: &Lease) -> Outcome {
        let command = Command::Unlock { token: lease.token, holder: lease.holder.clone() };
        self.ask(project, command).await.outcome
    }

    async fn force_unlock(&self, project: &str, token: Token, by: &str, reason: &str) -> Outcome {
        let command = Command::ForceUnlock { token, by: by.parse().unwrap(), reason: reason.parse().unwrap() };
        self.ask(project, command).await.outcome
    }

    async fn withdraw(&self, project: &str, request: RequestId) -> Outcome {
        self.ask(project, Command::Withdraw { request }).await.outcome
    }

    async fn see(&self, project_id: &str) -> Status {
        self.status(&project(project_id)).await.unwrap().unwrap_or_else(|| panic!("there is no project {project_id}"))
    }

    /// Who holds the project.
    async fn holder(&self, project: &str) -> Option<String> {
        self.see(project).await.lease.map(|lease| lease.holder.to_string())
    }

    /// Who waits, in order.
    async fn waiters(&self, project: &str) -> Vec<String> {
        self.see(project).await.queue.iter().map(|ticket| ticket.request.holder.to_string()).collect()
    }

    /// The kinds of a project's events, oldest first.
    async fn kinds(&self, project_id: &str) -> Vec<EventKind> {
        let page = self.history(Some(&project(project_id)), None, 1_000).await.unwrap();
        page.iter().rev().map(|recorded| recorded.event.kind).collect()
    }

    /// Every event after this one, oldest first.
    async fn all_events(&self, mut after: EventId) -> Vec<Recorded> {
        let mut all = Vec::new();
        loop {
            let page = self.events_after(after, 1_000).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = last.id;
            all.extend(page);
        }
    }
}

impl<S: LockStore + ?Sized> Ask for S {}

/// Fails unless both are the same set, and shows what is in one only.
#[track_caller]
pub(crate) fn same_items<T: Ord + Debug>(mut left: Vec<T>, mut right: Vec<T>) {
    left.sort();
    right.sort();
    assert_eq!(left, right);
}
