//! Makes the history that shows a difference as short as possible.

use std::time::Duration;

use super::run::{Difference, Life, World};
use super::steps::{Author, Step};

/// How many histories are tried before the shortest so far will do.
const TRIES: usize = 500;

/// Makes up a history and lives through it. A difference fails the test, with the shortest history that shows it.
pub(crate) async fn check(world: &mut World, author: &mut Author, run: &str, projects: usize, commands: usize) -> Life {
    let steps = author.history(commands);
    match world.live(run, projects, &steps).await {
        Ok(life) => life,
        Err((difference, life)) => {
            println!("{difference}\n\nThis shows after {} steps. It is being made shorter.", difference.step);
            let (difference, life) = shortest(world, projects, &steps, difference, life).await;
            panic!("a store is not as the model:\n\n{}\n{difference}", life.story());
        }
    }
}

async fn shortest(
    world: &mut World,
    projects: usize,
    steps: &[Step],
    difference: Box<Difference>,
    life: Life,
) -> (Box<Difference>, Life) {
    let whole: Vec<Step> = steps.iter().take(difference.step + 1).cloned().collect();
    let alone = of_project(&whole, &life.passed, difference.project);
    let one_by_one = alone.iter().flat_map(unbatched).collect();
    let mut best = (difference, life);
    let mut shortest = whole;
    let mut tries = 0;
    for candidate in [alone, one_by_one] {
        tries += 1;
        if let Err(differs) = world.live(&format!("try {tries}"), projects, &candidate).await {
            (shortest, best) = (candidate, differs);
        }
    }
    let mut size = shortest.len().div_ceil(2);
    while size > 0 && tries < TRIES {
        let mut start = 0;
        while start < shortest.len() && tries < TRIES {
            let end = (start + size).min(shortest.len());
            let candidate: Vec<Step> = shortest[..start].iter().chain(&shortest[end..]).cloned().collect();
            tries += 1;
            match world.live(&format!("try {tries}"), projects, &candidate).await {
                Err(differs) => (shortest, best) = (candidate, differs),
                Ok(_) => start = end,
            }
        }
        size /= 2;
    }
    best
}

/// What concerns one project, with the time that passed for the others' sake.
fn of_project(steps: &[Step], passed: &[Duration], number: usize) -> Vec<Step> {
    let concerns = |(place, step): (usize, &Step)| match step {
        Step::Pass(_) | Step::UntilDue(..) => passed.get(place).map(|passed| Step::Pass(*passed)),
        Step::Batch(batch) => {
            let its: Vec<_> = batch.iter().filter(|(project, _)| *project == number).cloned().collect();
            (!its.is_empty()).then_some(Step::Batch(its))
        }
        Step::SettleDue => Some(Step::SettleDue),
        Step::Create(project, _) | Step::Delete(project, _) | Step::See(project) => {
            (*project == number).then(|| step.clone())
        }
    };
    steps.iter().enumerate().filter_map(concerns).collect()
}

/// The step, with one command to a batch.
fn unbatched(step: &Step) -> Vec<Step> {
    match step {
        Step::Batch(batch) => batch.iter().map(|asked| Step::Batch(vec![asked.clone()])).collect(),
        step => vec![step.clone()],
    }
}
