//! The keys with which clients show a server who they are. Only their hashes are kept.

use std::fmt;

use async_trait::async_trait;
use buildlock_core::{Holder, Timestamp};
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// What the owner of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See and lock its own projects.
    User,
    /// A platform's own backend: see and lock all projects, in its own name or for a user.
    Service,
    /// Everything, force unlock included.
    Operator,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Role; 3] = [Role::User, Role::Service, Role::Operator];

    /// The name in SQL, JSON and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Service => "service",
            Role::Operator => "operator",
        }
    }
}

/// The SHA-256 of a key. Keys are long and random, so that no slow hash is needed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")
    }
}

/// A key on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its number, by which people name it.
    pub number: u64,
    /// Its hash.
    pub hash: KeyHash,
    /// Whose it is: the holder of what is locked with it.
    pub owner: Holder,
    /// What its owner may do.
    pub role: Role,
    /// When it was made, by the store's clock.
    pub created_at: Timestamp,
}

/// Keeps the hashes of keys, in the same file as the locks.
#[async_trait]
pub trait KeyStore: Send + Sync + fmt::Debug {
    /// Puts a key on record.
    async fn add_key(&self, hash: KeyHash, owner: &Holder, role: Role) -> Result<ApiKey, StoreError>;

    /// The key with this hash, unless it was revoked.
    async fn key(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError>;

    /// All keys, oldest first.
    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Revokes a key; false if there is none with that number.
    async fn revoke_key(&self, number: u64) -> Result<bool, StoreError>;
}
