//! Makes steps happen in a store. Its actors know only what they were told: an actor whose answer
//! was lost goes on with an old token, or repeats a request whose fate it does not know.

use std::collections::HashMap;
use std::time::Duration;

use buildlock_core::{Command, Event, EventKind, IfLocked, LeaseDeadline, Outcome, Timestamp, Token, Ttl};

use super::line::{self, Line};
use super::model::{Check, Model, ensure};
use super::step::{Ask, PROJECTS, Pick, Step, Way, Which, holder, request};
use crate::support::Store;

/// A message that is on its way for no time, and whose answer arrives.
const AT_ONCE: Way = Way { delay_ms: 0, is_answer_lost: false };

pub(crate) struct World {
    store: Store,
    model: Model,
    /// How many requests each actor has made.
    requests: HashMap<usize, u32>,
    /// The last token that each actor was told in each project.
    told: HashMap<(usize, usize), Token>,
    /// The leases that somebody relies on, and until when.
    relied_on: HashMap<(usize, Token), LeaseDeadline>,
    pub(crate) history: Vec<Line>,
}

impl World {
    /// Lets a history happen.
    ///
    /// # Errors
    ///
    /// The rule that is broken, and the history up to there.
    pub(crate) fn run(steps: &[Step]) -> Result<World, String> {
        let mut world = World {
            store: Store::new(PROJECTS),
            model: Model::default(),
            requests: HashMap::new(),
            told: HashMap::new(),
            relied_on: HashMap::new(),
            history: Vec::new(),
        };
        for step in steps {
            if let Err(broken) = world.take(step) {
                return Err(format!("{broken}\n\n{}", line::render(&world.history)));
            }
        }
        Ok(world)
    }

    fn take(&mut self, step: &Step) -> Check {
        match *step {
            Step::Ask { actor, project, ask, way } => {
                let command = self.command(actor, project, ask);
                self.decide(actor, project, command, way)
            }
            Step::KeepInTouch { project } => {
                for request in self.model.waiting(project) {
                    let actor = line::actor(request.id);
                    self.decide(actor, project, Command::Lock { request, if_locked: IfLocked::Queue }, AT_ONCE)?;
                }
                Ok(())
            }
            Step::Settle { project } => self.decide(0, project, Command::Settle, AT_ONCE),
            Step::Reload { project } => {
                self.store.reload(project);
                self.model.check_state(project, &self.store)
            }
            Step::Pass { ms } => {
                self.store.pass(Duration::from_millis(ms));
                Ok(())
            }
            Step::PassTo { project, nth, offset_ms } => {
                if let Some(due) = self.model.due(project).nth(nth) {
                    let time = Timestamp::from_millis(due.as_millis().saturating_add_signed(offset_ms));
                    self.store.now = self.store.now.max(time);
                }
                Ok(())
            }
        }
    }

    fn command(&mut self, actor: usize, project: usize, ask: Ask) -> Command {
        match ask {
            Ask::Lock { which, if_locked, differs } => {
                Command::Lock { request: request(actor, self.which(actor, which), differs), if_locked }
            }
            Ask::Withdraw { which } => Command::Withdraw { request: request(actor, self.which(actor, which), None).id },
            Ask::Renew { token, ttl_s } => Command::Renew {
                token: self.pick(actor, project, token),
                holder: holder(actor),
                ttl: ttl_s.map(|seconds| Ttl::new(Duration::from_secs(seconds)).unwrap()),
            },
            Ask::Verify { token } => Command::Verify { token: self.pick(actor, project, token) },
            Ask::Unlock { token } => Command::Unlock { token: self.pick(actor, project, token), holder: holder(actor) },
            Ask::ForceUnlock { token } => Command::ForceUnlock {
                token: self.pick(actor, project, token),
                by: "ops".parse().unwrap(),
                reason: "stuck".parse().unwrap(),
            },
        }
    }

    fn which(&mut self, actor: usize, which: Which) -> u32 {
        let made = self.requests.entry(actor).or_insert(1);
        match which {
            Which::New => *made += 1,
            Which::Latest => {}
            Which::Earlier(back) => return made.saturating_sub(back).max(1),
        }
        *made
    }

    fn pick(&self, actor: usize, project: usize, pick: Pick) -> Token {
        let next = self.store.next_token.get();
        let current = || self.store.projects[project].lease.as_ref().map(|lease| lease.token);
        let number = match pick {
            Pick::Told => return self.told.get(&(actor, project)).copied().or_else(current).unwrap_or(Token::FIRST),
            Pick::Current => return current().unwrap_or(Token::FIRST),
            Pick::Earlier(back) => next.saturating_sub(back).max(1),
            Pick::Future(ahead) => next + ahead,
        };
        Token::new(number).unwrap()
    }

    fn decide(&mut self, actor: usize, project: usize, command: Command, way: Way) -> Check {
        let sent_at = Duration::from_millis(self.store.now.as_millis() - way.delay_ms);
        let first_token = self.store.next_token;
        let decision = self.store.decide(project, &command);
        let now = self.store.now;
        self.history.push(Line { now, actor, project, command: command.clone(), decision: decision.clone(), way });

        self.model.learn(project, &self.store, first_token, &command, &decision)?;
        for event in &decision.events {
            self.watch_users(project, event)?;
        }
        self.hears(actor, project, &command, &decision.outcome, sent_at, way);
        Ok(())
    }

    /// What the actor makes of the answer, or of its absence.
    fn hears(
        &mut self,
        actor: usize,
        project: usize,
        command: &Command,
        outcome: &Outcome,
        sent_at: Duration,
        way: Way,
    ) {
        let Outcome::Held(lease) = outcome else { return };
        let key = (project, lease.token);
        let asked_to_hold = match command {
            Command::Lock { .. } => None,
            Command::Renew { ttl, .. } => Some(ttl.unwrap_or(lease.ttl).get()),
            _ => return,
        };
        if !way.is_answer_lost {
            self.told.insert((actor, project), lease.token);
            self.relied_on.insert(key, LeaseDeadline::new(sent_at, lease.expires_at.since(self.store.now)));
        } else if let (Some(ttl), Some(known)) = (asked_to_hold, self.relied_on.get_mut(&key)) {
            // The renewal may have been taken. If it shortened the lease, the user must keep to that.
            let renewed = LeaseDeadline::new(sent_at, ttl);
            if renewed.ends_at() < known.ends_at() {
                *known = renewed;
            }
        }
    }

    /// Rule 14: by the time of a grant, the work under every earlier lease has been ended by force.
    /// Who unlocked has stopped before; a force unlock is the operator's risk, and why tokens fence.
    fn watch_users(&mut self, project: usize, event: &Event) -> Check {
        let Some(token) = event.token else { return Ok(()) };
        match event.kind {
            EventKind::Unlocked | EventKind::ForceUnlocked => {
                self.relied_on.remove(&(project, token));
            }
            EventKind::Granted => {
                let now = Duration::from_millis(event.at.as_millis());
                for ((_, earlier), user) in self.relied_on.extract_if(|(of, _), _| *of == project) {
                    ensure!(
                        user.stop_at() <= user.kill_at() && user.kill_at() < now && user.ends_at() <= now,
                        "rule 14: the user of {earlier} relies on it until {} ms",
                        user.ends_at().as_millis()
                    );
                }
            }
            _ => {}
        }
        Ok(())
    }
}
