//! Wakes those who wait for news. Keyed by request and token, so that a release wakes one waiter
//! and not the herd (rule 6).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use buildlock_core::{Event, EventKind, RequestId, Token};

use crate::store::{Grant, News, Told, Unwatch, Watcher};

type Map = HashMap<News, Vec<Arc<Told>>>;

#[derive(Debug, Default)]
pub(crate) struct Watches {
    map: Mutex<Map>,
}

impl Watches {
    pub(crate) fn watch(self: &Arc<Self>, news: News) -> Watcher {
        let told = Arc::<Told>::default();
        self.with(|map| map.entry(news).or_default().push(Arc::clone(&told)));
        let registered = Registered { watches: Arc::clone(self), news, told: Arc::clone(&told) };
        Watcher { told, _unwatch: Box::new(registered) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.with(|map| map.is_empty())
    }

    /// Wakes whom these events concern.
    pub(crate) fn tell<'a>(&self, events: impl IntoIterator<Item = &'a Event>) {
        self.with(|map| {
            if map.is_empty() {
                return;
            }
            for event in events {
                let news = match event.kind {
                    EventKind::Granted => event.request.map(News::Turn),
                    kind if kind.end().is_some() => event.token.map(News::End),
                    _ => None,
                };
                for told in news.and_then(|news| map.get(&news)).into_iter().flatten() {
                    if let Some(token) = event.token.filter(|_| event.kind == EventKind::Granted) {
                        told.grant.get_or_init(|| Grant { token, at: event.at });
                    }
                    told.news.notify_one();
                }
            }
        });
    }

    /// Wakes whoever waits for the end of this lease.
    pub(crate) fn tell_end(&self, token: Token) {
        self.with(|map| {
            map.get(&News::End(token)).into_iter().flatten().for_each(|told| told.news.notify_one());
        });
    }

    /// Wakes whoever waits for this request's turn.
    pub(crate) fn tell_turn(&self, request: RequestId, grant: Grant) {
        self.with(|map| {
            for told in map.get(&News::Turn(request)).into_iter().flatten() {
                told.grant.get_or_init(|| grant);
                told.news.notify_one();
            }
        });
    }

    /// What is waited for and was not told.
    pub(crate) fn waited_for(&self) -> Vec<News> {
        let is_open = |watchers: &Vec<Arc<Told>>| watchers.iter().any(|told| told.grant.get().is_none());
        self.with(|map| map.iter().filter(|(_, watchers)| is_open(watchers)).map(|(news, _)| *news).collect())
    }

    /// Wakes everybody: there may be news of all.
    pub(crate) fn tell_all(&self) {
        self.with(|map| map.values().flatten().for_each(|told| told.news.notify_one()));
    }

    fn with<T>(&self, use_map: impl FnOnce(&mut Map) -> T) -> T {
        // The map is whole between any two statements above, so a panic elsewhere does not spoil it.
        use_map(&mut self.map.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
struct Registered {
    watches: Arc<Watches>,
    news: News,
    told: Arc<Told>,
}

impl Unwatch for Registered {}

impl Drop for Registered {
    fn drop(&mut self) {
        self.watches.with(|map| {
            if let Some(watchers) = map.get_mut(&self.news) {
                watchers.retain(|told| !Arc::ptr_eq(told, &self.told));
                if watchers.is_empty() {
                    map.remove(&self.news);
                }
            }
        });
    }
}
