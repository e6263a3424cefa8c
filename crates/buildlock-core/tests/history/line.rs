//! A history as people read it: one line a decision.

use std::fmt;

use buildlock_core::{Command, Decision, Event, IfLocked, LockRequest, Outcome, Refusal, RequestId, Timestamp};

use super::step::{ACTORS, Way, name};

/// One decision.
#[derive(Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) now: Timestamp,
    pub(crate) actor: usize,
    pub(crate) project: usize,
    pub(crate) command: Command,
    pub(crate) decision: Decision,
    pub(crate) way: Way,
}

/// Whose request it is.
pub(crate) fn actor(request: RequestId) -> usize {
    (request.as_uuid().as_u128() >> 32) as usize - 1
}

pub(crate) fn render(history: &[Line]) -> String {
    history.iter().map(|line| format!("{line}\n")).collect()
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actor = if self.command == Command::Settle { "" } else { ACTORS[self.actor] };
        write!(f, "{:>9} ms  project {}  {actor:>3}  {}", self.now.as_millis(), self.project, command(&self.command),)?;
        if self.way.delay_ms > 0 {
            write!(f, ", sent {} ms ago", self.way.delay_ms)?;
        }
        write!(f, "  ->  {}", outcome(&self.decision.outcome))?;
        if self.way.is_answer_lost {
            write!(f, " (answer lost)")?;
        }
        let events: Vec<_> = self.decision.events.iter().map(event).collect();
        write!(f, "  [{}]", events.join(", "))
    }
}

fn command(command: &Command) -> String {
    match command {
        Command::Lock { request, if_locked } => {
            let wait = if *if_locked == IfLocked::Queue { "" } else { " at once" };
            let LockRequest { id, holder, operation, message, ttl } = request;
            format!("lock {}{wait} ({operation} by {holder}, \"{message}\", {ttl})", name(*id))
        }
        Command::Withdraw { request } => format!("withdraw {}", name(*request)),
        Command::Renew { token, ttl: None, .. } => format!("renew {token}"),
        Command::Renew { token, ttl: Some(ttl), .. } => format!("renew {token} for {ttl}"),
        Command::Verify { token } => format!("verify {token}"),
        Command::Unlock { token, .. } => format!("unlock {token}"),
        Command::ForceUnlock { token, .. } => format!("force unlock {token}"),
        Command::Settle => "settle".to_owned(),
    }
}

pub(crate) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Held(lease) => {
            let unclaimed = if lease.claim_by.is_some() { ", unclaimed" } else { "" };
            format!("held {} until {}{unclaimed}", lease.token, lease.ends_at().as_millis())
        }
        Outcome::Queued(place) => {
            format!("queued {} of {} behind {}", place.position, place.busy.queue_length, place.busy.lease.token)
        }
        Outcome::Ended(past) => format!("ended {}", past.token),
        Outcome::Done => "done".to_owned(),
        Outcome::Refused(refusal) => match &**refusal {
            Refusal::Locked(busy) => format!("locked {}, {} wait", busy.lease.token, busy.queue_length),
            Refusal::QueueFull(_) => "queue full".to_owned(),
            Refusal::Lost { lease, .. } => format!("lost {} ({:?})", lease.token, lease.ended.how),
            Refusal::NotHolder(busy) => format!("not holder of {}", busy.lease.token),
            Refusal::NeverGranted { token, .. } => format!("never granted {token}"),
            Refusal::RequestReused => "request reused".to_owned(),
            Refusal::UnknownProject => "unknown project".to_owned(),
        },
    }
}

fn event(event: &Event) -> String {
    let token = event.token.map(|token| format!(" = {token}")).unwrap_or_default();
    format!("{} {}{token}", event.kind.as_str(), event.request.map(name).unwrap_or_default())
}
