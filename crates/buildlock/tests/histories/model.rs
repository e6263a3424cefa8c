//! What a store is to do: the rules of `buildlock-core`, with the projects, the past and the history around them.

use std::collections::BTreeMap;

use buildlock::{
    Answer, Command, Context, Deleted, Ended, Event, EventKind, Holder, Outcome, PastKey, PastLease, Project,
    ProjectId, Refusal, Status, Timestamp, Token,
};

/// A store in memory, as simple as can be.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) now: Timestamp,
    next_token: Token,
    projects: BTreeMap<ProjectId, (Holder, Project)>,
    pub(crate) events: BTreeMap<ProjectId, Vec<Event>>,
}

impl Model {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { now, next_token: Token::FIRST, projects: BTreeMap::new(), events: BTreeMap::new() }
    }

    pub(crate) fn apply(&mut self, project: &ProjectId, command: &Command) -> Answer {
        let is_new = !self.projects.contains_key(project);
        let mut new = None;
        let state = match self.projects.get_mut(project) {
            Some((_, state)) => state,
            None => new.get_or_insert_default(),
        };
        let past = state.past_key(command).and_then(|key| past(self.events.get(project)?, key));
        let context = Context { now: self.now, next_token: self.next_token, past: past.as_ref() };
        let owner = match command {
            Command::Lock { request, .. } => Some(&request.holder),
            _ => None,
        };
        if is_new && owner.is_none() {
            return Answer { outcome: Outcome::refused(Refusal::UnknownProject), now: self.now };
        }
        let decision = state.decide(command, context);
        self.next_token = decision.next_token;
        // A project that was deleted has a past, and does not come again for its sake.
        if let (Some(state), Some(owner), Outcome::Held(_)) = (new, owner, &decision.outcome) {
            self.projects.insert(project.clone(), (owner.clone(), state));
        }
        self.events.entry(project.clone()).or_default().extend(decision.events);
        Answer { outcome: decision.outcome, now: self.now }
    }

    pub(crate) fn status(&self, project: &ProjectId) -> Option<Status> {
        let (owner, state) = self.projects.get(project)?;
        Some(Status {
            project: project.clone(),
            owner: owner.clone(),
            lease: state.lease.clone().filter(|lease| lease.is_live(self.now)),
            queue: state.queue.iter().filter(|ticket| self.now < ticket.alive_until).cloned().collect(),
            now: self.now,
        })
    }

    pub(crate) fn create(&mut self, project: &ProjectId, owner: &Holder) -> bool {
        if self.projects.contains_key(project) {
            return false;
        }
        self.projects.insert(project.clone(), (owner.clone(), Project::default()));
        self.record(project, Event::of_project(EventKind::Created, owner.clone(), self.now));
        true
    }

    pub(crate) fn delete(&mut self, project: &ProjectId, by: &Holder) -> Deleted {
        if self.apply(project, &Command::Settle).outcome != Outcome::Done {
            return Deleted::Unknown;
        }
        if let Some(busy) = self.projects.get(project).and_then(|(_, state)| state.busy(self.now)) {
            return Deleted::Locked(busy);
        }
        self.projects.remove(project);
        self.record(project, Event::of_project(EventKind::Deleted, by.clone(), self.now));
        Deleted::Gone
    }

    pub(crate) fn settle_due(&mut self) {
        let projects: Vec<_> = self.projects.keys().cloned().collect();
        for project in projects {
            self.apply(&project, &Command::Settle);
        }
    }

    /// When something about the project becomes due, if it is not already.
    pub(crate) fn due_at(&self, project: &ProjectId) -> Option<Timestamp> {
        let (_, state) = self.projects.get(project)?;
        let tickets = state.queue.iter().map(|ticket| ticket.alive_until);
        tickets.chain(state.lease.as_ref().map(buildlock::Lease::ends_at)).min()
    }

    /// When anything becomes due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.projects.keys().filter_map(|project| self.due_at(project)).min()
    }

    fn record(&mut self, project: &ProjectId, event: Event) {
        self.events.entry(project.clone()).or_default().push(event);
    }
}

/// The lease of the past, as the history tells of it.
fn past(events: &[Event], key: PastKey) -> Option<PastLease> {
    events.iter().rev().find_map(|event| {
        let how = event.kind.end()?;
        let (token, request) = (event.token?, event.request?);
        let is_it = match key {
            PastKey::Token(asked) => token == asked,
            PastKey::Request(asked) => request == asked,
        };
        let ended = || Ended { how, at: event.at, by: event.by.clone(), reason: event.reason.clone() };
        is_it.then(|| PastLease { token, request, holder: event.holder.clone(), ended: ended() })
    })
}
