//! Leases, projects, events and refusals as JSON: the same for the command and for HTTP. Names are
//! camelCase, times RFC 3339 in UTC, durations seconds.

use buildlock_core::{
    Busy, Event, EventKind, Holder, How, Lease, Message, Operation, PastLease, ProjectId, Reason, Ticket, Token, Ttl,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::{EventId, Recorded, Status};

/// A time of the store's clock, for people and programs to read.
pub fn time(time: buildlock_core::Timestamp) -> Timestamp {
    // A store's time is a count of milliseconds that began at some clock's "now"; a file in which
    // somebody wrote a year beyond 9999 shows the last one.
    Timestamp::from_millisecond(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX)
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseJson {
    /// The project.
    pub project: ProjectId,
    /// The fencing token.
    pub token: Token,
    /// Who holds it.
    pub holder: Holder,
    /// What for.
    pub operation: Operation,
    /// The holder's word to others.
    pub message: Message,
    /// How long it lasts unless renewed.
    pub ttl: Ttl,
    /// When it was granted.
    pub acquired_at: Timestamp,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
}

impl LeaseJson {
    /// A project's lease.
    pub fn new(project: &ProjectId, lease: &Lease) -> Self {
        Self {
            project: project.clone(),
            token: lease.token,
            holder: lease.holder.clone(),
            operation: lease.operation.clone(),
            message: lease.message.clone(),
            ttl: lease.ttl,
            acquired_at: time(lease.acquired_at),
            expires_at: time(lease.ends_at()),
        }
    }
}

/// Who is in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockJson {
    /// The fencing token, which a force unlock must name.
    pub token: Token,
    /// Who holds the project.
    pub holder: Holder,
    /// What for.
    pub operation: Operation,
    /// The holder's word to others.
    pub message: Message,
    /// Since when.
    pub locked_at: Timestamp,
    /// Until when, unless renewed.
    pub expires_at: Timestamp,
    /// How many wait.
    pub queue_length: usize,
}

impl From<&Busy> for LockJson {
    fn from(busy: &Busy) -> Self {
        let Busy { lease, queue_length } = busy;
        Self {
            token: lease.token,
            holder: lease.holder.clone(),
            operation: lease.operation.clone(),
            message: lease.message.clone(),
            locked_at: time(lease.acquired_at),
            expires_at: time(lease.ends_at()),
            queue_length: *queue_length,
        }
    }
}

/// A lease that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedJson {
    /// Its fencing token.
    pub token: Token,
    /// Who held it.
    pub holder: Holder,
    /// How it ended.
    pub how: How,
    /// When.
    pub ended_at: Timestamp,
    /// By whom, where somebody ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Holder>,
    /// Why, where a reason was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl From<&PastLease> for EndedJson {
    fn from(lease: &PastLease) -> Self {
        Self {
            token: lease.token,
            holder: lease.holder.clone(),
            how: lease.ended.how,
            ended_at: time(lease.ended.at),
            by: lease.ended.by.clone(),
            reason: lease.ended.reason.clone(),
        }
    }
}

/// A project, and its lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProjectJson {
    /// Its id.
    pub project: ProjectId,
    /// Whose it is.
    pub owner: Holder,
    /// `idle` or `processing`.
    pub build_status: String,
    /// The live lease.
    pub lease: Option<LeaseJson>,
    /// Who waits, in order.
    pub queue: Vec<WaiterJson>,
}

impl From<&Status> for ProjectJson {
    fn from(status: &Status) -> Self {
        Self {
            project: status.project.clone(),
            owner: status.owner.clone(),
            build_status: status.build_status().to_owned(),
            lease: status.lease.as_ref().map(|lease| LeaseJson::new(&status.project, lease)),
            queue: status.queue.iter().map(WaiterJson::from).collect(),
        }
    }
}

/// Somebody who waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaiterJson {
    /// Who.
    pub holder: Holder,
    /// What for.
    pub operation: Operation,
    /// Their word to others.
    pub message: Message,
    /// Since when.
    pub queued_at: Timestamp,
}

impl From<&Ticket> for WaiterJson {
    fn from(ticket: &Ticket) -> Self {
        Self {
            holder: ticket.request.holder.clone(),
            operation: ticket.request.operation.clone(),
            message: ticket.request.message.clone(),
            queued_at: time(ticket.queued_at),
        }
    }
}

/// Something that happened. Request ids are left out: to know one is to be able to take it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventJson {
    /// Its place in the history.
    pub id: EventId,
    /// When.
    pub at: Timestamp,
    /// The project.
    pub project: ProjectId,
    /// What.
    pub kind: EventKind,
    /// Whose lease or ticket.
    pub holder: Holder,
    /// The fencing token, for a lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// What for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// The holder's word to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// Who ended it, where somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Holder>,
    /// Why, where a reason was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl From<&Recorded> for EventJson {
    fn from(recorded: &Recorded) -> Self {
        let Recorded { id, project, event } = recorded;
        let Event { at, kind, holder, token, operation, message, by, reason, request: _ } = event.clone();
        Self { id: *id, at: time(at), project: project.clone(), kind, holder, token, operation, message, by, reason }
    }
}
