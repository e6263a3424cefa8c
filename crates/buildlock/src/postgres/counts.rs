//! Counts for metrics.
//!
//! Several servers share the history, and each of its events is to be counted once: by the store through which
//! the request came that it is about, for as long as that store is open.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use buildlock_core::{EventKind, Outcome, Refusal, RequestId};
use tokio_postgres::Row;

use super::PostgresStore;
use super::columns::{Columns, Nonsense, number};
use super::database::Shared;
use super::statement::{COUNTS, HAPPENED, parameters};
use crate::StoreError;
use crate::store::{Answer, CountStore, Counts};
use crate::tally::{Happened, Tally};

/// How many requests are followed at once. Of those beyond that nothing more is counted.
const FOLLOWED: usize = 1 << 16;

/// Counts what becomes of this store's requests.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) tally: Tally,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The requests that came through this store, and are not over.
    ours: HashSet<RequestId>,
    /// Up to which event it has been counted.
    counted: u64,
}

impl Counting {
    pub(super) fn from(counted: u64) -> Self {
        let state = State { ours: HashSet::new(), counted };
        Self { tally: Tally::new(), state: Mutex::new(state) }
    }

    /// A request to lock is about to be sent.
    pub(super) fn sent(&self, request: RequestId) {
        self.with(|state| {
            if state.ours.len() < FOLLOWED {
                state.ours.insert(request);
            }
        });
    }

    /// It was answered.
    pub(super) fn answered(&self, request: RequestId, answer: &Result<Answer, StoreError>) {
        let is_over = matches!(answer.as_ref().map(|answer| &answer.outcome), Ok(Outcome::Refused(refusal))
            if matches!(**refusal, Refusal::Locked(_) | Refusal::QueueFull(_) | Refusal::UnknownProject));
        if is_over {
            self.with(|state| state.ours.remove(&request));
        }
    }

    /// Counts what has happened up to this event.
    pub(super) async fn advance(&self, shared: &Shared, settled: u64) -> Result<(), StoreError> {
        loop {
            let counted = self.with(|state| state.counted);
            if counted >= settled {
                return Ok(());
            }
            let rows = shared.rows(&HAPPENED, parameters![number(counted), number(settled)]).await?;
            let events: Vec<_> = rows.iter().filter_map(|row| happened(row).ok()).collect();
            // Past what cannot be read, and past gaps.
            let reached = events.last().map_or(settled, |(id, _)| *id);
            self.tally.count(self.with(|state| {
                state.counted = reached;
                events.into_iter().map(|(_, event)| event).filter(|event| state.is_ours(event)).collect::<Vec<_>>()
            }));
        }
    }

    fn with<T>(&self, use_state: impl FnOnce(&mut State) -> T) -> T {
        // A panic elsewhere leaves at most a count out.
        use_state(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn is_ours(&mut self, event: &Happened) -> bool {
        let Some(request) = event.request else { return false };
        let is_over = event.kind.end().is_some() || matches!(event.kind, EventKind::Left | EventKind::Dropped);
        if is_over { self.ours.remove(&request) } else { self.ours.contains(&request) }
    }
}

fn happened(row: &Row) -> Result<(u64, Happened), Nonsense> {
    let columns = &mut Columns::of(row);
    let id = columns.get()?;
    let (at, kind) = (columns.get()?, columns.get()?);
    Ok((id, Happened { at, kind, request: columns.optional()?, token: columns.optional()? }))
}

#[async_trait]
impl CountStore for PostgresStore {
    fn begin_to_count(&self) {
        let shared = self.shared();
        shared.counting.get_or_init(|| Counting::from(shared.news.with_frontier(|frontier| frontier.settled())));
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let row = self.row(&COUNTS, parameters![]).await?;
        let columns = &mut Columns::of(&row);
        let mut read = || Ok(Counts { held: columns.get()?, waiting: columns.get()? });
        read().map_err(|nonsense| self.shared().spoilt(&nonsense))
    }
}
