//! `sign-in`: a link to a server's page.

use buildlock::{RemoteStore, SqliteStore};
use buildlock_server::{OperatorKey, server_of};

use super::{print_json, print_line};
use crate::cli::Global;
use crate::exit::Failure;
use crate::place;

pub(crate) async fn sign_in(global: &Global) -> Result<(), Failure> {
    let url = place::store_url(global)?;
    if place::is_database(&url) {
        return Err(Failure::usage(
            "many servers may stand on a database; name one: --store http://HOST:PORT, with an operator's key in \
             BUILDLOCK_API_KEY",
        ));
    }
    let server = match url.starts_with("sqlite:") {
        true => server_on(&buildlock::open_file(&url).await?).await?,
        false => RemoteStore::open(&url).await?,
    };
    let link = server.sign_in_link().await?;
    if global.json { print_json(&link) } else { print_line(&link.url) }
}

/// The server that stands on this file, with the operator's key, which stands beside it.
async fn server_on(store: &SqliteStore) -> Result<RemoteStore, Failure> {
    let address = server_of(store.path()).ok_or_else(|| {
        Failure::unreachable(
            "STORE_UNAVAILABLE",
            format!("no server stands on {}; \"buildlock serve\" starts one", store.path().display()),
        )
    })?;
    let path = OperatorKey::path(store.path());
    let key = std::fs::read_to_string(&path).map_err(|error| {
        Failure::not_allowed(format!("cannot read the operator's key in {}: {error}", path.display()))
    })?;
    Ok(RemoteStore::open_with_key(&format!("http://{address}"), Some(key.trim())).await?)
}
