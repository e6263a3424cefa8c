//! Many at once: whatever they do, the history keeps the rules.

use std::sync::Arc;
use std::time::Duration;

use buildlock::{Command, EventId, EventKind, LockStore, News, Outcome, ProjectId, Refusal, Token};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::World;
use crate::support::ask::{Ask, project, request};
use crate::support::random::Random;
use crate::support::replay::Replay;

const TASKS: u64 = 64;
const ROUNDS: u64 = 12;

/// What a task was told.
#[derive(Default)]
struct Told {
    granted: Vec<(ProjectId, Token)>,
    ended: Vec<((ProjectId, Token), EventKind)>,
}

/// Rules 1, 2, 4, 6, 11 and 12.
pub(crate) async fn a_crowd_over_two_handles_never_breaks_the_rules(world: impl World) {
    let world = Arc::new(world);
    let handles = [Arc::clone(world.store()), world.another().await];
    let mut crowd = JoinSet::new();
    for number in 0..TASKS {
        let store = Arc::clone(&handles[number as usize % 2]);
        let advance = {
            let world = Arc::clone(&world);
            move |time| world.advance(time)
        };
        crowd.spawn(async move { one_of_the_crowd(&*store, advance, number).await });
    }
    let told = crowd.join_all().await;
    let mut replay = Replay::default();
    replay.feed(&world.store().all_events(EventId(0)).await);
    for one in &told {
        for lease in &one.granted {
            assert!(replay.granted.contains(lease), "rule 12: {lease:?} was acknowledged and is not on record");
        }
        for (lease, kind) in &one.ended {
            assert_eq!(replay.ended.get(lease), Some(kind), "rule 12: how {lease:?} ended");
        }
    }
    let granted: usize = told.iter().map(|one| one.granted.len()).sum();
    println!("{} events, {granted} grants told, {} on record", replay.events, replay.granted.len());
    assert!(granted > TASKS as usize * 2, "too few were granted for the check to mean anything");
    for project in replay.projects() {
        let chain = world.store().history(Some(&project), None, 1_000_000).await.unwrap();
        assert_eq!(chain.iter().map(|recorded| recorded.id).collect::<Vec<_>>(), replay.events_of(&project));
    }
}

async fn one_of_the_crowd(store: &dyn LockStore, advance: impl Fn(Duration), seed: u64) -> Told {
    let mut random = Random::new(seed);
    let mut told = Told::default();
    for _ in 0..ROUNDS {
        let site = format!("site {}", random.below(4));
        let request = request(&format!("task {seed}"));
        let turn = store.watch(&project(&site), News::Turn(request.id));
        let lease = loop {
            match store.queue(&site, &request).await {
                Outcome::Held(lease) => break Some(lease),
                Outcome::Queued(_) => {}
                // Handed over and not claimed in time, or forced: time goes fast here.
                Outcome::Refused(refusal) if matches!(*refusal, Refusal::Lost { .. }) => break None,
                outcome => panic!("{outcome:?}"),
            }
            // A waiter asks again when it hears, and once in a while.
            let _ = timeout(Duration::from_millis(50), turn.changed()).await;
            if random.below(20) == 0 {
                advance(Duration::from_secs(2));
                store.settle_due().await.unwrap();
            }
        };
        let Some(lease) = lease else { continue };
        let key = (project(&site), lease.token);
        told.granted.push(key.clone());
        let (outcome, kind) = match random.below(10) {
            // It is left to expire.
            0 => continue,
            1 => (store.force_unlock(&site, lease.token, "root", "stuck").await, EventKind::ForceUnlocked),
            2 => {
                store.withdraw(&site, request.id).await;
                continue;
            }
            3 | 4 => {
                store.renew(&site, &lease).await;
                (store.unlock(&site, &lease).await, EventKind::Unlocked)
            }
            _ => (store.unlock(&site, &lease).await, EventKind::Unlocked),
        };
        match outcome {
            Outcome::Ended(past) => {
                assert_eq!(past.token, lease.token);
                told.ended.push((key, kind));
            }
            outcome => assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}"),
        }
        store.ask(&site, Command::Verify { token: lease.token }).await;
    }
    told
}

/// Rules 1 and 5.
pub(crate) async fn of_many_who_come_at_once_one_is_granted(world: impl World) {
    let handles = [Arc::clone(world.store()), world.another().await];
    for round in 0..10 {
        let mut crowd = JoinSet::new();
        for number in 0..32 {
            let store = Arc::clone(&handles[number % 2]);
            crowd.spawn(async move { store.lock(&format!("site {round}"), &request(&format!("task {number}"))).await });
        }
        let outcomes = crowd.join_all().await;
        let granted = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Held(_))).count();
        assert_eq!(granted, 1);
        let is_locked = |outcome: &&Outcome| matches!(outcome, Outcome::Refused(refusal) if matches!(**refusal, Refusal::Locked(_)));
        assert_eq!(outcomes.iter().filter(is_locked).count(), 31);
    }
}
