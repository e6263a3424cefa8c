//! News from the server: one stream of events, open as long as somebody watches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderName};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::answers::recorded;
use super::client::{Ask, Client, Line, Reply};
use super::stream::{StreamEvent, StreamReader};
use crate::StoreError;
use crate::store::{EventId, News, Watcher};
use crate::watches::Watches;
use crate::wire::EventJson;

/// A watch that lasts no longer opens no stream: a lock that is granted at once needs no news.
const OPEN_AFTER: Duration = Duration::from_millis(20);

/// How long a stream stays open that nobody watches: somebody may begin again soon.
const CLOSE_AFTER: Duration = Duration::from_secs(30);

/// The pause before a stream is opened again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The event that says that some were not told.
const MISSED: &str = "missed";

/// Who watches, and what is known.
#[derive(Debug)]
pub(super) struct NewsDesk {
    watches: Arc<Watches>,
    newest: watch::Sender<EventId>,
    /// Somebody began to watch.
    wanted: Notify,
    /// From where the stream goes on; none while nobody watches. What began to be watched is told of
    /// all that came after it.
    position: Mutex<Option<EventId>>,
}

impl NewsDesk {
    /// A desk that knows the newest event so far. It works until its client is closed.
    pub(super) fn open(client: &Client, newest: EventId) -> Arc<Self> {
        let desk = Arc::new(Self {
            watches: Arc::default(),
            newest: watch::Sender::new(newest),
            wanted: Notify::new(),
            position: Mutex::new(None),
        });
        client.runtime().spawn(work(Arc::clone(&desk), Arc::clone(client.line())));
        desk
    }

    pub(super) fn watch(&self, news: News) -> Watcher {
        let watcher = self.watches.watch(news);
        self.want();
        watcher
    }

    pub(super) fn newest_event(&self) -> watch::Receiver<EventId> {
        let newest = self.newest.subscribe();
        self.want();
        newest
    }

    /// An answer told of this event.
    pub(super) fn heard_of(&self, event: EventId) {
        self.newest.send_if_modified(|newest| {
            let is_newer = event > *newest;
            *newest = event.max(*newest);
            is_newer
        });
    }

    fn want(&self) {
        let known = *self.newest.borrow();
        self.with_position(|position| *position = position.or(Some(known)));
        self.wanted.notify_one();
    }

    fn is_wanted(&self) -> bool {
        !self.watches.is_empty() || self.newest.receiver_count() > 0
    }

    /// Forgets the position if nobody watches; whoever begins to do so meanwhile is seen.
    fn is_over(&self) -> bool {
        self.with_position(|position| {
            let is_over = !self.is_wanted();
            if is_over {
                *position = None;
            }
            is_over
        })
    }

    fn with_position<T>(&self, use_position: impl FnOnce(&mut Option<EventId>) -> T) -> T {
        // One assignment cannot be left half done by a panic.
        use_position(&mut self.position.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, event: StreamEvent) -> Result<(), StoreError> {
        let StreamEvent { id, name, data } = event;
        if name == MISSED {
            self.watches.tell_all();
        } else if !name.is_empty() {
            let json: EventJson =
                serde_json::from_str(&data).map_err(|error| StoreError::Protocol(error.to_string()))?;
            self.watches.tell([&recorded(json).event]);
        }
        if let Some(id) = id.map(EventId) {
            self.with_position(|position| *position = position.map(|_| id));
            self.heard_of(id);
        }
        Ok(())
    }
}

/// Keeps a stream open while it is wanted.
async fn work(desk: Arc<NewsDesk>, line: Arc<Line>) {
    let mut pause = FIRST_PAUSE;
    let mut has_failed = false;
    loop {
        if !desk.is_wanted() {
            has_failed = false;
            if desk.is_over() {
                desk.wanted.notified().await;
            }
            sleep(OPEN_AFTER).await;
            continue;
        }
        let began = Instant::now();
        let Err(error) = follow(&desk, &line, has_failed).await else { continue };
        tracing::debug!(%error, "the stream of events broke off");
        has_failed = true;
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Reads one stream, until nobody watches any more.
async fn follow(desk: &NewsDesk, line: &Line, is_again: bool) -> Result<(), StoreError> {
    let position = desk.with_position(|position| position.unwrap_or_default());
    let ask = Ask::new(Method::GET, "/v1/events")
        .with_header(ACCEPT, "text/event-stream")
        .with_header(HeaderName::from_static("last-event-id"), &position.0.to_string());
    let mut response = line.start(&ask).await.map_err(|error| line.unreachable(&error))?;
    if !response.status().is_success() {
        let status = response.status();
        let body = response.bytes().await.map_err(|error| line.unreachable(&error))?.into();
        return Err(line.failure(&Reply { status, body, time: None }));
    }
    if is_again {
        // What came long before may be forgotten by now: let all look for themselves.
        desk.watches.tell_all();
    }
    let mut reader = StreamReader::default();
    let mut unwanted_since = None;
    loop {
        let look_again_at = Instant::now() + CLOSE_AFTER;
        if let Ok(chunk) = timeout_at(look_again_at, response.chunk()).await {
            let chunk = chunk.map_err(|error| line.unreachable(&error))?;
            let chunk = chunk.ok_or_else(|| StoreError::Protocol("the stream has ended".to_owned()))?;
            reader.read(&chunk)?.into_iter().try_for_each(|event| desk.take(event))?;
        }
        if desk.is_wanted() {
            unwanted_since = None;
        } else if unwanted_since.get_or_insert_with(Instant::now).elapsed() >= CLOSE_AFTER && desk.is_over() {
            return Ok(());
        }
    }
}
