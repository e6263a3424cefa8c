//! How leases end: by unlock, by force, by themselves; and what is told of it afterwards.

use std::time::Duration;

use buildlock::{Command, How};

use super::World;
use crate::support::ask::{Ask, ended, lease, lost, project, request, seconds, ttl};

/// Rule 3.
pub(crate) async fn an_unlocked_lease_never_comes_back(world: impl World) {
    let held = world.store().held("site", "ana").await;
    world.advance(seconds(7));
    let past = ended(world.store().unlock("site", &held).await);
    assert_eq!((past.token, past.request, &past.holder), (held.token, held.request, &held.holder));
    assert_eq!((past.ended.how, past.ended.by.as_ref()), (How::Unlocked, Some(&held.holder)));
    assert_eq!(past.ended.at.since(held.acquired_at), seconds(7));
    let next = world.store().held("site", "ben").await;
    for outcome in [world.store().renew("site", &held).await, world.store().verify("site", held.token).await] {
        let (told, now) = lost(outcome);
        assert_eq!((told, now.map(|busy| busy.lease)), (past.clone(), Some(next.clone())));
    }
}

/// Rule 3.
pub(crate) async fn a_repeated_unlock_succeeds_also_after_reopening(mut world: impl World) {
    let held = world.store().held("site", "ana").await;
    let past = ended(world.store().unlock("site", &held).await);
    let next = world.store().held("site", "ben").await;
    assert_eq!(ended(world.store().unlock("site", &held).await), past);
    world.reopen().await;
    assert_eq!(ended(world.store().unlock("site", &held).await), past);
    assert_eq!(world.store().see("site").await.lease, Some(next));
}

/// Rule 3.
pub(crate) async fn an_unlock_by_somebody_else_of_an_unlocked_lease_is_refused(world: impl World) {
    let held = world.store().held("site", "ana").await;
    let past = ended(world.store().unlock("site", &held).await);
    let unlock = Command::Unlock { token: held.token, holder: request("ben").holder };
    assert_eq!(lost(world.store().ask("site", unlock).await.outcome).0, past);
}

/// Rule 8.
pub(crate) async fn a_lease_ends_at_the_end_of_its_ttl_and_not_before(world: impl World) {
    let held = world.store().held("site", "ana").await;
    world.advance(Duration::from_millis(29_999));
    world.store().settle_due().await.unwrap();
    assert_eq!(world.store().see("site").await.lease, Some(held.clone()));
    assert_eq!(lease(world.store().verify("site", held.token).await), held);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.store().see("site").await.build_status(), "idle");
    let next = world.store().held("site", "ben").await;
    assert!(next.token > held.token);
}

/// Rule 3.
pub(crate) async fn an_expired_lease_cannot_be_unlocked_or_renewed(world: impl World) {
    let held = world.store().held("site", "ana").await;
    world.advance(seconds(45));
    for outcome in [
        world.store().renew("site", &held).await,
        world.store().unlock("site", &held).await,
        world.store().verify("site", held.token).await,
        world.store().force_unlock("site", held.token, "root", "stuck").await,
    ] {
        let (past, now) = lost(outcome);
        assert_eq!((past.ended.how, past.ended.by, past.ended.at), (How::Expired, None, held.expires_at));
        assert_eq!(now, None);
    }
}

/// Rule 8.
pub(crate) async fn what_is_due_is_done_without_anybodys_request(world: impl World) {
    let other = world.another().await;
    let mut ana = request("ana");
    ana.ttl = ttl(10);
    let held = lease(world.store().lock("site", &ana).await);
    let ben = world.store().queued("site", "ben").await;
    assert_eq!(other.settle_due().await.unwrap(), Some(seconds(10)));
    world.advance(seconds(4));
    assert_eq!(other.settle_due().await.unwrap(), Some(seconds(6)));
    world.advance(seconds(6));
    // The handle that settles is not the one that took the requests.
    assert_eq!(other.settle_due().await.unwrap(), Some(seconds(5)), "the claim is due next");
    let next = world.store().see("site").await.lease.unwrap();
    assert_eq!((next.request, next.token > held.token), (ben.id, true));
    world.advance(seconds(5));
    other.settle_due().await.unwrap();
    assert_eq!(world.store().holder("site").await, None);
}

/// Rule 8.
pub(crate) async fn what_is_due_in_many_projects_is_done_in_all(world: impl World) {
    let mut requests = Vec::new();
    for number in 0..40 {
        let site = format!("site {number}");
        world.store().held(&site, "ana").await;
        requests.push((world.store().queued(&site, "ben").await, site));
        if number == 20 {
            world.advance(seconds(1));
        }
    }
    world.advance(seconds(14));
    for (waiter, site) in &requests {
        world.store().queue(site, waiter).await;
    }
    world.advance(seconds(15));
    world.store().settle_due().await.unwrap();
    world.advance(seconds(1));
    while world.store().settle_due().await.unwrap() == Some(Duration::ZERO) {}
    for (waiter, site) in requests {
        assert_eq!(lease(world.store().queue(&site, &waiter).await).request, waiter.id, "in {site}");
    }
}

/// Rule 8.
pub(crate) async fn an_idle_store_has_nothing_due(world: impl World) {
    assert_eq!(world.store().settle_due().await.unwrap(), None);
    let held = world.store().held("site", "ana").await;
    assert_eq!(world.store().settle_due().await.unwrap(), Some(seconds(30)));
    world.store().unlock("site", &held).await;
    world.advance(seconds(30));
    assert_eq!(world.store().settle_due().await.unwrap(), None);
}

/// Rule 9.
pub(crate) async fn a_force_unlock_is_on_record(mut world: impl World) {
    let held = world.store().held("site", "ana").await;
    let past = ended(world.store().force_unlock("site", held.token, "root@host", "hangs since noon").await);
    let end = past.ended.clone();
    assert_eq!(end.how, How::ForceUnlocked);
    assert_eq!(end.by.as_ref().unwrap().as_str(), "root@host");
    assert_eq!(end.reason.as_ref().unwrap().as_str(), "hangs since noon");
    world.reopen().await;
    assert_eq!(lost(world.store().renew("site", &held).await), (past, None));
    let history = world.store().history(Some(&project("site")), None, 1).await.unwrap();
    let event = &history[0].event;
    assert_eq!((event.by.clone(), event.reason.clone()), (end.by.clone(), end.reason.clone()));
    assert_eq!(event.holder.as_str(), "ana");
}

/// Rule 9.
pub(crate) async fn a_force_unlock_does_not_hit_the_next_holder(world: impl World) {
    let held = world.store().held("site", "ana").await;
    let ben = world.store().queued("site", "ben").await;
    world.store().unlock("site", &held).await;
    let (past, now) = lost(world.store().force_unlock("site", held.token, "root", "stuck").await);
    assert_eq!((past.ended.how, now.unwrap().lease.request), (How::Unlocked, ben.id));
    let next = lease(world.store().queue("site", &ben).await);
    ended(world.store().force_unlock("site", next.token, "root", "stuck").await);
    // Repeated, it says that somebody force-unlocked it, and hits nobody.
    let last = world.store().held("site", "cleo").await;
    assert_eq!(
        lost(world.store().force_unlock("site", next.token, "eve", "again").await).0.ended.by.unwrap().as_str(),
        "root"
    );
    assert_eq!(world.store().see("site").await.lease, Some(last));
}

/// Rules 3 and 9.
pub(crate) async fn a_force_unlock_reaches_the_holder_through_another_handle(world: impl World) {
    let other = world.another().await;
    let held = world.store().held("site", "ana").await;
    ended(other.force_unlock("site", held.token, "root", "stuck").await);
    let (past, now) = lost(world.store().unlock("site", &held).await);
    assert_eq!((past.ended.how, now), (How::ForceUnlocked, None));
}

/// Rules 3 and 12.
pub(crate) async fn how_a_lease_ended_is_known_after_reopening(mut world: impl World) {
    let unlocked = world.store().held("site", "ana").await;
    world.store().unlock("site", &unlocked).await;
    let forced = world.store().held("site", "ben").await;
    world.store().force_unlock("site", forced.token, "root", "stuck").await;
    let expired = world.store().held("site", "cleo").await;
    world.advance(seconds(31));
    world.reopen().await;
    let current = world.store().held("site", "dora").await;
    for (past, how) in [(unlocked, How::Unlocked), (forced, How::ForceUnlocked), (expired, How::Expired)] {
        let (told, now) = lost(world.store().verify("site", past.token).await);
        assert_eq!((told.ended.how, now.unwrap().lease), (how, current.clone()));
    }
}
