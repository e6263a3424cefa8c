//! What may be asked of a project's lock.

use crate::{Holder, Message, Operation, Reason, RequestId, Token, Ttl};

/// Who wants the lock, for what and for how long.
///
/// A request that is repeated must have the same content (rule 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRequest {
    /// Names the request, so that it can be repeated.
    pub id: RequestId,
    /// Who asks.
    pub holder: Holder,
    /// What for.
    pub operation: Operation,
    /// A word to those who find the project locked.
    pub message: Message,
    /// How long the lease lasts unless renewed.
    pub ttl: Ttl,
}

impl LockRequest {
    /// A new request with a fresh id, no message and the default TTL.
    pub fn new(holder: Holder, operation: Operation) -> Self {
        Self { id: RequestId::fresh(), holder, operation, message: Message::default(), ttl: Ttl::default() }
    }
}

/// What a lock request wants when the project is locked (rule 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfLocked {
    /// To be refused at once.
    Refuse,
    /// A ticket.
    Queue,
}

/// One request to a project's lock. Each can be repeated safely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Lock, or take a ticket. Repeated, it keeps the ticket alive and claims the lease that was
    /// handed to it.
    Lock {
        /// The request.
        request: LockRequest,
        /// What to do when the project is locked.
        if_locked: IfLocked,
    },
    /// Take a lock request back, whatever has become of it: its ticket leaves the queue, its lease
    /// is unlocked.
    Withdraw {
        /// The request.
        request: RequestId,
    },
    /// Extend the lease (the heartbeat).
    Renew {
        /// The lease's token.
        token: Token,
        /// Who asks; must be the lease's holder.
        holder: Holder,
        /// How long this renewal makes it last; the lease's own TTL if none is named.
        ttl: Option<Ttl>,
    },
    /// Ask whether a token is current.
    Verify {
        /// The token.
        token: Token,
    },
    /// End one's own lease.
    Unlock {
        /// The lease's token.
        token: Token,
        /// Who asks; must be the lease's holder.
        holder: Holder,
    },
    /// End somebody's lease, on record (rule 9).
    ForceUnlock {
        /// The token that the operator saw.
        token: Token,
        /// The operator.
        by: Holder,
        /// Why.
        reason: Reason,
    },
    /// Do what time alone has made due: end a lease, drop dead tickets, grant the next.
    Settle,
}

/// Names a lease of the past that a [`Command`] may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastKey {
    /// The lease that answered this request.
    Request(RequestId),
    /// The lease with this token.
    Token(Token),
}
