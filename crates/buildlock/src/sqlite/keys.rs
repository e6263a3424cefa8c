//! Keys: rows, what each request does within the writer's transaction, and the [`KeyStore`] that asks
//! for it.

use async_trait::async_trait;
use buildlock_core::Holder;
use rusqlite::{OptionalExtension, Result, Row, params};

use super::SqliteStore;
use super::columns::Sql;
use super::statements::statements;
use super::writer::Writer;
use crate::StoreError;
use crate::keys::{ApiKey, KeyHash, KeyStore, Role};

statements!(KeyStatements: insert_key, load_key, list_keys, revoke_key);

impl Writer<'_> {
    fn add_key(&mut self, hash: KeyHash, owner: &Holder, role: Role) -> Result<Option<ApiKey>> {
        if let Some((known, is_revoked)) = self.known_key(hash)? {
            return Ok(Some(known).filter(|_| !is_revoked));
        }
        let created_at = self.batch.now;
        self.batch.wrote = true;
        let values = params![Sql(hash), owner.as_str(), role.as_str(), Sql(created_at)];
        let number = self.keys.insert_key.insert(values)?.unsigned_abs();
        Ok(Some(ApiKey { number, hash, owner: owner.clone(), role, created_at }))
    }

    fn key(&mut self, hash: KeyHash) -> Result<Option<ApiKey>> {
        Ok(self.known_key(hash)?.filter(|(_, is_revoked)| !is_revoked).map(|(key, _)| key))
    }

    fn list_keys(&mut self) -> Result<Vec<ApiKey>> {
        self.keys.list_keys.query_map([], key)?.collect()
    }

    fn revoke_key(&mut self, number: u64) -> Result<bool> {
        let Ok(number) = i64::try_from(number) else { return Ok(false) };
        let is_known = self.keys.revoke_key.execute(params![number, Sql(self.batch.now)])? > 0;
        self.batch.wrote |= is_known;
        Ok(is_known)
    }

    /// A key, and whether it was revoked.
    fn known_key(&mut self, hash: KeyHash) -> Result<Option<(ApiKey, bool)>> {
        let known = |row: &Row<'_>| Ok((key(row)?, row.get::<_, Option<i64>>(5)?.is_some()));
        self.keys.load_key.query_row([Sql(hash)], known).optional()
    }
}

fn key(row: &Row<'_>) -> Result<ApiKey> {
    Ok(ApiKey {
        number: row.get::<_, i64>(0)?.unsigned_abs(),
        hash: row.get::<_, Sql<_>>(1)?.0,
        owner: row.get::<_, Sql<_>>(2)?.0,
        role: row.get::<_, Sql<_>>(3)?.0,
        created_at: row.get::<_, Sql<_>>(4)?.0,
    })
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn add_key(&self, hash: KeyHash, owner: &Holder, role: Role) -> Result<Option<ApiKey>, StoreError> {
        let owner = owner.clone();
        self.ask(move |writer| writer.add_key(hash, &owner, role)).await
    }

    async fn key(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError> {
        self.ask(move |writer| writer.key(hash)).await
    }

    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.ask(|writer| writer.list_keys()).await
    }

    async fn revoke_key(&self, number: u64) -> Result<bool, StoreError> {
        self.ask(move |writer| writer.revoke_key(number)).await
    }
}
