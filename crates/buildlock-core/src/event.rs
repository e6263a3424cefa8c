//! What happened to a project's lock: its history (rule 11).

use serde::{Deserialize, Serialize};

use crate::{Holder, How, Lease, LockRequest, Message, Operation, Reason, RequestId, Timestamp, Token};

/// What kind of change an [`Event`] tells of.
///
/// A renewal is none: it changes nothing that anybody would look up, and would drown the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The project was made.
    Created,
    /// The project was deleted.
    Deleted,
    /// A request took a ticket.
    Queued,
    /// A waiter gave up its ticket.
    Left,
    /// A ticket ended because its waiter no longer kept in touch.
    Dropped,
    /// A lease was granted.
    Granted,
    /// A lease ended: its holder unlocked it.
    Unlocked,
    /// A lease ended: an operator ended it.
    ForceUnlocked,
    /// A lease ended: it was not renewed in time.
    Expired,
    /// A lease ended: the waiter that it was handed to did not claim it in time.
    Unclaimed,
    /// A lease ended: somebody set the project's row to idle with SQL.
    FreedByHand,
}

impl EventKind {
    /// Every kind there is.
    pub const ALL: [EventKind; 11] = [
        EventKind::Created,
        EventKind::Deleted,
        EventKind::Queued,
        EventKind::Left,
        EventKind::Dropped,
        EventKind::Granted,
        EventKind::Unlocked,
        EventKind::ForceUnlocked,
        EventKind::Expired,
        EventKind::Unclaimed,
        EventKind::FreedByHand,
    ];

    /// The name in SQL, JSON and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventKind::Created => "created",
            EventKind::Deleted => "deleted",
            EventKind::Queued => "queued",
            EventKind::Left => "left",
            EventKind::Dropped => "dropped",
            EventKind::Granted => "granted",
            EventKind::Unlocked => "unlocked",
            EventKind::ForceUnlocked => "force_unlocked",
            EventKind::Expired => "expired",
            EventKind::Unclaimed => "unclaimed",
            EventKind::FreedByHand => "freed_by_hand",
        }
    }

    /// How the lease ended, if this event is the end of one.
    pub const fn end(self) -> Option<How> {
        match self {
            EventKind::Unlocked => Some(How::Unlocked),
            EventKind::ForceUnlocked => Some(How::ForceUnlocked),
            EventKind::Expired => Some(How::Expired),
            EventKind::Unclaimed => Some(How::Unclaimed),
            EventKind::FreedByHand => Some(How::FreedByHand),
            _ => None,
        }
    }
}

impl From<How> for EventKind {
    fn from(how: How) -> Self {
        match how {
            How::Unlocked => EventKind::Unlocked,
            How::ForceUnlocked => EventKind::ForceUnlocked,
            How::Expired => EventKind::Expired,
            How::Unclaimed => EventKind::Unclaimed,
            How::FreedByHand => EventKind::FreedByHand,
        }
    }
}

/// One change of a project's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// Whose lease or ticket.
    pub holder: Holder,
    /// The request that the lease or ticket answers; none for the project's own events.
    pub request: Option<RequestId>,
    /// The lease's fencing token.
    pub token: Option<Token>,
    /// What the build does.
    pub operation: Option<Operation>,
    /// The holder's word to others.
    pub message: Option<Message>,
    /// Who ended the lease, where somebody did.
    pub by: Option<Holder>,
    /// Why, where a reason was given.
    pub reason: Option<Reason>,
}

impl Event {
    /// A project's own event: it was made or deleted by `holder`.
    pub fn of_project(kind: EventKind, holder: Holder, at: Timestamp) -> Self {
        Self { at, kind, holder, request: None, token: None, operation: None, message: None, by: None, reason: None }
    }

    pub(crate) fn of_request(kind: EventKind, request: &LockRequest, at: Timestamp) -> Self {
        Self {
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

    pub(crate) fn of_lease(kind: EventKind, lease: &Lease, at: Timestamp) -> Self {
        Self {
            at,
            kind,
            holder: lease.holder.clone(),
            request: Some(lease.request),
            token: Some(lease.token),
            operation: Some(lease.operation.clone()),
            message: Some(lease.message.clone()),
            by: None,
            reason: None,
        }
    }
}
