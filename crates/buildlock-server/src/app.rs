//! What all requests share.

use std::sync::Arc;

use buildlock::{BuildStore, KeyStore, LockService, LockStore};

/// A store with everything that a server needs.
pub trait ServerStore: LockStore + BuildStore + KeyStore {}

impl<S: LockStore + BuildStore + KeyStore> ServerStore for S {}

/// A cheap handle to what all requests share.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) store: Arc<dyn ServerStore>,
    pub(crate) service: LockService,
}
