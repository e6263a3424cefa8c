//! Rule 2: fencing.

use std::time::Duration;

use buildlock_core::{EventKind, How, Project};

use crate::{Lock, MS, TTL, ana_holds_ben_and_cyd_wait, held, locked, lost, request, request_for};

/// Rule 2.
#[test]
fn every_grant_has_a_larger_token() {
    let mut lock = Lock::new();
    let first = lock.hold(&request("ana"));
    lock.unlock(first, "ana");
    let second = lock.hold(&request("ana"));
    lock.pass(TTL);
    let third = lock.hold(&request("ben"));
    assert!(first < second && second < third);
}

/// Rule 2.
#[test]
fn a_project_that_is_made_again_goes_on_with_the_stores_tokens() {
    let mut lock = Lock::new();
    let before = lock.hold(&request("ana"));
    lock.store.projects[0] = Project::default();
    assert!(lock.hold(&request("ana")) > before);
}

/// Rule 2.
#[test]
fn a_decision_without_a_grant_uses_no_token() {
    let (mut lock, token, ..) = ana_holds_ben_and_cyd_wait();
    locked(lock.try_lock(&request("dan")));
    lock.renew(token, "ana");
    assert_eq!(lock.store.next_token, token.next());
}

/// Rule 2.
#[test]
fn a_token_is_current_while_its_lease_lives() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    lock.pass(TTL - MS);
    assert_eq!(held(lock.verify(token)), token);
    lock.pass(MS);
    assert_eq!(lost(lock.verify(token)), (How::Expired, lock.now(), None, None));
}

/// Rules 2 and 6.
#[test]
fn leases_that_are_granted_in_one_decision_have_tokens_of_their_own() {
    let mut lock = Lock::new();
    let first = lock.hold(&request_for("ana", Duration::from_secs(5)));
    let (ben, cyd) = (request("ben"), request("cyd"));
    lock.wait(&ben);
    lock.wait(&cyd);
    lock.pass(Duration::from_secs(5));
    // Ana's lease ends by itself, and Ben's because he withdraws, all in the same decision.
    lock.withdraw(&ben);
    use EventKind::{Expired, Granted, Queued, Unlocked};
    assert_eq!(lock.kinds(), [Granted, Queued, Queued, Expired, Granted, Unlocked, Granted]);
    let tokens: Vec<_> = lock.events[3..].iter().map(|event| event.token.unwrap().get() - first.get()).collect();
    assert_eq!(tokens, [0, 1, 1, 2]);
    assert_eq!((lock.holder(), lock.store.next_token.get()), (Some("cyd"), first.get() + 3));
}
