//! Builds on record.

use std::collections::HashSet;

use buildlock::{BuildEnd, BuildId, BuildStatus, BuildStore, Deleted, LockStore, NewBuild, RequestId};

use super::{Builds, World};
use crate::support::ask::{Ask, project, seconds};

/// With all that its lease says.
pub(crate) async fn a_build_that_starts_is_on_record(world: impl World) {
    let new = world.store().new_build("site").await;
    let started = world.store().start_build(new.clone()).await.unwrap();
    let NewBuild { id, project, operation, holder, token, request } = new;
    assert_eq!((started.id, &started.project, &started.operation), (id, &project, &operation));
    assert_eq!((&started.holder, started.token, started.request), (&holder, token, request));
    assert_eq!(started.status, BuildStatus::Running);
    assert_eq!((started.exit_code, &started.reason, started.ended_at, started.log_lines), (None, &None, None, 0));
    assert_eq!(started.started_at, world.store().see("site").await.now);
    assert_eq!(world.store().build(id).await.unwrap(), Some(started.clone()));
    assert_eq!(world.store().build_of_request(request).await.unwrap(), Some(started));
}

/// Rule 4, for builds.
pub(crate) async fn a_request_has_one_build(world: impl World) {
    let new = world.store().new_build("site").await;
    let started = world.store().start_build(new.clone()).await.unwrap();
    world.advance(seconds(1));
    let again = NewBuild { id: BuildId::fresh(), ..new.clone() };
    assert_eq!(world.another().await.start_build(again).await.unwrap(), started);
    let ended = world.store().succeeds(&started).await;
    assert_eq!(world.store().start_build(new.clone()).await.unwrap(), ended);
    let same_id = NewBuild { request: RequestId::fresh(), ..new };
    assert_eq!(world.store().start_build(same_id).await.unwrap(), ended, "two builds have one id");
    assert_eq!(world.store().all_builds().await, [started.id]);
}

/// How it ended first is how it ended.
pub(crate) async fn a_build_ends_once(world: impl World) {
    for status in BuildStatus::ALL.into_iter().filter(|status| *status != BuildStatus::Running) {
        let running = world.store().running("site").await;
        world.advance(seconds(5));
        let end = BuildEnd { status, exit_code: Some(143), reason: Some("it took too long".to_owned()) };
        let ended = world.store().end_build(running.id, end).await.unwrap().unwrap();
        assert_eq!(
            (ended.status, ended.exit_code, ended.reason.as_deref()),
            (status, Some(143), Some("it took too long"))
        );
        assert_eq!(ended.ended_at, Some(running.started_at.after(seconds(5))));
        world.advance(seconds(5));
        for again in BuildStatus::ALL {
            let end = BuildEnd { status: again, exit_code: None, reason: None };
            assert_eq!(world.store().end_build(running.id, end).await.unwrap(), Some(ended.clone()));
        }
        assert_eq!(world.store().build(running.id).await.unwrap(), Some(ended));
    }
}

/// It is no end.
pub(crate) async fn an_end_that_says_running_changes_nothing(world: impl World) {
    let running = world.store().running("site").await;
    let end = BuildEnd { status: BuildStatus::Running, exit_code: Some(1), reason: Some("none".to_owned()) };
    assert_eq!(world.store().end_build(running.id, end).await.unwrap(), Some(running.clone()));
    assert_eq!(world.store().running_builds().await.unwrap(), [running]);
}

/// And nothing is made by asking.
pub(crate) async fn an_unknown_build_is_told(world: impl World) {
    let id = BuildId::fresh();
    let end = BuildEnd { status: BuildStatus::Failed, exit_code: Some(1), reason: None };
    assert_eq!(world.store().build(id).await.unwrap(), None);
    assert_eq!(world.store().end_build(id, end).await.unwrap(), None);
    assert_eq!(world.store().build_of_request(RequestId::fresh()).await.unwrap(), None);
    assert_eq!(world.store().builds(Some(&project("nobody's")), None, 10).await.unwrap(), []);
    assert_eq!(world.store().all_builds().await, []);
}

/// Of a project, or of all.
pub(crate) async fn builds_are_listed_newest_first_page_by_page(world: impl World) {
    let mut of_all = Vec::new();
    for site in ["one", "two", "one", "two", "one"] {
        of_all.insert(0, world.store().finished(site, 0).await);
    }
    let ids = |site: Option<&str>| -> Vec<BuildId> {
        let listed = of_all.iter().filter(|build| site.is_none_or(|site| build.project.as_str() == site));
        listed.map(|build| build.id).collect()
    };
    assert_eq!(world.store().builds(None, None, 10).await.unwrap(), of_all);
    for site in [None, Some("one"), Some("two")] {
        let of_site = site.map(project);
        let mut read = Vec::new();
        loop {
            let page = world.store().builds(of_site.as_ref(), read.last().copied(), 2).await.unwrap();
            assert!(page.len() <= 2);
            if page.is_empty() {
                break;
            }
            read.extend(page.iter().map(|build| build.id));
        }
        assert_eq!(read, ids(site));
    }
}

/// A server that starts finds what the one before it has left.
pub(crate) async fn running_builds_are_known_to_whoever_comes_next(mut world: impl World) {
    let builds = [world.store().running("one").await, world.store().running("two").await];
    world.store().finished("three", 1).await;
    world.reopen().await;
    assert_eq!(world.store().running_builds().await.unwrap(), builds);
    world.store().succeeds(&builds[0]).await;
    assert_eq!(world.store().running_builds().await.unwrap(), builds[1..]);
}

/// By when they ended, not by when they started.
pub(crate) async fn builds_that_have_just_ended_are_known_too(world: impl World) {
    let minute = seconds(60);
    let long = world.store().running("long").await;
    world.store().finished("old", 0).await;
    world.advance(minute + seconds(1));
    let first = world.store().finished("first", 0).await;
    world.advance(seconds(1));
    let long = world.store().succeeds(&long).await;
    world.store().running("running").await;
    assert_eq!(world.store().builds_ended_within(minute, 10).await.unwrap(), [long.clone(), first]);
    assert_eq!(world.store().builds_ended_within(minute, 1).await.unwrap(), [long]);
}

/// It is data.
pub(crate) async fn what_is_said_of_a_build_is_kept_as_it_is(mut world: impl World) {
    let odd = "../x'; drop table builds; -- \u{202e}🔒";
    let new = NewBuild {
        holder: odd.parse().unwrap(),
        operation: odd.parse().unwrap(),
        ..world.store().new_build(odd).await
    };
    world.store().start_build(new.clone()).await.unwrap();
    let reason = format!("{odd}\0\nand so on");
    let end = BuildEnd { status: BuildStatus::Failed, exit_code: Some(i32::MIN), reason: Some(reason.clone()) };
    let ended = world.store().end_build(new.id, end).await.unwrap().unwrap();
    world.reopen().await;
    assert_eq!(world.store().build(new.id).await.unwrap().as_ref(), Some(&ended));
    assert_eq!((ended.project, ended.holder, ended.operation), (new.project, new.holder, new.operation));
    assert_eq!((ended.exit_code, ended.reason), (Some(i32::MIN), Some(reason)));
}

/// Whoever started it.
pub(crate) async fn a_build_is_the_same_through_another_handle(world: impl World) {
    let other = world.another().await;
    let running = world.store().running("site").await;
    assert_eq!(other.build(running.id).await.unwrap(), Some(running.clone()));
    other.say(&running, &["hello"]).await;
    let ended = other.succeeds(&running).await;
    assert_eq!(ended.log_lines, 1);
    assert_eq!(world.store().build(running.id).await.unwrap(), Some(ended));
    assert_eq!(world.store().said(running.id).await, ["hello"]);
}

/// The project's next owner is somebody else.
pub(crate) async fn the_builds_of_a_deleted_project_are_nobodys(world: impl World) {
    let kept = world.store().finished("kept", 1).await;
    let finished = world.store().finished("site", 1).await;
    // Its lease was ended just now: it is about to be told.
    let running = world.store().running("site").await;
    let by = "ana".parse().unwrap();
    assert_eq!(world.store().delete_project(&project("site"), &by).await.unwrap(), Deleted::Gone);
    world.store().create_project(&project("site"), &"ben".parse().unwrap()).await.unwrap();
    for build in [&finished, &running] {
        assert_eq!(world.store().build(build.id).await.unwrap(), None);
        assert_eq!(world.store().build_of_request(build.request).await.unwrap(), None);
        assert_eq!(world.store().log(build.id, 0, 10).await.unwrap(), []);
        assert_eq!(
            world.store().append_log(build.id, vec![(buildlock::LogStream::System, "end".to_owned())]).await.unwrap(),
            []
        );
        let end = BuildEnd { status: BuildStatus::Lost, exit_code: None, reason: None };
        assert_eq!(world.store().end_build(build.id, end).await.unwrap(), None);
    }
    assert_eq!(world.store().builds(Some(&project("site")), None, 10).await.unwrap(), []);
    assert_eq!(world.store().running_builds().await.unwrap(), []);
    let new = world.store().finished("site", 0).await;
    let left: HashSet<_> = world.store().all_builds().await.into_iter().collect();
    assert_eq!(left, HashSet::from([kept.id, new.id]));
}
