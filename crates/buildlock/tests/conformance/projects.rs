//! Projects: made, listed, deleted; and any text as an id.

use buildlock::{Deleted, EventKind, Outcome};

use super::World;
use crate::support::ask::{Ask, ended, lease, lost, place, project, request, seconds};

/// Section 2, the last paragraph.
pub(crate) async fn a_project_is_made_once_and_owned_by_its_maker(mut world: impl World) {
    let (ana, ben) = (request("ana").holder, request("ben").holder);
    assert!(world.store().create_project(&project("site"), &ana).await.unwrap());
    assert!(!world.store().create_project(&project("site"), &ben).await.unwrap());
    assert!(!world.another().await.create_project(&project("site"), &ben).await.unwrap());
    world.reopen().await;
    let status = world.store().see("site").await;
    assert_eq!((status.owner, status.lease, status.queue.len()), (ana, None, 0));
    world.store().held("site", "ben").await;
    assert_eq!(world.store().see("site").await.owner.as_str(), "ana");
    assert_eq!(world.store().kinds("site").await, [EventKind::Created, EventKind::Granted]);
}

/// A project goes, its past stays.
pub(crate) async fn an_idle_project_can_be_deleted(mut world: impl World) {
    let ana = request("ana").holder;
    let held = world.store().held("site", "ana").await;
    world.store().unlock("site", &held).await;
    assert_eq!(world.another().await.delete_project(&project("site"), &ana).await.unwrap(), Deleted::Gone);
    assert_eq!(world.store().status(&project("site")).await.unwrap(), None);
    assert_eq!(world.store().projects(None, 10).await.unwrap(), []);
    assert_eq!(world.store().delete_project(&project("site"), &ana).await.unwrap(), Deleted::Unknown);
    world.reopen().await;
    assert_eq!(world.store().delete_project(&project("site"), &ana).await.unwrap(), Deleted::Unknown);
    let kinds: Vec<_> = world.store().all_events(Default::default()).await.iter().map(|it| it.event.kind).collect();
    assert_eq!(kinds, [EventKind::Granted, EventKind::Unlocked, EventKind::Deleted]);
}

/// Rule 1.
pub(crate) async fn a_held_project_cannot_be_deleted(world: impl World) {
    let held = world.store().held("site", "ana").await;
    world.store().queued("site", "ben").await;
    let Deleted::Locked(busy) = world.store().delete_project(&project("site"), &held.holder).await.unwrap() else {
        panic!("it is held")
    };
    assert_eq!((busy.lease, busy.queue_length), (held.clone(), 1));
    // A release hands it on, so it is held again.
    world.store().unlock("site", &held).await;
    let deleted = world.store().delete_project(&project("site"), &held.holder).await.unwrap();
    assert!(matches!(deleted, Deleted::Locked(busy) if busy.lease.holder.as_str() == "ben"));
}

/// Rule 8.
pub(crate) async fn an_expired_project_can_be_deleted(world: impl World) {
    let held = world.store().held("site", "ana").await;
    world.advance(seconds(30));
    assert_eq!(world.store().delete_project(&project("site"), &held.holder).await.unwrap(), Deleted::Gone);
    let kinds: Vec<_> = world.store().all_events(Default::default()).await.iter().map(|it| it.event.kind).collect();
    assert_eq!(kinds, [EventKind::Granted, EventKind::Expired, EventKind::Deleted]);
}

/// Pages follow on each other.
pub(crate) async fn projects_are_listed_in_the_order_of_their_ids(world: impl World) {
    let mut ids: Vec<_> = (0..25).map(|number| format!("site {number}")).chain(odd_ids()).collect();
    for id in &ids {
        world.store().create_project(&project(id), &request("ana").holder).await.unwrap();
    }
    ids.sort();
    for limit in [1, 7, 1_000] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = world.store().projects(after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.project.clone());
            listed.extend(page.into_iter().map(|status| status.project.to_string()));
        }
        assert_eq!(listed, ids, "in pages of {limit}");
    }
    // A page may begin after an id that no project has.
    let page = world.store().projects(Some(&project("site 24a")), 2).await.unwrap();
    assert_eq!(page.iter().map(|status| status.project.as_str()).collect::<Vec<_>>(), ["site 3", "site 4"]);
    assert_eq!(world.store().projects(None, 0).await.unwrap(), []);
}

/// Rule 8.
pub(crate) async fn a_list_shows_what_time_has_made_of_the_projects(world: impl World) {
    let held = world.store().held("held", "ana").await;
    world.store().held("over", "ana").await;
    world.advance(seconds(20));
    let held = lease(world.store().renew("held", &held).await);
    world.store().queued("held", "ben").await;
    world.advance(seconds(10));
    let list = world.store().projects(None, 10).await.unwrap();
    assert_eq!(list.iter().map(|status| status.build_status()).collect::<Vec<_>>(), ["processing", "idle"]);
    assert_eq!((list[0].lease.as_ref(), list[0].queue.len()), (Some(&held), 1));
    assert_eq!(list, [world.store().see("held").await, world.store().see("over").await]);
}

/// Section 6: ids are data everywhere.
pub(crate) async fn any_id_is_data(mut world: impl World) {
    let mut leases = Vec::new();
    for id in odd_ids() {
        let held = world.store().held(&id, &id).await;
        let waiter = world.store().queued(&id, &id).await;
        leases.push((id, held, waiter));
    }
    world.reopen().await;
    for (id, held, waiter) in leases {
        assert_eq!(lease(world.store().renew(&id, &held).await).token, held.token, "in {id:?}");
        assert_eq!(place(world.store().queue(&id, &waiter).await).position, 1);
        ended(world.store().unlock(&id, &held).await);
        let next = lease(world.store().queue(&id, &waiter).await);
        ended(world.store().force_unlock(&id, next.token, &id, &id).await);
        assert_eq!(lost(world.store().verify(&id, next.token).await).0.ended.by.unwrap().as_str(), id);
        use EventKind::{Deleted as Gone, ForceUnlocked, Granted, Queued, Unlocked};
        assert_eq!(world.store().kinds(&id).await, [Granted, Queued, Unlocked, Granted, ForceUnlocked]);
        assert_eq!(world.store().ask(&id, buildlock::Command::Settle).await.outcome, Outcome::Done);
        assert_eq!(world.store().delete_project(&project(&id), &next.holder).await.unwrap(), Deleted::Gone);
        let last = world.store().history(None, None, 1).await.unwrap().remove(0);
        assert_eq!((last.project.as_str(), last.event.kind), (id.as_str(), Gone));
    }
    assert_eq!(world.store().projects(None, 10).await.unwrap(), []);
}

fn odd_ids() -> impl Iterator<Item = String> {
    let long = "é".repeat(100);
    [
        "../x",
        "a/b",
        "'; drop table projects; --",
        "--help",
        "🏗️",
        "\u{202e}abc\u{200f}",
        " ",
        "%",
        "_",
        "NULL",
        "Á",
        &long,
    ]
    .map(str::to_owned)
    .into_iter()
}
