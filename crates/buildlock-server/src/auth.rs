//! What clients show to say who they are, keys and tokens, and whose it is.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buildlock::{ApiKey, KeyHash, StoreError};
use tokio::time::Instant;

use crate::app::ServerStore;
use crate::config::AuthConfig;
use crate::jwt::Jwts;

/// How long a key is taken as good without asking the store again: how long at most a revoked key still
/// works. The store is spared one read with each request.
const REMEMBERED_FOR: Duration = Duration::from_secs(1);

/// How many keys are remembered.
const REMEMBERED: usize = 1_000;

/// Knows whose a key or a token is.
///
/// Keys are found by their hash, so that the time which that takes tells nothing of a key.
pub(crate) struct Auth {
    store: Arc<dyn ServerStore>,
    remembered: Mutex<HashMap<KeyHash, (ApiKey, Instant)>>,
    /// None if tokens are not taken.
    pub(crate) jwts: Option<Jwts>,
}

impl Auth {
    pub(crate) fn new(store: Arc<dyn ServerStore>, config: &AuthConfig) -> Self {
        Self { store, remembered: Mutex::default(), jwts: Jwts::new(&config.jwt) }
    }

    /// The key on record, unless there is none or it was revoked.
    pub(crate) async fn key(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError> {
        let now = Instant::now();
        if let Some(key) =
            self.with(|keys| keys.get(&hash).filter(|(_, until)| now < *until).map(|(key, _)| key.clone()))
        {
            return Ok(Some(key));
        }
        let key = self.store.key(hash).await?;
        self.with(|keys| {
            if keys.len() >= REMEMBERED {
                keys.clear();
            }
            match &key {
                Some(key) => keys.insert(hash, (key.clone(), now + REMEMBERED_FOR)),
                None => keys.remove(&hash),
            }
        });
        Ok(key)
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<KeyHash, (ApiKey, Instant)>) -> T) -> T {
        // What a panic may leave behind is still a map of keys that were good.
        work(&mut self.remembered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}
