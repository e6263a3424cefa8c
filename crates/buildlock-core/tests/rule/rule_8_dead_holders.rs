//! Rule 8: dead holders are survived.

use std::time::Duration;

use buildlock_core::{How, TICKET_LIFE};

use crate::{Lock, TTL, how, lease, lost, request};

/// Rule 8.
#[test]
fn a_lease_ends_at_its_deadline_whatever_is_asked_next() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    assert_eq!(lock.project().next_deadline(), Some(lock.now().after(TTL)));
    lock.pass(TTL);
    assert_eq!(how(lock.renew(token, "ana")), How::Expired);
    assert_eq!(lock.project().next_deadline(), None);
}

/// Rule 8.
#[test]
fn a_lease_that_nobody_looked_at_ended_when_it_was_due() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    let due = lock.now().after(TTL);
    lock.pass(TTL * 100);
    assert_eq!(lost(lock.unlock(token, "ana")), (How::Expired, due, None, None));
    assert_eq!(lock.events[1].at, due);
}

/// Rule 8.
#[test]
fn a_project_is_due_when_the_first_lease_or_ticket_ends() {
    let mut lock = Lock::new();
    assert_eq!(lock.project().next_deadline(), None);
    lock.hold(&request("ana"));
    let ends_at = lock.now().after(TTL);
    lock.pass(Duration::from_secs(1));
    lock.wait(&request("ben"));
    let ben_dies_at = lock.now().after(TICKET_LIFE);
    lock.pass(Duration::from_secs(1));
    lock.wait(&request("cyd"));
    let cyd_dies_at = lock.now().after(TICKET_LIFE);
    for due in [ben_dies_at, cyd_dies_at, ends_at] {
        assert_eq!(lock.project().next_deadline(), Some(due));
        lock.pass(due.since(lock.now()));
        lock.settle();
    }
    assert_eq!((lock.project().next_deadline(), lock.holder()), (None, None));
}

/// Rule 8.
#[test]
fn a_renewal_with_another_ttl_is_for_that_renewal_only() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    for other in [Duration::from_secs(300), Duration::from_secs(1)] {
        let renewed = lease(lock.renew_for(token, "ana", other));
        assert_eq!((renewed.expires_at.since(lock.now()), renewed.ttl.get()), (other, TTL));
        let renewed = lease(lock.renew(token, "ana"));
        assert_eq!(renewed.expires_at.since(lock.now()), TTL);
    }
}
