//! Times and durations as a store counts them: whole milliseconds.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// A point in time by the store's clock: milliseconds since the Unix epoch.
///
/// The store's clock is the only "now" of the rules; a caller never sends a time (rule 10).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time this many milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This time plus `duration`, in whole milliseconds.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This time minus `duration`, in whole milliseconds; the epoch at the earliest.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this time is; zero if it is not.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// How long a lease lasts unless renewed: 1 second to 24 hours, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(Duration);

/// How long a caller waits in the queue: up to 24 hours, in whole milliseconds. Zero is a refusal
/// at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wait(Duration);

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn bounded(
    field: &'static str,
    duration: Duration,
    least: Duration,
    allowed: &'static str,
) -> Result<Duration, Invalid> {
    if (least..=LONGEST).contains(&duration) {
        return Ok(Duration::from_millis(duration.as_millis() as u64));
    }
    Err(Invalid { field, problem: format!("is {} s", duration.as_secs_f64()), allowed })
}

impl Ttl {
    /// Checks a duration; parts of a millisecond are dropped.
    ///
    /// # Errors
    ///
    /// [`Invalid`] unless it is 1 s to 24 h.
    pub fn new(duration: Duration) -> Result<Self, Invalid> {
        bounded("ttl", duration, Duration::from_secs(1), "1s to 24h").map(Self)
    }

    /// The TTL as a duration.
    pub fn get(self) -> Duration {
        self.0
    }

    /// The TTL in milliseconds.
    pub fn as_millis(self) -> u64 {
        self.0.as_millis() as u64
    }
}

impl Default for Ttl {
    /// 30 seconds.
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

impl Wait {
    /// Do not wait: a locked project refuses at once.
    pub const NONE: Wait = Wait(Duration::ZERO);

    /// Checks a duration.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if it is over 24 h.
    pub fn new(duration: Duration) -> Result<Self, Invalid> {
        bounded("wait", duration, Duration::ZERO, "0s to 24h").map(Self)
    }

    /// The wait as a duration.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

/// A TTL is seconds in JSON, as all durations are.
impl Serialize for Ttl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_millis() == 0 {
            serializer.serialize_u64(self.0.as_secs())
        } else {
            serializer.serialize_f64(self.0.as_secs_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds)
            .map_err(serde::de::Error::custom)
            .and_then(|duration| Ttl::new(duration).map_err(serde::de::Error::custom))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_1_second_to_24_hours() {
        for good in [1_000, 1_500, 86_400_000] {
            assert_eq!(Ttl::new(Duration::from_millis(good)).unwrap().as_millis(), good);
        }
        for bad in [0, 999, 86_400_001] {
            let error = Ttl::new(Duration::from_millis(bad)).unwrap_err();
            assert_eq!((error.field, error.allowed), ("ttl", "1s to 24h"));
        }
    }

    #[test]
    fn a_wait_is_0_to_24_hours() {
        assert_eq!(Wait::new(Duration::ZERO).unwrap(), Wait::NONE);
        assert!(Wait::new(LONGEST).is_ok());
        assert_eq!(Wait::new(LONGEST * 2).unwrap_err().field, "wait");
    }

    #[test]
    fn a_ttl_is_seconds_in_json() {
        assert_eq!(serde_json::to_string(&Ttl::default()).unwrap(), "30");
        assert_eq!(serde_json::from_str::<Ttl>("1.5").unwrap().as_millis(), 1_500);
        for bad in ["-1", "1e300", "0.1"] {
            assert!(serde_json::from_str::<Ttl>(bad).is_err());
        }
    }
}
