//! `serve`: a server on the store, and what its operator is told of it.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use buildlock_server::{Config, ConfigError, OperatorKey, Options, ServeError, Server, Stop, StoreOwner};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{print_json, print_line};
use crate::cli::{self, Global};
use crate::exit::Failure;
use crate::place;

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
    let store = place::open_file(global).await?;
    let path = std::path::absolute(store.path())?;
    let owner = StoreOwner::of(&path)?;
    let key = OperatorKey::find_or_make(&store, &path, &place::holder(global, &store)?).await?;
    let users_of = config.auth.jwt.issuer.clone();
    let operations = config.operations.keys().map(ToString::to_string).collect();
    let mut options = Options::new(config);
    options.workspaces = path.with_file_name("workspaces");
    let server = Server::bind(options, Arc::new(store)).await?;
    owner.announce(server.local_addr())?;
    let serving = Serving {
        url: format!("http://{}", server.local_addr()),
        store: path,
        settings,
        operations,
        users_of,
        operator_key: key.path,
        sign_in_link: server.sign_in_link(key.hash)?,
    };
    serving.tell(global)?;
    tokio::spawn(obey(signals, server.stop_handle()));
    Ok(server.serve().await?)
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
    store: PathBuf,
    settings: Option<PathBuf>,
    operations: Vec<String>,
    /// Who issues the tokens of users, if any are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    users_of: Option<String>,
    operator_key: PathBuf,
    sign_in_link: String,
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
        print_line(&format!("buildlock serves {}\n", self.url))?;
        for (what, value) in [
            ("store", shown(&self.store)),
            ("settings", settings),
            ("operator's key", format!("in {}", shown(&self.operator_key))),
        ] {
            print_line(&format!("  {what:<16}{value}"))?;
        }
        if let Some(issuer) = &self.users_of {
            print_line(&format!("  {:<16}{issuer}", "users of"))?;
        }
        print_line(&format!(
            "\nOpen the page with this link, which works once, in the next 15 minutes:\n\n  {}\n",
            self.sign_in_link
        ))
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
            ServeError::StoreInUse { .. } => Self::unreachable("STORE_IN_USE", error.to_string()),
            ServeError::Store(error) => error.into(),
            error => Self::unreachable("CANNOT_SERVE", error.to_string()),
        }
    }
}
