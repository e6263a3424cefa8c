//! Living through a history, side by side.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::time::{Duration, Instant};

use buildlock::{Answer, Command, EventId, Holder, Lease, Outcome, ProjectId, Refusal, Timestamp, Token};

use super::model::Model;
use super::party::{Party, by_project};
use super::steps::{Step, Which, holder, project};
use super::tokens::{HasTokens, Pairs};
use crate::support::clock::TestClock;
use crate::support::replay::Replay;

/// A token that no store grants in a test.
const NEVER: u64 = (1 << 53) - 1;

/// Longer than any lease.
const REST: Duration = Duration::from_secs(25 * 60 * 60);

/// Those who live through histories, and their clock.
pub(crate) struct World {
    pub(crate) clock: TestClock,
    pub(crate) parties: Vec<Box<dyn Party>>,
    /// Whether all that is due is done whenever time has gone on, as a server does by itself. Else much is done
    /// by the command that comes next.
    pub(crate) settles_at_once: bool,
    pub(crate) now: Timestamp,
}

/// What was lived through.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// How long each step took, by the clock.
    pub(crate) passed: Vec<Duration>,
    pub(crate) commands: usize,
    /// How often there was each outcome, and each kind of event.
    pub(crate) outcomes: BTreeMap<&'static str, usize>,
    pub(crate) events: BTreeMap<&'static str, usize>,
    /// How long each party took.
    pub(crate) took: BTreeMap<&'static str, Duration>,
    /// What was asked, and what the model answered.
    told: Vec<(ProjectId, Command, Answer)>,
}

impl Life {
    /// The life of both.
    pub(crate) fn and(mut self, other: Life) -> Life {
        self.commands += other.commands;
        other.outcomes.into_iter().for_each(|(name, times)| *self.outcomes.entry(name).or_default() += times);
        other.events.into_iter().for_each(|(name, times)| *self.events.entry(name).or_default() += times);
        other.took.into_iter().for_each(|(name, took)| *self.took.entry(name).or_default() += took);
        self
    }

    /// What was asked and answered, in words.
    pub(crate) fn story(&self) -> String {
        let told = self.told.iter().map(|(project, command, Answer { outcome, now })| {
            format!("{} ms, {project}: {command:?}\n    {outcome:?}\n", now.as_millis())
        });
        told.collect()
    }

    /// Whether everything that can come of a command, and every kind of event, came so often.
    pub(crate) fn has_seen_everything(&self, times: usize) -> bool {
        let (outcomes, events) = (self.outcomes.values(), self.events.values());
        // A queue of 20,000 and projects that are freed by hand have tests of their own.
        self.outcomes.len() == 10 && self.events.len() == 10 && outcomes.chain(events).all(|count| *count >= times)
    }
}

/// Where a store differs from the model.
#[derive(Debug)]
pub(crate) struct Difference {
    /// The step; past the last: what is left at the end.
    pub(crate) step: usize,
    pub(crate) project: usize,
    party: &'static str,
    what: String,
    expected: String,
    got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { party, what, expected, got, .. } = self;
        write!(f, "{what}\n  the model: {expected}\n  {party}: {got}")
    }
}

impl World {
    pub(crate) fn new(clock: TestClock, parties: Vec<Box<dyn Party>>, settles_at_once: bool) -> Self {
        let now = Timestamp::from_millis(buildlock::Clock::wall(&clock).as_millis() as u64);
        Self { clock, parties, settles_at_once, now }
    }

    /// Lives through a history, in projects that nobody else has.
    pub(crate) async fn live(
        &mut self,
        run: &str,
        projects: usize,
        steps: &[Step],
    ) -> Result<Life, (Box<Difference>, Life)> {
        let mut marks = Vec::new();
        for party in &self.parties {
            marks.push(party.events_after(EventId(0)).await.last().map_or(EventId(0), |last| last.id));
        }
        let mut living = Living {
            model: Model::new(self.now),
            projects: (0..projects).map(|number| project(run, number)).collect(),
            heard_of: vec![Vec::new(); projects],
            pairs: self.parties.iter().map(|_| Pairs::default()).collect(),
            marks,
            life: Life::default(),
            step: 0,
            world: self,
        };
        match living.all(steps).await {
            Ok(()) => Ok(living.life),
            Err(difference) => Err((difference, living.life)),
        }
    }
}

type Checked = Result<(), Box<Difference>>;

/// A history under way.
struct Living<'a> {
    world: &'a mut World,
    model: Model,
    projects: Vec<ProjectId>,
    /// The leases of each project that callers know, by the model's tokens.
    heard_of: Vec<Vec<(Token, Holder)>>,
    pairs: Vec<Pairs>,
    /// Each party's newest event before.
    marks: Vec<EventId>,
    life: Life,
    step: usize,
}

impl Living<'_> {
    async fn all(&mut self, steps: &[Step]) -> Checked {
        for step in steps {
            let before = self.world.now;
            self.live(step).await?;
            self.life.passed.push(self.world.now.since(before));
            self.step += 1;
        }
        self.pass(REST).await?;
        self.settle().await?;
        self.compare_histories().await
    }

    async fn live(&mut self, step: &Step) -> Checked {
        match step {
            Step::Pass(time) => self.pass(*time).await,
            Step::UntilDue(count, offset) => {
                let mut due: Vec<_> = self.projects.iter().filter_map(|project| self.model.due_at(project)).collect();
                due.sort();
                due.retain(|due_at| *due_at > self.world.now);
                let Some(due_at) = due.get(*count - 1).or(due.last()) else { return Ok(()) };
                let until = due_at.as_millis().saturating_add_signed(*offset);
                self.pass(Timestamp::from_millis(until).since(self.world.now)).await
            }
            Step::SettleDue => self.settle().await,
            Step::Batch(batch) => self.batch(batch).await,
            Step::Create(number, owner) => {
                let (project, owner) = (self.projects[*number].clone(), holder(*owner));
                let expected = self.model.create(&project, &owner);
                for index in 0..self.pairs.len() {
                    let got = self.world.parties[index].create(self.world.now, &project, &owner).await;
                    self.compare(index, *number, || format!("make {project} for {owner}"), &expected, &got)?;
                }
                Ok(())
            }
            Step::Delete(number, by) => {
                let (project, by) = (self.projects[*number].clone(), holder(*by));
                let expected = self.model.delete(&project, &by);
                for index in 0..self.pairs.len() {
                    let got = self.world.parties[index].delete(self.world.now, &project, &by).await;
                    self.compare_tokens(index, *number, || format!("delete {project}"), &expected, got)?;
                }
                Ok(())
            }
            Step::See(number) => {
                let project = self.projects[*number].clone();
                let expected = self.model.status(&project);
                for index in 0..self.pairs.len() {
                    let got = self.world.parties[index].status(self.world.now, &project).await;
                    self.compare_tokens(index, *number, || format!("see {project}"), &expected, got)?;
                    let got = self.world.parties[index].listed(self.world.now, &project).await;
                    self.compare_tokens(index, *number, || format!("{project} in the list"), &expected, got)?;
                }
                Ok(())
            }
        }
    }

    async fn pass(&mut self, time: Duration) -> Checked {
        self.world.clock.advance(time);
        self.world.now = self.world.now.after(time);
        self.model.now = self.world.now;
        if self.world.settles_at_once && time > Duration::ZERO { self.settle().await } else { Ok(()) }
    }

    async fn settle(&mut self) -> Checked {
        self.model.settle_due();
        let next = self.model.next_due().map(|due_at| due_at.since(self.world.now));
        for index in 0..self.pairs.len() {
            let party = &self.world.parties[index];
            let mut got = party.settle_due(self.world.now).await;
            while got == Some(Duration::ZERO) {
                got = party.settle_due(self.world.now).await;
            }
            // Stores know lazily what is due: sooner than need be, but never too late.
            if next.is_some() && got.is_none_or(|got| Some(got) > next) {
                self.compare(index, 0, || "the time until something is due".to_owned(), &next, &got)?;
            }
        }
        Ok(())
    }

    async fn batch(&mut self, batch: &[(usize, super::steps::Ask)]) -> Checked {
        let mut commands = Vec::new();
        for index in 0..self.pairs.len() {
            let pairs = &self.pairs[index];
            let of_store = batch.iter().map(|(number, ask)| {
                let command = ask.command(|which| {
                    let (token, holder) = self.lease(*number, which);
                    (pairs.of_store(token), holder)
                });
                (self.projects[*number].clone(), command)
            });
            commands.push(of_store.collect::<Vec<_>>());
        }
        let mut expected = Vec::new();
        for (number, ask) in batch {
            let command = ask.command(|which| self.lease(*number, which));
            let answer = self.model.apply(&self.projects[*number], &command);
            self.life.told.push((self.projects[*number].clone(), command.clone(), answer.clone()));
            expected.push((command, answer));
        }
        for (index, commands) in commands.iter().enumerate() {
            let start = Instant::now();
            let answers = self.world.parties[index].batch(self.world.now, commands).await;
            *self.life.took.entry(self.world.parties[index].name()).or_default() += start.elapsed();
            assert_eq!(answers.len(), batch.len(), "{}: one answer each", self.world.parties[index].name());
            for (((number, _), (command, expected)), got) in batch.iter().zip(&expected).zip(answers) {
                // A server that knows the answer need not ask its store for the time.
                let is_told = got.now != Timestamp::default();
                let project = &self.projects[*number].clone();
                let what = || format!("{command:?} of {project}");
                self.compare_tokens(index, *number, what, &expected.outcome, got.outcome)?;
                if is_told {
                    self.compare(index, *number, || format!("when: {}", what()), &expected.now, &got.now)?;
                }
            }
        }
        for ((number, _), (_, answer)) in batch.iter().zip(&expected) {
            *self.life.outcomes.entry(name(&answer.outcome)).or_default() += 1;
            for lease in leases(&answer.outcome) {
                let known = &mut self.heard_of[*number];
                if !known.iter().any(|(token, _)| *token == lease.token) {
                    known.push((lease.token, lease.holder.clone()));
                }
            }
        }
        self.life.commands += batch.len();
        Ok(())
    }

    /// The lease, by the model's token, and its holder.
    fn lease(&self, number: usize, which: Which) -> (Token, Holder) {
        let lease = match which {
            Which::Newest(back) => {
                let known = &self.heard_of[number];
                known.len().checked_sub(1 + back).or(known.len().checked_sub(1)).map(|place| &known[place])
            }
            Which::Of(other) => self.heard_of[other].last(),
            Which::Never => None,
        };
        lease.cloned().unwrap_or_else(|| (Token::new(NEVER).unwrap(), holder(0)))
    }

    async fn compare_histories(&mut self) -> Checked {
        for index in 0..self.pairs.len() {
            let party = &self.world.parties[index];
            let all = party.events_after(self.marks[index]).await;
            let mut replay = Replay::default();
            replay.feed(&all.iter().filter(|of| self.projects.contains(&of.project)).cloned().collect::<Vec<_>>());
            let mut events = by_project(all);
            for number in 0..self.projects.len() {
                let project = self.projects[number].clone();
                let expected = self.model.events.get(&project).cloned().unwrap_or_default();
                if index == 0 {
                    expected.iter().for_each(|event| *self.life.events.entry(event.kind.as_str()).or_default() += 1);
                }
                let got = events.remove(&project).unwrap_or_default();
                self.compare_tokens(index, number, || format!("the events of {project}"), &expected, got)?;

                let exists = self.model.status(&project).is_some();
                let of_this_life = if exists { replay.events_of(&project) } else { Vec::new() };
                let deleted = expected.iter().rposition(|event| event.kind == buildlock::EventKind::Deleted);
                let since = expected.len() - deleted.map_or(0, |place| place + 1);
                let newest: Vec<_> = of_this_life.into_iter().take(since).collect();
                for page in [3, 1_000] {
                    let got = self.world.parties[index].history(&project, page).await;
                    let got: Vec<_> = got.iter().map(|recorded| recorded.id).collect();
                    self.compare(index, number, || format!("the history of {project} by {page}"), &newest, &got)?;
                }
            }
        }
        Ok(())
    }

    fn compare_tokens<T: HasTokens + PartialEq + Debug>(
        &mut self,
        index: usize,
        number: usize,
        what: impl FnOnce() -> String,
        expected: &T,
        got: T,
    ) -> Checked {
        let got = self.pairs[index].translate(got, expected);
        self.compare(index, number, what, expected, &got)
    }

    fn compare<T: PartialEq + Debug>(
        &self,
        index: usize,
        number: usize,
        what: impl FnOnce() -> String,
        expected: &T,
        got: &T,
    ) -> Checked {
        if expected == got {
            return Ok(());
        }
        Err(Box::new(Difference {
            step: self.step,
            project: number,
            party: self.world.parties[index].name(),
            what: what(),
            expected: format!("{expected:?}"),
            got: format!("{got:?}"),
        }))
    }
}

/// The live leases that an outcome tells of.
pub(crate) fn leases(outcome: &Outcome) -> Vec<&Lease> {
    match outcome {
        Outcome::Held(lease) => vec![lease],
        Outcome::Queued(place) => vec![&place.busy.lease],
        Outcome::Ended(_) | Outcome::Done => Vec::new(),
        Outcome::Refused(refusal) => match refusal.as_ref() {
            Refusal::Locked(busy) | Refusal::QueueFull(busy) | Refusal::NotHolder(busy) => vec![&busy.lease],
            Refusal::Lost { now, .. } | Refusal::NeverGranted { now, .. } => {
                now.iter().map(|busy| &busy.lease).collect()
            }
            Refusal::RequestReused | Refusal::UnknownProject => Vec::new(),
        },
    }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Held(_) => "held",
        Outcome::Queued(_) => "queued",
        Outcome::Ended(_) => "ended",
        Outcome::Done => "done",
        Outcome::Refused(refusal) => match refusal.as_ref() {
            Refusal::Locked(_) => "locked",
            Refusal::QueueFull(_) => "queue full",
            Refusal::Lost { .. } => "lost",
            Refusal::NotHolder(_) => "not the holder",
            Refusal::NeverGranted { .. } => "never granted",
            Refusal::RequestReused => "request reused",
            Refusal::UnknownProject => "unknown project",
        },
    }
}
