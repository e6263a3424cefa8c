//! Random histories of the lock: many actors, requests repeated, answers late and lost, clocks that
//! stop just before, at and after what is due. A model that knows nothing of core's code watches
//! every decision; a history that breaks a rule is shrunk and printed.

mod history;
mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

use history::step::{Step, steps};
use history::world::World;

/// Where histories are kept that broke a rule, to be tried first from then on.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/properties.regressions");

fn config(cases: u32) -> ProptestConfig {
    let failure_persistence = Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS)) as _);
    ProptestConfig { cases, failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1_500))]

    /// Rules 1 to 9, 11 and 14.
    #[test]
    fn every_history_keeps_every_rule(steps in steps()) {
        if let Err(broken) = World::run(&steps) {
            prop_assert!(false, "{broken}");
        }
    }
}

proptest! {
    #![proptest_config(config(700))]

    /// Stores forget projects and load them anew: that must make no difference.
    #[test]
    fn a_project_that_is_loaded_anew_decides_as_if_it_had_stayed(steps in steps()) {
        let stayed: Vec<_> = steps.iter().filter(|step| !matches!(step, Step::Reload { .. })).cloned().collect();
        let (stayed, reloaded) = match (World::run(&stayed), World::run(&steps)) {
            (Ok(stayed), Ok(reloaded)) => (stayed.history, reloaded.history),
            (Err(broken), _) | (_, Err(broken)) => return Err(TestCaseError::fail(broken)),
        };
        let differs = stayed.iter().zip(&reloaded).position(|(stayed, reloaded)| stayed != reloaded);
        if let Some(index) = differs {
            let before = history::line::render(&stayed[..index]);
            prop_assert!(false, "\n{before}{}\n  but loaded anew:\n{}", stayed[index], reloaded[index]);
        }
    }
}

/// The histories are worth watching: they come to every answer and every event that the rules know,
/// save a full queue, and to queues of some length.
#[test]
fn the_histories_come_to_every_answer_and_every_event() {
    let mut runner = TestRunner::deterministic();
    let (mut answers, mut events) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..300 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let world = World::run(&steps).unwrap_or_else(|broken| panic!("{broken}"));
        for line in &world.history {
            answers.insert(history::line::outcome(&line.decision.outcome).split(' ').next().unwrap().to_owned());
            events.extend(line.decision.events.iter().map(|event| event.kind.as_str()));
        }
    }
    let expected = ["done", "ended", "held", "locked", "lost", "never", "not", "queued", "request"];
    assert!(answers.iter().eq(&expected), "{answers:?}");
    let expected = ["dropped", "expired", "force_unlocked", "granted", "left", "queued", "unclaimed", "unlocked"];
    assert!(events.iter().eq(&expected), "{events:?}");
}
