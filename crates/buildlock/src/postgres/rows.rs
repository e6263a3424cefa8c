//! Between rows and the types of `buildlock-core`.

use buildlock_core::{
    Busy, Command, Ended, Event, EventKind, IfLocked, Lease, LockRequest, Outcome, PastLease, Place, ProjectId,
    Refusal, Ticket, TicketNumber, Timestamp, Token,
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::columns::{Columns, Nonsense, number};
use super::statement::{Parameters, parameters};
use crate::store::{Answer, Deleted, Recorded, Status};

/// What `buildlock.apply` takes: the nth of each array is the nth command's.
#[derive(Debug, Default)]
pub(super) struct Commands {
    projects: Vec<String>,
    kinds: Vec<&'static str>,
    requests: Vec<Option<Uuid>>,
    tokens: Vec<Option<i64>>,
    holders: Vec<Option<String>>,
    operations: Vec<Option<String>>,
    messages: Vec<Option<String>>,
    ttls_ms: Vec<Option<i64>>,
    reasons: Vec<Option<String>>,
    if_locked: Vec<Option<&'static str>>,
}

/// One command, as far as its kind has it.
#[derive(Default)]
struct Parts<'a> {
    request: Option<Uuid>,
    token: Option<Token>,
    holder: Option<&'a str>,
    operation: Option<&'a str>,
    message: Option<&'a str>,
    ttl_ms: Option<u64>,
    reason: Option<&'a str>,
    if_locked: Option<&'static str>,
}

impl Commands {
    pub(super) fn push(&mut self, project: &ProjectId, command: &Command) {
        let (kind, parts) = match command {
            Command::Lock { request, if_locked } => {
                let parts = Parts {
                    request: Some(*request.id.as_uuid()),
                    holder: Some(request.holder.as_str()),
                    operation: Some(request.operation.as_str()),
                    message: Some(request.message.as_str()),
                    ttl_ms: Some(request.ttl.as_millis()),
                    if_locked: Some(match if_locked {
                        IfLocked::Refuse => "refuse",
                        IfLocked::Queue => "queue",
                    }),
                    ..Parts::default()
                };
                ("lock", parts)
            }
            Command::Withdraw { request } => {
                ("withdraw", Parts { request: Some(*request.as_uuid()), ..Parts::default() })
            }
            Command::Renew { token, holder, ttl } => {
                let ttl_ms = ttl.map(|ttl| ttl.as_millis());
                let holder = Some(holder.as_str());
                ("renew", Parts { token: Some(*token), holder, ttl_ms, ..Parts::default() })
            }
            Command::Verify { token } => ("verify", Parts { token: Some(*token), ..Parts::default() }),
            Command::Unlock { token, holder } => {
                ("unlock", Parts { token: Some(*token), holder: Some(holder.as_str()), ..Parts::default() })
            }
            Command::ForceUnlock { token, by, reason } => {
                let (holder, reason) = (Some(by.as_str()), Some(reason.as_str()));
                ("force_unlock", Parts { token: Some(*token), holder, reason, ..Parts::default() })
            }
            Command::Settle => ("settle", Parts::default()),
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        self.projects.push(project.as_str().to_owned());
        self.kinds.push(kind);
        self.requests.push(parts.request);
        self.tokens.push(parts.token.map(|token| number(token.get())));
        self.holders.push(owned(parts.holder));
        self.operations.push(owned(parts.operation));
        self.messages.push(owned(parts.message));
        self.ttls_ms.push(parts.ttl_ms.map(number));
        self.reasons.push(owned(parts.reason));
        self.if_locked.push(parts.if_locked);
    }

    pub(super) fn parameters(self, at_ms: Option<i64>) -> Parameters {
        parameters![
            at_ms,
            self.projects,
            self.kinds,
            self.requests,
            self.tokens,
            self.holders,
            self.operations,
            self.messages,
            self.ttls_ms,
            self.reasons,
            self.if_locked,
        ]
    }
}

/// The answer to a command, and whether it is news to others.
pub(super) struct Answered {
    pub(super) answer: Answer,
    pub(super) has_news: bool,
}

/// The place of the command that this row of `buildlock.apply` answers, from 0.
pub(super) fn ordinal(row: &Row) -> Result<usize, Nonsense> {
    let ordinal: i32 = Columns::of(row).raw()?;
    usize::try_from(ordinal - 1).map_err(Nonsense::of)
}

/// The answer in a row of `buildlock.apply`.
pub(super) fn answered(row: &Row, command: &Command) -> Result<Answered, Nonsense> {
    let columns = &mut Columns::of(row);
    let _ordinal: i32 = columns.raw()?;
    let outcome: &str = columns.raw()?;
    let now = columns.get()?;
    let live = lease(columns)?;
    let queue_length: Option<u64> = columns.optional()?;
    let ticket: Option<u64> = columns.optional()?;
    let position: Option<u64> = columns.optional()?;
    let past = past(columns)?;
    let has_news = columns.raw::<Option<bool>>()?.unwrap_or_default();
    let lacks = || Nonsense(format!("the answer {outcome} lacks something"));
    let busy = live.map(|lease| Busy { lease, queue_length: queue_length.unwrap_or_default() as usize });
    let outcome = match outcome {
        "held" => Outcome::Held(busy.ok_or_else(lacks)?.lease),
        "queued" => Outcome::Queued(Place {
            ticket: TicketNumber(ticket.ok_or_else(lacks)?),
            position: position.ok_or_else(lacks)? as usize,
            busy: busy.ok_or_else(lacks)?,
        }),
        "ended" => Outcome::Ended(past.ok_or_else(lacks)?),
        "done" => Outcome::Done,
        "locked" => Outcome::refused(Refusal::Locked(busy.ok_or_else(lacks)?)),
        "queue_full" => Outcome::refused(Refusal::QueueFull(busy.ok_or_else(lacks)?)),
        "lost" => Outcome::refused(Refusal::Lost { lease: past.ok_or_else(lacks)?, now: busy }),
        "not_holder" => Outcome::refused(Refusal::NotHolder(busy.ok_or_else(lacks)?)),
        "never_granted" => {
            Outcome::refused(Refusal::NeverGranted { token: token(command).ok_or_else(lacks)?, now: busy })
        }
        "request_reused" => Outcome::refused(Refusal::RequestReused),
        "unknown_project" => Outcome::refused(Refusal::UnknownProject),
        other => return Err(Nonsense(format!("{other:?} is no outcome"))),
    };
    Ok(Answered { answer: Answer { outcome, now }, has_news })
}

fn token(command: &Command) -> Option<Token> {
    match command {
        Command::Renew { token, .. }
        | Command::Verify { token }
        | Command::Unlock { token, .. }
        | Command::ForceUnlock { token, .. } => Some(*token),
        Command::Lock { .. } | Command::Withdraw { .. } | Command::Settle => None,
    }
}

/// What came of deleting a project.
pub(super) fn deleted(row: &Row) -> Result<Deleted, Nonsense> {
    let columns = &mut Columns::of(row);
    let outcome: &str = columns.raw()?;
    let _now: i64 = columns.raw()?;
    match outcome {
        "done" => Ok(Deleted::Gone),
        "unknown_project" => Ok(Deleted::Unknown),
        "locked" => {
            let lease = lease(columns)?.ok_or_else(|| Nonsense("the project is locked by nobody".to_owned()))?;
            let queue_length = columns.get::<u64>()? as usize;
            Ok(Deleted::Locked(Busy { lease, queue_length }))
        }
        other => Err(Nonsense(format!("{other:?} is no outcome"))),
    }
}

/// A project as it is.
pub(super) fn status(row: &Row) -> Result<Status, Nonsense> {
    let columns = &mut Columns::of(row);
    let (project, owner, now) = (columns.get()?, columns.get()?, columns.get()?);
    let lease = lease(columns)?;
    let numbers = columns.array::<u64>()?;
    let mut requests = columns.array()?.into_iter();
    let mut holders = columns.array()?.into_iter();
    let mut operations = columns.array()?.into_iter();
    let mut messages = columns.array()?.into_iter();
    let mut ttls = columns.array()?.into_iter();
    let mut queued_at = columns.array()?.into_iter();
    let mut alive_until = columns.array()?.into_iter();
    let mut ticket = |number| {
        let request = LockRequest {
            id: requests.next()?,
            holder: holders.next()?,
            operation: operations.next()?,
            message: messages.next()?,
            ttl: ttls.next()?,
        };
        let number = TicketNumber(number);
        Some(Ticket { number, request, queued_at: queued_at.next()?, alive_until: alive_until.next()? })
    };
    let queue = numbers
        .into_iter()
        .map(|number| ticket(number).ok_or_else(|| Nonsense(format!("the ticket {number} lacks something"))));
    Ok(Status { project, owner, lease, queue: queue.collect::<Result<_, _>>()?, now })
}

/// An event.
pub(super) fn recorded(row: &Row) -> Result<Recorded, Nonsense> {
    let columns = &mut Columns::of(row);
    let id = columns.get()?;
    let at = columns.get()?;
    let project = columns.get()?;
    let event = Event {
        at,
        kind: columns.get()?,
        holder: columns.get()?,
        request: columns.optional()?,
        token: columns.optional()?,
        operation: columns.optional()?,
        message: columns.optional()?,
        by: columns.optional()?,
        reason: columns.optional()?,
    };
    Ok(Recorded { id, project, event })
}

/// The live lease in the next nine columns.
fn lease(columns: &mut Columns<'_>) -> Result<Option<Lease>, Nonsense> {
    let token: Option<Token> = columns.optional()?;
    let request = columns.optional()?;
    let holder = columns.optional()?;
    let operation = columns.optional()?;
    let message = columns.optional()?;
    let ttl = columns.optional()?;
    let acquired_at = columns.optional()?;
    let expires_at = columns.optional()?;
    let claim_by: Option<Timestamp> = columns.optional()?;
    let Some(token) = token else { return Ok(None) };
    let lease = || {
        Some(Lease {
            token,
            request: request?,
            holder: holder?,
            operation: operation?,
            message: message?,
            ttl: ttl?,
            acquired_at: acquired_at?,
            expires_at: expires_at?,
            claim_by,
        })
    };
    lease().map(Some).ok_or_else(|| Nonsense(format!("the lease with token {token} lacks something")))
}

/// The lease that has ended in the next seven columns.
fn past(columns: &mut Columns<'_>) -> Result<Option<PastLease>, Nonsense> {
    let token: Option<Token> = columns.optional()?;
    let request = columns.optional()?;
    let holder = columns.optional()?;
    let how: Option<EventKind> = columns.optional()?;
    let at = columns.optional()?;
    let (by, reason) = (columns.optional()?, columns.optional()?);
    let Some(token) = token else { return Ok(None) };
    let past = || {
        let ended = Ended { how: how?.end()?, at: at?, by, reason };
        Some(PastLease { token, request: request?, holder: holder?, ended })
    };
    past().map(Some).ok_or_else(|| Nonsense(format!("the end of the lease with token {token} lacks something")))
}
