//! News: who waits hears of it, whoever made it. Promised within 50 ms of the commit; a busy machine
//! gets a second here, and the time is printed.

use std::time::Duration;

use buildlock::{Command, EventId, How, LockStore, News};

use super::World;
use crate::support::ask::{Ask, lease, lost, project};
use crate::support::within;

const AT_ONCE: Duration = Duration::from_secs(1);

/// Whoever wrote it.
pub(crate) async fn the_newest_event_is_told_through_both_handles(world: impl World) {
    let other = world.another().await;
    let mut here = world.store().newest_event();
    let mut there = other.newest_event();
    assert_eq!((*here.borrow(), *there.borrow()), (EventId(0), EventId(0)));
    for (writer, name) in [(world.store(), "the first handle"), (&other, "the second handle")] {
        let held = writer.held("site", "ana").await;
        let newest = writer.history(None, None, 1).await.unwrap()[0].id;
        for (receiver, who) in [(&mut here, "the first"), (&mut there, "the second")] {
            let what = format!("the newest event of {name} told to {who}");
            within(AT_ONCE, &what, receiver.wait_for(|told| *told == newest)).await.unwrap();
        }
        writer.unlock("site", &held).await;
    }
}

/// A waiter of `waits` hears that `releases` released.
async fn turn(waits: &dyn LockStore, releases: &dyn LockStore, what: &str) {
    let mut held = releases.held("site", "ana").await;
    for _ in 0..5 {
        let waiter = waits.queued("site", "ben").await;
        let watcher = waits.watch(&project("site"), News::Turn(waiter.id));
        releases.unlock("site", &held).await;
        within(AT_ONCE, what, watcher.changed()).await;
        held = lease(waits.queue("site", &waiter).await);
    }
}

/// Rule 6.
pub(crate) async fn a_waiter_hears_of_its_turn_through_its_own_handle(world: impl World) {
    turn(world.store().as_ref(), world.store().as_ref(), "the turn through the same handle").await;
}

/// Rule 6.
pub(crate) async fn a_waiter_hears_of_its_turn_through_another_handle(world: impl World) {
    turn(world.store().as_ref(), world.another().await.as_ref(), "the turn through another handle").await;
}

/// A holder of `holds` hears that `ends` ended its lease.
async fn end(holds: &dyn LockStore, ends: &dyn LockStore, what: &str) {
    for _ in 0..5 {
        let held = holds.held("site", "ana").await;
        let watcher = holds.watch(&project("site"), News::End(held.token));
        ends.force_unlock("site", held.token, "root", "stuck").await;
        within(AT_ONCE, what, watcher.changed()).await;
        assert_eq!(lost(holds.renew("site", &held).await).0.ended.how, How::ForceUnlocked);
    }
}

/// Rule 3.
pub(crate) async fn a_holder_hears_of_the_end_through_its_own_handle(world: impl World) {
    end(world.store().as_ref(), world.store().as_ref(), "the end through the same handle").await;
}

/// Rule 3.
pub(crate) async fn a_holder_hears_of_the_end_through_another_handle(world: impl World) {
    end(world.store().as_ref(), world.another().await.as_ref(), "the end through another handle").await;
}

/// A watcher need not be listening all the time.
pub(crate) async fn news_that_nobody_waited_for_is_kept(world: impl World) {
    let held = world.store().held("site", "ana").await;
    let waiter = world.store().queued("site", "ben").await;
    let turn = world.store().watch(&project("site"), News::Turn(waiter.id));
    let end = world.store().watch(&project("site"), News::End(held.token));
    world.store().unlock("site", &held).await;
    assert_eq!(world.store().holder("site").await.as_deref(), Some("ben"));
    within(AT_ONCE, "the turn, later", turn.changed()).await;
    within(AT_ONCE, "the end, later", end.changed()).await;
}

/// Rule 6: no herd.
pub(crate) async fn news_of_one_lease_is_not_told_to_another(world: impl World) {
    let other = world.another().await;
    let held = world.store().held("site", "ana").await;
    let elsewhere = world.store().held("elsewhere", "ana").await;
    let first = world.store().queued("site", "ben").await;
    let second = world.store().queued("site", "cleo").await;
    let watch = |news| world.store().watch(&project("site"), news);
    let others = [watch(News::Turn(second.id)), watch(News::End(elsewhere.token))];
    let turn = watch(News::Turn(first.id));
    for _ in 0..3 {
        other.ask("site", Command::Settle).await;
    }
    other.unlock("site", &held).await;
    within(AT_ONCE, "the turn of the first", turn.changed()).await;
    for watcher in others {
        let told = tokio::time::timeout(Duration::from_millis(50), watcher.changed()).await;
        assert!(told.is_err(), "it was woken for nothing");
    }
}
