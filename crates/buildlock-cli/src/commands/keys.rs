//! `keys`: who may speak to a server that stands on this store.

use buildlock::{ApiKey, KeyHash, Role, fresh_key, wire};
use jiff::Timestamp;
use serde::Serialize;

use super::table::table;
use super::{print_json, print_line};
use crate::cli::{self, Global, KeysAction};
use crate::exit::Failure;
use crate::place::OwnStore;
use crate::text;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyJson<'a> {
    number: u64,
    owner: &'a str,
    role: Role,
    created_at: Timestamp,
    /// Only when it has just been made: nobody knows it later.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

impl<'a> KeyJson<'a> {
    fn new(kept: &'a ApiKey, key: Option<&'a str>) -> Self {
        let ApiKey { number, owner, role, created_at, .. } = kept;
        Self { number: *number, owner: owner.as_str(), role: *role, created_at: wire::time(*created_at), key }
    }
}

#[derive(Serialize)]
struct RevokedJson {
    number: u64,
    revoked: bool,
}

pub(crate) async fn keys(global: &Global, options: cli::Keys) -> Result<(), Failure> {
    let store = OwnStore::open(global).await?;
    let store = store.keys();
    match options.action.unwrap_or(KeysAction::List) {
        KeysAction::List => list(global, &store.keys().await?),
        KeysAction::Add { owner, role } => {
            let key = fresh_key()?;
            let kept = store.add_key(KeyHash::of(&key), &owner, role).await?;
            // What is fresh was not revoked before.
            let kept = kept.ok_or_else(|| Failure::new(1, "IO_ERROR", "the machine's random numbers repeat"))?;
            tell(global, &kept, &key)
        }
        KeysAction::Revoke { number } => {
            if !store.revoke_key(number).await? {
                return Err(Failure::unknown_key(number));
            }
            if global.json {
                return print_json(&RevokedJson { number, revoked: true });
            }
            if !global.quiet {
                eprintln!("key {number} is revoked: servers refuse it within a second");
            }
            Ok(())
        }
    }
}

fn list(global: &Global, keys: &[ApiKey]) -> Result<(), Failure> {
    if global.json {
        return print_json(&keys.iter().map(|key| KeyJson::new(key, None)).collect::<Vec<_>>());
    }
    if keys.is_empty() {
        return print_line("there are no keys; add one: buildlock keys add OWNER --role user");
    }
    let rows = keys.iter().map(|key| {
        vec![
            key.number.to_string(),
            text::shown(key.owner.as_str()),
            key.role.as_str().to_owned(),
            text::time(key.created_at),
        ]
    });
    print_line(&table(&["NUMBER", "OWNER", "ROLE", "CREATED"], rows))
}

/// The key goes to standard output, for `KEY=$(buildlock keys add …)`; the rest is talk.
fn tell(global: &Global, kept: &ApiKey, key: &str) -> Result<(), Failure> {
    if global.json {
        return print_json(&KeyJson::new(kept, Some(key)));
    }
    if !global.quiet {
        let owner = text::shown(kept.owner.as_str());
        eprintln!("key {} of {owner} ({}); it is not shown again", kept.number, kept.role.as_str());
    }
    print_line(key)
}
