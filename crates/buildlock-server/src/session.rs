//! How a person signs in to the page without typing a key: a link with a code that works once, for a cookie
//! that works for some hours. Both are kept by their hashes, in memory: a restart ends them.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use buildlock::{KeyHash, fresh_key};
use tokio::time::Instant;

/// How long a link can be used.
pub(crate) const LINK_LIFE: Duration = Duration::from_secs(15 * 60);

/// How long somebody stays signed in: a working day.
pub(crate) const SESSION_LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// How many links, or sessions, there are at once; a new one then ends the oldest.
const MAX: usize = 1_000;

/// Who has signed in, and who may.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    links: Mutex<Secrets>,
    sessions: Mutex<Secrets>,
}

impl Sessions {
    /// A code with which somebody can sign in, once, as the owner of this key.
    pub(crate) fn invite(&self, key: KeyHash) -> io::Result<String> {
        lock(&self.links).add(key, LINK_LIFE)
    }

    /// Signs in with a code: the session's secret. None if the code does not work, or no longer.
    pub(crate) fn sign_in(&self, code: &str) -> io::Result<Option<String>> {
        let key = lock(&self.links).take(KeyHash::of(code));
        key.map(|key| lock(&self.sessions).add(key, SESSION_LIFE)).transpose()
    }

    /// The key on whose behalf somebody has signed in.
    pub(crate) fn key(&self, secret: &str) -> Option<KeyHash> {
        lock(&self.sessions).get(KeyHash::of(secret))
    }

    /// Signs out.
    pub(crate) fn sign_out(&self, secret: &str) {
        lock(&self.sessions).take(KeyHash::of(secret));
    }
}

fn lock(secrets: &Mutex<Secrets>) -> std::sync::MutexGuard<'_, Secrets> {
    // No statement below leaves the map half changed.
    secrets.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Secrets that stand for a key for some time. They are found by their hashes, so that the time which that
/// takes tells nothing of them.
#[derive(Debug, Default)]
struct Secrets(HashMap<KeyHash, (KeyHash, Instant)>);

impl Secrets {
    fn add(&mut self, key: KeyHash, life: Duration) -> io::Result<String> {
        let now = Instant::now();
        self.0.retain(|_, (_, until)| now < *until);
        if self.0.len() >= MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, (_, until))| *until).map(|(hash, _)| *hash)
        {
            self.0.remove(&oldest);
        }
        let secret = fresh_key()?;
        self.0.insert(KeyHash::of(&secret), (key, now + life));
        Ok(secret)
    }

    fn get(&self, hash: KeyHash) -> Option<KeyHash> {
        self.0.get(&hash).filter(|(_, until)| Instant::now() < *until).map(|(key, _)| *key)
    }

    fn take(&mut self, hash: KeyHash) -> Option<KeyHash> {
        let key = self.get(hash);
        self.0.remove(&hash);
        key
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const KEY: KeyHash = KeyHash([7; 32]);

    #[tokio::test(start_paused = true)]
    async fn a_link_works_once_and_not_for_ever() {
        let sessions = Sessions::default();
        let code = sessions.invite(KEY).unwrap();
        assert_eq!(sessions.sign_in("another").unwrap(), None);
        let secret = sessions.sign_in(&code).unwrap().unwrap();
        assert_eq!(sessions.key(&secret), Some(KEY));
        assert_eq!(sessions.sign_in(&code).unwrap(), None);
        assert_eq!(sessions.key(&code), None);

        let late = sessions.invite(KEY).unwrap();
        advance(LINK_LIFE).await;
        assert_eq!(sessions.sign_in(&late).unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_it_is_signed_out_or_old() {
        let sessions = Sessions::default();
        let sign_in = || sessions.sign_in(&sessions.invite(KEY).unwrap()).unwrap().unwrap();
        let (first, second) = (sign_in(), sign_in());
        sessions.sign_out(&first);
        assert_eq!((sessions.key(&first), sessions.key(&second)), (None, Some(KEY)));
        advance(SESSION_LIFE).await;
        assert_eq!(sessions.key(&second), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_links_work_however_many_are_made() {
        let sessions = Sessions::default();
        let first = sessions.invite(KEY).unwrap();
        for _ in 1..MAX {
            advance(Duration::from_millis(1)).await;
            sessions.invite(KEY).unwrap();
        }
        let newest = sessions.invite(KEY).unwrap();
        assert_eq!(sessions.sign_in(&first).unwrap(), None);
        assert!(sessions.sign_in(&newest).unwrap().is_some());
    }
}
