//! A subscription to everything that happens in a store.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::StoreError;
use crate::store::{EventId, LockStore, Recorded};

/// How many events are read at a time.
const PAGE: usize = 256;

/// The store's events, one after the other, none left out: whoever falls behind catches up from the
/// history.
pub struct Changes {
    store: Arc<dyn LockStore>,
    newest: watch::Receiver<EventId>,
    after: EventId,
    page: VecDeque<Recorded>,
}

impl Changes {
    pub(super) fn new(store: Arc<dyn LockStore>, after: Option<EventId>) -> Self {
        let mut newest = store.newest_event();
        let after = after.unwrap_or_else(|| *newest.borrow_and_update());
        Self { store, newest, after, page: VecDeque::new() }
    }

    /// The next event; waits until there is one. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read; the next call goes on where this one stood.
    pub async fn next(&mut self) -> Result<Recorded, StoreError> {
        loop {
            if let Some(recorded) = self.page.pop_front() {
                self.after = recorded.id;
                return Ok(recorded);
            }
            let newest = *self.newest.borrow_and_update();
            if newest <= self.after {
                self.newest.changed().await.map_err(|_| StoreError::Closed)?;
                continue;
            }
            self.page = self.store.events_after(self.after, PAGE).await?.into();
            if self.page.is_empty() {
                // All up to that one have been pruned; there may be newer ones by now.
                self.after = newest;
            }
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("after", &self.after).finish_non_exhaustive()
    }
}
