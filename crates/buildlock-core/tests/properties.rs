//! Random histories of the lock: many actors, requests repeated and answers lost, clocks that jump
//! to deadlines and past them. A model that knows nothing of the core's code watches every step; a
//! history that breaks a rule is shrunk to the shortest one and printed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use buildlock_core::{
    CLAIM_WITHIN, Command, Context, Decision, Event, EventKind, Holder, How, IfLocked, LeaseDeadline, LockRequest,
    Outcome, PastKey, PastLease, Project, Queue, Reason, Refusal, RequestId, TICKET_LIFE, Timestamp, Token, Ttl,
};
use proptest::prelude::*;
use uuid::Uuid;

const PROJECTS: usize = 2;
const REQUESTS: u8 = 10;

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    Lock {
        project: usize,
        request: u8,
        if_locked: IfLocked,
        other_content: bool,
    },
    Withdraw {
        project: usize,
        request: u8,
    },
    Renew {
        project: usize,
        token: Pick,
        by_holder: bool,
        ttl_s: Option<u64>,
    },
    Verify {
        project: usize,
        token: Pick,
    },
    Unlock {
        project: usize,
        token: Pick,
        by_holder: bool,
    },
    ForceUnlock {
        project: usize,
        token: Pick,
    },
    Settle {
        project: usize,
    },
    /// The store loads the project anew.
    Reload {
        project: usize,
    },
    Pass {
        ms: u64,
    },
    /// Time passes until this long before or after something is due.
    PassToDeadline {
        project: usize,
        offset_ms: i64,
    },
}

/// Which token an actor sends.
#[derive(Debug, Clone, Copy)]
enum Pick {
    Current,
    /// One that was granted earlier, in any project.
    Older(u64),
    Unknown,
}

fn step() -> impl Strategy<Value = Step> {
    let project = 0..PROJECTS;
    let request = 0..REQUESTS;
    let token =
        || prop_oneof![4 => Just(Pick::Current), 2 => (1..8_u64).prop_map(Pick::Older), 1 => Just(Pick::Unknown)];
    let if_locked = prop_oneof![1 => Just(IfLocked::Refuse), 3 => Just(IfLocked::Queue)];
    let is_rare = || prop::bool::weighted(0.1);
    prop_oneof![
        12 => (project.clone(), request.clone(), if_locked, is_rare())
            .prop_map(|(project, request, if_locked, other_content)| Step::Lock { project, request, if_locked, other_content }),
        2 => (project.clone(), request).prop_map(|(project, request)| Step::Withdraw { project, request }),
        3 => (project.clone(), token(), is_rare(), prop::option::of(1..20_u64))
            .prop_map(|(project, token, other, ttl_s)| Step::Renew { project, token, by_holder: !other, ttl_s }),
        2 => (project.clone(), token()).prop_map(|(project, token)| Step::Verify { project, token }),
        4 => (project.clone(), token(), is_rare())
            .prop_map(|(project, token, other)| Step::Unlock { project, token, by_holder: !other }),
        1 => (project.clone(), token()).prop_map(|(project, token)| Step::ForceUnlock { project, token }),
        1 => project.clone().prop_map(|project| Step::Settle { project }),
        1 => project.clone().prop_map(|project| Step::Reload { project }),
        3 => (0..4_000_u64).prop_map(|ms| Step::Pass { ms }),
        4 => (project, -1..=1_i64).prop_map(|(project, offset_ms)| Step::PassToDeadline { project, offset_ms }),
    ]
}

/// What the model knows of one project.
#[derive(Default)]
struct Known {
    lease: Option<KnownLease>,
    /// Requests that wait, each with when its waiter last kept in touch.
    queue: VecDeque<(RequestId, Timestamp)>,
    ended: HashMap<Token, How>,
    granted: HashSet<RequestId>,
}

struct KnownLease {
    token: Token,
    request: RequestId,
    ttl: Duration,
    ends_at: Timestamp,
    claimed: bool,
}

/// A store of the simplest kind, the model, and the history so far.
struct World {
    now: Timestamp,
    next_token: Token,
    projects: [Project; PROJECTS],
    past: HashMap<(usize, Token), PastLease>,
    granted: HashMap<(usize, RequestId), Token>,
    known: [Known; PROJECTS],
    last_granted: Option<Token>,
    history: Vec<String>,
}

type Check = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($rule:tt)*) => {
        if !$holds { return Err(format!($($rule)*)); }
    };
}

fn request(number: u8, other_content: bool) -> LockRequest {
    LockRequest {
        id: RequestId::from(Uuid::from_u128(u128::from(number) + 1)),
        holder: holder(number % 4),
        operation: if other_content { "other" } else { "edit" }.parse().unwrap(),
        message: Default::default(),
        ttl: Ttl::new(Duration::from_secs(1 + u64::from(number % 3) * 4)).unwrap(),
    }
}

fn holder(number: u8) -> Holder {
    ["ana", "ben", "cyd", "dan"][usize::from(number)].parse().unwrap()
}

impl World {
    fn new() -> Self {
        Self {
            now: Timestamp::from_millis(1_000_000),
            next_token: Token::FIRST,
            projects: Default::default(),
            past: HashMap::new(),
            granted: HashMap::new(),
            known: Default::default(),
            last_granted: None,
            history: Vec::new(),
        }
    }

    fn take(&mut self, step: &Step) -> Check {
        match *step {
            Step::Pass { ms } => self.now = self.now.after(Duration::from_millis(ms)),
            Step::PassToDeadline { project, offset_ms } => {
                let deadline = self.projects[project].next_deadline().unwrap_or(self.now);
                let time = deadline.as_millis().saturating_add_signed(offset_ms);
                self.now = self.now.max(Timestamp::from_millis(time));
            }
            Step::Reload { project } => {
                let Project { lease, queue } = &self.projects[project];
                let queue = Queue::from_tickets(queue.iter().cloned());
                self.projects[project] = Project { lease: lease.clone(), queue };
            }
            Step::Lock { project, request: number, if_locked, other_content } => {
                let request = request(number, other_content);
                self.decide(project, Command::Lock { request, if_locked })?;
            }
            Step::Withdraw { project, request: number } => {
                self.decide(project, Command::Withdraw { request: request(number, false).id })?;
            }
            Step::Renew { project, token, by_holder, ttl_s } => {
                let ttl = ttl_s.map(|seconds| Ttl::new(Duration::from_secs(seconds)).unwrap());
                let (token, holder) = (self.pick(project, token), self.actor(project, by_holder));
                self.decide(project, Command::Renew { token, holder, ttl })?;
            }
            Step::Verify { project, token } => {
                let token = self.pick(project, token);
                self.decide(project, Command::Verify { token })?;
            }
            Step::Unlock { project, token, by_holder } => {
                let (token, holder) = (self.pick(project, token), self.actor(project, by_holder));
                self.decide(project, Command::Unlock { token, holder })?;
            }
            Step::ForceUnlock { project, token } => {
                let token = self.pick(project, token);
                let (by, reason): (Holder, Reason) = ("ops".parse().unwrap(), "stuck".parse().unwrap());
                self.decide(project, Command::ForceUnlock { token, by, reason })?;
            }
            Step::Settle { project } => self.decide(project, Command::Settle)?,
        }
        Ok(())
    }

    fn pick(&self, project: usize, pick: Pick) -> Token {
        let back = |steps| Token::new(self.next_token.get().saturating_sub(steps).max(1)).unwrap();
        match pick {
            Pick::Current => self.projects[project].lease.as_ref().map_or(back(1), |lease| lease.token),
            Pick::Older(steps) => back(steps),
            Pick::Unknown => Token::new(self.next_token.get() + 1_000).unwrap(),
        }
    }

    fn actor(&self, project: usize, is_holder: bool) -> Holder {
        match &self.projects[project].lease {
            Some(lease) if is_holder => lease.holder.clone(),
            _ => "mallory".parse().unwrap(),
        }
    }

    fn decide(&mut self, project: usize, command: Command) -> Check {
        let past = match self.projects[project].past_key(&command) {
            Some(PastKey::Token(token)) => self.past.get(&(project, token)),
            Some(PastKey::Request(request)) => {
                self.granted.get(&(project, request)).and_then(|token| self.past.get(&(project, *token)))
            }
            None => None,
        };
        let context = Context { now: self.now, next_token: self.next_token, past };
        let decision = self.projects[project].decide(&command, context);
        self.next_token = decision.next_token;
        self.history.push(line(self.now, project, &command, &decision));
        for event in &decision.events {
            self.watch(project, &command, event)?;
            self.remember(project, event);
        }
        self.check_state(project)?;
        self.check_outcome(project, &command, &decision.outcome)
    }

    /// What a store keeps of an event.
    fn remember(&mut self, project: usize, event: &Event) {
        let (Some(token), Some(request)) = (event.token, event.request) else { return };
        if event.kind == EventKind::Granted {
            self.granted.insert((project, request), token);
        } else if let Some(how) = event.kind.end() {
            let ended = buildlock_core::Ended { how, at: event.at, by: event.by.clone(), reason: event.reason.clone() };
            self.past.insert((project, token), PastLease { token, request, holder: event.holder.clone(), ended });
        }
    }

    /// Checks one event against what the model knows, and learns from it.
    fn watch(&mut self, project: usize, command: &Command, event: &Event) -> Check {
        let (now, known) = (self.now, &mut self.known[project]);
        let Some(request) = event.request else { return Err("an event of a lock has a request".into()) };
        match event.kind {
            EventKind::Queued => {
                ensure!(known.lease.is_some(), "rule 5: nobody queues for a free project");
                ensure!(!known.granted.contains(&request), "rule 4: a granted request does not wait again");
                ensure!(known.queue.iter().all(|(id, _)| *id != request), "rule 4: one ticket for a request");
                known.queue.push_back((request, now));
            }
            EventKind::Left | EventKind::Dropped => {
                let Some(index) = known.queue.iter().position(|(id, _)| *id == request) else {
                    return Err("rule 11: a ticket ends that nobody took".into());
                };
                let (_, touched) = known.queue.remove(index).unwrap();
                let is_dead = now.since(touched) >= TICKET_LIFE;
                ensure!(
                    (event.kind == EventKind::Dropped) == is_dead,
                    "rule 7: a ticket lives as long as its waiter keeps in touch"
                );
            }
            EventKind::Granted => {
                let token = event.token.ok_or("rule 2: a grant has a token")?;
                ensure!(known.lease.is_none(), "rule 1: a grant while another lease lives");
                ensure!(self.last_granted.is_none_or(|last| token > last), "rule 2: tokens grow");
                ensure!(known.granted.insert(request), "rule 4: a second grant for a request");
                let waited = known.queue.front().is_some_and(|(first, _)| *first == request);
                ensure!(waited || known.queue.is_empty(), "rule 6: a grant past the first waiter");
                if let Some((_, touched)) = known.queue.pop_front() {
                    ensure!(now.since(touched) < TICKET_LIFE, "rule 7: a grant to a dead waiter");
                }
                self.last_granted = Some(token);
                let ttl = (0..REQUESTS)
                    .map(|number| self::request(number, false))
                    .find(|known| known.id == request)
                    .unwrap()
                    .ttl
                    .get();
                let ends_at = now.after(if waited { CLAIM_WITHIN.min(ttl) } else { ttl });
                known.lease = Some(KnownLease { token, request, ttl, ends_at, claimed: !waited });
            }
            kind => {
                let how = kind.end().ok_or("core writes no other events")?;
                let lease = known.lease.take().ok_or("rule 11: an end without a lease")?;
                ensure!(event.token == Some(lease.token), "rule 11: the end of another lease");
                let is_over = now >= lease.ends_at;
                match how {
                    How::Expired | How::Unclaimed => {
                        ensure!(is_over && event.at == lease.ends_at, "rule 10: a lease lasts its TTL");
                        ensure!((how == How::Expired) == lease.claimed, "rule 7: what is not claimed is told so");
                    }
                    How::Unlocked => {
                        let is_his = match command {
                            Command::Unlock { token, .. } => *token == lease.token,
                            Command::Withdraw { request } => *request == lease.request,
                            _ => false,
                        };
                        ensure!(is_his && !is_over, "only a live lease's holder unlocks it");
                    }
                    How::ForceUnlocked => {
                        let named = matches!(command, Command::ForceUnlock { token, .. } if *token == lease.token);
                        ensure!(
                            named && event.by.is_some() && event.reason.is_some(),
                            "rule 9: on record, and by its token"
                        );
                    }
                    How::FreedByHand => return Err("core frees nothing by hand".into()),
                }
                known.ended.insert(lease.token, how);
            }
        }
        Ok(())
    }

    /// The project must be what its events say, and nothing that is due may be left.
    fn check_state(&self, project: usize) -> Check {
        let (state, known, now) = (&self.projects[project], &self.known[project], self.now);
        let tokens = (state.lease.as_ref().map(|lease| lease.token), known.lease.as_ref().map(|lease| lease.token));
        ensure!(tokens.0 == tokens.1, "rule 11: the lease is not what the events say");
        let waiting: Vec<_> = state.queue.iter().map(|ticket| ticket.request.id).collect();
        let expected: Vec<_> = known.queue.iter().map(|(request, _)| *request).collect();
        ensure!(waiting == expected, "rule 11: the queue is not what the events say");
        ensure!(state.lease.is_some() || waiting.is_empty(), "rule 6: a free project has waiters");
        ensure!(state.lease.as_ref().is_none_or(|lease| lease.is_live(now)), "rule 8: a lease is left that is over");
        Ok(())
    }

    fn check_outcome(&mut self, project: usize, command: &Command, outcome: &Outcome) -> Check {
        let (now, known) = (self.now, &mut self.known[project]);
        let asked = match command {
            Command::Lock { request, if_locked } => {
                return check_lock(known, now, request, *if_locked, outcome).and(self.check_deadline(project));
            }
            Command::Withdraw { request } => {
                let holds = known.lease.as_ref().is_some_and(|lease| lease.request == *request);
                let waits = known.queue.iter().any(|(waiting, _)| waiting == request);
                ensure!(!holds && !waits, "a request that was taken back is still served");
                return Ok(());
            }
            Command::Settle => return Ok(()),
            Command::Renew { token, .. } | Command::Verify { token } => (*token, false),
            Command::Unlock { token, .. } | Command::ForceUnlock { token, .. } => (*token, true),
        };
        let (token, ends_it) = asked;
        let ended = known.ended.get(&token).copied();
        match outcome {
            Outcome::Held(lease) => {
                let current = known.lease.as_mut().filter(|lease| lease.token == token && !ends_it);
                let Some(current) = current else { return Err("rule 3: an ended lease came back".into()) };
                if let Command::Renew { ttl, holder, .. } = command {
                    ensure!(*holder == lease.holder, "somebody else renewed the lease");
                    (current.claimed, current.ends_at) = (true, now.after(ttl.map_or(current.ttl, Ttl::get)));
                }
                ensure!(
                    lease.ends_at() == current.ends_at,
                    "rule 10: {:?} is not {:?}",
                    lease.ends_at(),
                    current.ends_at
                );
            }
            Outcome::Ended(lease) => {
                ensure!(
                    ends_it && lease.token == token && ended == Some(lease.ended.how),
                    "the answer to an end is its end"
                );
            }
            Outcome::Refused(refusal) => match &**refusal {
                Refusal::Lost { lease, now: holds } => {
                    ensure!(Some(lease.ended.how) == ended, "rule 3: lost, and how it ended: {ended:?}");
                    ensure!(
                        holds.as_ref().map(|busy| busy.lease.token) == known.lease.as_ref().map(|lease| lease.token),
                        "rule 3: who holds now"
                    );
                }
                Refusal::NotHolder(busy) => ensure!(busy.lease.token == token, "the lease is another's"),
                Refusal::NeverGranted { .. } => {
                    ensure!(
                        ended.is_none() && known.lease.as_ref().is_none_or(|lease| lease.token != token),
                        "the token was granted"
                    );
                }
                refusal => return Err(format!("no answer to this command: {refusal:?}")),
            },
            outcome => return Err(format!("no answer to this command: {outcome:?}")),
        }
        self.check_deadline(project)
    }

    /// A settle is due no later than the next thing that time changes; and by rule 14 a user that
    /// counts from before it sent its request is done before another can be granted.
    fn check_deadline(&self, project: usize) -> Check {
        let known = &self.known[project];
        let lease_ends = known.lease.as_ref().map(|lease| lease.ends_at);
        let tickets_end = known.queue.iter().map(|(_, touched)| touched.after(TICKET_LIFE));
        let due = tickets_end.chain(lease_ends).min();
        let planned = self.projects[project].next_deadline();
        ensure!(
            due.is_none_or(|due| planned.is_some_and(|planned| planned <= due)),
            "rule 8: {due:?} is due, {planned:?} is planned"
        );
        if let Some(lease) = &self.projects[project].lease {
            for delay_ms in [0, 1, 700] {
                let clock = Duration::from_millis(self.now.as_millis());
                let user =
                    LeaseDeadline::new(clock - Duration::from_millis(delay_ms), lease.expires_at.since(self.now));
                let store = Duration::from_millis(lease.expires_at.as_millis());
                ensure!(
                    user.stop_at() <= user.kill_at() && user.kill_at() < user.ends_at() && user.ends_at() <= store,
                    "rule 14"
                );
            }
        }
        Ok(())
    }
}

fn check_lock(
    known: &mut Known,
    now: Timestamp,
    request: &LockRequest,
    if_locked: IfLocked,
    outcome: &Outcome,
) -> Check {
    let position = known.queue.iter().position(|(id, _)| *id == request.id);
    match outcome {
        Outcome::Held(lease) => {
            let Some(current) = known.lease.as_mut().filter(|current| current.request == request.id) else {
                return Err("rule 1: told to hold what it does not".into());
            };
            if !current.claimed {
                (current.claimed, current.ends_at) = (true, now.after(current.ttl));
            }
            ensure!(lease.token == current.token && lease.ends_at() == current.ends_at, "rule 4: the same lease");
        }
        Outcome::Queued(place) => {
            let Some(index) = position else { return Err("rule 5: told to wait without a ticket".into()) };
            known.queue[index].1 = now;
            ensure!(
                place.position == index + 1 && place.busy.queue_length == known.queue.len(),
                "the place in the queue"
            );
        }
        Outcome::Refused(refusal) => match &**refusal {
            Refusal::Locked(busy) => {
                ensure!(if_locked == IfLocked::Refuse && position.is_none(), "rule 5: refused though it would wait");
                ensure!(known.lease.as_ref().is_some_and(|lease| lease.token == busy.lease.token), "rule 5: who holds");
            }
            Refusal::Lost { lease, .. } => {
                ensure!(
                    known.granted.contains(&request.id) && lease.request == request.id,
                    "rule 4: lost what it never had"
                );
                ensure!(known.ended.get(&lease.token) == Some(&lease.ended.how), "rule 3: how it ended");
            }
            Refusal::RequestReused => {
                let holds = known.lease.as_ref().is_some_and(|lease| lease.request == request.id);
                ensure!(holds || position.is_some(), "rule 4: reused what nobody uses");
            }
            refusal => return Err(format!("no answer to lock: {refusal:?}")),
        },
        outcome => return Err(format!("no answer to lock: {outcome:?}")),
    }
    Ok(())
}

/// One line of a history.
fn line(now: Timestamp, project: usize, command: &Command, decision: &Decision) -> String {
    let command = match command {
        Command::Lock { request, if_locked } => {
            format!("lock by {} for {} ({if_locked:?}, ttl {})", short(request.id), request.operation, request.ttl)
        }
        Command::Withdraw { request } => format!("withdraw {}", short(*request)),
        Command::Renew { token, holder, ttl } => format!("renew {token} by {holder} for {ttl:?}"),
        Command::Verify { token } => format!("verify {token}"),
        Command::Unlock { token, holder } => format!("unlock {token} by {holder}"),
        Command::ForceUnlock { token, .. } => format!("force unlock {token}"),
        Command::Settle => "settle".to_owned(),
    };
    let outcome = match &decision.outcome {
        Outcome::Held(lease) => format!("held {} until {}", lease.token, lease.ends_at().as_millis()),
        Outcome::Queued(place) => format!("queued as {}", place.position),
        Outcome::Ended(lease) => format!("ended {}", lease.token),
        Outcome::Done => "done".to_owned(),
        Outcome::Refused(refusal) => format!("{refusal:?}").split([' ', '(']).next().unwrap_or_default().to_owned(),
    };
    let events: Vec<_> = decision
        .events
        .iter()
        .map(|event| format!("{} {}", event.kind.as_str(), event.request.map(short).unwrap_or_default()))
        .collect();
    format!("{:>9}  project {project}: {command} -> {outcome}  [{}]", now.as_millis(), events.join(", "))
}

fn short(request: RequestId) -> String {
    format!("r{}", request.as_uuid().as_u128())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Rules 1 to 9, 11 and 14.
    #[test]
    fn every_history_keeps_every_rule(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            if let Err(broken) = world.take(step) {
                prop_assert!(false, "{broken}\n\n{}\n", world.history.join("\n"));
            }
        }
    }
}
