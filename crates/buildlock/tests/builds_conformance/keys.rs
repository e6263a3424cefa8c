//! Keys on record.

use buildlock::{ApiKey, KeyHash, KeyStore, Role, fresh_key};

use super::World;
use crate::support::ask::seconds;

/// A new key of this owner.
async fn added(store: &impl KeyStore, owner: &str, role: Role) -> ApiKey {
    let hash = KeyHash::of(&fresh_key().unwrap());
    store.add_key(hash, &owner.parse().unwrap(), role).await.unwrap().unwrap()
}

/// And by nothing else.
pub(crate) async fn a_key_is_found_by_its_hash(mut world: impl World) {
    for role in Role::ALL {
        let owner = format!("{}'s 🔑", role.as_str());
        let key = added(world.store(), &owner, role).await;
        assert_eq!((key.owner.as_str(), key.role), (owner.as_str(), role));
        assert_eq!(world.another().await.key(key.hash).await.unwrap(), Some(key.clone()));
        world.reopen().await;
        assert_eq!(world.store().key(key.hash).await.unwrap(), Some(key));
    }
    assert_eq!(world.store().key(KeyHash::of("bl_unknown")).await.unwrap(), None);
    assert_eq!(world.store().key(KeyHash([0; 32])).await.unwrap(), None);
}

/// An answer may be lost, and a key's owner is who had it first.
pub(crate) async fn a_key_is_added_once(world: impl World) {
    let key = added(world.store(), "ana", Role::User).await;
    world.advance(seconds(1));
    let again = world.store().add_key(key.hash, &"ben".parse().unwrap(), Role::Operator).await.unwrap();
    assert_eq!(again, Some(key.clone()));
    assert_eq!(world.store().keys().await.unwrap(), [key]);
}

/// Also to whoever adds it again, and its number is nobody's.
pub(crate) async fn a_revoked_key_is_unknown_for_ever(mut world: impl World) {
    let key = added(world.store(), "ana", Role::Operator).await;
    let other = world.another().await;
    assert_eq!(other.key(key.hash).await.unwrap(), Some(key.clone()));
    assert!(world.store().revoke_key(key.number).await.unwrap());
    assert_eq!(other.key(key.hash).await.unwrap(), None);
    drop(other);
    world.reopen().await;
    assert_eq!(world.store().key(key.hash).await.unwrap(), None);
    assert_eq!(world.store().add_key(key.hash, &key.owner, key.role).await.unwrap(), None);
    assert_eq!(world.store().keys().await.unwrap(), []);
    assert!(world.store().revoke_key(key.number).await.unwrap(), "it may be repeated");
    assert!(added(world.store(), "ana", Role::Operator).await.number > key.number);
}

/// Each with its own number.
pub(crate) async fn keys_are_listed_oldest_first(world: impl World) {
    let mut keys = Vec::new();
    for owner in ["ben", "ana", "ben"] {
        keys.push(added(world.store(), owner, Role::Service).await);
        world.advance(seconds(1));
    }
    assert_eq!(world.store().keys().await.unwrap(), keys);
    assert!(world.store().revoke_key(keys[1].number).await.unwrap());
    assert_eq!(world.store().keys().await.unwrap(), [keys[0].clone(), keys[2].clone()]);
}

/// And nothing is revoked.
pub(crate) async fn a_number_that_no_key_has_is_told(world: impl World) {
    let key = added(world.store(), "ana", Role::User).await;
    for number in [0, key.number + 1, u64::MAX] {
        assert!(!world.store().revoke_key(number).await.unwrap());
    }
    assert_eq!(world.store().key(key.hash).await.unwrap(), Some(key));
}
