//! To follow what happens: every event, once, in order, from any point on.

mod support;

use std::sync::Arc;
use std::time::Duration;

use buildlock::{Changes, EventId, EventKind, LockService, LockStore, Recorded, Retention, StoreError};
use support::ask::{Ask, seconds};
use support::faulty::{Call, Fault};
use support::site::Site;
use support::soon;
use tokio::time::timeout;

/// More than a subscription reads at a time.
const MANY: u64 = 700;

/// The events up to this one.
async fn read_until(changes: &mut Changes, last: u64) -> Vec<Recorded> {
    let mut read: Vec<Recorded> = Vec::new();
    while read.last().is_none_or(|recorded| recorded.id.0 < last) {
        read.push(soon("the next event", changes.next()).await.unwrap());
    }
    read
}

/// Two events, granted and unlocked, for each.
async fn lock_and_unlock(store: &dyn LockStore, times: u64) {
    for _ in 0..times {
        let held = store.held("site", "ana").await;
        store.unlock("site", &held).await;
    }
}

#[track_caller]
fn assert_all_from_to(events: &[Recorded], first: u64, last: u64) {
    let ids: Vec<_> = events.iter().map(|recorded| recorded.id.0).collect();
    assert_eq!(ids, (first..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_subscription_tells_what_happens_after_it_began() {
    let site = Site::new().await;
    lock_and_unlock(&site.store, 1).await;
    let mut changes = site.service.changes(None);
    assert!(timeout(Duration::ZERO, changes.next()).await.is_err(), "nothing has happened since");
    let held = site.locked().await;
    let granted = soon("the grant", changes.next()).await.unwrap();
    assert_eq!((granted.event.kind, granted.event.token), (EventKind::Granted, Some(held.token)));
    held.unlock().await.unwrap();
    assert_eq!(soon("the end", changes.next()).await.unwrap().event.kind, EventKind::Unlocked);
}

#[tokio::test]
async fn a_subscription_resumes_after_any_event() {
    let site = Site::new().await;
    lock_and_unlock(&site.store, 3).await;
    for after in 0..6 {
        let mut changes = site.service.changes(Some(EventId(after)));
        assert_all_from_to(&read_until(&mut changes, 6).await, after + 1, 6);
        assert!(timeout(Duration::ZERO, changes.next()).await.is_err(), "that is all");
    }
}

#[tokio::test]
async fn a_subscription_that_is_far_behind_catches_up() {
    let site = Site::new().await;
    let mut changes = site.service.changes(None);
    lock_and_unlock(&site.store, MANY / 2).await;
    assert_eq!(read_until(&mut changes, MANY).await, site.store.all_events(EventId(0)).await);
    assert!(site.line.count(Call::Events) > 2, "page by page");
}

/// The rest comes while the first are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_misses_nothing_that_two_handles_write_at_once() {
    let site = Site::new().await;
    let elsewhere = Arc::new(site.elsewhere().await);
    let subscribers: Vec<_> = [LockService::new(site.store.clone()), LockService::with_store(elsewhere.clone())]
        .map(|service| tokio::spawn(async move { read_until(&mut service.changes(Some(EventId(0))), MANY).await }))
        .into();
    let writers = [(Arc::new(site.store.clone()), "here"), (elsewhere, "there")].map(|(store, project)| {
        tokio::spawn(async move {
            for _ in 0..MANY / 4 {
                let held = store.held(project, "ana").await;
                store.unlock(project, &held).await;
            }
        })
    });
    for writer in writers {
        soon("all is written", writer).await.unwrap();
    }
    for subscriber in subscribers {
        assert_all_from_to(&soon("all is read", subscriber).await.unwrap(), 1, MANY);
    }
}

#[tokio::test]
async fn a_next_that_is_dropped_half_way_skips_nothing() {
    let site = Site::new().await;
    let mut changes = site.service.changes(None);
    let mut read = Vec::new();
    for round in 1..=20 {
        lock_and_unlock(&site.store, 1).await;
        site.line.fail(Call::Events, Fault::AnswerHeldUp);
        let asked = site.line.count(Call::Events);
        tokio::select! {
            biased;
            _ = changes.next() => panic!("its answer is held up"),
            _ = site.line.done(Call::Events, asked + 1) => {}
        }
        site.line.mend();
        read.extend(read_until(&mut changes, 2 * round).await);
    }
    assert_all_from_to(&read, 1, 40);
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_told_and_nothing_is_skipped() {
    let site = Site::new().await;
    let mut changes = site.service.changes(None);
    lock_and_unlock(&site.store, 1).await;
    for fault in [Fault::Unavailable, Fault::AnswerLost] {
        site.line.fail(Call::Events, fault);
        assert!(matches!(soon("the error", changes.next()).await, Err(StoreError::Unavailable { .. })));
        site.line.mend();
    }
    assert_all_from_to(&read_until(&mut changes, 2).await, 1, 2);
}

/// What is no longer kept cannot be told.
#[tokio::test]
async fn a_subscription_behind_what_is_kept_goes_on_with_what_is() {
    let site = Site::new().await;
    lock_and_unlock(&site.store, 2).await;
    let day = seconds(24 * 60 * 60);
    site.clock.advance(day * 2);
    site.store.set_retention(Retention { max_age: Some(day), max_events: None }).await.unwrap();
    while site.store.settle_due().await.unwrap() == Some(Duration::ZERO) {}
    let mut changes = site.service.changes(Some(EventId(0)));
    let _held = site.locked().await;
    assert_all_from_to(&read_until(&mut changes, 5).await, 4, 5);
}

#[tokio::test]
async fn a_subscription_ends_when_its_store_is_closed() {
    let site = Site::new().await;
    let newest = site.line.take_over_newest_event();
    let mut changes = site.service.changes(None);
    lock_and_unlock(&site.store, 1).await;
    newest.send_replace(EventId(2));
    drop(newest);
    site.line.close_newest_event();
    assert_all_from_to(&read_until(&mut changes, 2).await, 1, 2);
    for _ in 0..2 {
        assert!(matches!(soon("the end", changes.next()).await, Err(StoreError::Closed)));
    }
}
