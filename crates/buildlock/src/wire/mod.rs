//! Leases, projects, events and refusals as JSON: the same for the command and for HTTP. Names are
//! camelCase, times RFC 3339 in UTC, durations seconds.
//!
//! Only how things look is here; what a client makes of them is in `remote`.

mod build;
mod event;
mod lease;
mod problem;
mod project;
mod server;

use std::time::Duration;

use buildlock_core::{Holder, RequestId};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::build::{BuildJson, BuildsJson, LogLineJson};
pub use self::event::{EventJson, HistoryJson};
pub use self::lease::{EndedJson, ForceUnlockJson, LeaseJson, LockJson, LockRequestJson, PlaceJson, TokenJson};
pub use self::problem::ProblemJson;
pub use self::project::{NewProjectJson, ProjectJson, ProjectsJson, WaiterJson};
pub use self::server::{CheckupJson, MeJson, RetentionJson, SettledJson, SignInLinkJson};

/// The header with the store's time, in RFC 3339: the times in an answer are to be read against it.
pub const TIME_HEADER: &str = "buildlock-time";

/// The header in which a service or an operator names the holder for whom it asks, percent-encoded.
pub const HOLDER_HEADER: &str = "buildlock-holder";

/// The header with the request id of rule 4.
pub const REQUEST_HEADER: &str = "idempotency-key";

/// The longest page of a list or a history.
pub const PAGE_LIMIT: usize = 1_000;

/// Stands behind a project id in a path where the id alone would be taken for a step in the path, and
/// be left out: those ids are `.` and `..`. No id has this character.
pub const PATH_GUARD: char = '\u{7f}';

/// A time of the store's clock, for people and programs to read.
pub fn time(time: buildlock_core::Timestamp) -> Timestamp {
    // A store's time is a count of milliseconds that began at some clock's "now"; a file in which
    // somebody wrote a year beyond 9999 shows the last one.
    Timestamp::from_millisecond(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX)
}

/// Who is told. To know a request id is to be able to take the request back, so it is told to those
/// only who may do that anyway.
#[derive(Debug, Clone, Copy)]
pub enum Viewer<'a> {
    /// Whoever reads what the command prints.
    Anybody,
    /// This holder, who knows its own requests.
    Holder(&'a Holder),
    /// A service or an operator.
    All,
}

impl Viewer<'_> {
    fn request(self, holder: &Holder, request: RequestId) -> Option<RequestId> {
        let is_told = match self {
            Viewer::Anybody => false,
            Viewer::Holder(own) => own == holder,
            Viewer::All => true,
        };
        is_told.then_some(request)
    }

    /// Whether the reader is a program that keeps what it reads, and not a person.
    fn is_client(self) -> bool {
        !matches!(self, Viewer::Anybody)
    }
}

/// An optional duration as a number of seconds.
mod optional_seconds {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            None => serializer.serialize_none(),
            // A float so large has no parts of a second.
            Some(duration) if duration.subsec_nanos() == 0 || duration.as_secs() >= 1 << f64::MANTISSA_DIGITS => {
                duration.as_secs().serialize(serializer)
            }
            Some(duration) => duration.as_secs_f64().serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        /// Whole seconds apart: not all of them fit in a float.
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number of seconds")]
        enum Seconds {
            Whole(u64),
            Parts(f64),
        }
        Ok(match Option::deserialize(deserializer)? {
            None => None,
            Some(Seconds::Whole(seconds)) => Some(Duration::from_secs(seconds)),
            Some(Seconds::Parts(seconds)) => {
                Some(Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_told_to_those_only_who_may_take_the_request_back() {
        let (ana, ben): (Holder, Holder) = ("ana".parse().unwrap(), "ben".parse().unwrap());
        let request = RequestId::fresh();
        assert_eq!(Viewer::All.request(&ana, request), Some(request));
        assert_eq!(Viewer::Holder(&ana).request(&ana, request), Some(request));
        assert_eq!(Viewer::Holder(&ben).request(&ana, request), None);
        assert_eq!(Viewer::Anybody.request(&ana, request), None);
    }

    #[test]
    fn the_longest_duration_is_a_number_of_seconds_too() {
        for (longest, read) in [
            (None, None),
            (Some(Duration::MAX), Some(Duration::from_secs(u64::MAX))),
            (Some(Duration::from_millis(1_500)), Some(Duration::from_millis(1_500))),
        ] {
            let json = serde_json::to_string(&RetentionJson { keep_for: longest, keep_last: Some(u64::MAX) }).unwrap();
            assert_eq!(serde_json::from_str::<RetentionJson>(&json).unwrap().keep_for, read, "{json}");
        }
        for bad in ["-1", "1e300", "\"7d\""] {
            assert!(serde_json::from_str::<RetentionJson>(&format!("{{\"keepFor\":{bad}}}")).is_err(), "{bad}");
        }
    }
}
