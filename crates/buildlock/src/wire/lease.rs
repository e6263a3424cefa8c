//! Leases and what is asked of them.

use std::time::Duration;

use buildlock_core::{
    Busy, Holder, How, Lease, Message, Operation, PastLease, Place, ProjectId, Reason, RequestId, Token, Ttl,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Viewer, optional_seconds, time};

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseJson {
    /// The project.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// The fencing token.
    #[schema(value_type = u64, minimum = 1)]
    pub token: Token,
    /// Who holds it.
    #[schema(value_type = String)]
    pub holder: Holder,
    /// What for.
    #[schema(value_type = String)]
    pub operation: Operation,
    /// The holder's word to others.
    #[schema(value_type = String)]
    pub message: Message,
    /// How long it lasts unless renewed.
    #[schema(value_type = f64)]
    pub ttl: Ttl,
    /// When it was granted.
    #[schema(value_type = String, format = DateTime)]
    pub acquired_at: Timestamp,
    /// When it ends unless renewed.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Until when it must be renewed for the first time, where it was handed to a waiter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub claim_by: Option<Timestamp>,
    /// The request that it answers, for those who may take it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub request: Option<RequestId>,
}

impl LeaseJson {
    /// A project's lease, for anybody.
    pub fn new(project: &ProjectId, lease: &Lease) -> Self {
        Self::seen_by(project, lease, Viewer::Anybody)
    }

    /// A project's lease.
    pub fn seen_by(project: &ProjectId, lease: &Lease, viewer: Viewer<'_>) -> Self {
        Self {
            project: project.clone(),
            token: lease.token,
            holder: lease.holder.clone(),
            operation: lease.operation.clone(),
            message: lease.message.clone(),
            ttl: lease.ttl,
            acquired_at: time(lease.acquired_at),
            expires_at: time(lease.ends_at()),
            claim_by: lease.claim_by.map(time),
            request: viewer.request(&lease.holder, lease.request),
        }
    }
}

/// Who is in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LockJson {
    /// The fencing token, which a force unlock must name.
    #[schema(value_type = u64, minimum = 1)]
    pub token: Token,
    /// Who holds the project.
    #[schema(value_type = String)]
    pub holder: Holder,
    /// What for.
    #[schema(value_type = String)]
    pub operation: Operation,
    /// The holder's word to others.
    #[schema(value_type = String)]
    pub message: Message,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub locked_at: Timestamp,
    /// Until when, unless renewed.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// How many wait.
    pub queue_length: usize,
    /// How long the lease lasts unless renewed, over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub ttl: Option<Ttl>,
    /// Until when the lease must be renewed for the first time, where it was handed to a waiter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub claim_by: Option<Timestamp>,
    /// The request that the lease answers, for those who may take it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub request: Option<RequestId>,
}

impl LockJson {
    /// Who is in the way.
    pub fn seen_by(busy: &Busy, viewer: Viewer<'_>) -> Self {
        let Busy { lease, queue_length } = busy;
        Self {
            token: lease.token,
            holder: lease.holder.clone(),
            operation: lease.operation.clone(),
            message: lease.message.clone(),
            locked_at: time(lease.acquired_at),
            expires_at: time(lease.ends_at()),
            queue_length: *queue_length,
            ttl: viewer.is_client().then_some(lease.ttl),
            claim_by: lease.claim_by.map(time),
            request: viewer.request(&lease.holder, lease.request),
        }
    }
}

impl From<&Busy> for LockJson {
    fn from(busy: &Busy) -> Self {
        Self::seen_by(busy, Viewer::Anybody)
    }
}

/// A lease that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndedJson {
    /// Its fencing token.
    #[schema(value_type = u64, minimum = 1)]
    pub token: Token,
    /// Who held it.
    #[schema(value_type = String)]
    pub holder: Holder,
    /// How it ended.
    #[schema(value_type = String, example = "force_unlocked")]
    pub how: How,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
    /// By whom, where somebody ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub by: Option<Holder>,
    /// Why, where a reason was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    /// The request that it answered, for those who may take it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub request: Option<RequestId>,
}

impl EndedJson {
    /// A lease that has ended.
    pub fn seen_by(lease: &PastLease, viewer: Viewer<'_>) -> Self {
        Self {
            token: lease.token,
            holder: lease.holder.clone(),
            how: lease.ended.how,
            ended_at: time(lease.ended.at),
            by: lease.ended.by.clone(),
            reason: lease.ended.reason.clone(),
            request: viewer.request(&lease.holder, lease.request),
        }
    }
}

impl From<&PastLease> for EndedJson {
    fn from(lease: &PastLease) -> Self {
        Self::seen_by(lease, Viewer::Anybody)
    }
}

/// A place in a project's queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlaceJson {
    /// The project.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// The ticket's number: smaller was there first.
    pub ticket: u64,
    /// 1 is next.
    #[schema(minimum = 1)]
    pub position: usize,
    /// The request that waits: to repeat it keeps the place, to withdraw it gives the place up.
    #[schema(value_type = String, format = "uuid")]
    pub request: RequestId,
    /// Who is in the way.
    pub lock: LockJson,
}

impl PlaceJson {
    /// The place of one's own request.
    pub fn seen_by(project: &ProjectId, request: RequestId, place: &Place, viewer: Viewer<'_>) -> Self {
        Self {
            project: project.clone(),
            ticket: place.ticket.0,
            position: place.position,
            request,
            lock: LockJson::seen_by(&place.busy, viewer),
        }
    }
}

/// What a lock is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockRequestJson {
    /// What for: `generate`, `edit` or any name; `build` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64)]
    pub operation: Option<Operation>,
    /// A word to those who find the project locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub message: Option<Message>,
    /// How long the lease lasts unless renewed: 1 to 86,400 seconds; 30 if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = 1, maximum = 86_400)]
    pub ttl: Option<Ttl>,
    /// How long to wait in the queue if the project is locked: up to 3,600 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_seconds")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 3_600)]
    pub wait: Option<Duration>,
}

/// A token that is renewed or verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenJson {
    /// The lease's fencing token.
    #[schema(value_type = u64, minimum = 1)]
    pub token: Token,
    /// How long this renewal makes it last; the lease's own TTL if there is none. To verify changes
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = 1, maximum = 86_400)]
    pub ttl: Option<Ttl>,
}

/// A lease that is ended by force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForceUnlockJson {
    /// The token that was seen, so that the next holder is not hit by mistake.
    #[schema(value_type = u64, minimum = 1)]
    pub token: Token,
    /// Why; it is kept.
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    pub reason: Reason,
}
