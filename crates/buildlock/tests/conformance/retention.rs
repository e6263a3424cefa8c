//! How long history is kept.

use std::time::Duration;

use buildlock::{EventId, EventKind, How, LockStore, Retention};

use super::World;
use crate::support::ask::{Ask, lease, lost, project, request, seconds};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Two events, granted and unlocked, now.
async fn two_events(store: &dyn LockStore) {
    let held = store.held("site", "ana").await;
    store.unlock("site", &held).await;
}

async fn settle(store: &dyn LockStore) {
    while store.settle_due().await.unwrap() == Some(Duration::ZERO) {}
}

async fn count(store: &dyn LockStore) -> usize {
    store.all_events(EventId(0)).await.len()
}

/// Nothing is lost silently.
pub(crate) async fn nothing_is_forgotten_by_default(world: impl World) {
    assert_eq!(world.store().retention().await.unwrap(), Retention { max_age: None, max_events: None });
    two_events(world.store().as_ref()).await;
    world.advance(DAY * 3_650);
    settle(world.store().as_ref()).await;
    two_events(world.store().as_ref()).await;
    settle(world.store().as_ref()).await;
    assert_eq!(count(world.store().as_ref()).await, 4);
}

/// By age.
pub(crate) async fn events_go_when_they_are_older_than_the_retention(world: impl World) {
    world.store().set_retention(Retention { max_age: Some(DAY * 7), max_events: None }).await.unwrap();
    for _ in 0..3 {
        two_events(world.store().as_ref()).await;
        world.advance(DAY * 3);
    }
    settle(world.store().as_ref()).await;
    assert_eq!(count(world.store().as_ref()).await, 4, "only the first two are older than seven days");
    let history = world.store().history(Some(&project("site")), None, 100).await.unwrap();
    assert_eq!(history.len(), 4, "a project's history ends where the store's does");
}

/// By count.
pub(crate) async fn events_go_when_they_are_more_than_the_retention(world: impl World) {
    world.store().set_retention(Retention { max_age: None, max_events: Some(5) }).await.unwrap();
    for _ in 0..4 {
        two_events(world.store().as_ref()).await;
    }
    settle(world.store().as_ref()).await;
    assert_eq!(count(world.store().as_ref()).await, 8, "they are not a day old");
    world.advance(DAY + seconds(1));
    settle(world.store().as_ref()).await;
    let left = world.store().all_events(EventId(0)).await;
    assert_eq!(left.len(), 5);
    assert_eq!(left.last().unwrap().id, *world.store().newest_event().borrow(), "the newest are kept");
}

/// Rules 3 and 4 need the last day.
pub(crate) async fn the_last_day_is_always_kept(world: impl World) {
    let short = Retention { max_age: Some(seconds(1)), max_events: Some(0) };
    world.store().set_retention(short).await.unwrap();
    let ana = request("ana");
    let held = lease(world.store().lock("site", &ana).await);
    world.store().unlock("site", &held).await;
    for _ in 0..3 {
        two_events(world.store().as_ref()).await;
    }
    world.advance(DAY);
    settle(world.store().as_ref()).await;
    assert_eq!(count(world.store().as_ref()).await, 8);
    assert_eq!(lost(world.store().lock("site", &ana).await).0.ended.how, How::Unlocked);
    world.advance(Duration::from_millis(1));
    settle(world.store().as_ref()).await;
    assert!(count(world.store().as_ref()).await <= 1);
}

/// Retention is the store's, not the process's.
pub(crate) async fn retention_is_for_all_handles_and_survives_reopening(mut world: impl World) {
    let other = world.another().await;
    two_events(other.as_ref()).await;
    let week = Retention { max_age: Some(DAY * 7), max_events: Some(1_000_000) };
    world.store().set_retention(week).await.unwrap();
    assert_eq!(other.retention().await.unwrap(), week);
    world.advance(DAY * 8);
    two_events(other.as_ref()).await;
    settle(other.as_ref()).await;
    assert_eq!(count(world.store().as_ref()).await, 2);
    drop(other);
    world.reopen().await;
    assert_eq!(world.store().retention().await.unwrap(), week);
    world.store().set_retention(Retention::default()).await.unwrap();
    world.reopen().await;
    assert_eq!(world.store().retention().await.unwrap(), Retention::default());
}

/// The largest numbers mean for ever, not one.
pub(crate) async fn the_longest_retention_forgets_nothing(mut world: impl World) {
    let longest = Retention { max_age: Some(Duration::MAX), max_events: Some(u64::MAX) };
    world.store().set_retention(longest).await.unwrap();
    two_events(world.store().as_ref()).await;
    two_events(world.store().as_ref()).await;
    world.reopen().await;
    world.advance(DAY * 30);
    settle(world.store().as_ref()).await;
    assert_eq!(count(world.store().as_ref()).await, 4);
}

/// Rule 2: the next lock is numbered after all that was forgotten.
pub(crate) async fn tokens_and_event_ids_grow_on_when_history_is_forgotten(mut world: impl World) {
    world.store().set_retention(Retention { max_age: Some(DAY), max_events: Some(0) }).await.unwrap();
    two_events(world.store().as_ref()).await;
    let last = world.store().all_events(EventId(0)).await.pop().unwrap();
    world.advance(DAY * 2);
    settle(world.store().as_ref()).await;
    world.reopen().await;
    let held = world.store().held("site", "ana").await;
    assert!(Some(held.token) > last.event.token);
    let granted = world.store().all_events(last.id).await;
    assert_eq!(granted.iter().map(|recorded| recorded.event.kind).collect::<Vec<_>>(), [EventKind::Granted]);
}
