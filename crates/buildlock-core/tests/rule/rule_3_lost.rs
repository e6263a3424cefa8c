//! Rule 3: an ended lease never comes back.

use buildlock_core::{CLAIM_WITHIN, Command, Ended, EventKind, How, IfLocked, Outcome, PastLease, Refusal, Token};

use crate::support::Store;
use crate::{Lock, MS, TTL, held, how, lost, refusal, request};

/// Rule 3.
#[test]
fn an_ended_lease_says_how_it_ended_when_by_whom_and_who_holds_now() {
    let mut lock = Lock::new();
    let mut ends = Vec::new();
    let by = |name: &str| Some(name.to_owned());

    let token = lock.hold(&request("ana"));
    lock.pass(MS);
    lock.unlock(token, "ana");
    ends.push((token, (How::Unlocked, lock.now(), by("ana"), by("eve"))));

    let token = lock.hold(&request("ana"));
    lock.pass(MS);
    lock.force_unlock(token);
    ends.push((token, (How::ForceUnlocked, lock.now(), by("ops"), by("eve"))));

    let ana = request("ana");
    let token = lock.hold(&ana);
    lock.pass(MS);
    lock.withdraw(&ana);
    ends.push((token, (How::Unlocked, lock.now(), by("ana"), by("eve"))));

    let token = lock.hold(&request("ana"));
    ends.push((token, (How::Expired, lock.now().after(TTL), None, by("eve"))));
    lock.pass(TTL);
    let token = lock.hold(&request("ben"));
    lock.wait(&request("ana"));
    lock.unlock(token, "ben");
    ends.push((token.next(), (How::Unclaimed, lock.now().after(CLAIM_WITHIN), None, by("eve"))));
    lock.pass(CLAIM_WITHIN + MS * 7);

    lock.hold(&request("eve"));
    for (token, end) in ends {
        assert_eq!(lost(lock.renew(token, "ana")), end);
        assert_eq!(lost(lock.verify(token)), end);
        assert_eq!(lost(lock.force_unlock(token)), end);
        if end.0 != How::Unlocked {
            assert_eq!(lost(lock.unlock(token, "ana")), end);
        }
    }
    assert_eq!(lock.holder(), Some("eve"));
}

/// Rules 3 and 13.
#[test]
fn a_lease_that_was_freed_by_hand_is_lost_like_any_other() {
    let mut lock = Lock::new();
    let ana = request("ana");
    let token = lock.hold(&ana);
    // The store does this, told by a trigger; core is only told of it.
    let freed = lock.store.projects[0].lease.take().unwrap();
    let ended = Ended { how: How::FreedByHand, at: lock.now(), by: None, reason: None };
    lock.store.remember_end(0, PastLease { token, request: freed.request, holder: freed.holder, ended });
    let outcomes = [lock.renew(token, "ana"), lock.verify(token), lock.unlock(token, "ana"), lock.try_lock(&ana)];
    for outcome in outcomes {
        assert_eq!(how(outcome), How::FreedByHand);
    }
}

/// Rule 3.
#[test]
fn a_repeated_unlock_succeeds_for_its_holder_only() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    let first = lock.unlock(token, "ana");
    lock.pass(TTL);
    lock.hold(&request("eve"));
    assert!(matches!(first, Outcome::Ended(_)));
    assert_eq!(lock.unlock(token, "ana"), first);
    assert_eq!(how(lock.unlock(token, "ben")), How::Unlocked);
    assert_eq!(lock.kinds(), [EventKind::Granted, EventKind::Unlocked, EventKind::Granted]);
}

/// Rule 3.
#[test]
fn somebody_elses_lease_can_be_verified_but_neither_renewed_nor_unlocked() {
    let mut lock = Lock::new();
    let token = lock.hold(&request("ana"));
    lock.pass(TTL - MS);
    for outcome in [lock.renew(token, "ben"), lock.unlock(token, "ben")] {
        assert!(matches!(refusal(outcome), Refusal::NotHolder(busy) if busy.lease.holder.as_str() == "ana"));
    }
    assert_eq!(held(lock.verify(token)), token);
    lock.pass(MS);
    assert_eq!(how(lock.verify(token)), How::Expired);
}

/// Rule 3.
#[test]
fn a_token_that_was_never_granted_here_is_no_lost_lease() {
    let mut lock = Lock { store: Store::new(2), events: Vec::new() };
    lock.hold(&request("ana"));
    let lock_another = Command::Lock { request: request("ana"), if_locked: IfLocked::Refuse };
    let elsewhere = held(lock.store.decide(1, &lock_another).outcome);
    for unknown in [elsewhere, elsewhere.next(), Token::new(99).unwrap()] {
        let verified = lock.verify(unknown);
        let renewed = lock.renew(unknown, "ana");
        for outcome in [verified, renewed, lock.unlock(unknown, "ana"), lock.force_unlock(unknown)] {
            assert!(matches!(
                refusal(outcome),
                Refusal::NeverGranted { token, now: Some(busy) } if token == unknown && busy.lease.token == Token::FIRST
            ));
        }
    }
}
