//! Rule 7: dead waiters are skipped.

use std::time::Duration;

use buildlock_core::{CLAIM_WITHIN, EventKind, How, KEEP_IN_TOUCH_EVERY, LockRequest, Outcome, TICKET_LIFE, Token};

use crate::{Lock, MS, TTL, ana_holds_ben_and_cyd_wait, held, how, lease, lost, position, request, request_for};

/// Rule 7.
#[test]
fn a_waiter_that_lost_touch_is_skipped() {
    let (mut lock, token, ben, cyd) = ana_holds_ben_and_cyd_wait();
    lock.pass(TICKET_LIFE - MS);
    lock.wait(&cyd);
    lock.pass(MS);
    lock.unlock(token, "ana");
    assert_eq!(lock.holder(), Some("cyd"));
    let dropped = lock.events.iter().find(|event| event.kind == EventKind::Dropped).unwrap();
    assert_eq!((dropped.request, dropped.at), (Some(ben.id), lock.now()));
}

/// Rule 7.
#[test]
fn a_waiter_that_dies_with_the_lease_is_skipped() {
    let mut lock = Lock::new();
    lock.hold(&request_for("ana", TICKET_LIFE));
    lock.wait(&request("ben"));
    lock.pass(MS);
    lock.wait(&request("cyd"));
    lock.pass(TICKET_LIFE - MS);
    lock.settle();
    use EventKind::{Dropped, Expired, Granted, Queued};
    assert_eq!(lock.kinds(), [Granted, Queued, Queued, Expired, Dropped, Granted]);
    assert_eq!(lock.holder(), Some("cyd"));
}

/// Rule 7.
#[test]
fn a_ticket_lives_up_to_but_not_at_its_end() {
    for (waited, then) in [(TICKET_LIFE - MS, Some("ben")), (TICKET_LIFE, None)] {
        let mut lock = Lock::new();
        let token = lock.hold(&request("ana"));
        lock.wait(&request("ben"));
        lock.pass(waited);
        lock.unlock(token, "ana");
        assert_eq!(lock.holder(), then);
    }
}

/// Rule 7.
#[test]
fn a_dead_waiter_waits_15_seconds_and_is_in_the_way_for_5() {
    let (mut lock, token, ..) = ana_holds_ben_and_cyd_wait();
    assert_eq!(lock.project().next_deadline(), Some(lock.now().after(Duration::from_secs(15))));
    lock.unlock(token, "ana");
    assert_eq!(lock.project().next_deadline(), Some(lock.now().after(Duration::from_secs(5))));
}

/// Rule 7.
#[test]
fn a_waiter_may_miss_a_beat() {
    let mut lock = Lock::new();
    lock.hold(&request_for("ana", Duration::from_secs(3_600)));
    let (ben, cyd) = (request("ben"), request("cyd"));
    lock.wait(&ben);
    for _ in 0..20 {
        lock.pass(KEEP_IN_TOUCH_EVERY * 2);
        lock.wait(&cyd);
        assert_eq!(position(lock.wait(&ben)), 1);
    }
}

/// Rule 7.
#[test]
fn a_lease_that_is_not_claimed_passes_on() {
    let (mut lock, token, ben, _) = ana_holds_ben_and_cyd_wait();
    lock.unlock(token, "ana");
    lock.pass(CLAIM_WITHIN - MS);
    lock.settle();
    assert_eq!((lock.holder(), lock.project().next_deadline()), (Some("ben"), Some(lock.now().after(MS))));
    lock.pass(MS);
    lock.settle();
    assert_eq!(lock.holder(), Some("cyd"));
    assert_eq!(how(lock.wait(&ben)), How::Unclaimed);
}

/// Rule 7.
#[test]
fn a_lease_is_claimed_by_its_request_or_by_a_renewal_and_then_lasts_its_ttl() {
    type Claim = fn(&mut Lock, &LockRequest, Token) -> Outcome;
    let by_request: Claim = |lock, ben, _| lock.try_lock(ben);
    let by_renewal: Claim = |lock, _, token| lock.renew(token, "ben");
    for claim in [by_request, by_renewal] {
        let (mut lock, token, ben, _) = ana_holds_ben_and_cyd_wait();
        lock.unlock(token, "ana");
        lock.pass(CLAIM_WITHIN - MS);
        let claimed = lease(claim(&mut lock, &ben, token.next()));
        assert_eq!((claimed.token, claimed.claim_by), (token.next(), None));
        assert_eq!(claimed.ends_at().since(lock.now()), TTL);
    }
}

/// Rule 7.
#[test]
fn to_verify_a_token_claims_nothing() {
    let (mut lock, token, ..) = ana_holds_ben_and_cyd_wait();
    lock.unlock(token, "ana");
    assert_eq!(held(lock.verify(token.next())), token.next());
    lock.pass(CLAIM_WITHIN);
    assert_eq!(how(lock.verify(token.next())), How::Unclaimed);
}

/// Rule 7.
#[test]
fn a_lease_that_is_shorter_than_the_time_to_claim_it_ends_with_its_ttl() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    let ben = request_for("ben", Duration::from_secs(2));
    lock.wait(&ben);
    lock.unlock(token, "ana");
    lock.pass(Duration::from_secs(2));
    assert_eq!(lost(lock.wait(&ben)), (How::Unclaimed, lock.now(), None, None));
}
