//! Rule 5: try or wait.

use std::time::Duration;

use buildlock_core::{Busy, Outcome, QUEUE_LIMIT, Refusal};

use crate::{Lock, TTL, ana_holds_ben_and_cyd_wait, lease, locked, position, refusal, request};

/// Rule 5.
#[test]
fn a_refusal_says_who_for_what_since_when_until_when_and_how_many_wait() {
    let (mut lock, ..) = ana_holds_ben_and_cyd_wait();
    lock.pass(Duration::from_secs(4));
    let Busy { lease, queue_length } = locked(lock.try_lock(&request("dan")));
    assert_eq!((lease.holder.as_str(), lease.operation.as_str(), queue_length), ("ana", "edit", 2));
    assert_eq!(lock.now().since(lease.acquired_at), Duration::from_secs(4));
    assert_eq!(lease.expires_at.since(lock.now()), TTL - Duration::from_secs(4));
}

/// Rule 5.
#[test]
fn a_waiter_is_told_its_place_and_who_is_in_the_way() {
    let (mut lock, token, ..) = ana_holds_ben_and_cyd_wait();
    let Outcome::Queued(place) = lock.wait(&request("dan")) else { panic!("not queued") };
    assert_eq!((place.position, place.busy.queue_length, place.busy.lease.token), (3, 3, token));
}

/// Rule 5.
#[test]
fn a_free_project_is_granted_to_who_would_wait() {
    let mut lock = Lock::new();
    let granted = lease(lock.wait(&request("ana")));
    assert_eq!((granted.claim_by, granted.ends_at().since(lock.now())), (None, TTL));
}

/// Rule 5.
#[test]
fn a_full_queue_takes_no_more_and_keeps_whom_it_has() {
    let mut lock = Lock::new();
    lock.hold(&request("ana"));
    let ben = request("ben");
    lock.wait(&ben);
    for _ in 1..QUEUE_LIMIT {
        lock.wait(&request("cyd"));
    }
    let dan = request("dan");
    assert!(matches!(refusal(lock.wait(&dan)), Refusal::QueueFull(busy) if busy.queue_length == QUEUE_LIMIT));
    assert_eq!(position(lock.wait(&ben)), 1);
    lock.withdraw(&ben);
    assert_eq!(position(lock.wait(&dan)), QUEUE_LIMIT);
}
