//! Rule 9: force unlock.

use buildlock_core::{Ended, How, Outcome};

use crate::{Lock, MS, ana_holds_ben_and_cyd_wait, lost, request};

/// Rule 9.
#[test]
fn a_force_unlock_with_an_old_token_does_not_hit_the_next_holder() {
    let (mut lock, token, ..) = ana_holds_ben_and_cyd_wait();
    lock.unlock(token, "ana");
    assert_eq!(lost(lock.force_unlock(token)).3.as_deref(), Some("ben"));
    assert_eq!(lock.holder(), Some("ben"));
}

/// Rule 9.
#[test]
fn a_force_unlock_keeps_who_and_why_and_grants_to_the_next() {
    let (mut lock, token, ..) = ana_holds_ben_and_cyd_wait();
    let Outcome::Ended(past) = lock.force_unlock(token) else { panic!("not ended") };
    let ended = Ended {
        how: How::ForceUnlocked,
        at: lock.now(),
        by: Some("ops".parse().unwrap()),
        reason: Some("stuck".parse().unwrap()),
    };
    assert_eq!((past.holder.as_str(), past.ended), ("ana", ended));
    assert_eq!(lock.holder(), Some("ben"));
}

/// Rule 9.
#[test]
fn a_second_force_unlock_is_told_of_the_first() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    lock.force_unlock(token);
    let first = lock.now();
    lock.pass(MS);
    assert_eq!(lost(lock.force_unlock(token)), (How::ForceUnlocked, first, Some("ops".to_owned()), None));
}
