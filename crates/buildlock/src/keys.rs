//! The keys with which clients show a server who they are. Only their hashes are kept.

use std::{fmt, io};

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use buildlock_core::{Holder, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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

/// Begins every key, so that people and scanners for secrets know one when they see it.
const KEY_PREFIX: &str = "bl_";

/// A key that nobody has: 32 random bytes as text. It is to be shown once and kept by its owner alone.
///
/// # Errors
///
/// If the machine gives no random bytes.
pub fn fresh_key() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{KEY_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

/// The SHA-256 of a key. Keys are long and random, so that no slow hash is needed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// The hash of a key as its owner has it.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }
}

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

/// Keeps the hashes of keys, where the locks are.
#[async_trait]
pub trait KeyStore: Send + Sync + fmt::Debug {
    /// Puts a key on record; one that is on record already stays as it is. None if it was revoked: a
    /// key never becomes valid again.
    async fn add_key(&self, hash: KeyHash, owner: &Holder, role: Role) -> Result<Option<ApiKey>, StoreError>;

    /// The key with this hash, unless it was revoked.
    async fn key(&self, hash: KeyHash) -> Result<Option<ApiKey>, StoreError>;

    /// All keys that were not revoked, oldest first.
    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Revokes a key, for ever; false if there never was one with that number.
    async fn revoke_key(&self, number: u64) -> Result<bool, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_is_nobodys_and_fits_everywhere() {
        let (one, other) = (fresh_key().unwrap(), fresh_key().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), "bl_".len() + 43);
        assert!(one.starts_with("bl_"));
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{one}");
    }

    #[test]
    fn a_hash_is_the_sha_256_and_does_not_show_itself() {
        let hash = KeyHash::of("abc");
        // FIPS 180-2, appendix B.1.
        assert_eq!(hash.0[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(format!("{hash:?}"), "KeyHash");
    }
}
