//! What becomes of requests and leases, for metrics: told to whatever recorder the program has installed
//! (the crate `metrics`), once it is durable. No label names a project or a user.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use buildlock_core::{Event, EventKind, Outcome, Refusal, RequestId, Timestamp, Token};
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use crate::StoreError;
use crate::store::Answer;

const ACQUIRE: &str = "buildlock_acquire_total";
const ACQUIRE_DURATION: &str = "buildlock_acquire_duration_seconds";
const WAIT: &str = "buildlock_wait_seconds";
const HOLD: &str = "buildlock_hold_seconds";
const RELEASE: &str = "buildlock_release_total";

/// How many waits, and how many leases, are measured at once. Beyond that some are left out, which leaves
/// their distribution as it is.
const MEASURED: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Tally {
    open: Mutex<Open>,
}

/// What has begun and is to be measured when it ends.
#[derive(Debug, Default)]
struct Open {
    waits: HashMap<RequestId, Timestamp>,
    leases: HashMap<Token, Timestamp>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        describe_counter!(
            ACQUIRE,
            "Lock requests by what came of them; one that is queued comes to something else later."
        );
        describe_histogram!(
            ACQUIRE_DURATION,
            Unit::Seconds,
            "Time that the store took to answer a lock request, waits not counted."
        );
        describe_histogram!(WAIT, Unit::Seconds, "Time that waiters stood in line until their turn.");
        describe_histogram!(HOLD, Unit::Seconds, "Time that leases lasted.");
        describe_counter!(RELEASE, "Leases that have ended, by how.");
        Self { open: Mutex::default() }
    }

    /// The store has answered a lock request.
    pub(crate) fn answered(&self, answer: &Result<Answer, StoreError>, took: Duration) {
        histogram!(ACQUIRE_DURATION).record(took);
        match answer.as_ref().map(|answer| &answer.outcome) {
            Ok(Outcome::Refused(refusal)) if matches!(**refusal, Refusal::Locked(_) | Refusal::QueueFull(_)) => {
                counter!(ACQUIRE, "outcome" => "conflict").increment(1);
            }
            Err(_) => counter!(ACQUIRE, "outcome" => "error").increment(1),
            // What changed something is an event.
            Ok(_) => {}
        }
    }

    /// These have happened.
    pub(crate) fn count(&self, events: impl IntoIterator<Item = Happened>) {
        // A panic elsewhere leaves at most a measurement out.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            open.count(&event);
        }
    }
}

/// What counts of an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Happened {
    pub(crate) at: Timestamp,
    pub(crate) kind: EventKind,
    pub(crate) request: Option<RequestId>,
    pub(crate) token: Option<Token>,
}

impl From<&Event> for Happened {
    fn from(event: &Event) -> Self {
        Self { at: event.at, kind: event.kind, request: event.request, token: event.token }
    }
}

impl Open {
    fn count(&mut self, event: &Happened) {
        match event.kind {
            EventKind::Queued => {
                counter!(ACQUIRE, "outcome" => "queued").increment(1);
                begin(&mut self.waits, event.request, event.at);
            }
            EventKind::Left => {
                counter!(ACQUIRE, "outcome" => "timeout").increment(1);
                end(&mut self.waits, event.request);
            }
            EventKind::Dropped => {
                counter!(ACQUIRE, "outcome" => "dropped").increment(1);
                end(&mut self.waits, event.request);
            }
            EventKind::Granted => {
                counter!(ACQUIRE, "outcome" => "granted").increment(1);
                if let Some(since) = end(&mut self.waits, event.request) {
                    histogram!(WAIT).record(event.at.since(since));
                }
                begin(&mut self.leases, event.token, event.at);
            }
            EventKind::Unlocked => self.ended("done", event),
            EventKind::Expired => self.ended("expired", event),
            EventKind::ForceUnlocked => self.ended("forced", event),
            EventKind::Unclaimed => self.ended("unclaimed", event),
            EventKind::FreedByHand => self.ended("by_hand", event),
            EventKind::Created | EventKind::Deleted => {}
        }
    }

    fn ended(&mut self, reason: &'static str, event: &Happened) {
        counter!(RELEASE, "reason" => reason).increment(1);
        if let Some(since) = end(&mut self.leases, event.token) {
            histogram!(HOLD).record(event.at.since(since));
        }
    }
}

fn begin<K: Hash + Eq>(open: &mut HashMap<K, Timestamp>, key: Option<K>, at: Timestamp) {
    if let Some(key) = key
        && open.len() < MEASURED
    {
        open.insert(key, at);
    }
}

fn end<K: Hash + Eq>(open: &mut HashMap<K, Timestamp>, key: Option<K>) -> Option<Timestamp> {
    open.remove(&key?)
}
