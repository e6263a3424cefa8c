//! What comes of a command. An outcome is an answer, not an error: *locked* and *lease lost* are
//! among them.

use crate::{Event, Lease, PastLease, Ticket, TicketNumber, Timestamp, Token};

/// The whole result of one decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub outcome: Outcome,
    /// What happened, in order, for the history.
    pub events: Vec<Event>,
    /// What changed in the queue.
    pub tickets: Vec<TicketChange>,
    /// The token that the store's next grant gets.
    pub next_token: Token,
}

/// A change of the queue, for a store to write down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TicketChange {
    /// A ticket was taken.
    Taken(Ticket),
    /// A ticket's waiter kept in touch: it lives until then.
    Touched(TicketNumber, Timestamp),
    /// A ticket has ended: it was granted, left or was dropped.
    Gone(TicketNumber),
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The lease lives and is the caller's: answers lock, renew and verify.
    Held(Lease),
    /// The caller waits in the queue: answers lock.
    Queued(Place),
    /// The lease has ended as the caller wished: answers unlock and force unlock.
    Ended(PastLease),
    /// Nothing more to say: answers withdraw and settle.
    Done,
    /// No, and why.
    Refused(Box<Refusal>),
}

impl Outcome {
    /// The answer no.
    pub fn refused(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// Who holds a project, and how many wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// The live lease.
    pub lease: Lease,
    /// How many tickets wait.
    pub queue_length: usize,
}

/// A place in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The ticket.
    pub ticket: TicketNumber,
    /// 1 is next.
    pub position: usize,
    /// Who is in the way.
    pub busy: Busy,
}

/// Why a command was refused. Nothing was changed, save what was due anyway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody holds the project (rule 5).
    Locked(Busy),
    /// Somebody holds the project and no more can wait for it.
    QueueFull(Busy),
    /// The lease that the command is about has ended (rule 3).
    Lost {
        /// The lease, and how it ended.
        lease: PastLease,
        /// Who holds now.
        now: Option<Busy>,
    },
    /// The lease lives, but it is somebody else's.
    NotHolder(Busy),
    /// This project never had a lease with that token.
    NeverGranted {
        /// The token.
        token: Token,
        /// Who holds now.
        now: Option<Busy>,
    },
    /// The request id stands for another holder, operation, message or TTL (rule 4).
    RequestReused,
    /// There is no such project.
    UnknownProject,
}
