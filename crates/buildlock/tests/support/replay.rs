//! Replays a store's history and checks that it keeps the rules.

use std::collections::{BTreeMap, BTreeSet};

use buildlock::{Event, EventId, EventKind, ProjectId, Recorded, RequestId, Timestamp, Token};

/// What a history tells, event by event. It may be fed in pieces.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) newest: EventId,
    pub(crate) events: usize,
    /// Every lease that was granted.
    pub(crate) granted: BTreeSet<(ProjectId, Token)>,
    /// Every lease that ended, and how.
    pub(crate) ended: BTreeMap<(ProjectId, Token), EventKind>,
    newest_token: Option<Token>,
    requests: BTreeSet<(ProjectId, RequestId)>,
    projects: BTreeMap<ProjectId, Line>,
}

/// One project's line of events.
#[derive(Debug, Default)]
struct Line {
    holds: Option<Token>,
    free_since: Timestamp,
    queue: Vec<RequestId>,
    events: Vec<EventId>,
}

impl Replay {
    /// The next events, oldest first.
    #[track_caller]
    pub(crate) fn feed(&mut self, history: &[Recorded]) {
        history.iter().for_each(|recorded| self.next(recorded));
    }

    /// The ids of a project's events, newest first.
    pub(crate) fn events_of(&self, project: &ProjectId) -> Vec<EventId> {
        self.projects.get(project).map(|line| line.events.iter().rev().copied().collect()).unwrap_or_default()
    }

    pub(crate) fn projects(&self) -> Vec<ProjectId> {
        self.projects.keys().cloned().collect()
    }

    #[track_caller]
    fn next(&mut self, recorded: &Recorded) {
        let Recorded { id, project, event } = recorded;
        assert!(*id > self.newest, "rule 11: events come in order: {recorded:?}");
        self.newest = *id;
        self.events += 1;
        let line = self.projects.entry(project.clone()).or_default();
        line.events.push(*id);
        match event {
            Event { kind: EventKind::Granted, token: Some(token), request: Some(request), .. } => {
                assert_eq!(line.holds, None, "rule 1: one lease at a time: {recorded:?}");
                assert!(self.newest_token < Some(*token), "rule 2: tokens grow: {recorded:?}");
                assert!(self.requests.insert((project.clone(), *request)), "rule 4: one grant: {recorded:?}");
                assert!(line.free_since <= event.at, "rule 1: granted before the last lease ended: {recorded:?}");
                if let Some(waited) = line.queue.iter().position(|waiting| waiting == request) {
                    assert_eq!(waited, 0, "rule 6: first come, first served: {recorded:?}");
                    line.queue.remove(0);
                } else {
                    assert!(line.queue.is_empty(), "rule 6: nobody barges in: {recorded:?}");
                }
                self.newest_token = Some(*token);
                line.holds = Some(*token);
                line.free_since = event.at;
                self.granted.insert((project.clone(), *token));
            }
            Event { kind, token: Some(token), .. } if kind.end().is_some() => {
                assert_eq!(line.holds.take(), Some(*token), "rule 11: what ended was held: {recorded:?}");
                assert!(line.free_since <= event.at, "a lease ended before it began: {recorded:?}");
                line.free_since = event.at;
                let earlier = self.ended.insert((project.clone(), *token), *kind);
                assert_eq!(earlier, None, "rule 11: a lease ends once: {recorded:?}");
            }
            Event { kind: EventKind::Queued, request: Some(request), .. } => {
                assert!(line.holds.is_some() && !line.queue.contains(request), "one ticket: {recorded:?}");
                line.queue.push(*request);
            }
            Event { kind: EventKind::Left | EventKind::Dropped, request: Some(request), .. } => {
                assert!(line.queue.contains(request), "who left was there: {recorded:?}");
                line.queue.retain(|waiting| waiting != request);
            }
            Event { kind: EventKind::Created | EventKind::Deleted, .. } => {
                assert_eq!((line.holds, line.queue.len()), (None, 0), "a project that goes is idle: {recorded:?}");
            }
            _ => panic!("an event without its lease or request: {recorded:?}"),
        }
    }
}
