//! Keys: the [`KeyStore`].

use async_trait::async_trait;
use buildlock_core::Holder;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::columns::{Column, Columns, Nonsense, number};
use super::statement::{Statement, parameters};
use crate::StoreError;
use crate::keys::{ApiKey, KeyHash, KeyStore, Role};

static ADD_KEY: Statement =
    Statement::new(include_str!("sql/calls/add_key.sql"), &[Type::INT8, Type::BYTEA, Type::TEXT, Type::TEXT]);
static KEY: Statement = Statement::new(include_str!("sql/calls/key.sql"), &[Type::BYTEA]);
static KEYS: Statement = Statement::new(include_str!("sql/calls/keys.sql"), &[]).patient();
static REVOKE_KEY: Statement = Statement::new(include_str!("sql/calls/revoke_key.sql"), &[Type::INT8, Type::INT8]);

impl Column for KeyHash {
    type Sql = Vec<u8>;
    fn read(value: Vec<u8>) -> Result<Self, Nonsense> {
        let hash = value.try_into();
        hash.map(KeyHash).map_err(|_| Nonsense("the hash of a key has not 32 bytes".to_owned()))
    }
}

impl Column for Role {
    type Sql = String;
    fn read(value: String) -> Result<Self, Nonsense> {
        let role = Role::ALL.into_iter().find(|role| role.as_str() == value);
        role.ok_or_else(|| Nonsense(format!("{value:?} is no role")))
    }
}

fn key(row: &Row) -> Result<ApiKey, Nonsense> {
    let columns = &mut Columns::of(row);
    Ok(ApiKey {
        number: columns.get()?,
        hash: columns.get()?,
        owner: columns.get()?,
        role: columns.get()?,
        created_at: columns.get()?,
    })
}

#[async_trait]
impl KeyStore for PostgresStore {
    async fn add_key(&self, hash: KeyHash, owner: &Holder, role: Role) -> Result<Option<ApiKey>, StoreError> {
        let values = parameters![self.shared().at_ms(), hash.0.to_vec(), owner.as_str().to_owned(), role.as_str()];
        Ok(self.ask(&ADD_KEY, values, key).await?.pop())
    }

    async fn key(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.ask(&KEY, parameters![hash.0.to_vec()], key).await?.pop())
    }

    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.ask(&KEYS, parameters![], key).await
    }

    async fn revoke_key(&self, number_of_key: u64) -> Result<bool, StoreError> {
        // A number that no key can have is no key's.
        self.is_so(&REVOKE_KEY, parameters![self.shared().at_ms(), number(number_of_key)]).await
    }
}
