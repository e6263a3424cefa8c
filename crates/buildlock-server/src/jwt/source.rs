//! An issuer's keys: fetched, kept, and fetched again when they may have changed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use tokio::sync::watch;
use tokio::time::Instant;

use super::key::Key;
use super::key_set::{self, KeySet, NoKeySet};
use crate::builds::cause;
use crate::config::Jwks;

/// How old keys may be before they are fetched again, while they are used on.
const FRESH_FOR: Duration = Duration::from_secs(10 * 60);

/// How old keys may be before they are used no longer: how long an issuer may be down.
const GOOD_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How soon after a fetch there may be another: whoever sends tokens of unknown keys costs the issuer no more.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// How soon after a fetch that failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where an issuer's keys are from.
#[derive(Debug)]
pub(super) enum Source {
    /// The settings.
    Fixed(KeySet),
    /// The issuer.
    Fetched(Arc<Fetched>),
}

/// Why a key cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The issuer has no such key.
    Unknown,
    /// The issuer cannot be asked just now.
    Unavailable,
}

impl Source {
    pub(super) fn new(jwks: &Jwks) -> Self {
        match jwks {
            // It was looked at when the settings were read.
            Jwks::Inline(text) => Self::Fixed(KeySet::parse(text.as_bytes()).unwrap_or_default()),
            Jwks::Url(url) => Self::Fetched(Arc::new(Fetched::new(url.clone()))),
        }
    }

    /// Begins to fetch the keys.
    pub(super) fn prepare(&self) {
        if let Self::Fetched(fetched) = self {
            fetched.begin(&mut fetched.lock());
        }
    }

    /// The key of this name.
    pub(super) async fn key(&self, kid: &str) -> Result<Arc<Key>, Missing> {
        match self {
            Self::Fixed(keys) => keys.get(kid).cloned().ok_or(Missing::Unknown),
            Self::Fetched(fetched) => fetched.key(kid).await,
        }
    }
}

/// Keys that are fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    url: Url,
    state: Mutex<State>,
    /// Changes with each fetch that has ended.
    ended: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The keys, and when they were asked for.
    keys: Option<(KeySet, Instant)>,
    /// When they were last asked for.
    asked: Option<Instant>,
    /// Whether that was answered.
    answered: bool,
    /// Whether they are being fetched.
    fetching: bool,
}

impl State {
    fn key(&self, kid: &str, now: Instant) -> Option<(Arc<Key>, Duration)> {
        let (keys, asked) = self.keys.as_ref()?;
        let age = now - *asked;
        if age >= GOOD_FOR { None } else { keys.get(kid).map(|key| (Arc::clone(key), age)) }
    }

    fn may_fetch(&self, now: Instant) -> bool {
        let pause = if self.answered { COOL_DOWN } else { RETRY_AFTER };
        !self.fetching && self.asked.is_none_or(|asked| now - asked >= pause)
    }
}

impl Fetched {
    fn new(url: Url) -> Self {
        Self { url, state: Mutex::default(), ended: watch::Sender::default() }
    }

    async fn key(self: &Arc<Self>, kid: &str) -> Result<Arc<Key>, Missing> {
        let mut has_waited = false;
        loop {
            let mut ended = {
                let now = Instant::now();
                let mut state = self.lock();
                if let Some((key, age)) = state.key(kid, now) {
                    if age >= FRESH_FOR && state.may_fetch(now) {
                        self.begin(&mut state);
                    }
                    return Ok(key);
                }
                if has_waited || !(state.fetching || state.may_fetch(now)) {
                    return Err(if state.answered { Missing::Unknown } else { Missing::Unavailable });
                }
                if !state.fetching {
                    self.begin(&mut state);
                }
                self.ended.subscribe()
            };
            // It cannot be closed: its sender is here.
            let _ = ended.changed().await;
            has_waited = true;
        }
    }

    /// Begins to fetch, on a task of its own: whoever has asked for it may go, and others wait for it.
    fn begin(self: &Arc<Self>, state: &mut State) {
        let asked = Instant::now();
        state.fetching = true;
        state.asked = Some(asked);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let fetched = fetch(&this.url).await;
            let mut state = this.lock();
            state.fetching = false;
            state.answered = fetched.is_ok();
            match fetched {
                Ok(keys) => {
                    tracing::debug!(keys = keys.len(), "the issuer's keys are here");
                    state.keys = Some((keys, asked));
                }
                Err(error) => {
                    let host = this.url.host_str().unwrap_or_default();
                    tracing::warn!(host, %error, "cannot fetch the keys of the tokens' issuer");
                }
            }
            this.ended.send_replace(());
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one assignment after another, none of which can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{}", cause(_0))]
    Http(#[from] reqwest::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its answer has more than {} bytes", key_set::MAX_BYTES)]
    TooLarge,
    #[error(transparent)]
    NoKeySet(#[from] NoKeySet),
}

/// Fetches the keys. The address is the settings' alone: whoever answers there cannot lead elsewhere.
async fn fetch(url: &Url) -> Result<KeySet, FetchError> {
    let client = buildlock::http_client().timeout(FETCH_TIMEOUT).redirect(Policy::none()).build()?;
    let mut response = client.get(url.clone()).header(ACCEPT, "application/json").send().await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if text.len() + chunk.len() > key_set::MAX_BYTES {
            return Err(FetchError::TooLarge);
        }
        text.extend_from_slice(&chunk);
    }
    Ok(KeySet::parse(&text)?)
}
