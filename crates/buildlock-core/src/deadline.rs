//! Until when a lease's user may rely on it (rule 14), and how often it must be heard of.

use std::time::Duration;

/// How long a ticket lives after its waiter last kept in touch (rule 7).
pub const TICKET_LIFE: Duration = Duration::from_secs(15);

/// How often a waiter keeps in touch: it may miss one beat and keep its place.
pub const KEEP_IN_TOUCH_EVERY: Duration = Duration::from_secs(5);

/// Within what time a lease that was handed to a waiter must be claimed (rule 7).
pub const CLAIM_WITHIN: Duration = Duration::from_secs(5);

/// When the user of a lease must renew it, stop the work and have it stopped.
///
/// The user counts from *before it sent* the request that granted or renewed the lease. The store
/// counts from when it took the request, which is later, so the user is done before the store can
/// grant to another, however long the answer was on its way.
///
/// Times are readings of one monotonic clock that goes on while the machine is suspended, as the
/// time since that clock's origin.
///
/// ```
/// use std::time::Duration;
/// use buildlock_core::LeaseDeadline;
///
/// let sent_at = Duration::from_secs(1_000);
/// let deadline = LeaseDeadline::new(sent_at, Duration::from_secs(30));
///
/// assert_eq!(deadline.renew_at(), Duration::from_secs(1_010));
/// assert_eq!(deadline.stop_at(), Duration::from_secs(1_025));
/// assert_eq!(deadline.kill_at(), Duration::from_secs(1_029));
/// assert_eq!(deadline.ends_at(), Duration::from_secs(1_030));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseDeadline {
    sent_at: Duration,
    lasts: Duration,
}

impl LeaseDeadline {
    /// The deadline of a lease that lasts this long from when the store took the request, which
    /// was sent at `sent_at`.
    pub fn new(sent_at: Duration, lasts: Duration) -> Self {
        Self { sent_at, lasts }
    }

    /// When to renew: after a third of its time, so that two renewals may fail.
    pub fn renew_at(&self) -> Duration {
        self.sent_at + self.lasts / 3
    }

    /// When to ask the work to stop: a sixth of its time before the end, at most 10 seconds.
    pub fn stop_at(&self) -> Duration {
        self.ends_at() - (self.lasts / 6).min(Duration::from_secs(10))
    }

    /// When to end the work by force: a thirtieth of its time before the end, at most 1 second.
    pub fn kill_at(&self) -> Duration {
        self.ends_at() - (self.lasts / 30).min(Duration::from_secs(1))
    }

    /// When the store may grant to another.
    pub fn ends_at(&self) -> Duration {
        self.sent_at + self.lasts
    }
}
