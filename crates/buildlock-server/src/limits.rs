//! How much a server takes on. What is beyond is refused in words, and nothing else suffers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;

/// How much a server takes on.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Limits {
    /// How many connections are open at once; who comes then waits to be let in. More than all streams and
    /// waits together, so that plain calls always have room.
    pub connections: usize,
    /// How many event streams.
    pub streams: usize,
    /// How many calls that wait for a lock, or for a build to end.
    pub waits: usize,
    /// How long a client may take to send a request's head, or to send none on an open connection.
    pub head_timeout: Duration,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
}

impl Limits {
    /// What a server with room for that many connections takes on.
    pub fn for_connections(connections: usize) -> Self {
        Self {
            connections,
            streams: connections / 5 * 3,
            waits: connections / 5,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// The largest body of a request. Prompts are texts; this is a book.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;

/// Room for a number of something.
#[derive(Debug)]
pub(crate) struct Slots {
    what: &'static str,
    free: Arc<Semaphore>,
}

/// One of them is taken, until this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    pub(crate) fn new(what: &'static str, number: usize) -> Self {
        Self { what, free: Arc::new(Semaphore::new(number)) }
    }

    /// Takes one.
    ///
    /// # Errors
    ///
    /// [`Problem`] if all are taken; the client may try again soon.
    pub(crate) fn take(&self) -> Result<Slot, Problem> {
        match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => Ok(Slot { _permit: permit }),
            Err(_) => Err(Problem::overloaded(self.what)),
        }
    }
}
