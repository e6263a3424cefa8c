//! To wait: tickets, hand-off, claims, and waiters that are gone.

use buildlock::{CLAIM_WITHIN, Command, EventKind, How, Outcome, QUEUE_LIMIT, Refusal, TICKET_LIFE};

use super::World;
use crate::support::ask::{Ask, ended, lease, lost, place, refusal, request, seconds};

/// Rule 5.
pub(crate) async fn a_waiter_gets_a_ticket_and_its_place(world: impl World) {
    let held = world.store().held("site", "ana").await;
    for (position, waiter) in ["ben", "cleo", "dora"].into_iter().enumerate() {
        let place = place(world.store().queue("site", &request(waiter)).await);
        assert_eq!(place.position, position + 1);
        assert_eq!((place.busy.lease, place.busy.queue_length), (held.clone(), position + 1));
    }
    assert_eq!(world.store().waiters("site").await, ["ben", "cleo", "dora"]);
}

/// Rule 6.
pub(crate) async fn a_release_grants_to_the_oldest_waiter(world: impl World) {
    let held = world.store().held("site", "ana").await;
    let ben = world.store().queued("site", "ben").await;
    world.store().queued("site", "cleo").await;
    ended(world.store().unlock("site", &held).await);
    let Refusal::Locked(busy) = refusal(world.store().lock("site", &request("dora")).await) else { panic!() };
    assert_eq!((busy.lease.holder.as_str(), busy.queue_length), ("ben", 1));
    let handed = busy.lease;
    assert_eq!((handed.request, handed.token > held.token), (ben.id, true));
    assert_eq!(handed.claim_by.map(|by| by.since(handed.acquired_at)), Some(CLAIM_WITHIN));
}

/// Rule 6.
pub(crate) async fn waiters_of_two_handles_are_served_in_one_order(world: impl World) {
    let other = world.another().await;
    let handles = [world.store(), &other];
    let mut held = world.store().held("site", "ana").await;
    let mut waiters = Vec::new();
    for number in 0..10 {
        let waiter = handles[number % 2].queued("site", &format!("waiter {number}")).await;
        waiters.push((handles[number % 2], waiter));
    }
    for (round, (handle, waiter)) in waiters.iter().enumerate() {
        // Now the holder's handle releases, now the other.
        ended(handles[round / 2 % 2].unlock("site", &held).await);
        let next = lease(handle.queue("site", waiter).await);
        assert_eq!((&next.holder, next.token > held.token), (&waiter.holder, true));
        held = next;
    }
}

/// Rules 6, 8 and 9.
pub(crate) async fn every_end_of_a_lease_hands_it_on(world: impl World) {
    let ana = request("ana");
    let first = lease(world.store().lock("site", &ana).await);
    for waiter in ["ben", "cleo", "dora"] {
        world.store().queued("site", waiter).await;
    }
    world.store().withdraw("site", ana.id).await;
    assert_eq!(world.store().holder("site").await.as_deref(), Some("ben"));
    let second = world.store().see("site").await.lease.unwrap();
    assert!(second.token > first.token);
    world.store().force_unlock("site", second.token, "root", "stuck").await;
    assert_eq!(world.store().holder("site").await.as_deref(), Some("cleo"));
    let third = world.store().see("site").await.lease.unwrap();
    world.advance(CLAIM_WITHIN);
    assert_eq!(lost(world.store().renew("site", &third).await).1.unwrap().lease.holder.as_str(), "dora");
}

/// Rule 7.
pub(crate) async fn a_handed_lease_passes_on_unless_it_is_claimed(world: impl World) {
    let held = world.store().held("site", "ana").await;
    let ben = world.store().queued("site", "ben").await;
    let cleo = world.store().queued("site", "cleo").await;
    world.store().unlock("site", &held).await;
    world.advance(CLAIM_WITHIN - std::time::Duration::from_millis(1));
    world.store().settle_due().await.unwrap();
    assert_eq!(world.store().holder("site").await.as_deref(), Some("ben"));
    world.advance(std::time::Duration::from_millis(1));
    world.store().settle_due().await.unwrap();
    assert_eq!(world.store().holder("site").await.as_deref(), Some("cleo"));
    assert_eq!(lost(world.store().queue("site", &ben).await).0.ended.how, How::Unclaimed);
    assert_eq!(lease(world.store().queue("site", &cleo).await).claim_by, None);
}

/// Rule 7.
pub(crate) async fn a_handed_lease_is_claimed_by_a_renewal_or_by_asking_again(world: impl World) {
    let held = world.store().held("site", "ana").await;
    let ben = world.store().queued("site", "ben").await;
    let cleo = world.store().queued("site", "cleo").await;
    world.store().unlock("site", &held).await;
    world.advance(seconds(4));
    let claimed = lease(world.store().queue("site", &ben).await);
    assert_eq!((claimed.claim_by, claimed.expires_at.since(claimed.acquired_at)), (None, seconds(34)));
    world.advance(seconds(10));
    world.store().queue("site", &cleo).await;
    world.store().unlock("site", &claimed).await;
    let handed = world.store().see("site").await.lease.unwrap();
    world.advance(seconds(4));
    let claimed = lease(world.store().renew("site", &handed).await);
    assert_eq!((claimed.claim_by, claimed.expires_at.since(claimed.acquired_at)), (None, seconds(34)));
    world.advance(seconds(29));
    assert_eq!(world.store().holder("site").await.as_deref(), Some("cleo"));
}

/// Rule 7.
pub(crate) async fn to_verify_a_handed_lease_does_not_claim_it(world: impl World) {
    let held = world.store().held("site", "ana").await;
    world.store().queued("site", "ben").await;
    world.store().unlock("site", &held).await;
    let handed = world.store().see("site").await.lease.unwrap();
    assert_eq!(world.store().verify("site", handed.token).await, Outcome::Held(handed.clone()));
    world.advance(CLAIM_WITHIN);
    assert_eq!(lost(world.store().verify("site", handed.token).await).0.ended.how, How::Unclaimed);
}

/// Rule 7.
pub(crate) async fn a_dead_waiter_is_skipped(world: impl World) {
    let held = world.store().held("site", "ana").await;
    world.store().queued("site", "ben").await;
    world.advance(seconds(1));
    world.store().queued("site", "cleo").await;
    world.advance(TICKET_LIFE - seconds(1));
    assert_eq!(world.store().waiters("site").await, ["cleo"]);
    world.store().unlock("site", &held).await;
    assert_eq!(world.store().holder("site").await.as_deref(), Some("cleo"));
    let kinds = world.store().kinds("site").await;
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::Dropped).count(), 1);
}

/// Rule 7.
pub(crate) async fn a_waiter_that_keeps_in_touch_keeps_its_place(world: impl World) {
    let other = world.another().await;
    let held = world.store().held("site", "ana").await;
    let ben = other.queued("site", "ben").await;
    world.store().queued("site", "cleo").await;
    for _ in 0..6 {
        world.advance(seconds(10));
        assert_eq!(place(other.queue("site", &ben).await).position, 1);
        lease(world.store().renew("site", &held).await);
        world.store().settle_due().await.unwrap();
    }
    assert_eq!(world.store().waiters("site").await, ["ben"]);
    world.store().unlock("site", &held).await;
    assert_eq!(lease(other.queue("site", &ben).await).request, ben.id);
}

/// Rules 4 and 7.
pub(crate) async fn a_waiter_that_comes_back_too_late_starts_again_at_the_end(world: impl World) {
    let held = world.store().held("site", "ana").await;
    let ben = world.store().queued("site", "ben").await;
    world.advance(seconds(10));
    world.store().queued("site", "cleo").await;
    world.advance(TICKET_LIFE - seconds(10));
    assert_eq!(place(world.store().queue("site", &ben).await).position, 2);
    assert_eq!(world.store().waiters("site").await, ["cleo", "ben"]);
    world.store().unlock("site", &held).await;
    assert_eq!(world.store().holder("site").await.as_deref(), Some("cleo"));
}

/// Rule 6.
pub(crate) async fn a_waiter_that_withdraws_leaves_the_queue(world: impl World) {
    let other = world.another().await;
    let held = world.store().held("site", "ana").await;
    let ben = world.store().queued("site", "ben").await;
    let cleo = world.store().queued("site", "cleo").await;
    assert_eq!(other.withdraw("site", ben.id).await, Outcome::Done);
    assert_eq!(place(world.store().queue("site", &cleo).await).position, 1);
    world.store().unlock("site", &held).await;
    assert_eq!(world.store().holder("site").await.as_deref(), Some("cleo"));
    assert_eq!(world.store().kinds("site").await.iter().filter(|kind| **kind == EventKind::Left).count(), 1);
}

/// Rule 4.
pub(crate) async fn a_ticket_is_kept_by_asking_without_a_wait(world: impl World) {
    world.store().held("site", "ana").await;
    let ben = world.store().queued("site", "ben").await;
    world.advance(seconds(10));
    assert_eq!(place(world.store().lock("site", &ben).await).position, 1);
    world.advance(seconds(10));
    assert_eq!(world.store().waiters("site").await, ["ben"]);
}

/// Rules 6 and 12.
pub(crate) async fn the_queue_is_the_same_after_reopening(mut world: impl World) {
    let held = world.store().held("site", "ana").await;
    let mut waiters = Vec::new();
    for number in 0..12 {
        waiters.push(world.store().queued("site", &format!("waiter {number}")).await);
    }
    let before = world.store().see("site").await;
    world.reopen().await;
    assert_eq!(world.store().see("site").await, before);
    world.store().unlock("site", &held).await;
    for waiter in waiters {
        world.reopen().await;
        let next = lease(world.store().queue("site", &waiter).await);
        world.store().unlock("site", &next).await;
    }
}

/// The bound of a queue.
pub(crate) async fn a_full_queue_refuses_and_changes_nothing(world: impl World) {
    let held = world.store().held("site", "ana").await;
    let mut first = None;
    for _ in 0..QUEUE_LIMIT / 1_000 {
        let waiters: Vec<_> = (0..1_000).map(|_| request("ben")).collect();
        first.get_or_insert_with(|| waiters[0].clone());
        let asking: Vec<_> = waiters
            .into_iter()
            .map(|request| {
                let store = std::sync::Arc::clone(world.store());
                tokio::spawn(async move { place(store.queue("site", &request).await) })
            })
            .collect();
        for asked in asking {
            asked.await.unwrap();
        }
    }
    let late = request("cleo");
    let Refusal::QueueFull(busy) = refusal(world.store().queue("site", &late).await) else { panic!("it is full") };
    assert_eq!((busy.lease, busy.queue_length), (held, QUEUE_LIMIT));
    assert_eq!(world.store().see("site").await.queue.len(), QUEUE_LIMIT);
    // One who has a ticket keeps it, and a place that is given up can be taken.
    let first = first.unwrap();
    place(world.store().queue("site", &first).await);
    world.store().ask("site", Command::Withdraw { request: first.id }).await;
    assert_eq!(place(world.store().queue("site", &late).await).position, QUEUE_LIMIT);
}
