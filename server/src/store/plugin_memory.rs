//! What plugins remember from call to call, under keys with versions.

use ::plugins::call::KeyUse;
use ::plugins::doors::Kept;
use sea_orm::{ConnectionTrait, FromQueryResult};

use super::StoreError;
use super::database::{execute, number, one};

#[derive(FromQueryResult)]
struct Row {
    value: Option<Vec<u8>>,
    version: i64,
}

/// What a plugin remembers under a key; none for a key that was never written.
pub async fn get(
    db: &impl ConnectionTrait,
    plugin: &str,
    key: &str,
) -> Result<Option<Kept>, StoreError> {
    let sql = "SELECT value, version FROM plugin_memory WHERE plugin = $1 AND name = $2";
    let row: Option<Row> = one(db, sql, values![plugin, key]).await?;
    Ok(row.map(|row| Kept {
        value: row.value,
        version: u32::try_from(row.version).unwrap_or(u32::MAX),
    }))
}

/// Bytes of all keys and values that a plugin remembers.
pub async fn bytes(db: &impl ConnectionTrait, plugin: &str) -> Result<u64, StoreError> {
    let sql = "SELECT CAST(SUM(OCTET_LENGTH(name) + OCTET_LENGTH(value)) AS BIGINT) AS n \
               FROM plugin_memory WHERE plugin = $1 AND value IS NOT NULL";
    let bytes = number(db, sql, values![plugin]).await?;
    Ok(bytes.unwrap_or(0).cast_unsigned())
}

/// Keeps what a call wrote, if every key that it used is as it saw it; `false` if one is not, and then nothing is kept
/// once the transaction is given up.
pub async fn keep(
    db: &impl ConnectionTrait,
    plugin: &str,
    keys: &[KeyUse],
) -> Result<bool, StoreError> {
    for used in keys {
        let (name, seen) = (used.key.as_str(), i64::from(used.seen));
        // What was never there and is not there now leaves no trace.
        let write = used.write.as_ref();
        let write = write.filter(|write| used.seen > 0 || write.value.is_some());
        let untouched = match write {
            Some(write) => {
                let to = i64::from(write.version);
                let sql = match used.seen {
                    0 => {
                        "INSERT INTO plugin_memory (plugin, name, value, version) VALUES ($1, $2, $5, $4) \
                         ON CONFLICT (plugin, name) DO UPDATE SET value = EXCLUDED.value, \
                         version = EXCLUDED.version WHERE plugin_memory.version = $3"
                    }
                    _ => {
                        "UPDATE plugin_memory SET value = $5, version = $4 \
                         WHERE plugin = $1 AND name = $2 AND version = $3"
                    }
                };
                let values = values![plugin, name, seen, to, write.value.clone()];
                execute(db, sql, values).await? == 1
            }
            None => {
                let now = get(db, plugin, name).await?;
                now.map_or(0, |kept| kept.version) == used.seen
            }
        };
        if !untouched {
            return Ok(false);
        }
    }
    Ok(true)
}
