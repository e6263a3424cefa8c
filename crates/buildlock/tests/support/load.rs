//! Load on a store, which tells every answer that it was given; and the check that each of them is on
//! record (rule 12).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use buildlock::{EventKind, LockStore, News, Outcome, ProjectId, Recorded, RequestId, Timestamp, Token};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::ask::{Ask, project, request, ttl};
use super::random::Random;
use super::replay::Replay;

/// An answer that changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    Queued(ProjectId, RequestId),
    Granted(ProjectId, RequestId, Token),
    Renewed(ProjectId, Token, Timestamp),
    Ended(ProjectId, Token, EventKind),
}

impl Told {
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).unwrap()
    }

    pub(crate) fn from_line(line: &str) -> Self {
        serde_json::from_str(line).unwrap()
    }
}

/// One who locks, waits, renews and unlocks, over and over, and tells each answer once it has come.
pub(crate) struct Worker<'a> {
    pub(crate) store: &'a dyn LockStore,
    pub(crate) name: String,
    /// Here it takes its turn, or does not wait.
    pub(crate) sites: Vec<String>,
    pub(crate) random: Random,
    pub(crate) tell: fn(Told),
}

impl Worker<'_> {
    pub(crate) async fn round(&mut self) {
        let site = self.sites[self.random.below(self.sites.len() as u64) as usize].clone();
        let id = project(&site);
        let mut request = request(&self.name);
        request.ttl = ttl(1 + self.random.below(30));
        let granted = if self.random.below(2) == 0 {
            self.store.lock(&site, &request).await
        } else {
            let turn = self.store.watch(&id, News::Turn(request.id));
            loop {
                let outcome = self.store.queue(&site, &request).await;
                if !matches!(outcome, Outcome::Queued(_)) {
                    break outcome;
                }
                (self.tell)(Told::Queued(id.clone(), request.id));
                if self.random.below(16) == 0 {
                    self.store.withdraw(&site, request.id).await;
                    return;
                }
                let _ = timeout(Duration::from_millis(500), turn.changed()).await;
            }
        };
        let lease = match granted {
            Outcome::Held(lease) => lease,
            // Locked, or handed over and not claimed in time.
            Outcome::Refused(_) => return tokio::task::yield_now().await,
            outcome => panic!("{outcome:?}"),
        };
        (self.tell)(Told::Granted(id.clone(), request.id, lease.token));
        if self.random.below(3) == 0
            && let Outcome::Held(renewed) = self.store.renew(&site, &lease).await
        {
            (self.tell)(Told::Renewed(id.clone(), lease.token, renewed.expires_at));
        }
        let ended = match self.random.below(8) {
            0 => self.store.force_unlock(&site, lease.token, "root", "stuck").await,
            _ => self.store.unlock(&site, &lease).await,
        };
        if let Outcome::Ended(past) = ended {
            (self.tell)(Told::Ended(id, past.token, past.ended.how.into()));
        }
    }
}

/// A store's history, to look up what was told in it.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) replay: Replay,
    queued: HashSet<(ProjectId, RequestId)>,
    granted: HashMap<(ProjectId, Token), RequestId>,
    ended_at: HashMap<(ProjectId, Token), Timestamp>,
}

impl Record {
    /// The next events, oldest first. They must keep the rules.
    #[track_caller]
    pub(crate) fn feed(&mut self, history: &[Recorded]) {
        self.replay.feed(history);
        for Recorded { project, event, .. } in history {
            match (event.kind, event.request, event.token) {
                (EventKind::Queued, Some(request), _) => drop(self.queued.insert((project.clone(), request))),
                (EventKind::Granted, Some(request), Some(token)) => {
                    self.granted.insert((project.clone(), token), request);
                }
                (kind, _, Some(token)) if kind.end().is_some() => {
                    self.ended_at.insert((project.clone(), token), event.at);
                }
                _ => {}
            }
        }
    }

    /// Fails unless what was told is on record.
    pub(crate) async fn assert_holds(&self, store: &dyn LockStore, told: &Told) {
        match told.clone() {
            Told::Queued(project, request) => {
                assert!(self.queued.contains(&(project, request)), "rule 12: a ticket was lost: {told:?}");
            }
            Told::Granted(project, request, token) => {
                let on_record = self.granted.get(&(project, token));
                assert_eq!(on_record, Some(&request), "rule 12: a grant was lost: {told:?}");
            }
            Told::Ended(project, token, kind) => {
                let on_record = self.replay.ended.get(&(project, token));
                assert_eq!(on_record, Some(&kind), "rule 12: a release was lost: {told:?}");
            }
            Told::Renewed(project, token, expires_at) => {
                let key = (project, token);
                match self.replay.ended.get(&key) {
                    Some(EventKind::Expired | EventKind::Unclaimed) => {
                        assert!(self.ended_at[&key] >= expires_at, "rule 12: a renewal was lost: {told:?}");
                    }
                    Some(_) => {}
                    None => {
                        let status = store.status(&key.0).await.unwrap().unwrap();
                        let kept = match status.lease {
                            Some(ref lease) => lease.token == token && lease.expires_at >= expires_at,
                            // It has ended by itself since, and nobody has looked.
                            None => status.now >= expires_at,
                        };
                        assert!(kept, "rule 12: a renewal was lost: {told:?}, and now {status:?}");
                    }
                }
            }
        }
    }
}
