//! A lease, and what is remembered of it once it has ended.

use serde::{Deserialize, Serialize};

use crate::deadline::CLAIM_WITHIN;
use crate::{Holder, LockRequest, Message, Operation, Reason, RequestId, Timestamp, Token, Ttl};

/// One grant of a project's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its fencing token (rule 2).
    pub token: Token,
    /// The lock request that it answers (rule 4).
    pub request: RequestId,
    /// Who holds it.
    pub holder: Holder,
    /// What the holder does.
    pub operation: Operation,
    /// The holder's word to others.
    pub message: Message,
    /// How long it lasts, and each renewal that names no other TTL.
    pub ttl: Ttl,
    /// When it was granted.
    pub acquired_at: Timestamp,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
    /// A lease that was handed to a waiter ends here unless it is claimed before (rule 7).
    pub claim_by: Option<Timestamp>,
}

impl Lease {
    /// The lease that was handed to the waiter with this request: it must be claimed (rule 7).
    pub fn handed_over(request: &LockRequest, token: Token, at: Timestamp) -> Self {
        Self::grant(request, token, at, Some(at.after(CLAIM_WITHIN)))
    }

    pub(crate) fn grant(request: &LockRequest, token: Token, now: Timestamp, claim_by: Option<Timestamp>) -> Self {
        Self {
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

    /// When it ends unless it is renewed or claimed.
    pub fn ends_at(&self) -> Timestamp {
        self.claim_by.map_or(self.expires_at, |claim_by| claim_by.min(self.expires_at))
    }

    /// Whether it has not ended by `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.ends_at()
    }

    pub(crate) fn renew(&mut self, now: Timestamp, ttl: Ttl) {
        self.claim_by = None;
        self.expires_at = now.after(ttl.get());
    }

    pub(crate) fn answers(&self, request: &LockRequest) -> bool {
        (&self.holder, &self.operation, &self.message, self.ttl)
            == (&request.holder, &request.operation, &request.message, request.ttl)
    }
}

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Its holder unlocked it.
    Unlocked,
    /// An operator ended it (rule 9).
    ForceUnlocked,
    /// It was not renewed in time (rule 8).
    Expired,
    /// It was handed to a waiter that did not claim it in time (rule 7).
    Unclaimed,
    /// Somebody set the project's row to idle with SQL (rule 13).
    FreedByHand,
}

/// The end of a lease: how, when, by whom and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How it ended.
    pub how: How,
    /// When it ended, by the store's clock.
    pub at: Timestamp,
    /// Who ended it; nobody when it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Holder>,
    /// An operator's reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// What a store remembers of a lease that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastLease {
    /// Its fencing token.
    pub token: Token,
    /// The lock request that it answered.
    pub request: RequestId,
    /// Who held it.
    pub holder: Holder,
    /// Its end.
    pub ended: Ended,
}
