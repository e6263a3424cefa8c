//! Rule 1: mutual exclusion.

use crate::{Lock, MS, TTL, locked, request};

/// Rule 1.
#[test]
fn a_held_project_is_not_granted_to_another() {
    let mut lock = Lock::new();
    lock.hold(&request("ana"));
    assert_eq!(locked(lock.try_lock(&request("ben"))).lease.holder.as_str(), "ana");
    assert_eq!(lock.holder(), Some("ana"));
}

/// Rule 1.
#[test]
fn a_second_request_of_the_same_holder_is_another() {
    let mut lock = Lock::new();
    lock.hold(&request("ana"));
    assert_eq!(locked(lock.try_lock(&request("ana"))).lease.holder.as_str(), "ana");
}

/// Rule 1.
#[test]
fn a_lease_is_live_up_to_but_not_at_its_end() {
    let mut lock = Lock::new();
    lock.hold(&request("ana"));
    lock.pass(TTL - MS);
    locked(lock.try_lock(&request("ben")));
    lock.pass(MS);
    assert_eq!(lock.project().busy(lock.now()), None);
    lock.hold(&request("cyd"));
}
