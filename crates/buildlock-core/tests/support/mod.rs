//! The simplest store there could be: it remembers what the events say, and hands out tokens.

use std::collections::HashMap;
use std::time::Duration;

use buildlock_core::{
    Command, Context, Decision, Ended, Event, PastKey, PastLease, Project, Queue, RequestId, Timestamp, Token,
};

/// Some projects that share one clock and one sequence of tokens.
pub(crate) struct Store {
    pub(crate) now: Timestamp,
    pub(crate) next_token: Token,
    pub(crate) projects: Vec<Project>,
    past: HashMap<(usize, Token), PastLease>,
    tokens: HashMap<(usize, RequestId), Token>,
}

impl Store {
    pub(crate) fn new(projects: usize) -> Self {
        Self {
            now: Timestamp::from_millis(1_000_000),
            next_token: Token::FIRST,
            projects: vec![Project::default(); projects],
            past: HashMap::new(),
            tokens: HashMap::new(),
        }
    }

    pub(crate) fn decide(&mut self, project: usize, command: &Command) -> Decision {
        let past = match self.projects[project].past_key(command) {
            Some(PastKey::Token(token)) => Some(token),
            Some(PastKey::Request(request)) => self.tokens.get(&(project, request)).copied(),
            None => None,
        };
        let past = past.and_then(|token| self.past.get(&(project, token)));
        let context = Context { now: self.now, next_token: self.next_token, past };
        let decision = self.projects[project].decide(command, context);
        self.next_token = decision.next_token;
        decision.events.iter().for_each(|event| self.remember(project, event));
        decision
    }

    fn remember(&mut self, project: usize, event: &Event) {
        if let (Some(how), Some(token), Some(request)) = (event.kind.end(), event.token, event.request) {
            let ended = Ended { how, at: event.at, by: event.by.clone(), reason: event.reason.clone() };
            self.remember_end(project, PastLease { token, request, holder: event.holder.clone(), ended });
        }
    }

    pub(crate) fn remember_end(&mut self, project: usize, past: PastLease) {
        self.tokens.insert((project, past.request), past.token);
        self.past.insert((project, past.token), past);
    }

    /// Loads a project anew from what is written of it.
    pub(crate) fn reload(&mut self, project: usize) {
        let Project { lease, queue } = &self.projects[project];
        let queue = Queue::from_tickets(queue.iter().cloned());
        self.projects[project] = Project { lease: lease.clone(), queue };
    }

    pub(crate) fn pass(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
    }
}
