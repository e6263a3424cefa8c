//! Rule 4: requests can be repeated.

use buildlock_core::{CLAIM_WITHIN, EventKind, How, LockRequest, Outcome, Refusal, TICKET_LIFE, Ttl};

use crate::{Lock, MS, TTL, ana_holds_ben_and_cyd_wait, how, lease, lost, position, refusal, request};

/// Rule 4.
#[test]
fn a_repeated_request_has_the_same_lease_and_does_not_prolong_it() {
    let mut lock = Lock::new();
    let ana = request("ana");
    let first = lease(lock.try_lock(&ana));
    lock.pass(TTL - MS);
    assert_eq!(lease(lock.try_lock(&ana)), first);
    assert_eq!(lease(lock.wait(&ana)), first);
}

/// Rule 4.
#[test]
fn a_repeated_request_has_the_same_ticket() {
    let (mut lock, _, ben, cyd) = ana_holds_ben_and_cyd_wait();
    assert_eq!((position(lock.wait(&ben)), position(lock.wait(&cyd))), (1, 2));
    assert_eq!(lock.project().queue.len(), 2);
}

/// Rules 4 and 5.
#[test]
fn a_waiting_request_that_is_repeated_without_a_wait_keeps_its_ticket() {
    let (mut lock, _, _, cyd) = ana_holds_ben_and_cyd_wait();
    assert_eq!(position(lock.try_lock(&cyd)), 2);
}

/// Rule 4.
#[test]
fn a_request_whose_lease_has_ended_is_never_granted_again() {
    let mut lock = Lock::new();
    let ana = request("ana");
    let token = lock.hold(&ana);
    lock.unlock(token, "ana");
    assert_eq!(how(lock.try_lock(&ana)), How::Unlocked);
    assert_eq!(how(lock.wait(&ana)), How::Unlocked);
    assert_eq!(lock.holder(), None);
    lock.hold(&request("ben"));
    assert_eq!(lost(lock.wait(&ana)).3.as_deref(), Some("ben"));
    assert!(lock.project().queue.is_empty());
}

/// Rule 4.
#[test]
fn a_lease_that_ends_in_the_very_decision_is_lost_as_well() {
    for ask in [Lock::try_lock, Lock::wait] {
        let mut lock = Lock::new();
        let ana = request("ana");
        lock.hold(&ana);
        lock.pass(TTL);
        assert_eq!(how(ask(&mut lock, &ana)), How::Expired);
    }
}

/// Rule 4.
#[test]
fn a_request_id_with_other_content_is_refused() {
    let (mut lock, token, ben, cyd) = ana_holds_ben_and_cyd_wait();
    lock.unlock(token, "ana");
    let others = |first: &LockRequest| {
        [
            LockRequest { holder: "eve".parse().unwrap(), ..first.clone() },
            LockRequest { operation: "generate".parse().unwrap(), ..first.clone() },
            LockRequest { message: "other".parse().unwrap(), ..first.clone() },
            LockRequest { ttl: Ttl::new(TTL + MS).unwrap(), ..first.clone() },
        ]
    };
    lock.pass(CLAIM_WITHIN - MS);
    for other in others(&ben).into_iter().chain(others(&cyd)) {
        assert_eq!(refusal(lock.wait(&other)), Refusal::RequestReused);
    }
    // It has neither claimed the one nor kept the other in touch.
    let ends: Vec<_> = lock.project().queue.iter().map(|ticket| ticket.alive_until.since(lock.now())).collect();
    assert_eq!(ends, [TICKET_LIFE - CLAIM_WITHIN + MS]);
    lock.pass(MS);
    assert_eq!(how(lock.wait(&ben)), How::Unclaimed);
}

/// Rule 4.
#[test]
fn a_request_whose_ticket_ended_without_a_grant_may_queue_anew_at_the_end() {
    let (mut lock, token, ben, cyd) = ana_holds_ben_and_cyd_wait();
    lock.withdraw(&ben);
    assert_eq!((position(lock.wait(&ben)), position(lock.wait(&cyd))), (2, 1));
    lock.pass(TICKET_LIFE - MS);
    lock.wait(&ben);
    lock.pass(MS);
    // Cyd's ticket is dropped by the decision that takes the new one.
    assert_eq!(position(lock.wait(&cyd)), 2);
    lock.unlock(token, "ana");
    assert_eq!(lock.holder(), Some("ben"));
}

/// Rule 4.
#[test]
fn a_withdrawn_ticket_leaves_the_queue() {
    let (mut lock, token, ben, _) = ana_holds_ben_and_cyd_wait();
    lock.withdraw(&ben);
    lock.withdraw(&ben);
    lock.unlock(token, "ana");
    assert_eq!(lock.holder(), Some("cyd"));
    assert_eq!(lock.kinds().iter().filter(|kind| **kind == EventKind::Left).count(), 1);
}

/// Rule 4.
#[test]
fn a_withdrawn_lease_is_unlocked_and_handed_on() {
    let (mut lock, token, ben, cyd) = ana_holds_ben_and_cyd_wait();
    lock.unlock(token, "ana");
    lock.withdraw(&ben);
    assert_eq!(lost(lock.wait(&ben)), (How::Unlocked, lock.now(), Some("ben".to_owned()), Some("cyd".to_owned())));
    lock.wait(&cyd);
    lock.withdraw(&cyd);
    assert_eq!(lock.holder(), None);
    assert!(matches!(lock.unlock(token.next().next(), "cyd"), Outcome::Ended(_)));
}

/// Rule 4.
#[test]
fn to_withdraw_what_is_not_there_changes_nothing() {
    let (mut lock, _, ben, cyd) = ana_holds_ben_and_cyd_wait();
    let before = lock.events.len();
    lock.withdraw(&request("eve"));
    assert_eq!((lock.events.len(), lock.holder()), (before, Some("ana")));
    assert_eq!((position(lock.wait(&ben)), position(lock.wait(&cyd))), (1, 2));
}
