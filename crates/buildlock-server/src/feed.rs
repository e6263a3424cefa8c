//! The events of the store, read once for all who follow them.
//!
//! The newest are in memory, each with the owner of its project, by which a user is told of its own
//! only. A reader has no buffer: one that is slow finds what it missed in memory, then in the history.
//! Nothing is read while nobody follows.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buildlock::{EventId, EventKind, Holder, ProjectId, Recorded, StoreError};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::app::ServerStore;

/// How many events are in memory. Whoever follows and is cut off for a while finds its place again.
const RECENT: usize = 4_096;

/// How many of them are read when somebody begins to follow.
const READ_BEFORE: usize = 1_000;

/// How many events are read, or given, at a time.
const PAGE: usize = 256;

/// How many projects' owners are remembered.
const OWNERS: usize = 10_000;

/// How long reading goes on when nobody follows any more: who was cut off will be back.
const LINGER: Duration = Duration::from_secs(30);

/// How soon to read again when the store could not be read.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// An event and who may see it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) recorded: Recorded,
    /// Who owned the project then; none if that is not known any more.
    pub(crate) owner: Option<Holder>,
}

/// The store's events, for any number of readers.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn ServerStore>,
    recent: Mutex<Recent>,
    /// Up to where events have been read; none while they are not.
    read_to: watch::Sender<Option<EventId>>,
}

#[derive(Debug, Default)]
struct Recent {
    is_read: bool,
    events: VecDeque<Arc<Told>>,
    /// All events after this one are among them.
    since: EventId,
}

impl Feed {
    pub(crate) fn new(store: Arc<dyn ServerStore>) -> Self {
        let (recent, read_to) = (Mutex::default(), watch::Sender::new(None));
        Self { shared: Arc::new(Shared { store, recent, read_to }) }
    }

    /// Everything after an event, or from now on.
    pub(crate) fn follow(&self, after: Option<EventId>) -> Reader {
        let shared = Arc::clone(&self.shared);
        let read_to = shared.read_to.subscribe();
        let must_begin = shared.with(|recent| !std::mem::replace(&mut recent.is_read, true));
        if must_begin {
            tokio::spawn(Arc::clone(&shared).read());
        }
        Reader { shared, read_to, after }
    }
}

impl Shared {
    fn with<T>(&self, use_recent: impl FnOnce(&mut Recent) -> T) -> T {
        // Whole between any two statements of its users, so a panic elsewhere does not spoil it.
        use_recent(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads as long as somebody follows.
    async fn read(self: Arc<Self>) {
        let mut newest = self.store.newest_event();
        let mut owners = Owners::default();
        let mut position = loop {
            match self.begin(&mut owners).await {
                Ok(position) => break position,
                Err(error) => self.rest(&error).await,
            }
        };
        loop {
            newest.borrow_and_update();
            match self.go_on(&mut owners, position).await {
                Ok(Some(read_to)) => position = read_to,
                Ok(None) => match timeout(LINGER, newest.changed()).await {
                    Ok(Ok(())) => {}
                    // The store is closed.
                    Ok(Err(_)) => return,
                    Err(_) if self.is_over() => return,
                    Err(_) => {}
                },
                Err(error) => self.rest(&error).await,
            }
        }
    }

    async fn rest(&self, error: &StoreError) {
        tracing::warn!(%error, "cannot read what happens");
        sleep(RETRY_AFTER).await;
    }

    /// Reads the newest events.
    async fn begin(&self, owners: &mut Owners) -> Result<EventId, StoreError> {
        let mut page = self.store.history(None, None, READ_BEFORE).await?;
        page.reverse();
        let position = page.last().map(|last| last.id).unwrap_or_default();
        let is_all = page.len() < READ_BEFORE;
        let since = page.first().filter(|_| !is_all).map_or(EventId(0), |first| EventId(first.id.0 - 1));
        let told = self.told(owners, page).await?;
        self.with(|recent| {
            recent.events = told.into();
            recent.since = since;
        });
        self.read_to.send_replace(Some(position));
        Ok(position)
    }

    /// Reads what is new.
    async fn go_on(&self, owners: &mut Owners, position: EventId) -> Result<Option<EventId>, StoreError> {
        let page = self.store.events_after(position, PAGE).await?;
        let Some(last) = page.last() else { return Ok(None) };
        let read_to = last.id;
        let told = self.told(owners, page).await?;
        self.with(|recent| {
            recent.events.extend(told);
            while recent.events.len() > RECENT
                && let Some(oldest) = recent.events.pop_front()
            {
                recent.since = oldest.recorded.id;
            }
        });
        self.read_to.send_replace(Some(read_to));
        Ok(Some(read_to))
    }

    async fn told(&self, owners: &mut Owners, page: Vec<Recorded>) -> Result<Vec<Arc<Told>>, StoreError> {
        let mut told = Vec::with_capacity(page.len());
        for recorded in page {
            let owner = owners.of(&*self.store, &recorded).await?;
            told.push(Arc::new(Told { recorded, owner }));
        }
        Ok(told)
    }

    /// Ends the reading if nobody follows; whoever begins meanwhile finds it at work, or begins it anew.
    fn is_over(&self) -> bool {
        self.with(|recent| {
            let is_over = self.read_to.receiver_count() == 0;
            if is_over {
                *recent = Recent::default();
                self.read_to.send_replace(None);
            }
            is_over
        })
    }
}

/// Who owns which project, as of the event that was looked at last.
#[derive(Debug, Default)]
struct Owners {
    known: HashMap<ProjectId, Holder>,
}

impl Owners {
    async fn of(&mut self, store: &dyn ServerStore, recorded: &Recorded) -> Result<Option<Holder>, StoreError> {
        let Recorded { id, project, event } = recorded;
        let owner = match event.kind {
            EventKind::Created => Some(event.holder.clone()),
            // Of a user's project nobody but its owner, or an operator, can make this event.
            EventKind::Deleted => return Ok(Some(self.known.remove(project).unwrap_or_else(|| event.holder.clone()))),
            _ => match self.known.get(project) {
                Some(owner) => return Ok(Some(owner.clone())),
                None => Self::look_up(store, *id, project).await?,
            },
        };
        if let Some(owner) = &owner {
            if self.known.len() >= OWNERS {
                self.known.clear();
            }
            self.known.insert(project.clone(), owner.clone());
        }
        Ok(owner)
    }

    /// The owner of the project that there is now, if the event is one of that project: an id may have
    /// been another's before.
    async fn look_up(store: &dyn ServerStore, id: EventId, project: &ProjectId) -> Result<Option<Holder>, StoreError> {
        let Some(status) = store.status(project).await? else { return Ok(None) };
        let own = store.history(Some(project), Some(EventId(id.0 + 1)), 1).await?;
        Ok(own.first().is_some_and(|own| own.id == id).then_some(status.owner))
    }
}

/// Follows the events.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    read_to: watch::Receiver<Option<EventId>>,
    after: Option<EventId>,
}

/// What a reader is told.
#[derive(Debug)]
pub(crate) enum Page {
    /// The next events, in order.
    Events(Vec<Arc<Told>>),
    /// There are events up to this one that are told no more, as far as they concern one user.
    Missed(EventId),
}

impl Reader {
    /// Where it stands; the next page comes after this.
    pub(crate) async fn position(&mut self) -> EventId {
        if let Some(after) = self.after {
            return after;
        }
        let read_to = self.read_to.wait_for(Option::is_some).await.ok().and_then(|read_to| *read_to);
        *self.after.insert(read_to.unwrap_or_default())
    }

    /// The next page; waits until there is one. Cancel-safe.
    ///
    /// A reader that `sees_all` misses nothing. Any other is told of what is in memory only: who owned
    /// the projects of older events is not kept.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read; the next call goes on where this one stood.
    pub(crate) async fn next(&mut self, sees_all: bool) -> Result<Page, StoreError> {
        let mut after = self.position().await;
        loop {
            let read_to = match self.read_to.wait_for(Option::is_some).await {
                Ok(read_to) => read_to.unwrap_or_default(),
                Err(_) => return Err(StoreError::Closed),
            };
            self.read_to.mark_unchanged();
            if after > read_to && !self.exists(after).await? {
                // The store is another one than it was, such as a copy that was put in its place.
                self.after = Some(read_to);
                return Ok(Page::Missed(read_to));
            }
            let page = self.shared.with(|recent| {
                (after >= recent.since).then(|| {
                    let first = recent.events.partition_point(|told| told.recorded.id <= after);
                    recent.events.range(first..).take(PAGE).cloned().collect::<Vec<_>>()
                })
            });
            let page = match page {
                Some(page) => page,
                None if !sees_all => {
                    self.after = Some(read_to);
                    return Ok(Page::Missed(read_to));
                }
                None => {
                    let page = self.shared.store.events_after(after, PAGE).await?;
                    page.into_iter().map(|recorded| Arc::new(Told { recorded, owner: None })).collect()
                }
            };
            if let Some(last) = page.last() {
                after = last.recorded.id;
                self.after = Some(after);
                return Ok(Page::Events(page));
            }
            self.read_to.changed().await.map_err(|_| StoreError::Closed)?;
        }
    }

    async fn exists(&self, event: EventId) -> Result<bool, StoreError> {
        let newest = self.shared.store.history(None, None, 1).await?;
        Ok(newest.first().is_some_and(|newest| event <= newest.id))
    }
}
