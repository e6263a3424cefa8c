//! Between the lock's rows and the types of `buildlock-core`. One prepared statement for each .sql file.

use std::collections::BTreeSet;
use std::fmt;

use buildlock_core::{
    Ended, Event, EventKind, Holder, Lease, LockRequest, Message, Operation, PastKey, PastLease, ProjectId, Queue,
    Reason, RequestId, Ticket, TicketNumber, Timestamp, Token,
};
use rusqlite::types::{FromSql, FromSqlError, ToSqlOutput, Type, ValueRef};
use rusqlite::{OptionalExtension, Result, Row, Statement, ToSql, params};

use super::clock::ClockRecord;
use super::columns::{Sql, is_nonsense, optional, readable};
use super::granted::Granted;
use super::statements::statements;
use crate::store::{EventId, Recorded, Retention};

/// A project's row and tickets, as far as the store needs them beside the lock's state.
#[derive(Debug, Clone)]
pub(super) struct ProjectRow {
    pub(super) number: i64,
    pub(super) owner: Holder,
    pub(super) due_at: Option<Timestamp>,
    pub(super) last_event: Option<EventId>,
    /// Whether the row in the file is as this one; if not, what it is instead.
    pub(super) is_saved: bool,
    saved_token: Option<Token>,
    saved_due_at: Option<Timestamp>,
    pub(super) state: buildlock_core::Project,
}

/// The one row of the table `store`.
#[derive(Debug, Clone)]
pub(super) struct StoreRow {
    pub(super) clock: ClockRecord,
    pub(super) next_token: Token,
    pub(super) retention: Retention,
}

/// A project's id as it stands in the file, where anybody may have written it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RawId(Vec<u8>);

impl RawId {
    pub(super) fn parse(&self) -> Result<ProjectId> {
        Sql::column_result(ValueRef::Text(&self.0))
            .map(|Sql(id)| id)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
    }
}

impl From<&ProjectId> for RawId {
    fn from(id: &ProjectId) -> Self {
        Self(id.as_str().into())
    }
}

impl fmt::Display for RawId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl ToSql for RawId {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

/// An event to be written, with the id of its project's previous one.
pub(super) struct NewEvent {
    pub(super) recorded: Recorded,
    pub(super) previous: Option<EventId>,
}

/// How many events one statement writes where there are so many: it costs half as much by event.
const EVENTS_AT_ONCE: usize = 16;

/// The statement that writes one event, with its row of values repeated.
fn insert_events() -> String {
    let one = include_str!("sql/insert_event.sql").trim_end();
    let (_, row) = one.rsplit_once("values").unwrap_or_default();
    one.to_owned() + &format!(",{row}").repeat(EVENTS_AT_ONCE - 1)
}

statements!(
    Statements (insert_events = &insert_events()):
    begin,
    commit,
    data_version,
    load_store,
    save_store,
    save_retention,
    load_project,
    load_tickets,
    insert_project,
    save_idle,
    save_lease,
    save_renewal,
    save_due,
    delete_project,
    list_projects,
    insert_ticket,
    touch_ticket,
    delete_ticket,
    insert_event,
    last_event,
    event_by_id,
    events_before,
    events_after,
    granted_token,
    largest_granted,
    ended_lease,
    due_projects,
    next_due,
    postpone,
    all_projects,
    all_tickets,
    prune_events,
);

impl Statements<'_> {
    pub(super) fn begin(&mut self) -> Result<()> {
        self.begin.execute([]).map(drop)
    }

    pub(super) fn commit(&mut self) -> Result<()> {
        self.commit.execute([]).map(drop)
    }

    /// Changes whenever another connection has committed.
    pub(super) fn data_version(&mut self) -> Result<i64> {
        self.data_version.query_row([], |row| row.get(0))
    }

    pub(super) fn load_store(&mut self) -> Result<StoreRow> {
        self.load_store.query_row([], |row| {
            let clock = ClockRecord {
                boot_id: row.get(0)?,
                offset_ms: row.get(1)?,
                wall_ahead_ms: row.get(2)?,
                latest_ms: row.get(3)?,
            };
            let retention = Retention {
                max_age: row.get::<_, Option<i64>>(5)?.map(|ms| std::time::Duration::from_millis(ms.unsigned_abs())),
                max_events: row.get::<_, Option<i64>>(6)?.map(i64::unsigned_abs),
            };
            Ok(StoreRow { clock, next_token: row.get::<_, Sql<Token>>(4)?.0, retention })
        })
    }

    pub(super) fn save_store(&mut self, latest: Timestamp, wall_ahead_ms: i64, next_token: Token) -> Result<()> {
        self.save_store.execute(params![Sql(latest), wall_ahead_ms, Sql(next_token)]).map(drop)
    }

    pub(super) fn save_retention(&mut self, retention: Retention) -> Result<()> {
        // What does not fit is longer, or more, than any history: it means for ever.
        let max_age_ms = retention.max_age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let max_events = retention.max_events.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        self.save_retention.execute(params![max_age_ms, max_events]).map(drop)
    }

    pub(super) fn load_project(&mut self, project: &ProjectId) -> Result<Option<ProjectRow>> {
        let row = self.load_project.query_row([project.as_str()], self::project);
        let Some(mut row) = row.optional()? else { return Ok(None) };
        let tickets = self.load_tickets.query_map([row.number], ticket)?.collect::<Result<Vec<_>>>()?;
        row.state.queue = Queue::from_tickets(tickets);
        Ok(Some(row))
    }

    pub(super) fn insert_project(&mut self, project: &ProjectId, owner: &Holder) -> Result<ProjectRow> {
        let number = self.insert_project.insert(params![project.as_str(), owner.as_str()])?;
        Ok(ProjectRow {
            number,
            owner: owner.clone(),
            due_at: None,
            last_event: None,
            is_saved: true,
            saved_token: None,
            saved_due_at: None,
            state: buildlock_core::Project::default(),
        })
    }

    /// Writes what has changed of a project's row, and no more: this is most of what a store does.
    pub(super) fn save_project(&mut self, row: &mut ProjectRow) -> Result<()> {
        let (number, last_event) = (row.number, row.last_event.map(Sql));
        let lease = row.state.lease.as_ref();
        let token = lease.map(|lease| lease.token);
        match lease {
            None => self.save_idle.execute(params![number, last_event])?,
            Some(lease) if token == row.saved_token => {
                let claim_by = lease.claim_by.map(Sql);
                self.save_renewal.execute(params![number, Sql(lease.expires_at), claim_by, last_event])?
            }
            Some(lease) => self.save_lease.execute(params![
                number,
                lease.holder.as_str(),
                Sql(lease.acquired_at),
                Sql(lease.token),
                Sql(lease.request),
                lease.operation.as_str(),
                lease.message.as_str(),
                lease.ttl.as_millis() as i64,
                Sql(lease.expires_at),
                lease.claim_by.map(Sql),
                last_event,
            ])?,
        };
        if row.due_at != row.saved_due_at {
            self.save_due.execute(params![number, row.due_at.map(Sql)])?;
        }
        (row.is_saved, row.saved_token, row.saved_due_at) = (true, token, row.due_at);
        Ok(())
    }

    pub(super) fn delete_project(&mut self, row: &ProjectRow) -> Result<()> {
        self.delete_project.execute([row.number]).map(drop)
    }

    pub(super) fn list_projects(&mut self, after: &RawId, limit: usize) -> Result<Vec<RawId>> {
        self.list_projects.query_map(params![after, limit as i64], |row| raw_id(row, 0))?.collect()
    }

    pub(super) fn insert_ticket(&mut self, project: i64, ticket: &Ticket) -> Result<()> {
        let request = &ticket.request;
        self.insert_ticket
            .execute(params![
                project,
                ticket.number.0 as i64,
                Sql(request.id),
                request.holder.as_str(),
                request.operation.as_str(),
                request.message.as_str(),
                request.ttl.as_millis() as i64,
                Sql(ticket.queued_at),
                Sql(ticket.alive_until),
            ])
            .map(drop)
    }

    pub(super) fn touch_ticket(&mut self, project: i64, ticket: TicketNumber, alive_until: Timestamp) -> Result<()> {
        self.touch_ticket.execute(params![project, ticket.0 as i64, Sql(alive_until)]).map(drop)
    }

    pub(super) fn delete_ticket(&mut self, project: i64, ticket: TicketNumber) -> Result<()> {
        self.delete_ticket.execute(params![project, ticket.0 as i64]).map(drop)
    }

    pub(super) fn insert_events(&mut self, events: &[NewEvent]) -> Result<()> {
        let (many, rest) = events.as_chunks::<EVENTS_AT_ONCE>();
        many.iter().try_for_each(|events| write_events(&mut self.insert_events, events))?;
        rest.iter().try_for_each(|event| write_events(&mut self.insert_event, std::slice::from_ref(event)))
    }

    pub(super) fn load_granted(&mut self) -> Result<Granted> {
        let largest = self.largest_granted.query_row([Sql(RequestId::from(Granted::LIMIT))], |row| optional(row, 0));
        Ok(Granted::up_to(largest.optional()?.flatten()))
    }

    /// The newest event's id; 0 if there is none.
    pub(super) fn last_event(&mut self) -> Result<EventId> {
        self.last_event.query_row([], |row| optional(row, 0)).map(Option::unwrap_or_default)
    }

    /// An event, unless it cannot be read, and the id of its project's previous one.
    pub(super) fn event_by_id(&mut self, id: EventId) -> Result<Option<(Option<Recorded>, Option<EventId>)>> {
        self.event_by_id
            .query_row([Sql(id)], |row| Ok((readable([recorded(row)])?.pop(), optional(row, 11)?)))
            .optional()
    }

    pub(super) fn events_before(&mut self, before: Option<EventId>, limit: usize) -> Result<Vec<Recorded>> {
        let before = Sql(before.unwrap_or(EventId(u64::MAX)));
        readable(self.events_before.query_map(params![before, limit as i64], recorded)?)
    }

    pub(super) fn events_after(&mut self, after: EventId, limit: usize) -> Result<Vec<Recorded>> {
        readable(self.events_after.query_map(params![Sql(after), limit as i64], recorded)?)
    }

    pub(super) fn past_lease(&mut self, project: &ProjectId, key: PastKey) -> Result<Option<PastLease>> {
        let token = match key {
            PastKey::Token(token) => Some(token),
            PastKey::Request(request) => self
                .granted_token
                .query_row(params![Sql(request), project.as_str()], |row| Ok(row.get::<_, Sql<Token>>(0)?.0))
                .optional()?,
        };
        let Some(token) = token else { return Ok(None) };
        self.ended_lease.query_row(params![Sql(token), project.as_str()], past_lease).optional()
    }

    pub(super) fn due_projects(&mut self, now: Timestamp, limit: usize) -> Result<Vec<RawId>> {
        self.due_projects.query_map(params![Sql(now), limit as i64], |row| raw_id(row, 0))?.collect()
    }

    /// Has a project that cannot be read no longer due before this time.
    pub(super) fn postpone(&mut self, project: &RawId, due_at: Timestamp) -> Result<()> {
        self.postpone.execute(params![project, Sql(due_at)]).map(drop)
    }

    pub(super) fn next_due(&mut self) -> Result<Option<Timestamp>> {
        self.next_due.query_row([], |row| optional(row, 0))
    }

    /// The projects that cannot be read, or whose tickets cannot.
    pub(super) fn unreadable_projects(&mut self) -> Result<BTreeSet<RawId>> {
        let mut unreadable = BTreeSet::new();
        let mut note = |row: &Row<'_>, id, is_readable: Result<()>| match is_readable {
            Err(error) if is_nonsense(&error) => {
                unreadable.insert(raw_id(row, id)?);
                Ok(())
            }
            is_readable => is_readable,
        };
        let mut projects = self.all_projects.query([])?;
        while let Some(row) = projects.next()? {
            note(row, 13, raw_id(row, 13)?.parse().and_then(|_| project(row)).map(drop))?;
        }
        let mut tickets = self.all_tickets.query([])?;
        while let Some(row) = tickets.next()? {
            note(row, 8, ticket(row).map(drop))?;
        }
        Ok(unreadable)
    }

    /// Deletes up to `limit` events that are older than `older_than` and come before `before`.
    pub(super) fn prune_events(&mut self, older_than: Timestamp, before: EventId, limit: usize) -> Result<usize> {
        self.prune_events.execute(params![Sql(older_than), Sql(before), limit as i64])
    }
}

fn write_events(statement: &mut Statement<'_>, events: &[NewEvent]) -> Result<()> {
    let mut parameters = 1..;
    let mut bind = |value: &dyn ToSql| {
        let index = parameters.next().unwrap_or_default();
        statement.raw_bind_parameter(index, value)
    };
    for NewEvent { recorded: Recorded { id, project, event }, previous } in events {
        bind(&Sql(*id))?;
        bind(&Sql(event.at))?;
        bind(&project.as_str())?;
        bind(&event.kind.as_str())?;
        bind(&event.holder.as_str())?;
        bind(&event.request.map(Sql))?;
        bind(&event.token.map(Sql))?;
        bind(&event.operation.as_ref().map(Operation::as_str))?;
        bind(&event.message.as_ref().map(Message::as_str))?;
        bind(&event.by.as_ref().map(Holder::as_str))?;
        bind(&event.reason.as_ref().map(Reason::as_str))?;
        bind(&previous.map(Sql))?;
    }
    statement.raw_execute().map(drop)
}

/// A project's row; its tickets are rows of their own.
fn project(row: &Row<'_>) -> Result<ProjectRow> {
    let lease = match row.get::<_, Option<Sql<Token>>>(4)? {
        None => None,
        Some(Sql(token)) => Some(Lease {
            token,
            holder: row.get::<_, Sql<_>>(2)?.0,
            acquired_at: row.get::<_, Sql<_>>(3)?.0,
            request: row.get::<_, Sql<_>>(5)?.0,
            operation: row.get::<_, Sql<_>>(6)?.0,
            message: row.get::<_, Sql<_>>(7)?.0,
            ttl: row.get::<_, Sql<_>>(8)?.0,
            expires_at: row.get::<_, Sql<_>>(9)?.0,
            claim_by: optional(row, 10)?,
        }),
    };
    let due_at = optional(row, 11)?;
    Ok(ProjectRow {
        number: row.get(0)?,
        owner: row.get::<_, Sql<_>>(1)?.0,
        due_at,
        last_event: optional(row, 12)?,
        is_saved: true,
        saved_token: lease.as_ref().map(|lease: &Lease| lease.token),
        saved_due_at: due_at,
        state: buildlock_core::Project { lease, queue: Queue::default() },
    })
}

fn ticket(row: &Row<'_>) -> Result<Ticket> {
    Ok(Ticket {
        number: TicketNumber(row.get::<_, i64>(0)?.unsigned_abs()),
        request: LockRequest {
            id: row.get::<_, Sql<_>>(1)?.0,
            holder: row.get::<_, Sql<_>>(2)?.0,
            operation: row.get::<_, Sql<_>>(3)?.0,
            message: row.get::<_, Sql<_>>(4)?.0,
            ttl: row.get::<_, Sql<_>>(5)?.0,
        },
        queued_at: row.get::<_, Sql<_>>(6)?.0,
        alive_until: row.get::<_, Sql<_>>(7)?.0,
    })
}

fn raw_id(row: &Row<'_>, column: usize) -> Result<RawId> {
    Ok(RawId(row.get_ref(column)?.as_bytes()?.to_vec()))
}

fn recorded(row: &Row<'_>) -> Result<Recorded> {
    let event = Event {
        at: row.get::<_, Sql<_>>(1)?.0,
        kind: row.get::<_, Sql<_>>(3)?.0,
        holder: row.get::<_, Sql<_>>(4)?.0,
        request: optional(row, 5)?,
        token: optional(row, 6)?,
        operation: optional(row, 7)?,
        message: optional(row, 8)?,
        by: optional(row, 9)?,
        reason: optional(row, 10)?,
    };
    Ok(Recorded { id: row.get::<_, Sql<_>>(0)?.0, project: row.get::<_, Sql<_>>(2)?.0, event })
}

fn past_lease(row: &Row<'_>) -> Result<PastLease> {
    let kind: EventKind = row.get::<_, Sql<_>>(3)?.0;
    let how = kind.end().ok_or_else(|| {
        let error = Box::new(FromSqlError::Other(format!("{} ends no lease", kind.as_str()).into()));
        rusqlite::Error::FromSqlConversionFailure(3, Type::Text, error)
    })?;
    let ended = Ended { how, at: row.get::<_, Sql<_>>(4)?.0, by: optional(row, 5)?, reason: optional(row, 6)? };
    Ok(PastLease {
        token: row.get::<_, Sql<_>>(0)?.0,
        request: row.get::<_, Sql<_>>(1)?.0,
        holder: row.get::<_, Sql<_>>(2)?.0,
        ended,
    })
}
