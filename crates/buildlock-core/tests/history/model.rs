//! Watches a project's lock without knowing core's code. What it knows it has from the commands, the
//! events and the answers; from that it tells who must hold, who must wait, and what the answer to a
//! command must be.

use std::collections::{HashMap, VecDeque};

use buildlock_core::{
    Busy, CLAIM_WITHIN, Command, Decision, Ended, Event, EventKind, How, IfLocked, Lease, LockRequest, Outcome,
    PastLease, Place, Refusal, RequestId, TICKET_LIFE, Ticket, TicketChange, TicketNumber, Timestamp, Token,
};

use super::step::PROJECTS;
use crate::support::Store;

/// Whether the rules hold; else the one that is broken.
pub(crate) type Check = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($rule:tt)*) => {
        if !$holds { return Err(format!($($rule)*)); }
    };
}
pub(crate) use ensure;

#[derive(Default)]
pub(crate) struct Model {
    projects: [Known; PROJECTS],
    newest_token: Option<Token>,
}

/// What is known of one project.
#[derive(Default)]
struct Known {
    lease: Option<Lease>,
    waiting: VecDeque<Waiter>,
    /// The tickets as a store has written them down.
    rows: Vec<Ticket>,
    /// Every request that was ever granted, and its token.
    granted: HashMap<RequestId, Token>,
    ended: HashMap<Token, PastLease>,
    last_event_at: Timestamp,
}

struct Waiter {
    request: LockRequest,
    queued_at: Timestamp,
    last_word: Timestamp,
}

impl Waiter {
    fn dies_at(&self) -> Timestamp {
        self.last_word.after(TICKET_LIFE)
    }
}

fn ends_at(lease: &Lease) -> Timestamp {
    lease.claim_by.map_or(lease.expires_at, |claim_by| lease.expires_at.min(claim_by))
}

impl Model {
    /// Learns from a decision, and checks everything about it.
    pub(crate) fn learn(
        &mut self,
        project: usize,
        store: &Store,
        first_token: Token,
        command: &Command,
        decision: &Decision,
    ) -> Check {
        let now = store.now;
        for event in &decision.events {
            self.newest_token = self.projects[project].replay(event, self.newest_token, command, now)?;
        }
        let known = &mut self.projects[project];
        known.check_that_nothing_is_due(now)?;
        known.replay_rows(&decision.tickets)?;

        let grants = decision.events.iter().filter(|event| event.kind == EventKind::Granted).count();
        let used = self.newest_token.filter(|_| grants > 0);
        ensure!(used.is_none_or(|token| token >= first_token), "rule 2: a token that may have been granted elsewhere");
        ensure!(
            used.map_or(decision.next_token == first_token, |token| decision.next_token > token),
            "rule 2: {grants} grants, and the next token is {} after {first_token}",
            decision.next_token
        );

        let was_forced = decision.events.iter().any(|event| event.kind == EventKind::ForceUnlocked);
        let ticket = |request| store.projects[project].queue.find(request).map(|(ticket, _)| ticket.number);
        let (rule, expected) = known.answer(command, now, was_forced, ticket)?;
        ensure!(
            decision.outcome == expected,
            "{rule}: the answer must be: {}\n  it is {:?}\n  not   {expected:?}",
            super::line::outcome(&expected),
            decision.outcome
        );
        self.check_state(project, store)
    }

    /// Who waits for a project, first in line first.
    pub(crate) fn waiting(&self, project: usize) -> Vec<LockRequest> {
        self.projects[project].waiting.iter().map(|waiter| waiter.request.clone()).collect()
    }

    /// When time alone will change the project, soonest first.
    pub(crate) fn due(&self, project: usize) -> impl Iterator<Item = Timestamp> {
        let known = &self.projects[project];
        let mut due: Vec<_> =
            known.waiting.iter().map(Waiter::dies_at).chain(known.lease.as_ref().map(ends_at)).collect();
        due.sort();
        due.into_iter()
    }

    /// The project is what its events and answers say, and so are the tickets as written down; it
    /// is looked after in time.
    pub(crate) fn check_state(&self, project: usize, store: &Store) -> Check {
        let (state, known) = (&store.projects[project], &self.projects[project]);
        ensure!(
            state.lease == known.lease,
            "rule 11: the lease is not what the events say:\n  it is {:?}\n  not   {:?}",
            state.lease,
            known.lease
        );
        ensure!(
            state
                .queue
                .iter()
                .map(|ticket| (&ticket.request, ticket.queued_at, ticket.alive_until))
                .eq(known.waiting.iter().map(|waiter| (&waiter.request, waiter.queued_at, waiter.dies_at()))),
            "rule 11: the queue is not what the events say"
        );
        ensure!(state.queue.iter().eq(&known.rows), "a store that writes the changes down has another queue");
        let (due, planned) = (self.due(project).next(), state.next_deadline());
        ensure!(
            due.is_some() == planned.is_some() && planned <= due,
            "rule 8: {due:?} ms is due, and {planned:?} ms is planned",
            due = due.map(Timestamp::as_millis),
            planned = planned.map(Timestamp::as_millis)
        );
        ensure!(
            planned.is_none_or(|planned| planned > store.now) || due <= Some(store.now),
            "rule 8: what is planned is over: the store would look again and again"
        );
        Ok(())
    }
}

impl Known {
    /// Replays one event, which must be possible, due or asked for, and told in full.
    fn replay(
        &mut self,
        event: &Event,
        newest_token: Option<Token>,
        command: &Command,
        now: Timestamp,
    ) -> Result<Option<Token>, String> {
        let kind = event.kind.as_str();
        let Some(id) = event.request else { return Err(format!("rule 11: {kind} is no event of a request")) };
        let mut newest_token = newest_token;
        let expected = match event.kind {
            EventKind::Queued => {
                let Command::Lock { request, if_locked: IfLocked::Queue } = command else {
                    return Err("rule 5: a ticket that nobody asked for".to_owned());
                };
                ensure!(self.lease.is_some(), "rule 5: a ticket for a free project");
                ensure!(!self.granted.contains_key(&id), "rule 4: a request that was granted waits again");
                ensure!(self.position(id).is_none(), "rule 4: a second ticket for a request");
                self.waiting.push_back(Waiter { request: request.clone(), queued_at: now, last_word: now });
                of_request(event.kind, request, now)
            }
            EventKind::Left | EventKind::Dropped => {
                let index = self.position(id).ok_or_else(|| format!("rule 11: {kind}, without a ticket"))?;
                let waiter = self.waiting.remove(index).ok_or("it was just found")?;
                let is_asked = matches!(command, Command::Withdraw { request } if *request == id);
                let is_dead = waiter.dies_at() <= now;
                ensure!(
                    is_dead == (event.kind == EventKind::Dropped),
                    "rule 7: {kind}, though the ticket lives until {} ms",
                    waiter.dies_at().as_millis()
                );
                ensure!(is_dead || is_asked, "rule 6: a waiter loses its place");
                of_request(event.kind, &waiter.request, now)
            }
            EventKind::Granted => {
                let token = event.token.ok_or("rule 2: a grant without a token")?;
                ensure!(self.lease.is_none(), "rule 1: a grant while a lease lives");
                ensure!(newest_token.is_none_or(|newest| token > newest), "rule 2: the token is not larger");
                ensure!(self.granted.insert(id, token).is_none(), "rule 4: a second grant for a request");
                newest_token = Some(token);
                let (request, claim_by) = match (self.waiting.pop_front(), command) {
                    (Some(first), _) => {
                        ensure!(first.request.id == id, "rule 6: a grant past the first waiter");
                        ensure!(first.dies_at() > now, "rule 7: a grant to a dead waiter");
                        (first.request, Some(now.after(CLAIM_WITHIN)))
                    }
                    (None, Command::Lock { request, .. }) => (request.clone(), None),
                    _ => return Err("a grant that nobody asked for".to_owned()),
                };
                self.lease = Some(granted(token, &request, now, claim_by));
                Event { token: Some(token), ..of_request(event.kind, &request, now) }
            }
            kind => {
                let lease = self.lease.take().ok_or("rule 11: the end of a lease, without a lease")?;
                let ended = end(&lease, kind, command, now)?;
                let expected = Event {
                    at: ended.at,
                    kind,
                    holder: lease.holder.clone(),
                    request: Some(lease.request),
                    token: Some(lease.token),
                    operation: Some(lease.operation.clone()),
                    message: None,
                    by: ended.by.clone(),
                    reason: ended.reason.clone(),
                };
                let Lease { token, request, holder, .. } = lease;
                self.ended.insert(token, PastLease { token, request, holder, ended });
                expected
            }
        };
        ensure!(
            *event == expected,
            "rule 11: the event must be told in full:\n  it is {event:?}\n  not   {expected:?}"
        );
        ensure!(event.at >= self.last_event_at, "rule 11: history runs backwards");
        self.last_event_at = event.at;
        Ok(newest_token)
    }

    /// What time alone does has been done, whatever the command was.
    fn check_that_nothing_is_due(&self, now: Timestamp) -> Check {
        ensure!(self.lease.as_ref().is_none_or(|lease| ends_at(lease) > now), "rule 8: a lease is left that is over");
        ensure!(self.waiting.iter().all(|waiter| waiter.dies_at() > now), "rule 7: a ticket is left that is dead");
        ensure!(self.lease.is_some() || self.waiting.is_empty(), "rule 6: somebody waits for a free project");
        Ok(())
    }

    /// Does what a store does with its table of tickets.
    fn replay_rows(&mut self, changes: &[TicketChange]) -> Check {
        for change in changes {
            match change {
                TicketChange::Taken(ticket) => {
                    ensure!(
                        self.rows.last().is_none_or(|last| last.number < ticket.number),
                        "rule 6: a ticket's number is not larger than those before it"
                    );
                    self.rows.push(ticket.clone());
                }
                TicketChange::Touched(number, alive_until) => {
                    let row = self.rows.iter_mut().find(|row| row.number == *number);
                    row.ok_or("a ticket is kept in touch with that is not there")?.alive_until = *alive_until;
                }
                TicketChange::Gone(number) => {
                    let row = self.rows.iter().position(|row| row.number == *number);
                    self.rows.remove(row.ok_or("a ticket is gone that was not there")?);
                }
            }
        }
        Ok(())
    }

    /// What must be answered to a command, and the rule that says so. Learns what only answers tell:
    /// renewals, claims, and waiters that keep in touch.
    fn answer(
        &mut self,
        command: &Command,
        now: Timestamp,
        was_forced: bool,
        ticket: impl Fn(RequestId) -> Option<TicketNumber>,
    ) -> Result<(&'static str, Outcome), String> {
        match command {
            Command::Settle => Ok(("rule 8", Outcome::Done)),
            Command::Withdraw { request } => {
                let holds = self.lease.as_ref().is_some_and(|lease| lease.request == *request);
                ensure!(!holds && self.position(*request).is_none(), "a request is served that was taken back");
                Ok(("a request that was taken back", Outcome::Done))
            }
            Command::Lock { request, .. } => self.answer_to_lock(request, now, ticket),
            Command::Verify { token } => self.answer_about(*token, |lease| Ok(Some(lease.clone()))),
            Command::Renew { token, holder, ttl } => self.answer_about(*token, |lease| {
                if lease.holder != *holder {
                    return Ok(None);
                }
                lease.claim_by = None;
                lease.expires_at = now.after(ttl.unwrap_or(lease.ttl).get());
                Ok(Some(lease.clone()))
            }),
            Command::Unlock { token, holder } => match self.ended.get(token) {
                Some(past) if past.ended.how == How::Unlocked && past.holder == *holder => {
                    Ok(("rule 3: unlocked, once or again", Outcome::Ended(past.clone())))
                }
                _ => self.answer_about(*token, |lease| {
                    ensure!(lease.holder != *holder, "rule 3: the holder's unlock did not end its lease");
                    Ok(None)
                }),
            },
            Command::ForceUnlock { token, .. } => match self.ended.get(token) {
                Some(past) if was_forced => Ok(("rule 9: force unlocked", Outcome::Ended(past.clone()))),
                _ => self.answer_about(*token, |_| Err("rule 9: a force unlock did not end the lease".to_owned())),
            },
        }
    }

    fn answer_to_lock(
        &mut self,
        request: &LockRequest,
        now: Timestamp,
        ticket: impl Fn(RequestId) -> Option<TicketNumber>,
    ) -> Result<(&'static str, Outcome), String> {
        if let Some(lease) = self.lease.as_mut().filter(|lease| lease.request == request.id) {
            let first = (&lease.holder, &lease.operation, &lease.message, lease.ttl);
            if first != (&request.holder, &request.operation, &request.message, request.ttl) {
                return Ok(("rule 4: other content", Outcome::refused(Refusal::RequestReused)));
            }
            if lease.claim_by.take().is_some() {
                lease.expires_at = now.after(lease.ttl.get());
            }
            return Ok(("rule 4: the same lease", Outcome::Held(lease.clone())));
        }
        if let Some(past) = self.granted.get(&request.id).and_then(|token| self.ended.get(token)) {
            let lost = Refusal::Lost { lease: past.clone(), now: self.busy() };
            return Ok(("rule 4: never a second grant", Outcome::refused(lost)));
        }
        let busy = self.busy().ok_or("rule 5: a free project is not granted")?;
        let Some(index) = self.position(request.id) else {
            return Ok(("rule 5: locked", Outcome::refused(Refusal::Locked(busy))));
        };
        if self.waiting[index].request != *request {
            return Ok(("rule 4: other content", Outcome::refused(Refusal::RequestReused)));
        }
        self.waiting[index].last_word = now;
        let ticket = ticket(request.id).ok_or("rule 6: a waiter lost its ticket")?;
        Ok(("rule 4: the same ticket", Outcome::Queued(Place { ticket, position: index + 1, busy })))
    }

    /// What must be answered about a token. If it is current, `current` says what; nothing if the
    /// lease is not the asker's.
    fn answer_about(
        &mut self,
        token: Token,
        current: impl FnOnce(&mut Lease) -> Result<Option<Lease>, String>,
    ) -> Result<(&'static str, Outcome), String> {
        if let Some(past) = self.ended.get(&token) {
            let lost = Refusal::Lost { lease: past.clone(), now: self.busy() };
            return Ok(("rule 3: an ended lease never comes back", Outcome::refused(lost)));
        }
        let Some(lease) = self.lease.as_mut().filter(|lease| lease.token == token) else {
            let never = Refusal::NeverGranted { token, now: self.busy() };
            return Ok(("rule 3: a token of no lease here", Outcome::refused(never)));
        };
        if let Some(held) = current(lease)? {
            return Ok(("rule 2: a current token", Outcome::Held(held)));
        }
        let busy = Busy { lease: lease.clone(), queue_length: self.waiting.len() };
        Ok(("somebody else's lease", Outcome::refused(Refusal::NotHolder(busy))))
    }

    fn busy(&self) -> Option<Busy> {
        Some(Busy { lease: self.lease.clone()?, queue_length: self.waiting.len() })
    }

    fn position(&self, request: RequestId) -> Option<usize> {
        self.waiting.iter().position(|waiter| waiter.request.id == request)
    }
}

fn of_request(kind: EventKind, request: &LockRequest, at: Timestamp) -> Event {
    Event {
        at,
        kind,
        holder: request.holder.clone(),
        request: Some(request.id),
        token: None,
        operation: Some(request.operation.clone()),
        message: Some(request.message.clone()),
        by: None,
        reason: None,
    }
}

fn granted(token: Token, request: &LockRequest, now: Timestamp, claim_by: Option<Timestamp>) -> Lease {
    Lease {
        token,
        request: request.id,
        holder: request.holder.clone(),
        operation: request.operation.clone(),
        message: request.message.clone(),
        ttl: request.ttl,
        acquired_at: now,
        expires_at: now.after(request.ttl.get()),
        claim_by,
    }
}

/// How a lease ends, if it may end so.
fn end(lease: &Lease, kind: EventKind, command: &Command, now: Timestamp) -> Result<Ended, String> {
    let how = kind.end().ok_or_else(|| format!("core never writes {}", kind.as_str()))?;
    let (over_at, is_over) = (ends_at(lease), ends_at(lease) <= now);
    let (at, by, reason) = match (how, command) {
        (How::Expired | How::Unclaimed, _) => {
            ensure!(is_over, "rule 10: a lease is cut short: it lasts until {} ms", over_at.as_millis());
            ensure!((how == How::Unclaimed) == lease.claim_by.is_some(), "rule 7: told to be {}", kind.as_str());
            (over_at, None, None)
        }
        _ if is_over => return Err(format!("rule 8: {} at {} ms, but it was over", kind.as_str(), now.as_millis())),
        (How::Unlocked, Command::Unlock { token, holder }) if *token == lease.token => {
            ensure!(*holder == lease.holder, "{holder} unlocked somebody else's lease");
            (now, Some(holder.clone()), None)
        }
        (How::Unlocked, Command::Withdraw { request }) if *request == lease.request => {
            (now, Some(lease.holder.clone()), None)
        }
        (How::ForceUnlocked, Command::ForceUnlock { token, by, reason }) if *token == lease.token => {
            (now, Some(by.clone()), Some(reason.clone()))
        }
        _ => return Err(format!("rule 9: {} {}, which nobody asked for", kind.as_str(), lease.token)),
    };
    Ok(Ended { how, at, by, reason })
}
