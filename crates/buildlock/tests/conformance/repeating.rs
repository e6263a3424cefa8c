//! Requests that come again: never a second grant.

use buildlock::{EventKind, How, LockRequest, Outcome, Refusal};

use super::World;
use crate::support::ask::{Ask, ended, lease, lost, place, project, refusal, request, seconds, ttl};

/// Rule 4.
pub(crate) async fn a_repeated_request_returns_the_same_lease_unchanged(mut world: impl World) {
    let ana = request("ana");
    let granted = lease(world.store().lock("site", &ana).await);
    world.advance(seconds(9));
    assert_eq!(lease(world.store().lock("site", &ana).await), granted, "a repetition does not renew");
    assert_eq!(lease(world.store().queue("site", &ana).await), granted);
    world.reopen().await;
    assert_eq!(lease(world.store().lock("site", &ana).await), granted);
    assert_eq!(world.store().kinds("site").await, [EventKind::Granted]);
}

/// Rule 4.
pub(crate) async fn a_repeated_request_returns_the_same_ticket(mut world: impl World) {
    world.store().held("site", "ana").await;
    let ben = request("ben");
    let first = place(world.store().queue("site", &ben).await);
    world.store().queued("site", "cleo").await;
    let again = place(world.store().queue("site", &ben).await);
    assert_eq!((again.ticket, again.position, again.busy.queue_length), (first.ticket, 1, 2));
    world.reopen().await;
    assert_eq!(place(world.store().queue("site", &ben).await), again);
    assert_eq!(world.store().waiters("site").await, ["ben", "cleo"]);
}

/// Rule 4.
pub(crate) async fn a_repeated_request_is_known_through_another_handle(world: impl World) {
    let other = world.another().await;
    let (ana, ben) = (request("ana"), request("ben"));
    let granted = lease(world.store().lock("site", &ana).await);
    let waits = place(world.store().queue("site", &ben).await);
    assert_eq!(lease(other.lock("site", &ana).await), granted);
    assert_eq!(place(other.queue("site", &ben).await), waits);
    other.unlock("site", &granted).await;
    assert_eq!(lost(other.lock("site", &ana).await).0.token, granted.token);
    assert_eq!(lost(world.store().lock("site", &ana).await).0.token, granted.token);
}

/// Rule 4.
pub(crate) async fn a_request_whose_lease_has_ended_is_lost_for_ever(mut world: impl World) {
    let (unlocked, forced, expired) = (request("ana"), request("ben"), request("cleo"));
    let granted = lease(world.store().lock("site", &unlocked).await);
    ended(world.store().unlock("site", &granted).await);
    let granted = lease(world.store().lock("site", &forced).await);
    ended(world.store().force_unlock("site", granted.token, "root", "stuck").await);
    lease(world.store().lock("site", &expired).await);
    world.advance(seconds(30));
    for _ in 0..2 {
        for (request, how) in [
            (&expired, How::Expired),
            (&unlocked, How::Unlocked),
            (&forced, How::ForceUnlocked),
            (&expired, How::Expired),
        ] {
            for outcome in [world.store().lock("site", request).await, world.store().queue("site", request).await] {
                let (past, now) = lost(outcome);
                assert_eq!((past.request, past.ended.how, now), (request.id, how, None));
            }
        }
        world.reopen().await;
    }
    assert_eq!(world.store().kinds("site").await.iter().filter(|kind| **kind == EventKind::Granted).count(), 3);
}

/// Rule 4: only a grant is remembered.
pub(crate) async fn a_request_that_was_withdrawn_before_it_waited_is_as_if_new(world: impl World) {
    let held = world.store().held("site", "ana").await;
    let ben = request("ben");
    assert_eq!(world.store().withdraw("site", ben.id).await, Outcome::Done);
    place(world.store().queue("site", &ben).await);
    world.store().withdraw("site", ben.id).await;
    world.store().withdraw("site", ben.id).await;
    world.store().unlock("site", &held).await;
    assert_eq!(lease(world.store().lock("site", &ben).await).request, ben.id);
    assert_eq!(world.store().kinds("site").await.iter().filter(|kind| **kind == EventKind::Left).count(), 1);
}

/// Rule 4.
pub(crate) async fn a_request_id_with_another_content_is_refused(world: impl World) {
    let (held, waits) = (request("ana"), request("ana"));
    let granted = lease(world.store().lock("site", &held).await);
    place(world.store().queue("site", &waits).await);
    for original in [held, waits] {
        for other in [
            LockRequest { holder: "ben".parse().unwrap(), ..original.clone() },
            LockRequest { operation: "generate".parse().unwrap(), ..original.clone() },
            LockRequest { message: "hello".parse().unwrap(), ..original.clone() },
            LockRequest { ttl: ttl(31), ..original.clone() },
        ] {
            assert_eq!(refusal(world.store().queue("site", &other).await), Refusal::RequestReused);
        }
    }
    let status = world.store().see("site").await;
    assert_eq!((status.lease, status.queue.len()), (Some(granted), 1));
}

/// Rule 4.
pub(crate) async fn a_request_id_on_another_project_is_another_request(world: impl World) {
    let ana = request("ana");
    let one = lease(world.store().lock("one", &ana).await);
    let two = lease(world.store().lock("two", &ana).await);
    assert!(two.token > one.token);
    world.store().unlock("one", &one).await;
    assert_eq!(lease(world.store().lock("two", &ana).await), two);
    assert_eq!(lost(world.store().lock("one", &ana).await).0.token, one.token);
    lease(world.store().lock("three", &ana).await);
}

/// Rule 4: never a second grant.
pub(crate) async fn a_request_is_not_granted_again_after_its_project_was_deleted(world: impl World) {
    let ana = request("ana");
    let granted = lease(world.store().lock("site", &ana).await);
    world.store().unlock("site", &granted).await;
    world.store().delete_project(&project("site"), &ana.holder).await.unwrap();
    let (past, now) = lost(world.store().lock("site", &ana).await);
    assert_eq!((past.token, past.ended.how, now), (granted.token, How::Unlocked, None));
    assert_eq!(world.store().status(&project("site")).await.unwrap(), None, "a refusal makes no project");
    let next = world.store().held("site", "ben").await;
    let (past, now) = lost(world.store().lock("site", &ana).await);
    assert_eq!((past.token, now.unwrap().lease), (granted.token, next));
}

/// Rules 4 and 5.
pub(crate) async fn a_request_that_was_refused_may_be_repeated(world: impl World) {
    let held = world.store().held("site", "ana").await;
    let ben = request("ben");
    for _ in 0..2 {
        assert!(matches!(refusal(world.store().lock("site", &ben).await), Refusal::Locked(_)));
    }
    world.store().unlock("site", &held).await;
    assert_eq!(lease(world.store().lock("site", &ben).await).request, ben.id);
}

/// Rule 4.
pub(crate) async fn to_withdraw_a_held_request_unlocks_it(mut world: impl World) {
    let ana = request("ana");
    let granted = lease(world.store().lock("site", &ana).await);
    assert_eq!(world.store().withdraw("site", ana.id).await, Outcome::Done);
    assert_eq!(world.store().holder("site").await, None);
    world.reopen().await;
    let (past, _) = lost(world.store().lock("site", &ana).await);
    assert_eq!((past.token, past.ended.how), (granted.token, How::Unlocked));
    let next = world.store().held("site", "ben").await;
    world.store().withdraw("site", ana.id).await;
    assert_eq!(world.store().see("site").await.lease, Some(next));
}
