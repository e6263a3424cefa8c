//! Who lives through a history.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use buildlock::{
    Answer, Command, Deleted, Event, EventId, Holder, LockStore, ProjectId, Recorded, Status, StoreError, Timestamp,
};
use tokio::task::JoinSet;

use crate::support::ask::Ask;

/// One that does what the model does.
#[async_trait]
pub(crate) trait Party: Send {
    /// What it is called in a report.
    fn name(&self) -> &'static str;

    /// Decides commands that are sent together, those of one project in this order.
    async fn batch(&self, now: Timestamp, commands: &[(ProjectId, Command)]) -> Vec<Answer>;

    /// Does what is due, and answers when it is next due.
    async fn settle_due(&self, now: Timestamp) -> Option<Duration>;

    async fn create(&self, now: Timestamp, project: &ProjectId, owner: &Holder) -> bool;

    async fn delete(&self, now: Timestamp, project: &ProjectId, by: &Holder) -> Deleted;

    async fn status(&self, now: Timestamp, project: &ProjectId) -> Option<Status>;

    /// The same, as a part of the list of projects.
    async fn listed(&self, now: Timestamp, project: &ProjectId) -> Option<Status>;

    /// All events after this one, oldest first.
    async fn events_after(&self, after: EventId) -> Vec<Recorded>;

    /// A project's events since it was last made, newest first, in pages of this size.
    async fn history(&self, project: &ProjectId, page: usize) -> Vec<Recorded>;
}

/// A store, which has the clock that the test moves.
pub(crate) struct StoreParty {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn LockStore>,
}

#[async_trait]
impl Party for StoreParty {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn batch(&self, _now: Timestamp, commands: &[(ProjectId, Command)]) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = vec![None; commands.len()];
        for wave in waves(commands) {
            let mut asked = JoinSet::new();
            for place in wave {
                let (store, (project, command)) = (Arc::clone(&self.store), commands[place].clone());
                asked.spawn(async move { (place, store.apply(&project, command).await) });
            }
            while let Some(answer) = asked.join_next().await {
                let (place, answer): (usize, Result<Answer, StoreError>) = answer.unwrap();
                let (project, command) = &commands[place];
                let answer =
                    answer.unwrap_or_else(|error| panic!("{} to {command:?} of {project}: {error}", self.name));
                answers[place] = Some(answer);
            }
        }
        answers.into_iter().flatten().collect()
    }

    async fn settle_due(&self, _now: Timestamp) -> Option<Duration> {
        self.store.settle_due().await.unwrap()
    }

    async fn create(&self, _now: Timestamp, project: &ProjectId, owner: &Holder) -> bool {
        self.store.create_project(project, owner).await.unwrap()
    }

    async fn delete(&self, _now: Timestamp, project: &ProjectId, by: &Holder) -> Deleted {
        self.store.delete_project(project, by).await.unwrap()
    }

    async fn status(&self, _now: Timestamp, project: &ProjectId) -> Option<Status> {
        self.store.status(project).await.unwrap()
    }

    async fn listed(&self, _now: Timestamp, project: &ProjectId) -> Option<Status> {
        let before = just_before(project);
        let page = self.store.projects(Some(&before), 1).await.unwrap();
        page.into_iter().next().filter(|status| status.project == *project)
    }

    async fn events_after(&self, after: EventId) -> Vec<Recorded> {
        self.store.all_events(after).await
    }

    async fn history(&self, project: &ProjectId, page: usize) -> Vec<Recorded> {
        let mut all: Vec<Recorded> = Vec::new();
        loop {
            let before = all.last().map(|last| last.id);
            let next = self.store.history(Some(project), before, page).await.unwrap();
            let is_last = next.len() < page;
            all.extend(next);
            if is_last {
                return all;
            }
        }
    }
}

/// A name after which this project is the first.
pub(crate) fn just_before(project: &ProjectId) -> ProjectId {
    let name = project.as_str();
    let (kept, last) = name.split_at(name.len() - 1);
    let smaller = char::from(last.as_bytes()[0] - 1);
    format!("{kept}{smaller}~").parse().unwrap()
}

/// The places of the commands, in groups that have each project once.
fn waves(commands: &[(ProjectId, Command)]) -> Vec<Vec<usize>> {
    let mut times: HashMap<&ProjectId, usize> = HashMap::new();
    let mut waves: Vec<Vec<usize>> = Vec::new();
    for (place, (project, _)) in commands.iter().enumerate() {
        let time = times.entry(project).or_default();
        match waves.get_mut(*time) {
            Some(wave) => wave.push(place),
            None => waves.push(vec![place]),
        }
        *time += 1;
    }
    waves
}

/// The events of each project.
pub(crate) fn by_project(events: Vec<Recorded>) -> BTreeMap<ProjectId, Vec<Event>> {
    let mut by_project: BTreeMap<ProjectId, Vec<Event>> = BTreeMap::new();
    for Recorded { project, event, .. } in events {
        by_project.entry(project).or_default().push(event);
    }
    by_project
}
