//! One project's lock: its state, and every decision about it.

use crate::deadline::TICKET_LIFE;
use crate::{
    Busy, Command, Decision, Ended, Event, EventKind, Holder, How, IfLocked, Lease, LockRequest, Outcome, PastKey,
    PastLease, Place, QUEUE_LIMIT, Queue, Reason, Refusal, RequestId, TicketChange, TicketNumber, Timestamp, Token,
    Ttl,
};

/// What a decision depends on beside the project and the command.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The time by the store's clock.
    pub now: Timestamp,
    /// The token for the next grant: larger than all that the store granted before (rule 2).
    pub next_token: Token,
    /// The lease of the past that [`Project::past_key`] named, if the store knows it.
    pub past: Option<&'a PastLease>,
}

impl Context<'_> {
    /// A decision at `now` about nothing of the past.
    pub fn at(now: Timestamp, next_token: Token) -> Self {
        Self { now, next_token, past: None }
    }
}

/// The state of one project's lock.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// The lease. It may be over by now: the next decision ends it.
    pub lease: Option<Lease>,
    /// Who waits.
    pub queue: Queue,
}

impl Project {
    /// The lease of the past that the store must look up before this command is decided: by its
    /// token if it is about a lease that is not the project's current one, by its request if it
    /// is a lock request that neither holds nor waits.
    pub fn past_key(&self, command: &Command) -> Option<PastKey> {
        match command {
            Command::Lock { request, .. } => {
                let holds = self.lease.as_ref().is_some_and(|lease| lease.request == request.id);
                (!holds && self.queue.find(request.id).is_none()).then_some(PastKey::Request(request.id))
            }
            Command::Renew { token, .. }
            | Command::Verify { token }
            | Command::Unlock { token, .. }
            | Command::ForceUnlock { token, .. } => {
                let current = self.lease.as_ref().is_some_and(|lease| lease.token == *token);
                (!current).then_some(PastKey::Token(*token))
            }
            Command::Withdraw { .. } | Command::Settle => None,
        }
    }

    /// When time alone will next change this project: a [`Command::Settle`] is due then.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let lease_ends = self.lease.as_ref().map(Lease::ends_at);
        [lease_ends, self.queue.next_check()].into_iter().flatten().min()
    }

    /// Who holds the project at `now`, and how many wait.
    pub fn busy(&self, now: Timestamp) -> Option<Busy> {
        let lease = self.lease.as_ref().filter(|lease| lease.is_live(now))?;
        Some(Busy { lease: lease.clone(), queue_length: self.queue.len() })
    }

    /// Decides one command: changes the project, and says what came of it.
    ///
    /// What time has made due is done first, whatever the command: so nothing is ever decided on a
    /// lease that has ended, and no newcomer overtakes a waiter.
    pub fn decide(&mut self, command: &Command, context: Context<'_>) -> Decision {
        let mut turn = Turn {
            project: self,
            now: context.now,
            past: context.past,
            just_ended: None,
            decision: Decision {
                outcome: Outcome::Done,
                events: Vec::new(),
                tickets: Vec::new(),
                next_token: context.next_token,
            },
        };
        turn.settle();
        turn.decision.outcome = match command {
            Command::Lock { request, if_locked } => turn.lock(request, *if_locked),
            Command::Withdraw { request } => turn.withdraw(*request),
            Command::Renew { token, holder, ttl } => turn.renew(*token, holder, *ttl),
            Command::Verify { token } => turn.verify(*token),
            Command::Unlock { token, holder } => turn.unlock(*token, holder),
            Command::ForceUnlock { token, by, reason } => turn.force_unlock(*token, by, reason),
            Command::Settle => Outcome::Done,
        };
        turn.decision
    }
}

/// One decision under way.
struct Turn<'a> {
    project: &'a mut Project,
    now: Timestamp,
    past: Option<&'a PastLease>,
    /// The lease that this decision ended: too new for the store to have been asked for it.
    just_ended: Option<PastLease>,
    decision: Decision,
}

impl Turn<'_> {
    fn settle(&mut self) {
        if let Some(lease) = self.project.lease.take_if(|lease| !lease.is_live(self.now)) {
            let how = if lease.claim_by.is_some() { How::Unclaimed } else { How::Expired };
            let at = lease.ends_at();
            self.record_end(lease, Ended { how, at, by: None, reason: None });
        }
        for ticket in self.project.queue.take_dead(self.now) {
            self.ticket_gone(ticket.number);
            self.record(Event::of_request(EventKind::Dropped, &ticket.request, self.now));
        }
        self.hand_off();
    }

    fn lock(&mut self, request: &LockRequest, if_locked: IfLocked) -> Outcome {
        let now = self.now;
        if let Some(lease) = self.project.lease.as_mut().filter(|lease| lease.request == request.id) {
            if !lease.answers(request) {
                return Outcome::refused(Refusal::RequestReused);
            }
            if lease.claim_by.is_some() {
                lease.renew(now, lease.ttl);
            }
            return Outcome::Held(lease.clone());
        }
        if let Some(past) = self.past_lease(|past| past.request == request.id) {
            return Outcome::refused(Refusal::Lost { lease: past, now: self.busy() });
        }
        let Some(busy) = self.busy() else {
            return Outcome::Held(self.grant(Lease::grant(request, self.decision.next_token, now, None)));
        };
        if let Some((ticket, position)) = self.project.queue.find(request.id) {
            if ticket.request != *request {
                return Outcome::refused(Refusal::RequestReused);
            }
            let ticket = ticket.number;
            let alive_until = now.after(TICKET_LIFE);
            self.project.queue.touch(ticket, alive_until);
            self.decision.tickets.push(TicketChange::Touched(ticket, alive_until));
            return Outcome::Queued(Place { ticket, position, busy });
        }
        match if_locked {
            IfLocked::Refuse => Outcome::refused(Refusal::Locked(busy)),
            IfLocked::Queue if busy.queue_length >= QUEUE_LIMIT => Outcome::refused(Refusal::QueueFull(busy)),
            IfLocked::Queue => {
                let taken = self.project.queue.push(request.clone(), now, now.after(TICKET_LIFE)).clone();
                let ticket = taken.number;
                self.decision.tickets.push(TicketChange::Taken(taken));
                self.record(Event::of_request(EventKind::Queued, request, now));
                let queue_length = busy.queue_length + 1;
                Outcome::Queued(Place { ticket, position: queue_length, busy: Busy { queue_length, ..busy } })
            }
        }
    }

    fn withdraw(&mut self, request: RequestId) -> Outcome {
        if let Some(ticket) = self.project.queue.remove(request) {
            self.ticket_gone(ticket.number);
            self.record(Event::of_request(EventKind::Left, &ticket.request, self.now));
        } else if let Some(lease) = self.project.lease.take_if(|lease| lease.request == request) {
            let by = Some(lease.holder.clone());
            self.end(lease, How::Unlocked, by, None);
        }
        Outcome::Done
    }

    fn renew(&mut self, token: Token, holder: &Holder, ttl: Option<Ttl>) -> Outcome {
        match self.check(token, Some(holder)) {
            Ok(mut lease) => {
                lease.renew(self.now, ttl.unwrap_or(lease.ttl));
                self.project.lease = Some(lease.clone());
                Outcome::Held(lease)
            }
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn verify(&mut self, token: Token) -> Outcome {
        match self.check(token, None) {
            Ok(lease) => Outcome::Held(lease),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn unlock(&mut self, token: Token, holder: &Holder) -> Outcome {
        match self.check(token, Some(holder)) {
            Ok(lease) => {
                self.project.lease = None;
                Outcome::Ended(self.end(lease, How::Unlocked, Some(holder.clone()), None))
            }
            Err(refusal) => match *refusal {
                Refusal::Lost { lease, .. } if lease.ended.how == How::Unlocked && lease.holder == *holder => {
                    Outcome::Ended(lease)
                }
                refusal => Outcome::refused(refusal),
            },
        }
    }

    fn force_unlock(&mut self, token: Token, by: &Holder, reason: &Reason) -> Outcome {
        match self.check(token, None) {
            Ok(lease) => {
                self.project.lease = None;
                Outcome::Ended(self.end(lease, How::ForceUnlocked, Some(by.clone()), Some(reason.clone())))
            }
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    /// The current lease if it has this token and, where one is named, this holder.
    fn check(&self, token: Token, holder: Option<&Holder>) -> Result<Lease, Box<Refusal>> {
        if let Some(lease) = self.project.lease.as_ref().filter(|lease| lease.token == token) {
            if holder.is_some_and(|holder| *holder != lease.holder) {
                let busy = Busy { lease: lease.clone(), queue_length: self.project.queue.len() };
                return Err(Box::new(Refusal::NotHolder(busy)));
            }
            return Ok(lease.clone());
        }
        Err(match self.past_lease(|past| past.token == token) {
            Some(lease) => Box::new(Refusal::Lost { lease, now: self.busy() }),
            None => Box::new(Refusal::NeverGranted { token, now: self.busy() }),
        })
    }

    fn past_lease(&self, is_it: impl Fn(&PastLease) -> bool) -> Option<PastLease> {
        [self.just_ended.as_ref(), self.past].into_iter().flatten().find(|past| is_it(past)).cloned()
    }

    fn busy(&self) -> Option<Busy> {
        self.project.busy(self.now)
    }

    fn grant(&mut self, lease: Lease) -> Lease {
        debug_assert!(self.project.lease.is_none(), "rule 1: one lease at a time");
        self.decision.next_token = lease.token.next();
        self.record(Event::of_lease(EventKind::Granted, &lease, self.now));
        self.project.lease = Some(lease.clone());
        lease
    }

    /// Ends a lease that was taken out of the project, and grants to the first waiter (rule 6).
    fn end(&mut self, lease: Lease, how: How, by: Option<Holder>, reason: Option<Reason>) -> PastLease {
        let past = self.record_end(lease, Ended { how, at: self.now, by, reason });
        self.hand_off();
        past
    }

    fn hand_off(&mut self) {
        if self.project.lease.is_none()
            && let Some(ticket) = self.project.queue.pop()
        {
            self.ticket_gone(ticket.number);
            let lease = Lease::handed_over(&ticket.request, self.decision.next_token, self.now);
            self.grant(lease);
        }
    }

    fn record_end(&mut self, lease: Lease, ended: Ended) -> PastLease {
        let event = Event::of_lease(ended.how.into(), &lease, ended.at);
        self.record(Event { message: None, by: ended.by.clone(), reason: ended.reason.clone(), ..event });
        let past = PastLease { token: lease.token, request: lease.request, holder: lease.holder, ended };
        self.just_ended = Some(past.clone());
        past
    }

    fn ticket_gone(&mut self, ticket: TicketNumber) {
        self.decision.tickets.push(TicketChange::Gone(ticket));
    }

    fn record(&mut self, event: Event) {
        self.decision.events.push(event);
    }
}
