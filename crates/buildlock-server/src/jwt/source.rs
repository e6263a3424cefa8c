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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tokio::net::TcpListener;
    use tokio::time::{advance, pause, resume};

    use super::*;

    /// An issuer that publishes keys of these names, or is away.
    struct Issuer {
        kids: Arc<Mutex<Option<Vec<&'static str>>>>,
        asked: Arc<AtomicUsize>,
        keys: Arc<Fetched>,
    }

    impl Issuer {
        async fn start() -> Self {
            let kids = Arc::new(Mutex::new(Some(vec!["first"])));
            let asked = Arc::new(AtomicUsize::new(0));
            let answer = {
                let (kids, asked) = (Arc::clone(&kids), Arc::clone(&asked));
                async move || {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let kids = kids.lock().unwrap().clone();
                    let jwk = |kid| {
                        serde_json::json!({"kty": "OKP", "crv": "Ed25519", "kid": kid,
                        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
                    };
                    let Some(kids) = kids else { return (StatusCode::BAD_GATEWAY, String::new()) };
                    let keys: Vec<_> = kids.into_iter().map(jwk).collect();
                    (StatusCode::OK, serde_json::json!({"keys": keys}).to_string())
                }
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/jwks", listener.local_addr().unwrap());
            tokio::spawn(async { axum::serve(listener, Router::new().route("/jwks", get(answer))).await });
            Self { kids, asked, keys: Arc::new(Fetched::new(url.parse().unwrap())) }
        }

        fn publish(&self, kids: &[&'static str]) {
            *self.kids.lock().unwrap() = Some(kids.to_vec());
        }

        fn go_away(&self) {
            *self.kids.lock().unwrap() = None;
        }

        async fn key(&self, kid: &str) -> Result<(), Missing> {
            self.keys.key(kid).await.map(|_| ())
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        /// Waits for the fetch that is under way.
        async fn fetched(&self) {
            let mut ended = self.keys.ended.subscribe();
            if self.keys.lock().fetching {
                ended.changed().await.unwrap();
            }
        }
    }

    async fn later(by: Duration) {
        pause();
        advance(by).await;
        resume();
    }

    #[tokio::test]
    async fn a_key_that_is_new_is_found_once_the_cool_down_is_over() {
        let issuer = Issuer::start().await;
        issuer.key("first").await.unwrap();
        issuer.publish(&["first", "second"]);
        assert_eq!(issuer.key("second").await, Err(Missing::Unknown));
        assert_eq!(issuer.key("made up").await, Err(Missing::Unknown));
        assert_eq!(issuer.asked(), 1);
        later(COOL_DOWN).await;
        issuer.key("second").await.unwrap();
        issuer.key("first").await.unwrap();
        assert_eq!(issuer.asked(), 2);
    }

    #[tokio::test]
    async fn old_keys_are_used_while_new_ones_are_on_their_way_and_a_revoked_one_goes() {
        let issuer = Issuer::start().await;
        issuer.key("first").await.unwrap();
        issuer.publish(&["second"]);
        later(FRESH_FOR - Duration::from_secs(1)).await;
        issuer.key("first").await.unwrap();
        assert_eq!(issuer.asked(), 1);
        later(Duration::from_secs(1)).await;
        issuer.key("first").await.unwrap();
        issuer.fetched().await;
        assert_eq!(issuer.key("first").await, Err(Missing::Unknown));
        issuer.key("second").await.unwrap();
        assert_eq!(issuer.asked(), 2);
    }

    #[tokio::test]
    async fn an_issuer_that_is_away_is_survived_for_a_day_and_unknown_keys_cannot_be_told() {
        let issuer = Issuer::start().await;
        issuer.key("first").await.unwrap();
        issuer.go_away();
        later(COOL_DOWN).await;
        assert_eq!(issuer.key("second").await, Err(Missing::Unavailable));
        assert_eq!(issuer.asked(), 2);
        issuer.key("first").await.unwrap();
        assert_eq!(issuer.key("second").await, Err(Missing::Unavailable));
        assert_eq!(issuer.asked(), 2);
        later(GOOD_FOR - COOL_DOWN - Duration::from_secs(1)).await;
        issuer.key("first").await.unwrap();
        issuer.fetched().await;
        later(RETRY_AFTER).await;
        assert_eq!(issuer.key("first").await, Err(Missing::Unavailable));
        issuer.publish(&["first"]);
        assert_eq!(issuer.key("first").await, Err(Missing::Unavailable));
        later(RETRY_AFTER).await;
        issuer.key("first").await.unwrap();
    }

    #[tokio::test]
    async fn who_asks_and_goes_leaves_the_fetch_to_the_others() {
        let issuer = Issuer::start().await;
        let impatient = tokio::time::timeout(Duration::ZERO, issuer.key("first")).await;
        assert!(impatient.is_err());
        issuer.key("first").await.unwrap();
        assert_eq!(issuer.asked(), 1);
    }
}
