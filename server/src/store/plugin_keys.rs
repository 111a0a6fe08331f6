//! The key ring: whose signatures on plugins are taken.

use ::plugins::trust::{KeyRing, PublicKey};
use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};
use serde_json::json;

use super::database::{execute, one};
use super::{StoreError, audit};

table!(
    /// Public keys by the name an operator knows them under.
    plugin_key, "plugin_key", {
    #[sea_orm(primary_key, auto_increment = false)]
    name: String,
    public_key: String,
    added_by: String,
    added_at: i64,
});

/// All keys, by name.
pub async fn list(db: &impl ConnectionTrait) -> Result<Vec<plugin_key::Model>, StoreError> {
    Ok(plugin_key::Entity::find()
        .order_by_asc(plugin_key::Column::Name)
        .all(db)
        .await?)
}

/// The ring as signatures are held against it.
pub async fn ring(db: &impl ConnectionTrait) -> Result<KeyRing, StoreError> {
    let mut ring = KeyRing::default();
    for row in list(db).await? {
        let key = PublicKey::try_from(row.public_key)
            .map_err(|error| StoreError::refused("plugin.key", error))?;
        ring.0.insert(row.name, key);
    }
    Ok(ring)
}

/// Puts a key on the ring under a name, in place of the one that had it. To be called in a transaction.
///
/// # Errors
///
/// `plugin_key_known` where the key is there under another name.
pub async fn put(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    name: &str,
    key: &PublicKey,
) -> Result<plugin_key::Model, StoreError> {
    let key = key.to_string();
    let sql = "SELECT * FROM plugin_key WHERE public_key = $1 AND name <> $2";
    let other: Option<plugin_key::Model> = one(db, sql, values![key.as_str(), name]).await?;
    if let Some(other) = other {
        let why = format!("this key is there as `{}`; remove that first", other.name);
        return Err(StoreError::refused("plugin_key_known", why));
    }
    let sql = "INSERT INTO plugin_key (name, public_key, added_by, added_at) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (name) DO UPDATE SET public_key = EXCLUDED.public_key, \
               added_by = EXCLUDED.added_by, added_at = EXCLUDED.added_at RETURNING *";
    let row = one(db, sql, values![name, key.as_str(), actor, now]).await?;
    let detail = json!({ "public_key": key });
    audit::record(db, now, actor, "trust_key", name, &detail).await?;
    row.ok_or_else(|| StoreError::unknown("key", name))
}

/// Takes a key off the ring; what it signed before stays. To be called in a transaction.
pub async fn remove(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    name: &str,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM plugin_key WHERE name = $1";
    if execute(db, sql, values![name]).await? == 0 {
        return Err(StoreError::unknown("key", name));
    }
    audit::record(db, now, actor, "distrust_key", name, &json!({})).await
}
