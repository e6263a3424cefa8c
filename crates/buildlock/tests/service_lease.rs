//! A lease in a program's hands: it renews itself, and tells when it is lost, early enough to stop.

mod support;

use std::sync::Arc;
use std::time::Duration;

use buildlock::{
    How, LeaseGuard, LockRequest, LockService, LockStore, Loss, Refusal, SqliteStore, Ttl, Wait, since_boot,
};
use support::ask::{Ask, request, seconds, ttl};
use support::faulty::{Call, Fault, Faulty};
use support::site::{Site, the_project};
use support::{soon, until, within};
use tokio::time::timeout;

/// A loss that nobody has to wait for: long before the next renewal, or never.
const AT_ONCE: Duration = Duration::from_secs(3);

async fn locked_for(site: &Site, ttl: Ttl) -> LeaseGuard {
    let request = LockRequest { ttl, ..request("ana") };
    site.service.lock(&the_project(), request, Wait::NONE).await.unwrap()
}

#[track_caller]
fn how(loss: Loss) -> How {
    match loss {
        Loss::Ended { lease, .. } => lease.ended.how,
        loss => panic!("the store did not end it: {loss:?}"),
    }
}

/// Rule 14: two renewals may fail.
#[tokio::test]
async fn a_lease_renews_itself_at_a_third_of_its_ttl() {
    let site = Site::new().await;
    let lease = locked_for(&site, Ttl::new(Duration::from_millis(1_500)).unwrap()).await;
    for number in 1..=2 {
        let deadline = lease.deadline();
        let renewed_at = site.line.made(Call::Renew, number).await;
        assert!(renewed_at >= deadline.renew_at(), "not before it is time");
        assert!(renewed_at < deadline.stop_at(), "{:?} after it was time", renewed_at - deadline.renew_at());
        until("the new deadline", async || lease.deadline() != deadline).await;
    }
}

/// Rule 8.
#[tokio::test]
async fn a_lease_outlives_its_ttl_as_long_as_its_guard_lives() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("locks.db")).await.unwrap();
    let line = Faulty::around(Arc::new(store.clone()));
    let service = LockService::with_store(Arc::clone(&line) as Arc<dyn LockStore>);
    let request = LockRequest { ttl: ttl(1), ..request("ana") };
    let lease = service.lock(&the_project(), request, Wait::NONE).await.unwrap();
    let granted_at = since_boot();
    for number in 1.. {
        if line.done(Call::Renew, number).await > granted_at + seconds(2) {
            break;
        }
    }
    let now = store.see("site").await.lease.unwrap();
    assert_eq!((now.token, now.acquired_at), (lease.token, lease.acquired_at));
    assert!(now.expires_at.since(lease.expires_at) > seconds(1));
}

/// Rule 14: the user is done before the store can grant to another, however long an answer takes.
#[tokio::test]
async fn a_deadline_counts_from_before_the_request_was_sent() {
    let site = Site::new().await;
    site.line.fail(Call::Lock, Fault::AnswerHeldUp);
    let service = site.service.clone();
    let request = LockRequest { ttl: ttl(2), ..request("ana") };
    let locking = tokio::spawn(async move { service.lock(&the_project(), request, Wait::NONE).await });
    let sent_at = site.line.made(Call::Lock, 1).await;
    site.line.done(Call::Lock, 1).await;
    site.line.mend();
    let lease = locking.await.unwrap().unwrap();
    let granted = lease.deadline();
    assert!(granted.ends_at() <= sent_at + seconds(2));

    site.line.fail(Call::Renew, Fault::AnswerHeldUp);
    let sent_at = site.line.made(Call::Renew, 1).await;
    site.line.done(Call::Renew, 1).await;
    assert_eq!(lease.deadline(), granted, "what was not heard of does not count");
    site.line.mend();
    until("the new deadline", async || lease.deadline() != granted).await;
    assert!(lease.deadline().ends_at() <= sent_at + seconds(2));
}

/// Rules 4 and 14.
#[tokio::test]
async fn a_deadline_of_a_repeated_request_is_that_of_the_lease_as_it_is() {
    let site = Site::new().await;
    let request = request("ana");
    site.service.lock(&the_project(), request.clone(), Wait::NONE).await.unwrap().keep();
    site.clock.advance(seconds(20));
    let lease = site.service.lock(&the_project(), request, Wait::NONE).await.unwrap();
    assert!(lease.deadline().ends_at() <= since_boot() + seconds(10), "20 of its 30 seconds are over");
}

/// Rules 3 and 9.
#[tokio::test]
async fn a_lease_that_is_force_unlocked_is_lost_at_once() {
    let site = Site::new().await;
    let lease = locked_for(&site, ttl(86_400)).await;
    site.force_unlock().await;
    let loss = within(AT_ONCE, "the loss", lease.lost()).await;
    assert_eq!(loss.to_string(), "it was force-unlocked by ops: stuck");
    assert_eq!(how(loss), How::ForceUnlocked);
}

/// Rules 3 and 9.
#[tokio::test]
async fn a_lease_that_is_force_unlocked_by_another_process_is_lost_at_once() {
    let site = Site::new().await;
    let lease = locked_for(&site, ttl(86_400)).await;
    site.elsewhere().await.force_unlock("site", lease.token, "ops", "stuck").await;
    assert_eq!(how(within(AT_ONCE, "the loss", lease.lost()).await), How::ForceUnlocked);
}

/// Rule 3: the next holder is told of, too.
#[tokio::test]
async fn a_lease_that_is_force_unlocked_before_its_holder_had_the_answer_is_lost_at_once() {
    let site = Site::new().await;
    site.line.fail(Call::Lock, Fault::AnswerHeldUp);
    let service = site.service.clone();
    let request = LockRequest { ttl: ttl(86_400), ..request("ana") };
    let locking = tokio::spawn(async move { service.lock(&the_project(), request, Wait::NONE).await });
    site.line.done(Call::Lock, 1).await;
    site.force_unlock().await;
    site.store.held("site", "ben").await;
    site.line.mend();
    let lease = locking.await.unwrap().unwrap();
    let Loss::Ended { now, .. } = within(AT_ONCE, "the loss", lease.lost()).await else { panic!("the store ended it") };
    assert_eq!(now.unwrap().lease.holder.as_str(), "ben");
}

/// Rules 3 and 9: news of the end is not forgotten because of one failure.
#[tokio::test]
async fn a_lease_that_is_force_unlocked_while_the_store_fails_is_lost_as_soon_as_it_answers() {
    let site = Site::new().await;
    let lease = locked_for(&site, ttl(86_400)).await;
    site.line.fail(Call::Renew, Fault::Unavailable);
    site.force_unlock().await;
    site.line.made(Call::Renew, 1).await;
    site.line.mend();
    assert_eq!(how(within(AT_ONCE, "the loss", lease.lost()).await), How::ForceUnlocked);
}

/// Rule 13.
#[tokio::test]
async fn a_lease_on_a_project_that_is_freed_by_hand_is_lost_at_once() {
    let site = Site::new().await;
    let lease = locked_for(&site, ttl(86_400)).await;
    site.by_hand("update projects set build_status = 'idle', locked_by = null, locked_at = null where id = 'site'");
    assert_eq!(how(within(AT_ONCE, "the loss", lease.lost()).await), How::FreedByHand);
}

/// Rules 3 and 13.
#[tokio::test]
async fn a_lease_on_a_project_that_is_deleted_by_hand_is_lost_at_once() {
    let site = Site::new().await;
    let lease = locked_for(&site, ttl(86_400)).await;
    site.by_hand("delete from projects where id = 'site'");
    let loss = within(AT_ONCE, "the loss", lease.lost()).await;
    assert!(!matches!(loss, Loss::NotRenewed { .. }), "{loss:?}");
}

/// Rule 3: as when an older copy of the store was put in its place.
#[tokio::test]
async fn a_lease_that_the_store_no_longer_knows_is_lost_at_its_next_renewal() {
    let site = Site::new().await;
    let lease = locked_for(&site, ttl(3)).await;
    site.by_hand("begin; delete from projects; delete from events; commit");
    site.store.held("site", "ben").await;
    let loss = soon("the loss", lease.lost()).await;
    let Loss::Unknown { refusal } = loss else { panic!("the store has forgotten it: {loss:?}") };
    assert!(matches!(*refusal, Refusal::NeverGranted { .. }), "{refusal:?}");
    assert!(since_boot() < lease.deadline().stop_at(), "it is not renewed until it is too late");
}

/// Rules 8 and 14: the store may grant to another when the lease's time is over, so the user stops before.
#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_lost_before_the_store_can_grant_to_another() {
    for (fault, problem) in [
        (Fault::Unavailable, "the store the line is not available: it is cut"),
        (Fault::HeldUp, "the store did not answer"),
    ] {
        let site = Site::new().await;
        let lease = locked_for(&site, ttl(3)).await;
        site.line.fail(Call::Renew, fault);
        let loss = soon("the loss", lease.lost()).await;
        let lost_at = since_boot();
        assert_eq!(loss, Loss::NotRenewed { problem: problem.to_owned() });
        let deadline = lease.deadline();
        assert!((deadline.stop_at()..deadline.ends_at()).contains(&lost_at), "{:?}", lost_at - deadline.stop_at());
    }
}

/// Rule 14.
#[tokio::test]
async fn a_renewal_that_failed_is_tried_again_until_it_succeeds() {
    for fault in [Fault::Unavailable, Fault::AnswerLost] {
        let site = Site::new().await;
        let lease = locked_for(&site, ttl(3)).await;
        let before = lease.deadline();
        site.line.fail(Call::Renew, fault);
        site.line.made(Call::Renew, 3).await;
        assert_eq!(lease.deadline(), before, "{fault:?}: only an answer counts");
        site.line.mend();
        until("the new deadline", async || lease.deadline() != before).await;
        assert!(timeout(Duration::ZERO, lease.lost()).await.is_err(), "{fault:?}: it is not lost");
    }
}

/// A store that fails at once tells all who watch to look again: they must not do so at once.
#[tokio::test]
async fn a_store_that_fails_is_not_hammered() {
    let site = Site::new().await;
    let _lease = locked_for(&site, ttl(86_400)).await;
    let service = site.service.clone();
    let wait = Wait::new(seconds(60)).unwrap();
    let waiter = tokio::spawn(async move { service.lock(&the_project(), request("ben"), wait).await });
    site.line.done(Call::Lock, 2).await;
    site.by_hand("alter table store rename to elsewhere");
    let sweeps = site.line.count(Call::Settle);
    site.line.made(Call::Settle, sweeps + 3).await;
    let calls = [Call::Renew, Call::Lock].map(|call| site.line.count(call));
    assert!(calls.iter().all(|calls| (1..20).contains(calls)), "renewals and locks: {calls:?}");
    site.by_hand("alter table elsewhere rename to store");
    until("the waiter keeps its place", async || site.line.count(Call::Lock) > calls[1]).await;
    assert_eq!(site.store.waiters("site").await, ["ben"]);
    waiter.abort();
}

/// [`LeaseGuard::lost`] may be called any number of times, dropped half-way, and after the loss.
#[tokio::test]
async fn everybody_who_asks_is_told_of_the_loss() {
    let site = Site::new().await;
    let lease = locked_for(&site, ttl(86_400)).await;
    assert!(timeout(Duration::ZERO, lease.lost()).await.is_err(), "it is not lost yet");
    let (first, second, ()) = tokio::join!(lease.lost(), lease.lost(), site.force_unlock());
    assert_eq!(first, second);
    assert_eq!(timeout(Duration::ZERO, lease.lost()).await.unwrap(), first);
}

/// Rule 14.
#[test]
fn a_lease_whose_runtime_has_ended_is_lost_when_its_time_is_over() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let (site, lease) = first.block_on(async {
        let site = Site::new().await;
        let lease = locked_for(&site, ttl(2)).await;
        (site, lease)
    });
    drop(first);
    let loss = runtime().block_on(soon("the loss", lease.lost()));
    let lost_at = since_boot();
    assert!(matches!(loss, Loss::NotRenewed { .. }), "{loss:?}");
    assert!((lease.deadline().stop_at()..lease.deadline().ends_at()).contains(&lost_at));
    drop(site);
}
