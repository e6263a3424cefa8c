//! Rule 14: a build dies with its lease.

use std::time::Duration;

use buildlock_core::LeaseDeadline;

use crate::{Lock, lease, request};

/// Rule 14.
#[test]
fn a_user_renews_then_stops_then_kills_before_the_store_can_grant_to_another() {
    let sent_at = Duration::from_secs(1_000);
    let before_the_end = |ttl_ms| {
        let deadline = LeaseDeadline::new(sent_at, Duration::from_millis(ttl_ms));
        let times = [deadline.renew_at() - sent_at, deadline.stop_at() - sent_at, deadline.kill_at() - sent_at];
        assert_eq!((deadline.ends_at() - sent_at).as_millis(), u128::from(ttl_ms));
        times.map(|time| u64::try_from(time.as_millis()).unwrap())
    };
    assert_eq!(before_the_end(1_000), [333, 833, 966]);
    assert_eq!(before_the_end(30_000), [10_000, 25_000, 29_000]);
    assert_eq!(before_the_end(60_000), [20_000, 50_000, 59_000]);
    assert_eq!(before_the_end(86_400_000), [28_800_000, 86_390_000, 86_399_000]);
}

/// Rule 14.
#[test]
fn two_renewals_may_fail_before_the_work_is_stopped() {
    for ttl in [1, 30, 86_400].map(Duration::from_secs) {
        let deadline = LeaseDeadline::new(Duration::ZERO, ttl);
        assert!(deadline.renew_at() * 2 < deadline.stop_at());
        assert!(deadline.stop_at() < deadline.kill_at() && deadline.kill_at() < deadline.ends_at());
    }
}

/// Rule 14.
#[test]
fn a_user_whose_answer_was_slow_is_done_before_the_store_is() {
    let mut lock = Lock::new();
    let sent_at = lock.now();
    lock.pass(Duration::from_secs(20));
    let granted = lease(lock.try_lock(&request("ana")));
    let user = LeaseDeadline::new(Duration::from_millis(sent_at.as_millis()), granted.expires_at.since(lock.now()));
    let store = Duration::from_millis(granted.ends_at().as_millis());
    assert_eq!(store - user.ends_at(), Duration::from_secs(20));
}
