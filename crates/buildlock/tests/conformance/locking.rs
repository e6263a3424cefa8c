//! To lock, renew and verify: who gets the lock, and with what token.

use buildlock::{Command, Outcome, Refusal, Token};

use super::World;
use crate::support::ask::{Ask, lease, project, refusal, request, seconds, ttl};
use crate::support::until;

/// Rules 1, 2 and 5.
pub(crate) async fn a_free_project_is_granted_at_once(world: impl World) {
    let ana = request("ana");
    let lease = world.store().held("site", "ana").await;
    assert_eq!(lease.token, Token::FIRST);
    assert_eq!((lease.holder.as_str(), lease.operation.as_str(), lease.message.as_str()), ("ana", "edit", ""));
    assert_eq!(lease.expires_at.since(lease.acquired_at), ana.ttl.get());
    assert_eq!(lease.claim_by, None, "a lease that nobody waited for needs no claim");
    assert_eq!(world.store().verify("site", lease.token).await, Outcome::Held(lease.clone()));
    let status = world.store().see("site").await;
    assert_eq!((status.build_status(), status.lease), ("processing", Some(lease)));
}

/// Section 2, the last paragraph.
pub(crate) async fn a_project_that_is_locked_comes_into_being_owned_by_the_holder(world: impl World) {
    assert_eq!(world.store().status(&project("site")).await.unwrap(), None);
    let lease = world.store().held("site", "ana").await;
    world.store().unlock("site", &lease).await;
    world.store().held("site", "ben").await;
    assert_eq!(world.store().see("site").await.owner.as_str(), "ana");
}

/// Rule 5.
pub(crate) async fn a_held_project_refuses_at_once_and_says_who_is_in_the_way(world: impl World) {
    let lease = world.store().held("site", "ana").await;
    for queue_length in [0, 1] {
        let Refusal::Locked(busy) = refusal(world.store().lock("site", &request("ben")).await) else { panic!() };
        assert_eq!((busy.lease, busy.queue_length), (lease.clone(), queue_length));
        world.store().queued("site", "cleo").await;
    }
}

/// Rule 1.
pub(crate) async fn a_lock_excludes_whoever_comes_through_another_handle(world: impl World) {
    let other = world.another().await;
    let lease = world.store().held("site", "ana").await;
    assert!(matches!(refusal(other.lock("site", &request("ben")).await), Refusal::Locked(_)));
    assert_eq!(other.verify("site", lease.token).await, Outcome::Held(lease.clone()));
    world.store().unlock("site", &lease).await;
    let next = other.held("site", "ben").await;
    assert!(next.token > lease.token);
    assert!(matches!(refusal(world.store().lock("site", &request("ana")).await), Refusal::Locked(_)));
}

/// Rule 1.
pub(crate) async fn projects_do_not_block_each_other(world: impl World) {
    let one = world.store().held("one", "ana").await;
    world.store().held("two", "ana").await;
    world.store().unlock("one", &one).await;
    assert_eq!(world.store().holder("one").await, None);
    assert_eq!(world.store().holder("two").await.as_deref(), Some("ana"));
}

/// Only a lock makes a project.
pub(crate) async fn an_unknown_project_is_told_and_not_made(world: impl World) {
    let (token, ana) = (Token::FIRST, request("ana"));
    for command in [
        Command::Renew { token, holder: ana.holder.clone(), ttl: None },
        Command::Verify { token },
        Command::Unlock { token, holder: ana.holder.clone() },
        Command::ForceUnlock { token, by: ana.holder.clone(), reason: "stuck".parse().unwrap() },
        Command::Withdraw { request: ana.id },
        Command::Settle,
    ] {
        assert_eq!(refusal(world.store().ask("site", command).await.outcome), Refusal::UnknownProject);
    }
    assert_eq!(world.store().status(&project("site")).await.unwrap(), None);
    assert_eq!(world.store().history(None, None, 10).await.unwrap(), []);
}

/// Rule 8.
pub(crate) async fn a_renewal_lasts_from_now(world: impl World) {
    let granted = world.store().held("site", "ana").await;
    for _ in 0..5 {
        world.advance(seconds(20));
        let renewed = lease(world.store().renew("site", &granted).await);
        let now = world.store().see("site").await.now;
        assert_eq!(renewed.expires_at.since(now), seconds(30));
        assert_eq!((renewed.token, renewed.acquired_at), (granted.token, granted.acquired_at));
    }
}

/// Rule 8.
pub(crate) async fn a_renewal_may_name_its_own_ttl(world: impl World) {
    let granted = world.store().held("site", "ana").await;
    for (named, lasts) in [(Some(ttl(300)), 300), (Some(ttl(2)), 2), (None, 30)] {
        let renew = Command::Renew { token: granted.token, holder: granted.holder.clone(), ttl: named };
        let answer = world.store().ask("site", renew).await;
        assert_eq!(lease(answer.outcome).expires_at.since(answer.now), seconds(lasts));
    }
}

/// Rule 8.
pub(crate) async fn a_renewal_is_seen_through_another_handle(world: impl World) {
    let other = world.another().await;
    let granted = world.store().held("site", "ana").await;
    assert_eq!(other.holder("site").await.as_deref(), Some("ana"));
    world.advance(seconds(29));
    let renewed = lease(world.store().renew("site", &granted).await);
    world.advance(seconds(29));
    assert_eq!(other.settle_due().await.unwrap(), Some(seconds(1)));
    assert_eq!(other.see("site").await.lease, Some(renewed));
}

/// Rule 3.
pub(crate) async fn only_the_holder_renews_and_unlocks(world: impl World) {
    let granted = world.store().held("site", "ana").await;
    let (token, ben) = (granted.token, request("ben").holder);
    for command in
        [Command::Renew { token, holder: ben.clone(), ttl: None }, Command::Unlock { token, holder: ben.clone() }]
    {
        let Refusal::NotHolder(busy) = refusal(world.store().ask("site", command).await.outcome) else { panic!() };
        assert_eq!(busy.lease, granted);
    }
    assert_eq!(world.store().see("site").await.lease, Some(granted));
}

/// Rule 3.
pub(crate) async fn a_token_that_was_never_granted_is_told_from_a_lost_one(world: impl World) {
    let here = world.store().held("here", "ana").await;
    let there = world.store().held("there", "ben").await;
    for token in [there.token, Token::new(1_000_000).unwrap()] {
        let Refusal::NeverGranted { token: told, now } = refusal(world.store().verify("here", token).await) else {
            panic!("token {token} never was this project's")
        };
        assert_eq!((told, now.map(|busy| busy.lease)), (token, Some(here.clone())));
    }
}

/// What is text comes back as the same text.
pub(crate) async fn what_a_holder_says_is_kept_as_it_is(mut world: impl World) {
    let mut ana = request("Ána'; drop table projects; --");
    ana.operation = "génération 🏗️".parse().unwrap();
    ana.message = "\u{202e}\"quoted\" \\ %s {} <b>".parse().unwrap();
    ana.ttl = buildlock::Ttl::new(std::time::Duration::from_millis(1_234)).unwrap();
    let granted = lease(world.store().lock("site", &ana).await);
    world.reopen().await;
    let kept = world.store().see("site").await.lease.unwrap();
    assert_eq!(kept, granted);
    assert_eq!(
        (kept.holder, kept.operation, kept.message, kept.ttl),
        (ana.holder, ana.operation, ana.message, ana.ttl)
    );
}

/// Rule 2.
pub(crate) async fn tokens_grow_from_project_to_project(world: impl World) {
    let other = world.another().await;
    let mut last = None;
    for round in 0..6 {
        for site in ["one", "two", "three"] {
            let store = if round % 2 == 0 { world.store() } else { &other };
            let granted = store.held(site, "ana").await;
            assert!(Some(granted.token) > last, "token {} after {last:?}", granted.token);
            last = Some(granted.token);
            store.unlock(site, &granted).await;
        }
    }
}

/// Rule 2.
pub(crate) async fn tokens_grow_over_deletion_and_reopening(mut world: impl World) {
    let mut last = None;
    for _ in 0..3 {
        let granted = world.store().held("site", "ana").await;
        assert!(Some(granted.token) > last, "token {} after {last:?}", granted.token);
        last = Some(granted.token);
        world.store().unlock("site", &granted).await;
        world.store().delete_project(&project("site"), &granted.holder).await.unwrap();
        world.reopen().await;
    }
}

/// Rule 12.
pub(crate) async fn an_acknowledged_lock_is_there_after_reopening(mut world: impl World) {
    let granted = world.store().held("site", "ana").await;
    world.reopen().await;
    assert_eq!(world.store().see("site").await.lease, Some(granted.clone()));
    assert!(matches!(refusal(world.store().lock("site", &request("ben")).await), Refusal::Locked(_)));
    world.store().unlock("site", &granted).await;
    world.reopen().await;
    assert_eq!(world.store().see("site").await.lease, None);
}

/// What is sent without waiting for the answer is done all the same.
pub(crate) async fn a_command_that_nobody_waits_for_is_done(world: impl World) {
    let other = world.another().await;
    let granted = world.store().held("site", "ana").await;
    let unlock = Command::Unlock { token: granted.token, holder: granted.holder };
    world.store().send(&project("site"), unlock);
    until("the unlock", async || other.holder("site").await.is_none()).await;
}
