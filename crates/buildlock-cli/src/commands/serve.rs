//! `serve`: a server on the store, and what its operator is told of it.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use buildlock::{Holder, KeyStore, PostgresStore, SqliteStore};
use buildlock_server::{
    Config, ConfigError, OPERATOR_KEY_VARIABLE, OperatorKey, Options, ServeError, Server, ServerStore, Stop, StoreOwner,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{print_json, print_line};
use crate::cli::{self, Global};
use crate::exit::Failure;
use crate::place::{self, OwnStore};

/// The settings that the repository brings: with them, whoever has just cloned it has something to see.
const EXAMPLE: &str = "examples/site-builder/buildlock.toml";

pub(crate) fn main(global: &Global, options: cli::Serve) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(global, options))
}

async fn serve(global: &Global, options: cli::Serve) -> Result<(), Failure> {
    // From now on a signal is an order, not an end.
    let signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let (config, settings) = config(&options)?;
    allow_many_files();
    let users_of = config.auth.jwt.issuer.clone();
    let stand = match OwnStore::open(global).await? {
        OwnStore::File(store) => Stand::on_file(store, global).await?,
        OwnStore::Database(store) => Stand::on_database(store, global).await?,
    };
    let operations = config.operations.keys().map(ToString::to_string).collect();
    let mut options = Options::new(config);
    options.workspaces = stand.folder.join("workspaces");
    let server = Server::bind(options, stand.store).await?;
    if let Some(owner) = &stand.owner {
        owner.announce(server.local_addr())?;
    }
    let sign_in_link = stand.key.as_ref().map(|key| server.sign_in_link(key.hash)).transpose()?;
    let serving = Serving {
        url: format!("http://{}", server.local_addr()),
        store: stand.name,
        settings,
        operations,
        users_of,
        operator_key: stand.key.and_then(|key| key.path),
        sign_in_link,
    };
    serving.tell(global)?;
    tokio::spawn(obey(signals, server.stop_handle()));
    Ok(server.serve().await?)
}

/// What a server stands on.
struct Stand {
    store: Arc<dyn ServerStore>,
    /// The store, as people know it.
    name: String,
    /// Keeps other servers off a file.
    owner: Option<StoreOwner>,
    /// None if somebody else has it.
    key: Option<OperatorKey>,
    /// Where the server's own files are.
    folder: PathBuf,
}

impl Stand {
    /// One server to a file; what is its own is beside it.
    async fn on_file(store: SqliteStore, global: &Global) -> Result<Self, Failure> {
        let path = std::path::absolute(store.path())?;
        let owner = StoreOwner::of(&path)?;
        let holder = place::holder(global, &store)?;
        let key = match given_key(&store, &holder).await? {
            Some(key) => key,
            None => OperatorKey::find_or_make(&store, OperatorKey::path(&path), &holder).await?,
        };
        let (name, folder) = (path.display().to_string(), path.with_file_name(""));
        Ok(Self { store: Arc::new(store), name, owner: Some(owner), key: Some(key), folder })
    }

    /// Many servers to a database, on as many machines; what is this machine's own is in the user's data folder.
    async fn on_database(store: PostgresStore, global: &Global) -> Result<Self, Failure> {
        let folder = place::data_folder().ok_or_else(|| {
            Failure::usage("there is no data folder for this user; say where it is to be: XDG_DATA_HOME=FOLDER")
        })?;
        let name = store.url().to_owned();
        let holder = place::holder(global, &store)?;
        let key = match given_key(&store, &holder).await? {
            Some(key) => Some(key),
            None => OperatorKey::find_or_make_first(&store, folder.join(key_file(&name)), &holder).await?,
        };
        Ok(Self { store: Arc::new(store), name, owner: None, key, folder })
    }
}

/// The operator's key in the environment, where a secret may come from that servers share.
async fn given_key(keys: &dyn KeyStore, owner: &Holder) -> Result<Option<OperatorKey>, Failure> {
    let key = env::var(OPERATOR_KEY_VARIABLE).unwrap_or_default();
    if key.trim().is_empty() {
        return Ok(None);
    }
    Ok(Some(OperatorKey::given(keys, key.trim(), owner).await?))
}

/// The file with the operator's key of a database: each has its own.
fn key_file(database: &str) -> String {
    let harmless = |c: char| if c.is_ascii_alphanumeric() || ".-_@".contains(c) { c } else { '-' };
    let name = database.split_once("://").map_or(database, |(_, name)| name);
    // The folder of a socket.
    let name = name.replace("%2F", "-");
    format!("{}.operator-key", name.chars().map(harmless).collect::<String>())
}

/// The settings, and the file that they are from. What is said on the command line or in the environment
/// counts more.
fn config(options: &cli::Serve) -> Result<(Config, Option<PathBuf>), Failure> {
    let file = options.config.clone().or_else(|| {
        let in_user_folder = dirs::config_dir().map(|folder| folder.join("buildlock").join("buildlock.toml"));
        [Some("buildlock.toml".into()), in_user_folder, Some(EXAMPLE.into())]
            .into_iter()
            .flatten()
            .find(|file| file.exists())
    });
    let mut config = match &file {
        Some(file) => Config::read(file)?,
        None => Config::without_file(&env::current_dir()?),
    };
    config.auth.add_environment(|name| env::var(name).ok())?;
    let server = &mut config.server;
    if let Some(listen) = options.listen {
        server.listen = listen;
    } else {
        if let Some(port) = options.port {
            server.listen.set_port(port);
        }
        if let Some(host) = options.host.as_deref().and_then(address) {
            server.listen.set_ip(host);
        }
    }
    server.allowed_hosts.extend(options.allow_host.iter().cloned());
    Ok((config, file))
}

/// The address in `HOST`. Some shells put the machine's name there, which says nothing of where to listen.
fn address(host: &str) -> Option<IpAddr> {
    if host == "localhost" { Some(SocketAddr::from(([127, 0, 0, 1], 0)).ip()) } else { host.parse().ok() }
}

/// Lets the process have as many connections as the system allows it at all.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the server can have only few connections");
    }
}

/// The first signal lets the server end what it does, the second ends it.
async fn obey([mut terminate, mut interrupt]: [Signal; 2], stop: Stop) {
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    next().await;
    tracing::info!("the server stops when what runs has ended; a second signal stops it at once");
    stop.gracefully();
    next().await;
    stop.at_once();
}

/// What is served.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Serving {
    url: String,
    store: String,
    settings: Option<PathBuf>,
    operations: Vec<String>,
    /// Who issues the tokens of users, if any are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    users_of: Option<String>,
    /// The file with the key that the server has made.
    operator_key: Option<PathBuf>,
    sign_in_link: Option<String>,
}

impl Serving {
    fn tell(&self, global: &Global) -> Result<(), Failure> {
        if global.json {
            return print_json(self);
        }
        if global.quiet {
            return Ok(());
        }
        let shown = |path: &Path| path.display().to_string();
        let settings = match &self.settings {
            None => "none found: projects can be locked, and no operation has a builder".to_owned(),
            Some(file) => format!("{} ({})", shown(file), self.operations.join(", ")),
        };
        let key = match (&self.operator_key, &self.sign_in_link) {
            (Some(file), _) => format!("in {}", shown(file)),
            (None, Some(_)) => format!("from {OPERATOR_KEY_VARIABLE}"),
            (None, None) => "an operator has one already; \"buildlock keys\" lists and adds them".to_owned(),
        };
        print_line(&format!("buildlock serves {}\n", self.url))?;
        for (what, value) in [("store", self.store.clone()), ("settings", settings), ("operator's key", key)] {
            print_line(&format!("  {what:<16}{value}"))?;
        }
        if let Some(issuer) = &self.users_of {
            print_line(&format!("  {:<16}{issuer}", "users of"))?;
        }
        match &self.sign_in_link {
            Some(link) => print_line(&format!(
                "\nOpen the page with this link, which works once, in the next 15 minutes:\n\n  {link}\n"
            )),
            None => print_line(&format!(
                "\nTo open the page, make a link with an operator's key in BUILDLOCK_API_KEY:\n\n  \
                 buildlock sign-in --store {}\n",
                self.url
            )),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::CannotListen { address, error } if error.kind() == std::io::ErrorKind::AddrInUse => {
                Self::unreachable(
                    "ADDRESS_IN_USE",
                    format!("another program listens on {address}; choose another: --listen 127.0.0.1:PORT"),
                )
            }
            ServeError::CannotListen { address, error } if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Self::not_allowed(format!(
                    "you may not listen on {address}; choose a port above 1023: --listen 127.0.0.1:PORT"
                ))
            }
            ServeError::OperatorKey { .. } => Self::usage(error.to_string()),
            ServeError::StoreInUse { .. } => Self::unreachable("STORE_IN_USE", error.to_string()),
            ServeError::Store(error) => error.into(),
            error => Self::unreachable("CANNOT_SERVE", error.to_string()),
        }
    }
}
