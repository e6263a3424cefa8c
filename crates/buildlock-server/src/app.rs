//! What all requests share.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use buildlock::{BuildStore, CountStore, KeyHash, KeyStore, LockService, LockStore};
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::builds::Builds;
use crate::config::Config;
use crate::feed::Feed;
use crate::http::guard::Names;
use crate::http::health::Readiness;
use crate::limits::{Limits, Slots};
use crate::metrics::Gauges;
use crate::serve::Options;
use crate::session::Sessions;
use crate::sites::Sites;

/// A store with everything that a server needs.
pub trait ServerStore: LockStore + BuildStore + KeyStore + CountStore {}

impl<S: LockStore + BuildStore + KeyStore + CountStore> ServerStore for S {}

/// A cheap handle to what all requests share.
#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Shared>);

/// What an [`App`] is a handle to.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn ServerStore>,
    pub(crate) builds: Builds,
    /// None if no sites are shown.
    pub(crate) sites: Option<Sites>,
    pub(crate) feed: Feed,
    pub(crate) auth: Auth,
    pub(crate) sessions: Sessions,
    /// The name of the session's cookie. Cookies know no ports: another server on this machine has another.
    pub(crate) cookie_name: String,
    pub(crate) names: Names,
    address: SocketAddr,
    pub(crate) config: Config,
    pub(crate) readiness: Readiness,
    pub(crate) gauges: Gauges,
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
    /// What the requests to a server on this address share.
    pub(crate) fn new(store: Arc<dyn ServerStore>, address: SocketAddr, options: Options) -> Self {
        let Options { config, limits, workspaces, supervisor } = options;
        let service = LockService::with_store(Arc::clone(&store) as Arc<dyn LockStore>);
        Self(Arc::new(Shared {
            builds: Builds::new(&config, workspaces, supervisor, service, Arc::clone(&store)),
            sites: config.sites.folder.clone().map(Sites::new),
            feed: Feed::new(Arc::clone(&store)),
            auth: Auth::new(Arc::clone(&store), &config.auth),
            sessions: Sessions::default(),
            cookie_name: format!("buildlock_session_{}", address.port()),
            names: Names::new(address.ip(), address.port(), &config.server),
            streams: Slots::new("event streams", limits.streams),
            waits: Slots::new("waiting calls", limits.waits),
            store,
            config,
            readiness: Readiness::default(),
            gauges: Gauges::default(),
            address,
            limits,
            stopping: CancellationToken::new(),
        }))
    }

    /// A link with which somebody on this machine signs in, once, as the owner of this key.
    pub(crate) fn sign_in_link(&self, key: KeyHash) -> io::Result<String> {
        let code = self.sessions.invite(key)?;
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        Ok(format!("http://{address}/sign-in?code={code}"))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
