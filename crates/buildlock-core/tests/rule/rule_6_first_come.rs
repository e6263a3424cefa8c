//! Rule 6: first come, first served.

use std::time::Duration;

use buildlock_core::{Queue, Token};

use crate::{Lock, ana_holds_ben_and_cyd_wait, held, locked, position, request, request_for};

/// Rule 6.
#[test]
fn a_release_grants_to_the_oldest_live_waiter() {
    type Release = fn(&mut Lock, Token);
    let unlock: Release = |lock, token| drop(lock.unlock(token, "ana"));
    let force: Release = |lock, token| drop(lock.force_unlock(token));
    let shorten_and_expire: Release = |lock, token| {
        lock.renew_for(token, "ana", Duration::from_secs(1));
        lock.pass(Duration::from_secs(1));
        lock.settle();
    };
    for release in [unlock, force, shorten_and_expire] {
        let (mut lock, token, ben, cyd) = ana_holds_ben_and_cyd_wait();
        release(&mut lock, token);
        assert_eq!((lock.holder(), lock.project().queue.len()), (Some("ben"), 1));
        assert_eq!((held(lock.wait(&ben)), position(lock.wait(&cyd))), (token.next(), 1));
    }
}

/// Rule 6.
#[test]
fn nobody_barges_in_past_a_waiter_whose_turn_has_come() {
    let mut lock = Lock::new();
    lock.hold(&request_for("ana", Duration::from_secs(2)));
    lock.wait(&request("ben"));
    lock.pass(Duration::from_secs(2));
    assert_eq!(locked(lock.try_lock(&request("cyd"))).lease.holder.as_str(), "ben");
    assert_eq!(position(lock.wait(&request("cyd"))), 1);
}

/// Rule 6.
#[test]
fn a_queue_that_is_loaded_anew_keeps_its_order() {
    let (mut lock, token, ben, cyd) = ana_holds_ben_and_cyd_wait();
    lock.withdraw(&ben);
    lock.wait(&ben);
    lock.store.reload(0);
    assert_eq!((position(lock.wait(&cyd)), position(lock.wait(&ben))), (1, 2));
    lock.unlock(token, "ana");
    assert_eq!(lock.holder(), Some("cyd"));
}

/// Rule 6.
#[test]
#[should_panic(expected = "tickets must come in order")]
fn a_queue_is_not_loaded_out_of_order() {
    let (lock, ..) = ana_holds_ben_and_cyd_wait();
    let mut tickets: Vec<_> = lock.project().queue.iter().cloned().collect();
    tickets.reverse();
    Queue::from_tickets(tickets);
}
