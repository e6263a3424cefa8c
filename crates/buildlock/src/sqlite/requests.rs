//! What each request does within the writer's transaction.

use std::time::Duration;

use buildlock_core::{
    Command, Context, Event, EventKind, Holder, Lease, Outcome, PastKey, PastLease, ProjectId, Refusal, TicketChange,
    Timestamp, Token,
};
use rusqlite::Result;

use super::columns::{is_nonsense, readable};
use super::rows::{NewEvent, ProjectRow, RawId};
use super::writer::Writer;
use crate::store::{Answer, Deleted, EventId, Recorded, Retention, Status};

/// How many projects, or old events, one request settles: it bounds how long others wait for it.
const SETTLE_LIMIT: usize = 1_000;

/// After how long a project that cannot be read is looked at again, in case somebody has repaired it.
const UNREADABLE_FOR: Duration = Duration::from_secs(60 * 60);

/// How long history is kept whatever the retention.
const ALWAYS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

impl Writer<'_> {
    pub(super) fn apply(&mut self, project: &ProjectId, command: &Command) -> Result<Answer> {
        let now = self.batch.now;
        let is_new = !self.load(project)?;
        if is_new {
            let Command::Lock { request, .. } = command else {
                return Ok(Answer { outcome: Outcome::refused(Refusal::UnknownProject), now });
            };
            // A project that was deleted has a past: its requests are not granted again (rule 4).
            if let Some(past) = self.sql.past_lease(project, PastKey::Request(request.id))? {
                let context = Context { now, next_token: self.store.next_token, past: Some(&past) };
                let outcome = buildlock_core::Project::default().decide(command, context).outcome;
                return Ok(Answer { outcome, now });
            }
            let row = self.sql.insert_project(project, &request.holder)?;
            self.projects.insert(project.clone(), row);
        }
        // A new project has no past, or it was just looked up.
        let past = if is_new { None } else { self.past_lease(project, command)? };
        let Self { sql, projects, batch, store, newest, granted, .. } = self;
        let Some(row) = projects.get_mut(project) else { unreachable!("it was just loaded") };
        let before = fingerprint(row);
        let context = Context { now, next_token: store.next_token, past: past.as_ref() };
        let decision = row.state.decide(command, context);
        store.next_token = decision.next_token;
        for change in decision.tickets {
            batch.wrote = true;
            match change {
                TicketChange::Taken(ticket) => sql.insert_ticket(row.number, &ticket)?,
                TicketChange::Touched(ticket, until) => sql.touch_ticket(row.number, ticket, until)?,
                TicketChange::Gone(ticket) => sql.delete_ticket(row.number, ticket)?,
            }
        }
        for event in decision.events {
            granted.note(&event);
            *newest = EventId(newest.0 + 1);
            let recorded = Recorded { id: *newest, project: project.clone(), event };
            batch.events.push(NewEvent { recorded, previous: row.last_event.replace(*newest) });
        }
        note_due(row, matches!(command, Command::Settle));
        if fingerprint(row) != before {
            batch.wrote = true;
            if row.is_saved {
                row.is_saved = false;
                batch.unsaved.push(project.clone());
            }
        }
        Ok(Answer { outcome: decision.outcome, now })
    }

    pub(super) fn status(&mut self, project: &ProjectId) -> Result<Option<Status>> {
        if !self.load(project)? {
            return Ok(None);
        }
        let now = self.batch.now;
        Ok(self.projects.get(project).map(|row| Status {
            project: project.clone(),
            owner: row.owner.clone(),
            lease: row.state.lease.clone().filter(|lease| lease.is_live(now)),
            queue: row.state.queue.iter().filter(|ticket| now < ticket.alive_until).cloned().collect(),
            now,
        }))
    }

    pub(super) fn list(&mut self, after: Option<&ProjectId>, limit: usize) -> Result<Vec<Status>> {
        let mut after = after.map_or_else(RawId::default, RawId::from);
        let mut statuses = Vec::new();
        // A page is full unless it is the last, whatever is left out of it.
        while statuses.len() < limit {
            let projects = self.sql.list_projects(&after, limit - statuses.len())?;
            let Some(last) = projects.last() else { break };
            after = last.clone();
            let read = projects.iter().filter_map(|id| id.parse().and_then(|id| self.status(&id)).transpose());
            statuses.extend(readable(read)?);
        }
        Ok(statuses)
    }

    pub(super) fn create(&mut self, project: &ProjectId, owner: &Holder) -> Result<bool> {
        if self.load(project)? {
            return Ok(false);
        }
        let row = self.sql.insert_project(project, owner)?;
        self.projects.insert(project.clone(), row);
        self.record(project, Event::of_project(EventKind::Created, owner.clone(), self.batch.now));
        Ok(true)
    }

    pub(super) fn delete(&mut self, project: &ProjectId, by: &Holder) -> Result<Deleted> {
        if self.apply(project, &Command::Settle)?.outcome != Outcome::Done {
            return Ok(Deleted::Unknown);
        }
        let now = self.batch.now;
        if let Some(busy) = self.projects.get(project).and_then(|row| row.state.busy(now)) {
            return Ok(Deleted::Locked(busy));
        }
        self.record(project, Event::of_project(EventKind::Deleted, by.clone(), now));
        // All that is not yet written is of projects that are in memory.
        self.write()?;
        if let Some(row) = self.projects.remove(project) {
            self.sql.delete_project(&row)?;
            self.delete_builds(project)?;
        }
        Ok(Deleted::Gone)
    }

    pub(super) fn history(
        &mut self,
        project: Option<&ProjectId>,
        before: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<Recorded>> {
        self.write()?;
        let Some(project) = project else { return self.sql.events_before(before, limit) };
        if !self.load(project)? {
            return Ok(Vec::new());
        }
        let mut next = self.projects.get(project).and_then(|row| row.last_event);
        let mut page = Vec::new();
        while let Some(id) = next.filter(|_| page.len() < limit) {
            // Where the chain breaks off, the older events have been pruned.
            let Some((recorded, previous)) = self.sql.event_by_id(id)? else { break };
            page.extend(recorded.filter(|_| before.is_none_or(|before| id < before)));
            next = previous;
        }
        Ok(page)
    }

    pub(super) fn events_after(&mut self, after: EventId, limit: usize) -> Result<Vec<Recorded>> {
        self.write()?;
        self.sql.events_after(after, limit)
    }

    pub(super) fn settle_due(&mut self) -> Result<Option<Duration>> {
        let now = self.batch.now;
        self.write()?;
        let due = self.sql.due_projects(now, SETTLE_LIMIT)?;
        for project in &due {
            match project.parse().and_then(|project| self.apply(&project, &Command::Settle)) {
                Err(error) if is_nonsense(&error) => {
                    tracing::warn!(%error, "the project {project} cannot be read, and is left as it is");
                    self.sql.postpone(project, now.after(UNREADABLE_FOR))?;
                    self.batch.wrote = true;
                }
                settled => drop(settled?),
            }
        }
        self.write()?;
        let pruned = self.prune()?;
        if due.len() == SETTLE_LIMIT || pruned == SETTLE_LIMIT {
            return Ok(Some(Duration::ZERO));
        }
        Ok(self.sql.next_due()?.map(|due_at| due_at.since(now)))
    }

    pub(super) fn set_retention(&mut self, retention: Retention) -> Result<()> {
        self.store.retention = retention;
        self.batch.wrote = true;
        self.sql.save_retention(retention)
    }

    /// Deletes some of the events that the retention no longer keeps.
    fn prune(&mut self) -> Result<usize> {
        let Retention { max_age, max_events } = self.store.retention;
        let older_than = |age: Duration| self.batch.now.before(age.max(ALWAYS_KEPT));
        let mut pruned = 0;
        if let Some(max_age) = max_age {
            pruned += self.sql.prune_events(older_than(max_age), self.newest, SETTLE_LIMIT)?;
        }
        if let Some(max_events) = max_events {
            let before = EventId((self.newest.0 + 1).saturating_sub(max_events.max(1)));
            pruned += self.sql.prune_events(older_than(ALWAYS_KEPT), before, SETTLE_LIMIT - pruned)?;
        }
        if pruned > 0 {
            self.batch.wrote = true;
            tracing::info!(pruned, "old events have left the history, as its retention says");
        }
        Ok(pruned)
    }

    fn record(&mut self, project: &ProjectId, event: Event) {
        let Some(row) = self.projects.get_mut(project) else { return };
        self.newest = EventId(self.newest.0 + 1);
        let recorded = Recorded { id: self.newest, project: project.clone(), event };
        self.batch.events.push(NewEvent { recorded, previous: row.last_event.replace(self.newest) });
        self.batch.wrote = true;
        if row.is_saved {
            row.is_saved = false;
            self.batch.unsaved.push(project.clone());
        }
    }

    /// The lease of the past that the command may be about.
    fn past_lease(&mut self, project: &ProjectId, command: &Command) -> Result<Option<PastLease>> {
        let row = self.projects.get(project);
        let Some(key) = row.and_then(|row| row.state.past_key(command)) else { return Ok(None) };
        if matches!(key, PastKey::Request(request) if self.granted.never(request)) {
            return Ok(None);
        }
        if row.is_some_and(|row| !row.is_saved) {
            self.write()?;
        }
        self.sql.past_lease(project, key)
    }

    /// Brings the project into memory; false if it does not exist.
    fn load(&mut self, project: &ProjectId) -> Result<bool> {
        if self.projects.contains_key(project) {
            return Ok(true);
        }
        let Some(row) = self.sql.load_project(project)? else { return Ok(false) };
        self.projects.insert(project.clone(), row);
        Ok(true)
    }
}

/// Keeps `due_at` no later than the project's next deadline. It is moved back only when the project
/// was looked at because it was due: a busy project then changes the index on it once a TTL, not
/// with every lock and unlock.
fn note_due(row: &mut ProjectRow, is_due: bool) {
    let deadline = row.state.next_deadline();
    let is_sooner = deadline.is_some_and(|deadline| row.due_at.is_none_or(|due_at| deadline < due_at));
    if is_due || is_sooner {
        row.due_at = deadline;
    }
}

type Fingerprint = (Option<(Token, Timestamp, Option<Timestamp>)>, Option<Timestamp>, Option<EventId>);

/// Tells whether a project's row has changed.
fn fingerprint(row: &ProjectRow) -> Fingerprint {
    let lease = row.state.lease.as_ref();
    (lease.map(|lease: &Lease| (lease.token, lease.expires_at, lease.claim_by)), row.due_at, row.last_event)
}
