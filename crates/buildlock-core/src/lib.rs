//! The rules of a build lock, as a pure state machine.
//!
//! One [`Project`] has one lock. [`Project::decide`] takes a [`Command`] and the time, changes the
//! project and says what came of it: an [`Outcome`] for the caller and an [`Event`] for every change.
//! There is no clock here, no I/O and no async: a store loads a project, lets it decide, and writes
//! down what changed, all in one transaction.
//!
//! ```
//! use buildlock_core::{Command, Context, IfLocked, LockRequest, Outcome, Project, Timestamp, Token};
//!
//! let mut project = Project::default();
//! let request = LockRequest::new("ana".parse()?, "generate".parse()?);
//! let lock = Command::Lock { request, if_locked: IfLocked::Refuse };
//!
//! let decision = project.decide(&lock, Context::at(Timestamp::from_millis(0), Token::FIRST));
//! let Outcome::Held(lease) = decision.outcome else { panic!("a free project is granted at once") };
//! assert_eq!(lease.token, Token::FIRST);
//! # Ok::<(), buildlock_core::Invalid>(())
//! ```
//!
//! The rules have numbers, which the tests and the docs of this crate use; `ARCHITECTURE.md` says
//! where each one lives and `docs/state-machine.md` draws the states.

mod command;
mod deadline;
mod event;
mod ids;
mod lease;
mod outcome;
mod project;
mod queue;
mod time;

pub use command::{Command, IfLocked, LockRequest, PastKey};
pub use deadline::{CLAIM_WITHIN, KEEP_IN_TOUCH_EVERY, LeaseDeadline, TICKET_LIFE};
pub use event::{Event, EventKind};
pub use ids::{Holder, Invalid, Message, Operation, ProjectId, Reason, RequestId, Token};
pub use lease::{Ended, How, Lease, PastLease};
pub use outcome::{Busy, Decision, Outcome, Place, Refusal, TicketChange};
pub use project::{Context, Project};
pub use queue::{QUEUE_LIMIT, Queue, Ticket, TicketNumber};
pub use time::{Timestamp, Ttl, Wait};
