//! What all requests share.

use std::ops::Deref;
use std::sync::Arc;

use buildlock::{BuildStore, KeyStore, LockService, LockStore};
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::limits::{Limits, Slots};

/// A store with everything that a server needs.
pub trait ServerStore: LockStore + BuildStore + KeyStore {}

impl<S: LockStore + BuildStore + KeyStore> ServerStore for S {}

/// A cheap handle to what all requests share.
#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Shared>);

/// What an [`App`] is a handle to.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn ServerStore>,
    pub(crate) service: LockService,
    pub(crate) auth: Auth,
    pub(crate) limits: Limits,
    /// Room for event streams.
    pub(crate) streams: Slots,
    /// Room for calls that wait: for a lock, or for a build to end.
    pub(crate) waits: Slots,
    /// Cancelled when the server begins to stop: streams and waits end then, so that their clients turn to
    /// the next server.
    pub(crate) stopping: CancellationToken,
}

impl App {
    pub(crate) fn new(store: Arc<dyn ServerStore>, limits: Limits) -> Self {
        Self(Arc::new(Shared {
            service: LockService::with_store(Arc::clone(&store) as Arc<dyn LockStore>),
            auth: Auth::new(Arc::clone(&store)),
            streams: Slots::new("event streams", limits.streams),
            waits: Slots::new("waiting calls", limits.waits),
            store,
            limits,
            stopping: CancellationToken::new(),
        }))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
