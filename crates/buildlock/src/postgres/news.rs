//! News: whoever waits hears of its turn and of its lease's end, whichever server or program made it; and how far
//! the history has come.
//!
//! The database tells of hand-offs, and of ends that a holder did not make itself, to whoever listens on a
//! connection of its own. Through a pooler nobody can listen: there it is asked for them again and again.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buildlock_core::{Outcome, RequestId, Timestamp, Token};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::AsyncMessage;
use uuid::Uuid;

use super::columns::{Columns, number};
use super::database::{Shared, jittered};
use super::frontier::{Frontier, Snapshot};
use super::line::Line;
use super::rows::recorded;
use super::statement::{FRONTIER, LOOK, NEWEST, TAKERS, parameters};
use crate::StoreError;
use crate::store::{EventId, Grant, News, Watcher};
use crate::watches::Watches;

/// A watch that lasts no longer opens no connection: a lock that is granted at once needs no news.
const LISTEN_AFTER: Duration = Duration::from_millis(20);

/// How long a connection stays open that nobody needs: somebody may begin again soon.
const CLOSE_AFTER: Duration = Duration::from_secs(30);

/// How often it is asked how far the history has come, while somebody follows it.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);

/// And while nobody does, so that whoever begins to follow does not begin long ago.
const KNOW_EVERY: Duration = Duration::from_millis(400);

/// However often this store writes, it is asked no more often.
const AT_MOST_EVERY: Duration = Duration::from_millis(5);

/// How soon to look again where a gap may still be filled.
const GAP_EVERY: Duration = Duration::from_millis(10);

/// How often it is asked what became of those who wait, where nobody tells.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// And where it is told: a connection may be lost without a word, and a holder's own end is not told of.
const LOOK_EVERY_IF_TOLD: Duration = Duration::from_secs(2);

/// How many are asked after at a time.
const LOOK_PAGE: usize = 2_000;

/// How many events are looked through at a time for a gap.
const FRONTIER_PAGE: i64 = 10_000;

/// How long a store that is opened waits for a gap near the end of the history to be filled.
const SETTLED_WITHIN: Duration = Duration::from_millis(300);

/// The pause before listening again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Who watches and what is known.
#[derive(Debug, Default)]
pub(super) struct NewsDesk {
    watches: Arc<Watches>,
    newest: watch::Sender<EventId>,
    frontier: Mutex<Frontier>,
    /// Somebody began to watch, or to follow.
    wanted: Notify,
    /// Somebody began to follow.
    followed: Notify,
    /// To look at once: this store wrote something, or began to listen.
    poked: Notify,
    /// Whether to ask what became of those who wait.
    has_news: AtomicBool,
    /// Whether the database tells nothing, since nobody can listen.
    is_untold: bool,
}

impl NewsDesk {
    pub(super) fn new(is_untold: bool) -> Self {
        Self { is_untold, ..Self::default() }
    }

    pub(super) fn watch(&self, news: News) -> Watcher {
        let watcher = self.watches.watch(news);
        self.wanted.notify_waiters();
        watcher
    }

    pub(super) fn newest_event(&self) -> watch::Receiver<EventId> {
        let newest = self.newest.subscribe();
        self.wanted.notify_waiters();
        self.followed.notify_one();
        newest
    }

    /// This answer was given. Of an end that a holder made itself nobody else tells.
    pub(super) fn has_ended(&self, outcome: &Outcome) {
        if let Outcome::Ended(lease) = outcome {
            self.watches.tell_end(lease.token);
        }
    }

    /// This store has written.
    pub(super) fn wrote(&self, has_news: bool) {
        let concerns_waiters = has_news && self.is_untold && !self.watches.is_empty();
        if self.is_followed() || concerns_waiters {
            self.has_news.fetch_or(concerns_waiters, Ordering::Relaxed);
            self.poked.notify_one();
        }
    }

    /// Wakes all: there will be no more news.
    pub(super) fn close(&self) {
        self.watches.tell_all();
    }

    pub(super) fn with_frontier<T>(&self, use_it: impl FnOnce(&mut Frontier) -> T) -> T {
        // It is whole between any two of its methods' statements that can panic.
        use_it(&mut self.frontier.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_followed(&self) -> bool {
        self.newest.receiver_count() > 0
    }

    fn is_wanted(&self) -> bool {
        self.is_followed() || !self.watches.is_empty()
    }

    /// Waits until somebody watches or follows.
    async fn is_wanted_again(&self) {
        loop {
            let mut wanted = pin!(self.wanted.notified());
            wanted.as_mut().enable();
            if self.is_wanted() {
                return;
            }
            wanted.await;
        }
    }

    /// Tells how far the history has come, as far as it is known.
    pub(super) fn has_come(&self) {
        let settled = self.with_frontier(|frontier| frontier.settled());
        self.newest.send_if_modified(|newest| {
            let is_news = *newest < EventId(settled);
            *newest = EventId(settled).max(*newest);
            is_news
        });
    }

    /// Learns how far the history has come by now, and begins to work.
    pub(super) async fn begin(&self, shared: &Arc<Shared>, helpers: &mut JoinSet<()>) -> Result<(), StoreError> {
        let rows = shared.rows(&NEWEST, parameters![]).await?;
        let newest = rows.first().map(|row| Columns::of(row).get::<u64>()).transpose();
        let newest = newest.map_err(|nonsense| shared.spoilt(&nonsense))?.unwrap_or_default();
        let from = newest.saturating_sub(FRONTIER_PAGE.unsigned_abs());
        self.with_frontier(|frontier| *frontier = Frontier::at(from));
        let settled = timeout(SETTLED_WITHIN, async {
            while !self.advance(shared).await? {
                sleep(GAP_EVERY).await;
            }
            Ok(())
        });
        if let Ok(failed @ Err(_)) = settled.await {
            return failed;
        }
        self.has_come();
        if !shared.address.is_pooled {
            helpers.spawn(listen(Arc::clone(shared)));
        }
        helpers.spawn(look(Arc::clone(shared)));
        Ok(())
    }

    /// Sees how far the history has come. True if there is no gap that may still be filled.
    async fn advance(&self, shared: &Shared) -> Result<bool, StoreError> {
        loop {
            if self.with_frontier(|frontier| frontier.wants_takers()) {
                self.ask_takers(shared).await?;
            }
            let from = self.with_frontier(|frontier| frontier.settled());
            let rows = shared.rows(&FRONTIER, parameters![number(from), FRONTIER_PAGE]).await?;
            let Some(row) = rows.first() else { return Ok(true) };
            let columns = &mut Columns::of(row);
            let mut read = || {
                let (newest, contiguous) = (columns.optional::<u64>()?, columns.optional::<u64>()?);
                Ok((newest, contiguous, Snapshot { xmin: columns.raw()?, xmax: columns.raw()? }))
            };
            let (newest, contiguous, snapshot) = read().map_err(|nonsense| shared.spoilt(&nonsense))?;
            let Some(newest) = newest else { return Ok(true) };
            let settled = self.with_frontier(|frontier| {
                frontier.seen(contiguous, newest, snapshot);
                frontier.settled()
            });
            self.has_come();
            if settled < newest {
                return Ok(false);
            }
            if newest - from < FRONTIER_PAGE.unsigned_abs() {
                return Ok(true);
            }
        }
    }

    /// Asks who may still fill a gap.
    pub(super) async fn ask_takers(&self, shared: &Shared) -> Result<(), StoreError> {
        let rows = shared.rows(&TAKERS, parameters![]).await?;
        let takers = rows.first().map(|row| Columns::of(row).raw()).transpose();
        let takers: Option<Vec<String>> = takers.map_err(|nonsense| shared.spoilt(&nonsense))?;
        self.with_frontier(|frontier| frontier.takers(takers.unwrap_or_default()));
        self.has_come();
        Ok(())
    }

    /// Asks what became of all who wait.
    async fn look(&self, shared: &Shared) -> Result<(), StoreError> {
        for page in self.watches.waited_for().chunks(LOOK_PAGE) {
            let mut requests: Vec<Uuid> = Vec::new();
            let mut tokens: Vec<i64> = Vec::new();
            for news in page {
                match news {
                    News::Turn(request) => requests.push(*request.as_uuid()),
                    News::End(token) => tokens.push(number(token.get())),
                }
            }
            let rows = shared.rows(&LOOK, parameters![requests, tokens]).await?;
            // What cannot be read is nobody's who waits here.
            let events: Vec<_> = rows.iter().filter_map(|row| recorded(row).ok()).collect();
            self.watches.tell(events.iter().map(|recorded| &recorded.event));
        }
        Ok(())
    }

    /// Takes what the database told.
    fn take(&self, payload: &str) {
        match Told::parse(payload) {
            Some(Told::Turn(request, grant)) => self.watches.tell_turn(request, grant),
            Some(Told::End(token)) => self.watches.tell_end(token),
            // A newer version may tell of more.
            None => tracing::debug!(payload, "the database told something that is not understood"),
        }
        if self.is_followed() {
            self.poked.notify_one();
        }
    }
}

/// What the database tells.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Turn(RequestId, Grant),
    End(Token),
}

impl Told {
    fn parse(payload: &str) -> Option<Self> {
        let mut words = payload.split(' ');
        let told = match words.next()? {
            "turn" => {
                let request = Uuid::parse_str(words.next()?).ok()?.into();
                let token = words.next()?.parse().ok()?;
                let at = Timestamp::from_millis(words.next()?.parse().ok()?);
                Self::Turn(request, Grant { token, at })
            }
            "end" => Self::End(words.next()?.parse().ok()?),
            _ => return None,
        };
        words.next().is_none().then_some(told)
    }
}

/// Listens for as long as somebody watches.
async fn listen(shared: Arc<Shared>) {
    let desk = &shared.news;
    let mut pause = FIRST_PAUSE;
    loop {
        desk.is_wanted_again().await;
        sleep(LISTEN_AFTER).await;
        if !desk.is_wanted() {
            continue;
        }
        match begin_to_listen(&shared).await {
            Ok((_line, messages)) => {
                pause = FIRST_PAUSE;
                // What was told meanwhile was told to nobody.
                desk.has_news.store(true, Ordering::Relaxed);
                desk.poked.notify_one();
                hear(desk, messages).await;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot listen to the database");
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn begin_to_listen(shared: &Shared) -> Result<(Line, mpsc::UnboundedReceiver<AsyncMessage>), StoreError> {
    let (line, messages) = Line::connect_listening(&shared.address).await?;
    line.run("listen buildlock").await?;
    Ok((line, messages))
}

/// Hears what the database tells, until the connection is lost or nobody has watched for a while.
async fn hear(desk: &NewsDesk, mut messages: mpsc::UnboundedReceiver<AsyncMessage>) {
    let mut wanted_at = Instant::now();
    loop {
        match timeout(CLOSE_AFTER, messages.recv()).await {
            Ok(Some(AsyncMessage::Notification(told))) => desk.take(told.payload()),
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => return,
        }
        if desk.is_wanted() {
            wanted_at = Instant::now();
        } else if wanted_at.elapsed() >= CLOSE_AFTER {
            return;
        }
    }
}

/// Asks again and again how far the history has come, and what became of those who wait.
async fn look(shared: Arc<Shared>) {
    let desk = &shared.news;
    let every = if shared.address.is_pooled { LOOK_EVERY } else { LOOK_EVERY_IF_TOLD };
    let mut look_at = Instant::now() + jittered(every);
    loop {
        let mut again_after = if desk.is_followed() { FOLLOW_EVERY } else { KNOW_EVERY };
        match desk.advance(&shared).await {
            Ok(true) => {}
            Ok(false) if desk.is_followed() && !desk.with_frontier(|frontier| frontier.has_old_gap()) => {
                again_after = GAP_EVERY;
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "cannot see how far the history has come"),
        }
        if let Some(counting) = shared.counting.get() {
            let settled = desk.with_frontier(|frontier| frontier.settled());
            if let Err(error) = counting.advance(&shared, settled).await {
                tracing::debug!(%error, "cannot count what has happened");
            }
        }
        let has_news = desk.has_news.swap(false, Ordering::Relaxed);
        if has_news || Instant::now() >= look_at {
            if let Err(error) = desk.look(&shared).await {
                tracing::debug!(%error, "cannot look for news");
            }
            look_at = Instant::now() + jittered(every);
        }
        let again_at = Instant::now() + jittered(again_after);
        sleep(AT_MOST_EVERY).await;
        tokio::select! {
            () = sleep_until(again_at.min(look_at)) => {}
            () = desk.poked.notified() => {}
            () = desk.followed.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_tells_is_understood() {
        let request: RequestId = Uuid::from_u128(7).into();
        let grant = Grant { token: Token::new(12).unwrap(), at: Timestamp::from_millis(1_000) };
        assert_eq!(Told::parse(&format!("turn {request} 12 1000")), Some(Told::Turn(request, grant)));
        assert_eq!(Told::parse("end 12"), Some(Told::End(grant.token)));
        for nonsense in ["", "end", "end x", "end 12 13", "turn 12", "turned 1 2 3"] {
            assert_eq!(Told::parse(nonsense), None, "{nonsense:?}");
        }
    }
}
