//! What a server's JSON says, in the words of the store.

use buildlock_core::{
    Busy, Command, Ended, Event, IfLocked, Lease, LockRequest, Outcome, PastLease, Place, Refusal, RequestId, Ticket,
    TicketNumber, Timestamp, Token, Ttl,
};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::client::{Client, Reply};
use crate::StoreError;
use crate::store::{Answer, Recorded, Status};
use crate::wire::{EndedJson, EventJson, LeaseJson, LockJson, PlaceJson, ProblemJson, ProjectJson, WaiterJson};

/// The answer to a command.
pub(super) fn answer(client: &Client, command: &Command, reply: &Reply) -> Result<Answer, StoreError> {
    let outcome = match reply.problem() {
        Some(problem) => Outcome::refused(refusal(client, command, problem, reply)?),
        None if !reply.status.is_success() => return Err(client.failure(reply)),
        None => match command {
            Command::Lock { .. } if reply.status == StatusCode::ACCEPTED => Outcome::Queued(place(parse(reply)?)?),
            Command::Lock { .. } | Command::Renew { .. } | Command::Verify { .. } => {
                Outcome::Held(lease(parse(reply)?))
            }
            Command::Unlock { .. } | Command::ForceUnlock { .. } => Outcome::Ended(past(parse(reply)?)),
            Command::Withdraw { .. } | Command::Settle => Outcome::Done,
        },
    };
    // A server need not have asked its store to refuse.
    let now = match outcome {
        Outcome::Refused(_) => reply.time().unwrap_or_default(),
        _ => reply.time()?,
    };
    Ok(Answer { outcome, now })
}

fn parse<T: DeserializeOwned>(reply: &Reply) -> Result<T, StoreError> {
    serde_json::from_slice(&reply.body).map_err(|error| StoreError::Protocol(error.to_string()))
}

/// Why a command was refused, if it was the lock's rules that refused it.
fn refusal(client: &Client, command: &Command, problem: ProblemJson, reply: &Reply) -> Result<Refusal, StoreError> {
    let ProblemJson { code, field, lock, lease, .. } = problem;
    let now = lock.clone().map(|lock| busy(Some(lock))).transpose()?;
    Ok(match (code.as_str(), field.as_deref(), command) {
        ("PROJECT_LOCKED", _, Command::Lock { if_locked: IfLocked::Queue, .. }) => Refusal::QueueFull(busy(lock)?),
        ("PROJECT_LOCKED", ..) => Refusal::Locked(busy(lock)?),
        ("LEASE_LOST", ..) => {
            let lease = lease.ok_or_else(|| StoreError::Protocol("a lost lease that is not named".to_owned()))?;
            Refusal::Lost { lease: past(*lease), now }
        }
        ("FORBIDDEN", ..) if lock.is_some() => Refusal::NotHolder(busy(lock)?),
        ("PROJECT_NOT_FOUND", ..) => Refusal::UnknownProject,
        ("INVALID_REQUEST", Some("Idempotency-Key"), Command::Lock { .. }) => Refusal::RequestReused,
        ("INVALID_REQUEST", Some("token"), _) => match token(command) {
            Some(token) => Refusal::NeverGranted { token, now },
            None => return Err(client.failure(reply)),
        },
        _ => return Err(client.failure(reply)),
    })
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

/// The request id of somebody else, which a user is not told.
fn request_id(told: Option<RequestId>) -> RequestId {
    told.unwrap_or_else(|| Uuid::nil().into())
}

fn time(time: jiff::Timestamp) -> Timestamp {
    Timestamp::from_millis(u64::try_from(time.as_millisecond()).unwrap_or_default())
}

/// When a lease ends that is renewed or claimed. One that must be claimed was never renewed.
fn expires_at(acquired_at: Timestamp, ttl: Ttl, ends_at: jiff::Timestamp, must_be_claimed: bool) -> Timestamp {
    if must_be_claimed { acquired_at.after(ttl.get()) } else { time(ends_at) }
}

fn lease(json: LeaseJson) -> Lease {
    let LeaseJson { token, holder, operation, message, ttl, request, claim_by, .. } = json;
    let acquired_at = time(json.acquired_at);
    let expires_at = expires_at(acquired_at, ttl, json.expires_at, claim_by.is_some());
    let (request, claim_by) = (request_id(request), claim_by.map(time));
    Lease { token, request, holder, operation, message, ttl, acquired_at, expires_at, claim_by }
}

/// Who is in the way.
pub(super) fn busy(lock: Option<Box<LockJson>>) -> Result<Busy, StoreError> {
    let missing = || StoreError::Protocol("a locked project without its lock".to_owned());
    let lock = *lock.ok_or_else(missing)?;
    let LockJson { token, holder, operation, message, ttl, request, claim_by, queue_length, .. } = lock;
    let ttl = ttl.ok_or_else(missing)?;
    let acquired_at = time(lock.locked_at);
    let expires_at = expires_at(acquired_at, ttl, lock.expires_at, claim_by.is_some());
    let (request, claim_by) = (request_id(request), claim_by.map(time));
    let lease = Lease { token, request, holder, operation, message, ttl, acquired_at, expires_at, claim_by };
    Ok(Busy { lease, queue_length })
}

fn past(json: EndedJson) -> PastLease {
    let EndedJson { token, holder, how, ended_at, by, reason, request } = json;
    let ended = Ended { how, at: time(ended_at), by, reason };
    PastLease { token, request: request_id(request), holder, ended }
}

fn place(json: PlaceJson) -> Result<Place, StoreError> {
    let PlaceJson { ticket, position, lock, .. } = json;
    Ok(Place { ticket: TicketNumber(ticket), position, busy: busy(Some(Box::new(lock)))? })
}

/// A project as it was at the server's time.
pub(super) fn status(json: ProjectJson, now: Timestamp) -> Result<Status, StoreError> {
    let ProjectJson { project, owner, lease: held, queue, .. } = json;
    let queue = queue.into_iter().map(ticket).collect::<Result<_, _>>()?;
    Ok(Status { project, owner, lease: held.map(lease), queue, now })
}

fn ticket(json: WaiterJson) -> Result<Ticket, StoreError> {
    let WaiterJson { holder, operation, message, queued_at, ticket, ttl, alive_until, request } = json;
    let missing = || StoreError::Protocol("a waiter without its ticket".to_owned());
    Ok(Ticket {
        number: TicketNumber(ticket.ok_or_else(missing)?),
        request: LockRequest { id: request_id(request), holder, operation, message, ttl: ttl.ok_or_else(missing)? },
        queued_at: time(queued_at),
        alive_until: alive_until.map(time).ok_or_else(missing)?,
    })
}

/// An event of the history.
pub(super) fn recorded(json: EventJson) -> Recorded {
    let EventJson { id, at, project, kind, holder, token, operation, message, by, reason, request } = json;
    let event = Event { at: time(at), kind, holder, request, token, operation, message, by, reason };
    Recorded { id, project, event }
}
