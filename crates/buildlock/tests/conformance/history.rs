//! The history: one event for each change, in order, to be read from anywhere.

use buildlock::{Command, EventId, EventKind, Message};

use super::World;
use crate::support::ask::{Ask, lease, project, request, seconds};
use crate::support::replay::Replay;

/// Rule 11.
pub(crate) async fn every_change_writes_exactly_one_event(world: impl World) {
    use EventKind::{Created, Deleted, Dropped, Expired, ForceUnlocked, Granted, Left, Queued, Unclaimed, Unlocked};
    let store = world.store();
    let ana = request("ana");
    let mut expected = Vec::new();
    store.create_project(&project("site"), &ana.holder).await.unwrap();
    expected.push(Created);
    let held = lease(store.lock("site", &ana).await);
    expected.push(Granted);
    let ben = store.queued("site", "ben").await;
    let cleo = store.queued("site", "cleo").await;
    expected.extend([Queued, Queued]);
    store.withdraw("site", ben.id).await;
    expected.push(Left);
    store.unlock("site", &held).await;
    expected.extend([Unlocked, Granted]);
    let held = lease(store.queue("site", &cleo).await);
    store.queued("site", "dora").await;
    expected.push(Queued);
    store.force_unlock("site", held.token, "root", "stuck").await;
    expected.extend([ForceUnlocked, Granted]);
    world.advance(seconds(5));
    store.settle_due().await.unwrap();
    expected.push(Unclaimed);
    store.held("site", "ana").await;
    store.queued("site", "ben").await;
    expected.extend([Granted, Queued]);
    world.advance(seconds(15));
    store.settle_due().await.unwrap();
    expected.push(Dropped);
    world.advance(seconds(15));
    store.settle_due().await.unwrap();
    expected.push(Expired);
    assert_eq!(store.kinds("site").await, expected);
    store.delete_project(&project("site"), &ana.holder).await.unwrap();
    expected.push(Deleted);
    let all = store.all_events(EventId(0)).await;
    assert_eq!(all.iter().map(|recorded| recorded.event.kind).collect::<Vec<_>>(), expected);
    Replay::default().feed(&all);
}

/// Rule 11.
pub(crate) async fn what_changes_nothing_writes_nothing(world: impl World) {
    let ana = request("ana");
    let held = lease(world.store().lock("site", &ana).await);
    let ben = world.store().queued("site", "ben").await;
    let before = world.store().all_events(EventId(0)).await;
    world.advance(seconds(1));
    world.store().lock("site", &ana).await;
    world.store().queue("site", &ben).await;
    world.store().lock("site", &request("cleo")).await;
    world.store().renew("site", &held).await;
    world.store().verify("site", held.token).await;
    world.store().verify("site", held.token.next()).await;
    world.store().withdraw("site", request("cleo").id).await;
    world.store().ask("site", Command::Settle).await;
    world.store().ask("nowhere", Command::Settle).await;
    world.store().settle_due().await.unwrap();
    world.store().create_project(&project("site"), &ben.holder).await.unwrap();
    world.store().delete_project(&project("site"), &ben.holder).await.unwrap();
    world.store().delete_project(&project("nowhere"), &ben.holder).await.unwrap();
    assert_eq!(world.store().all_events(EventId(0)).await, before);
}

/// Rule 11.
pub(crate) async fn an_event_tells_what_happened_to_whom(world: impl World) {
    let mut ana = request("ana");
    ana.message = "new colours".parse().unwrap();
    let held = lease(world.store().lock("site", &ana).await);
    let mut ben = request("ben");
    ben.operation = "generate".parse().unwrap();
    world.store().queue("site", &ben).await;
    world.advance(seconds(3));
    world.store().force_unlock("site", held.token, "root", "stuck").await;
    let all = world.store().all_events(EventId(0)).await;
    let [granted, queued, forced, handed] = &all.iter().map(|it| &it.event).collect::<Vec<_>>()[..] else { panic!() };

    assert_eq!((granted.at, &granted.holder, granted.request), (held.acquired_at, &ana.holder, Some(ana.id)));
    assert_eq!((granted.token, &granted.operation), (Some(held.token), &Some(ana.operation)));
    assert_eq!((&granted.message, &granted.by, &granted.reason), (&Some(ana.message), &None, &None));

    assert_eq!((&queued.holder, queued.request, queued.token), (&ben.holder, Some(ben.id), None));
    assert_eq!((&queued.operation, &queued.message), (&Some(ben.operation), &Some(Message::default())));

    assert_eq!(forced.at.since(held.acquired_at), seconds(3));
    assert_eq!((&forced.holder, forced.request, forced.token), (&ana.holder, Some(ana.id), Some(held.token)));
    assert_eq!(forced.by.as_ref().unwrap().as_str(), "root");
    assert_eq!(forced.reason.as_ref().unwrap().as_str(), "stuck");

    assert_eq!((handed.at, handed.request), (forced.at, Some(ben.id)));
    assert!(handed.token > forced.token);
}

/// Rule 11.
pub(crate) async fn a_projects_history_is_its_own(world: impl World) {
    for _ in 0..3 {
        for site in ["one", "two"] {
            let held = world.store().held(site, "ana").await;
            world.store().unlock(site, &held).await;
        }
    }
    for site in ["one", "two"] {
        let history = world.store().history(Some(&project(site)), None, 100).await.unwrap();
        assert_eq!(history.len(), 6);
        assert!(history.iter().all(|recorded| recorded.project.as_str() == site));
    }
    assert_eq!(world.store().history(None, None, 100).await.unwrap().len(), 12);
    assert_eq!(world.store().history(Some(&project("three")), None, 100).await.unwrap(), []);
}

/// Newest first, each page older than the one before.
pub(crate) async fn history_is_read_page_by_page(world: impl World) {
    for number in 0..10 {
        let held = world.store().held(["one", "two"][number % 2], "ana").await;
        world.store().unlock(["one", "two"][number % 2], &held).await;
    }
    let all = world.store().all_events(EventId(0)).await;
    for of in [None, Some(project("one"))] {
        let mut expected: Vec<_> = all.iter().filter(|it| of.as_ref().is_none_or(|of| it.project == *of)).collect();
        expected.reverse();
        for limit in [1, 3, 1_000] {
            let (mut pages, mut before) = (Vec::new(), None);
            loop {
                let page = world.store().history(of.as_ref(), before, limit).await.unwrap();
                assert!(page.len() <= limit);
                let Some(last) = page.last() else { break };
                before = Some(last.id);
                pages.extend(page);
            }
            assert_eq!(pages.iter().collect::<Vec<_>>(), expected, "of {of:?} in pages of {limit}");
        }
        for before in [EventId(u64::MAX), EventId(all.len() as u64 * 10)] {
            let page = world.store().history(of.as_ref(), Some(before), 1_000).await.unwrap();
            assert_eq!(page.len(), expected.len(), "everything is older than {before:?}");
        }
        assert_eq!(world.store().history(of.as_ref(), Some(all[0].id), 10).await.unwrap(), []);
        assert_eq!(world.store().history(of.as_ref(), None, 0).await.unwrap(), []);
    }
}

/// Whoever knows the last event it saw misses none.
pub(crate) async fn events_are_resumable_from_any_of_them(mut world: impl World) {
    for number in 0..8 {
        let held = world.store().held(&format!("site {number}"), "ana").await;
        world.store().unlock(&format!("site {number}"), &held).await;
    }
    let all = world.store().events_after(EventId(0), 1_000).await.unwrap();
    assert_eq!(all.len(), 16);
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id));
    world.reopen().await;
    for (index, seen) in all.iter().enumerate() {
        assert_eq!(world.store().events_after(seen.id, 1_000).await.unwrap(), all[index + 1..]);
        let next = world.store().events_after(seen.id, 3).await.unwrap();
        assert_eq!(next, all[index + 1..].iter().take(3).cloned().collect::<Vec<_>>());
    }
    assert_eq!(world.store().events_after(EventId(u64::MAX), 10).await.unwrap(), []);
    assert_eq!(world.store().events_after(EventId(0), 0).await.unwrap(), []);
    assert_eq!(*world.store().newest_event().borrow(), all[15].id);
}

/// Rule 12.
pub(crate) async fn history_is_the_same_through_another_handle_and_after_reopening(mut world: impl World) {
    let other = world.another().await;
    for number in 0..6 {
        let store = [world.store(), &other][number % 2];
        let held = store.held("site", "ana").await;
        store.queued("site", "ben").await;
        store.unlock("site", &held).await;
        let handed = store.see("site").await.lease.unwrap();
        store.unlock("site", &handed).await;
    }
    let history = world.store().history(Some(&project("site")), None, 100).await.unwrap();
    assert_eq!(history.len(), 6 * 5);
    assert_eq!(other.history(Some(&project("site")), None, 100).await.unwrap(), history);
    drop(other);
    world.reopen().await;
    assert_eq!(world.store().history(Some(&project("site")), None, 100).await.unwrap(), history);
}

/// Rules 8 and 11: the date of an expiry does not depend on who looked when.
pub(crate) async fn an_expiry_is_dated_when_it_was_due(world: impl World) {
    let held = world.store().held("site", "ana").await;
    world.advance(seconds(500));
    world.store().settle_due().await.unwrap();
    let newest = world.store().history(None, None, 1).await.unwrap().remove(0).event;
    assert_eq!((newest.kind, newest.at), (EventKind::Expired, held.expires_at));
}
