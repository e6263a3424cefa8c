//! How long finished builds are kept.

use std::time::Duration;

use buildlock::{BuildId, BuildRetention, BuildStore, LockStore};
use tokio::task::JoinSet;

use super::{Builds, World};
use crate::support::ask::{project, seconds};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// All that goes, in the order in which it went, and in how many calls.
async fn prune(store: &impl BuildStore, retention: BuildRetention) -> (Vec<BuildId>, usize) {
    let (mut gone, mut calls) = (Vec::new(), 0);
    loop {
        let some = store.prune_builds(retention).await.unwrap();
        if some.is_empty() {
            return (gone, calls);
        }
        gone.extend(some);
        calls += 1;
    }
}

fn bytes(max_bytes: u64) -> BuildRetention {
    BuildRetention { max_age: None, max_bytes: Some(max_bytes) }
}

/// Nothing is lost silently.
pub(crate) async fn builds_are_kept_for_ever_by_default(world: impl World) {
    let build = world.store().finished("site", 3).await;
    world.advance(DAY * 3_650);
    for retention in
        [BuildRetention::default(), BuildRetention { max_age: Some(Duration::MAX), max_bytes: Some(u64::MAX) }]
    {
        assert_eq!(prune(world.store(), retention).await.0, []);
    }
    assert_eq!(world.store().said(build.id).await.len(), 3);
}

/// From its end, not from its start.
pub(crate) async fn builds_go_when_their_end_is_too_long_ago(mut world: impl World) {
    let long = world.store().running("site").await;
    let old = world.store().finished("site", 2).await;
    world.advance(DAY * 7 - seconds(1));
    let new = world.store().finished("site", 2).await;
    world.store().succeeds(&long).await;
    let week = BuildRetention { max_age: Some(DAY * 7), max_bytes: None };
    assert_eq!(prune(world.store(), week).await.0, []);
    world.advance(seconds(1));
    assert_eq!(prune(world.store(), week).await.0, [old.id]);
    world.reopen().await;
    assert_eq!(world.store().build(old.id).await.unwrap(), None);
    assert_eq!(world.store().said(old.id).await.len(), 0);
    assert_eq!(world.store().all_builds().await, [new.id, long.id]);
    assert_eq!(world.store().said(new.id).await.len(), 2);
}

/// As many as it takes, and no more.
pub(crate) async fn the_oldest_builds_go_when_the_logs_are_too_large(world: impl World) {
    let mut builds = Vec::new();
    for lines in [1, 2, 0, 3, 4] {
        builds.push(world.store().finished("site", lines).await.id);
        world.advance(seconds(1));
    }
    assert_eq!(prune(world.store(), bytes(100)).await.0, []);
    assert_eq!(prune(world.store(), bytes(99)).await.0, builds[..1]);
    assert_eq!(prune(world.store(), bytes(70)).await.0, builds[1..2]);
    assert_eq!(prune(world.store(), bytes(69)).await.0, builds[2..4]);
    assert_eq!(world.store().said(builds[4]).await.len(), 4);
    assert_eq!(prune(world.store(), bytes(0)).await.0, builds[4..]);
    assert_eq!(world.store().all_builds().await, []);
}

/// Its log is no part of what is counted, either.
pub(crate) async fn what_runs_is_kept_whatever_the_retention(world: impl World) {
    let running = world.store().running("site").await;
    world.store().say(&running, &["0123456789"]).await;
    let finished = world.store().finished("site", 1).await;
    assert_eq!(prune(world.store(), bytes(10)).await.0, []);
    world.advance(DAY);
    let nothing = BuildRetention { max_age: Some(Duration::ZERO), max_bytes: Some(0) };
    assert_eq!(prune(world.store(), nothing).await.0, [finished.id]);
    assert_eq!(world.store().said(running.id).await.len(), 1);
}

/// Others must not wait for it.
pub(crate) async fn much_is_removed_piece_by_piece(world: impl World) {
    let mut builds = Vec::new();
    for _ in 0..4 {
        builds.push(world.store().finished("site", 6_000).await.id);
        world.advance(seconds(1));
    }
    let mut many = JoinSet::new();
    for number in 0..1_100 {
        let store = world.store().clone();
        many.spawn(async move { store.finished(&format!("site {number}"), 0).await.id });
    }
    builds.extend(many.join_all().await);
    world.advance(seconds(1));
    let nothing = BuildRetention { max_age: Some(Duration::ZERO), max_bytes: None };
    let (gone, calls) = prune(world.store(), nothing).await;
    assert_eq!(gone.len(), builds.len());
    assert_eq!(gone[..4], builds[..4]);
    assert_eq!(calls, 4, "two with the long logs, two with the many builds");
}

/// Whatever the retention, whether or not they had ended.
pub(crate) async fn the_builds_of_a_deleted_project_are_removed(world: impl World) {
    let kept = world.store().finished("kept", 1).await;
    let finished = world.store().finished("site", 1).await;
    let running = world.store().running("site").await;
    world.store().delete_project(&project("site"), &"ana".parse().unwrap()).await.unwrap();
    assert_eq!(prune(world.store(), BuildRetention::default()).await.0, [finished.id, running.id]);
    assert_eq!(world.store().all_builds().await, [kept.id]);
}
