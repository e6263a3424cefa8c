//! Rule by rule, one behaviour a test: `rule/` has a file for each. `properties.rs` looks for what
//! nobody thought of.

mod rule;
mod support;

use std::time::Duration;

use buildlock_core::{
    Busy, Command, Ended, Event, EventKind, How, IfLocked, Lease, LockRequest, Outcome, PastLease, Project, Refusal,
    Timestamp, Token, Ttl,
};
use support::Store;

const TTL: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// The lock of one project, and its history.
struct Lock {
    store: Store,
    events: Vec<Event>,
}

impl Lock {
    fn new() -> Self {
        Self { store: Store::new(1), events: Vec::new() }
    }

    fn decide(&mut self, command: Command) -> Outcome {
        let decision = self.store.decide(0, &command);
        self.events.extend(decision.events);
        decision.outcome
    }

    fn project(&self) -> &Project {
        &self.store.projects[0]
    }

    fn now(&self) -> Timestamp {
        self.store.now
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.events.iter().map(|event| event.kind).collect()
    }

    fn pass(&mut self, duration: Duration) {
        self.store.pass(duration);
    }

    fn settle(&mut self) {
        assert_eq!(self.decide(Command::Settle), Outcome::Done);
    }

    fn withdraw(&mut self, request: &LockRequest) {
        assert_eq!(self.decide(Command::Withdraw { request: request.id }), Outcome::Done);
    }

    fn try_lock(&mut self, request: &LockRequest) -> Outcome {
        self.decide(Command::Lock { request: request.clone(), if_locked: IfLocked::Refuse })
    }

    fn wait(&mut self, request: &LockRequest) -> Outcome {
        self.decide(Command::Lock { request: request.clone(), if_locked: IfLocked::Queue })
    }

    /// Locks, which must succeed.
    fn hold(&mut self, request: &LockRequest) -> Token {
        held(self.try_lock(request))
    }

    fn unlock(&mut self, token: Token, holder: &str) -> Outcome {
        self.decide(Command::Unlock { token, holder: holder.parse().unwrap() })
    }

    fn force_unlock(&mut self, token: Token) -> Outcome {
        self.decide(Command::ForceUnlock { token, by: "ops".parse().unwrap(), reason: "stuck".parse().unwrap() })
    }

    fn renew(&mut self, token: Token, holder: &str) -> Outcome {
        self.decide(Command::Renew { token, holder: holder.parse().unwrap(), ttl: None })
    }

    fn renew_for(&mut self, token: Token, holder: &str, ttl: Duration) -> Outcome {
        self.decide(Command::Renew { token, holder: holder.parse().unwrap(), ttl: Some(Ttl::new(ttl).unwrap()) })
    }

    fn verify(&mut self, token: Token) -> Outcome {
        self.decide(Command::Verify { token })
    }

    fn holder(&self) -> Option<&str> {
        self.project().lease.as_ref().map(|lease| lease.holder.as_str())
    }
}

fn request(holder: &str) -> LockRequest {
    LockRequest::new(holder.parse().unwrap(), "edit".parse().unwrap())
}

fn request_for(holder: &str, ttl: Duration) -> LockRequest {
    LockRequest { ttl: Ttl::new(ttl).unwrap(), ..request(holder) }
}

fn lease(outcome: Outcome) -> Lease {
    match outcome {
        Outcome::Held(lease) => lease,
        outcome => panic!("not held: {outcome:?}"),
    }
}

fn held(outcome: Outcome) -> Token {
    lease(outcome).token
}

fn position(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Queued(place) => place.position,
        outcome => panic!("not queued: {outcome:?}"),
    }
}

fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => *refusal,
        outcome => panic!("not refused: {outcome:?}"),
    }
}

fn locked(outcome: Outcome) -> Busy {
    match refusal(outcome) {
        Refusal::Locked(busy) => busy,
        refusal => panic!("not locked: {refusal:?}"),
    }
}

/// How a lease was lost, when, by whom, and who holds now.
fn lost(outcome: Outcome) -> (How, Timestamp, Option<String>, Option<String>) {
    match refusal(outcome) {
        Refusal::Lost { lease: PastLease { ended: Ended { how, at, by, .. }, .. }, now } => {
            (how, at, by.map(String::from), now.map(|busy| busy.lease.holder.into()))
        }
        refusal => panic!("not lost: {refusal:?}"),
    }
}

fn how(outcome: Outcome) -> How {
    lost(outcome).0
}

/// A project that Ana holds, and for which Ben and Cyd wait.
fn ana_holds_ben_and_cyd_wait() -> (Lock, Token, LockRequest, LockRequest) {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    let (ben, cyd) = (request("ben"), request("cyd"));
    assert_eq!((position(lock.wait(&ben)), position(lock.wait(&cyd))), (1, 2));
    (lock, token, ben, cyd)
}
