//! Which requests were granted ever (rule 4), as far as memory tells: it spares most lock requests a
//! look into the history.

use std::mem;

use buildlock_core::{Event, EventKind, RequestId};
use foldhash::{HashSet, HashSetExt};
use uuid::Uuid;

/// After how many grants those that came before are no longer known one by one.
const KNOWN: usize = 4_096;

/// A UUIDv7 grows with the time at which it is made, so a new request's is mostly larger than those
/// that were granted some time ago; the latest are known one by one. Of any other the file knows.
pub(super) struct Granted {
    /// The largest UUIDv7 that was granted before those below.
    up_to: Option<RequestId>,
    earlier: HashSet<RequestId>,
    latest: HashSet<RequestId>,
}

impl Granted {
    /// Above this no UUIDv7 is looked at: it is of the year 2100. Among the others a file has few that
    /// are none, so that its largest is found at once.
    pub(super) const LIMIT: Uuid = Uuid::from_u128(0x03bb_2cc3_d800 << 80);

    /// In a file whose largest UUIDv7 below the limit, of those that were granted, is this.
    pub(super) fn up_to(largest: Option<RequestId>) -> Self {
        Self { up_to: largest, earlier: HashSet::new(), latest: HashSet::new() }
    }

    /// Whether a request was certainly never granted. If not, the file knows.
    pub(super) fn never(&self, request: RequestId) -> bool {
        is_timed(request)
            && Some(request) > self.up_to
            && !self.latest.contains(&request)
            && !self.earlier.contains(&request)
    }

    pub(super) fn note(&mut self, event: &Event) {
        let granted = event.request.filter(|request| event.kind == EventKind::Granted && is_timed(*request));
        self.latest.extend(granted);
        if self.latest.len() == KNOWN {
            self.up_to = self.up_to.max(self.earlier.drain().max());
            mem::swap(&mut self.earlier, &mut self.latest);
        }
    }
}

fn is_timed(request: RequestId) -> bool {
    let id = request.as_uuid();
    id.get_version_num() == 7 && *id < Granted::LIMIT
}

#[cfg(test)]
mod tests {
    use buildlock_core::{Holder, Timestamp};

    use super::*;

    fn grant(request: RequestId) -> Event {
        let holder: Holder = "ana".parse().unwrap();
        let at = Timestamp::default();
        Event { request: Some(request), ..Event::of_project(EventKind::Granted, holder, at) }
    }

    /// Rule 4: whatever was granted is not taken for new, however long ago and in whatever order.
    #[test]
    fn what_was_granted_is_never_taken_for_new() {
        let mut requests: Vec<RequestId> = (0..3 * KNOWN).map(|_| RequestId::fresh()).collect();
        let before = RequestId::fresh();
        let mut granted = Granted::up_to(Some(before));
        assert!(!granted.never(before));
        requests.reverse();
        for (count, request) in requests.iter().enumerate() {
            assert!(requests[..count].iter().rev().take(10).all(|known| !granted.never(*known)));
            granted.note(&grant(*request));
        }
        assert!(requests.iter().all(|request| !granted.never(*request)));
        assert!(granted.never(RequestId::fresh()), "the newest of all is larger than all that were granted");
    }

    #[test]
    fn without_grants_all_are_new_that_tell_their_time() {
        let granted = Granted::up_to(None);
        assert!(granted.never(RequestId::fresh()));
        assert!(!granted.never(RequestId::from_key("deploy-4711").unwrap()));
        assert!(!granted.never(Uuid::from_u128(u128::MAX).into()));
    }

    /// One that is no UUIDv7 is larger than all of our time, and must not make them look old.
    #[test]
    fn a_request_of_another_kind_makes_none_look_old() {
        let mut granted = Granted::up_to(None);
        for number in 0..3 * KNOWN {
            granted.note(&grant(RequestId::from_key(&format!("deploy-{number}")).unwrap()));
        }
        assert!(granted.never(RequestId::fresh()));
    }
}
