//! Rule by rule, one behaviour a test. `properties.rs` looks for what nobody thought of.

use std::time::Duration;

use buildlock_core::{
    CLAIM_WITHIN, Command, Context, Decision, EventKind, How, IfLocked, LeaseDeadline, LockRequest, Outcome, PastKey,
    PastLease, Project, QUEUE_LIMIT, Refusal, RequestId, TICKET_LIFE, Timestamp, Token, Ttl,
};

const TTL: Duration = Duration::from_secs(30);

/// One project, a clock, and what a store remembers.
struct Lock {
    project: Project,
    now: Timestamp,
    next_token: Token,
    past: Vec<PastLease>,
    events: Vec<EventKind>,
}

impl Lock {
    fn new() -> Self {
        let now = Timestamp::from_millis(1_000_000);
        Self { project: Project::default(), now, next_token: Token::FIRST, past: Vec::new(), events: Vec::new() }
    }

    fn decide(&mut self, command: Command) -> Outcome {
        let past = self.project.past_key(&command).and_then(|key| {
            self.past.iter().find(|past| match key {
                PastKey::Token(token) => past.token == token,
                PastKey::Request(request) => past.request == request,
            })
        });
        let Decision { outcome, events, next_token, .. } =
            self.project.decide(&command, Context { now: self.now, next_token: self.next_token, past });
        self.next_token = next_token;
        for event in events {
            self.events.push(event.kind);
            if let (Some(how), Some(token), Some(request)) = (event.kind.end(), event.token, event.request) {
                let ended = buildlock_core::Ended { how, at: event.at, by: event.by, reason: event.reason };
                self.past.push(PastLease { token, request, holder: event.holder, ended });
            }
        }
        outcome
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
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

    fn renew(&mut self, token: Token, ttl: Option<Duration>) -> Outcome {
        let holder = "ana".parse().unwrap();
        self.decide(Command::Renew { token, holder, ttl: ttl.map(|ttl| Ttl::new(ttl).unwrap()) })
    }

    fn verify(&mut self, token: Token) -> Outcome {
        self.decide(Command::Verify { token })
    }

    fn holder(&self) -> Option<&str> {
        self.project.lease.as_ref().map(|lease| lease.holder.as_str())
    }
}

fn request(holder: &str) -> LockRequest {
    LockRequest::new(holder.parse().unwrap(), "edit".parse().unwrap())
}

fn held(outcome: Outcome) -> Token {
    match outcome {
        Outcome::Held(lease) => lease.token,
        outcome => panic!("not held: {outcome:?}"),
    }
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

/// How a lease was lost, by whom, and who holds now.
fn lost(outcome: Outcome) -> (How, Option<String>, Option<String>) {
    match refusal(outcome) {
        Refusal::Lost { lease, now } => {
            (lease.ended.how, lease.ended.by.map(|by| by.to_string()), now.map(|busy| busy.lease.holder.to_string()))
        }
        refusal => panic!("not lost: {refusal:?}"),
    }
}

/// Rule 1.
#[test]
fn a_held_project_is_not_granted_to_another() {
    let mut lock = Lock::new();
    lock.hold(&request("ana"));
    assert!(matches!(refusal(lock.try_lock(&request("ben"))), Refusal::Locked(_)));
    assert_eq!(lock.holder(), Some("ana"));
}

/// Rule 2.
#[test]
fn every_grant_has_a_larger_token() {
    let mut lock = Lock::new();
    let first = lock.hold(&request("ana"));
    lock.unlock(first, "ana");
    let second = lock.hold(&request("ana"));
    assert!(second > first);
}

/// Rule 2.
#[test]
fn a_token_is_current_while_its_lease_lives() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    lock.pass(TTL - Duration::from_millis(1));
    assert_eq!(held(lock.verify(token)), token);
    lock.pass(Duration::from_millis(1));
    assert_eq!(lost(lock.verify(token)), (How::Expired, None, None));
}

/// Rule 3.
#[test]
fn an_ended_lease_says_how_it_ended_by_whom_and_who_holds_now() {
    let mut lock = Lock::new();
    let unlocked = lock.hold(&request("ana"));
    lock.unlock(unlocked, "ana");
    let forced = lock.hold(&request("ana"));
    lock.force_unlock(forced);
    let expired = lock.hold(&request("ana"));
    lock.pass(TTL);
    lock.hold(&request("ben"));
    let by = |name: &str| Some(name.to_owned());
    for outcome in [lock.renew(unlocked, None), lock.verify(unlocked)] {
        assert_eq!(lost(outcome), (How::Unlocked, by("ana"), by("ben")));
    }
    for outcome in [lock.renew(forced, None), lock.verify(forced), lock.unlock(forced, "ana")] {
        assert_eq!(lost(outcome), (How::ForceUnlocked, by("ops"), by("ben")));
    }
    for outcome in [lock.renew(expired, None), lock.verify(expired), lock.unlock(expired, "ana")] {
        assert_eq!(lost(outcome), (How::Expired, None, by("ben")));
    }
}

/// Rule 3.
#[test]
fn a_repeated_unlock_succeeds_for_its_holder_only() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    assert!(matches!(lock.unlock(token, "ana"), Outcome::Ended(_)));
    assert!(matches!(lock.unlock(token, "ana"), Outcome::Ended(_)));
    assert_eq!(lost(lock.unlock(token, "ben")).0, How::Unlocked);
    assert_eq!(lock.events, [EventKind::Granted, EventKind::Unlocked]);
}

/// Rule 3.
#[test]
fn a_token_that_was_never_granted_is_no_lost_lease() {
    let mut lock = Lock::new();
    lock.hold(&request("ana"));
    let unknown = Token::new(99).unwrap();
    for outcome in
        [lock.verify(unknown), lock.renew(unknown, None), lock.unlock(unknown, "ana"), lock.force_unlock(unknown)]
    {
        assert!(matches!(refusal(outcome), Refusal::NeverGranted { token, now: Some(_) } if token == unknown));
    }
}

/// Rule 4.
#[test]
fn a_repeated_request_has_the_same_lease_and_does_not_prolong_it() {
    let mut lock = Lock::new();
    let ana = request("ana");
    let token = lock.hold(&ana);
    lock.pass(Duration::from_secs(10));
    let Outcome::Held(again) = lock.try_lock(&ana) else { panic!("held") };
    assert_eq!((again.token, again.expires_at.since(lock.now)), (token, TTL - Duration::from_secs(10)));
}

/// Rule 4.
#[test]
fn a_repeated_request_has_the_same_ticket() {
    let mut lock = Lock::new();
    lock.hold(&request("ana"));
    let (ben, cyd) = (request("ben"), request("cyd"));
    assert_eq!((position(lock.wait(&ben)), position(lock.wait(&cyd))), (1, 2));
    assert_eq!((position(lock.wait(&ben)), position(lock.try_lock(&cyd))), (1, 2));
    assert_eq!(lock.project.queue.len(), 2);
}

/// Rule 4.
#[test]
fn a_request_whose_lease_has_ended_is_never_granted_again() {
    let mut lock = Lock::new();
    let ana = request("ana");
    let token = lock.hold(&ana);
    lock.unlock(token, "ana");
    assert_eq!(lost(lock.try_lock(&ana)).0, How::Unlocked);
    assert_eq!(lock.holder(), None);
}

/// Rule 4.
#[test]
fn a_lease_that_ends_in_the_very_decision_is_lost_as_well() {
    let mut lock = Lock::new();
    let ana = request("ana");
    lock.hold(&ana);
    lock.pass(TTL);
    assert_eq!(lost(lock.try_lock(&ana)).0, How::Expired);
}

/// Rule 4.
#[test]
fn a_request_id_with_other_content_is_refused() {
    let mut lock = Lock::new();
    let (ana, ben) = (request("ana"), request("ben"));
    lock.hold(&ana);
    lock.wait(&ben);
    let other = |request: &LockRequest| LockRequest { operation: "generate".parse().unwrap(), ..request.clone() };
    assert_eq!(refusal(lock.try_lock(&other(&ana))), Refusal::RequestReused);
    assert_eq!(refusal(lock.wait(&other(&ben))), Refusal::RequestReused);
}

/// Rule 4.
#[test]
fn a_request_that_only_waited_may_try_again() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    let ben = request("ben");
    lock.wait(&ben);
    lock.decide(Command::Withdraw { request: ben.id });
    lock.unlock(token, "ana");
    lock.hold(&ben);
}

/// Rule 5.
#[test]
fn a_refusal_says_who_for_what_since_when_until_when_and_how_many_wait() {
    let mut lock = Lock::new();
    lock.hold(&request("ana"));
    lock.wait(&request("ben"));
    lock.pass(Duration::from_secs(4));
    let Refusal::Locked(busy) = refusal(lock.try_lock(&request("cyd"))) else { panic!("locked") };
    assert_eq!((busy.lease.holder.as_str(), busy.lease.operation.as_str(), busy.queue_length), ("ana", "edit", 1));
    assert_eq!(lock.now.since(busy.lease.acquired_at), Duration::from_secs(4));
    assert_eq!(busy.lease.expires_at.since(lock.now), TTL - Duration::from_secs(4));
}

/// Rule 5.
#[test]
fn a_full_queue_takes_no_more() {
    let mut lock = Lock::new();
    lock.hold(&request("ana"));
    for _ in 0..QUEUE_LIMIT {
        lock.wait(&request("ben"));
    }
    assert!(
        matches!(refusal(lock.wait(&request("cyd"))), Refusal::QueueFull(busy) if busy.queue_length == QUEUE_LIMIT)
    );
}

/// Rule 6.
#[test]
fn a_release_grants_to_the_oldest_live_waiter() {
    for end in [Lock::unlock_ana as fn(&mut Lock, Token), Lock::force, Lock::expire] {
        let mut lock = Lock::new();
        let token = lock.hold(&request("ana"));
        let (ben, cyd) = (request("ben"), request("cyd"));
        lock.wait(&ben);
        lock.wait(&cyd);
        end(&mut lock, token);
        assert_eq!(lock.holder(), Some("ben"));
        assert_eq!(lock.project.queue.len(), 1);
    }
}

impl Lock {
    fn unlock_ana(&mut self, token: Token) {
        self.unlock(token, "ana");
    }

    fn force(&mut self, token: Token) {
        self.force_unlock(token);
    }

    fn expire(&mut self, token: Token) {
        let ends_at = self.project.lease.as_ref().map(|lease| lease.ends_at()).unwrap();
        self.pass(ends_at.since(self.now) - Duration::from_secs(1));
        let waiters: Vec<_> = self.project.queue.iter().map(|ticket| ticket.request.clone()).collect();
        waiters.iter().for_each(|waiter| drop(self.wait(waiter)));
        assert_eq!(held(self.verify(token)), token);
        self.pass(Duration::from_secs(1));
        self.decide(Command::Settle);
    }
}

/// Rule 6.
#[test]
fn nobody_barges_in_past_a_waiter_whose_turn_has_come() {
    let mut lock = Lock::new();
    let ben = LockRequest { ttl: Ttl::new(Duration::from_secs(3_600)).unwrap(), ..request("ben") };
    lock.hold(&LockRequest { ttl: Ttl::new(Duration::from_secs(2)).unwrap(), ..request("ana") });
    lock.wait(&ben);
    lock.pass(Duration::from_secs(2));
    assert!(
        matches!(refusal(lock.try_lock(&request("cyd"))), Refusal::Locked(busy) if busy.lease.holder.as_str() == "ben")
    );
}

/// Rule 7.
#[test]
fn a_waiter_that_lost_touch_is_skipped() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    let (ben, cyd) = (request("ben"), request("cyd"));
    lock.wait(&ben);
    lock.wait(&cyd);
    lock.pass(TICKET_LIFE - Duration::from_millis(1));
    lock.wait(&cyd);
    lock.pass(Duration::from_millis(1));
    lock.unlock(token, "ana");
    assert_eq!(lock.holder(), Some("cyd"));
    assert!(lock.events.contains(&EventKind::Dropped));
}

/// Rule 7.
#[test]
fn a_lease_that_is_not_claimed_passes_on() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    let (ben, cyd) = (request("ben"), request("cyd"));
    lock.wait(&ben);
    lock.wait(&cyd);
    lock.unlock(token, "ana");
    lock.pass(CLAIM_WITHIN);
    lock.decide(Command::Settle);
    assert_eq!(lock.holder(), Some("cyd"));
    assert_eq!(lost(lock.wait(&ben)).0, How::Unclaimed);
}

/// Rule 7.
#[test]
fn a_lease_is_claimed_by_its_request_or_by_a_renewal_and_then_lasts_its_ttl() {
    for by_request in [true, false] {
        let mut lock = Lock::new();
        let token = lock.hold(&request("ben"));
        let ana = request("ana");
        lock.wait(&ana);
        lock.unlock(token, "ben");
        lock.pass(CLAIM_WITHIN - Duration::from_millis(1));
        let claimed = if by_request { lock.wait(&ana) } else { lock.renew(token.next(), None) };
        let Outcome::Held(lease) = claimed else { panic!("held") };
        assert_eq!((lease.claim_by, lease.ends_at().since(lock.now)), (None, TTL));
    }
}

/// Rule 8.
#[test]
fn a_lease_ends_at_its_deadline_whatever_is_asked_next() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    assert_eq!(lock.project.next_deadline(), Some(lock.now.after(TTL)));
    lock.pass(TTL);
    assert_eq!(lost(lock.renew(token, None)).0, How::Expired);
    assert_eq!(lock.project.next_deadline(), None);
}

/// Rule 8.
#[test]
fn a_renewal_prolongs_by_its_own_ttl_once_and_by_the_leases_ever_after() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    let mut left = |ttl: Option<u64>| match lock.renew(token, ttl.map(Duration::from_secs)) {
        Outcome::Held(lease) => lease.expires_at.since(lock.now),
        outcome => panic!("not held: {outcome:?}"),
    };
    assert_eq!(left(Some(300)), Duration::from_secs(300));
    assert_eq!(left(None), TTL);
}

/// Rule 9.
#[test]
fn a_force_unlock_with_an_old_token_does_not_hit_the_next_holder() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    lock.unlock(token, "ana");
    lock.hold(&request("ben"));
    assert_eq!(lost(lock.force_unlock(token)).2.as_deref(), Some("ben"));
    assert_eq!(lock.holder(), Some("ben"));
}

/// Rule 9.
#[test]
fn a_force_unlock_keeps_who_and_why() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    let Outcome::Ended(past) = lock.force_unlock(token) else { panic!("ended") };
    assert_eq!(past.ended.by.unwrap().as_str(), "ops");
    assert_eq!(past.ended.reason.unwrap().as_str(), "stuck");
}

/// Rule 11.
#[test]
fn every_change_writes_one_event_and_what_changes_nothing_writes_none() {
    let mut lock = Lock::new();
    let ana = request("ana");
    let token = lock.hold(&ana);
    lock.try_lock(&ana);
    lock.try_lock(&request("ben"));
    lock.renew(token, None);
    lock.verify(token);
    lock.unlock(token, "ben");
    lock.decide(Command::Withdraw { request: RequestId::fresh() });
    lock.decide(Command::Settle);
    assert_eq!(lock.events, [EventKind::Granted]);
    let cyd = request("cyd");
    lock.wait(&cyd);
    lock.wait(&cyd);
    lock.unlock(token, "ana");
    lock.wait(&cyd);
    lock.decide(Command::Withdraw { request: cyd.id });
    use EventKind::{Granted, Queued, Unlocked};
    assert_eq!(lock.events, [Granted, Queued, Unlocked, Granted, Unlocked]);
}

/// Rules 6 and 2.
#[test]
fn one_decision_may_end_two_leases_and_grant_two_others() {
    let mut lock = Lock::new();
    lock.hold(&request("ana"));
    let (ben, cyd) = (request("ben"), request("cyd"));
    lock.pass(TTL - Duration::from_secs(1));
    lock.wait(&ben);
    lock.wait(&cyd);
    lock.pass(Duration::from_secs(1));
    // Ana's lease ends by itself, Ben's at his own request, in the same decision.
    lock.decide(Command::Withdraw { request: ben.id });
    let lease = lock.project.lease.as_ref().unwrap();
    assert_eq!((lease.holder.as_str(), lease.token.get()), ("cyd", 3));
}

/// Rule 14.
#[test]
fn a_user_is_done_before_the_store_can_grant_to_another() {
    for ttl in [1, 30, 86_400].map(Duration::from_secs) {
        let sent_at = Duration::from_secs(1_000);
        let deadline = LeaseDeadline::new(sent_at, ttl);
        let times = [sent_at, deadline.renew_at(), deadline.stop_at(), deadline.kill_at(), sent_at + ttl];
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        assert_eq!(deadline.ends_at(), sent_at + ttl);
        assert!(deadline.ends_at() - deadline.stop_at() <= Duration::from_secs(10));
    }
}
