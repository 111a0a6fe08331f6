//! Calls of plugins: how they went, what they used, and what is needed to run them again.

use ::plugins::call::{Outcome, Used};
use ::plugins::failure::Failure;
use ::plugins::log::Log;
use sea_orm::{ConnectionTrait, FromQueryResult};

use super::database::{all, execute, from_json, one, to_json};
use super::{Page, StoreError, new_id};

/// A call, without its recording.
#[derive(Debug, Clone, PartialEq, FromQueryResult)]
pub struct PluginCall {
    /// Its name.
    pub id: String,
    /// Which version was called.
    pub version_id: String,
    /// When it ended.
    pub at: i64,
    /// Who asked and about what, e.g. `score fan-r01-01`.
    pub purpose: String,
    /// Why it came to nothing.
    pub code: Option<String>,
    failure: Option<String>,
    log: String,
    used: String,
    /// Bytes of its recording.
    pub recording_bytes: Option<i64>,
}

impl PluginCall {
    /// Why it came to nothing, where it did.
    ///
    /// # Errors
    ///
    /// If what is stored cannot be read.
    pub fn failure(&self) -> Result<Option<Failure>, StoreError> {
        let text = self.failure.as_deref();
        text.map(|text| from_json("plugin's failure", text))
            .transpose()
    }

    /// What it wrote.
    ///
    /// # Errors
    ///
    /// If what is stored cannot be read.
    pub fn log(&self) -> Result<Log, StoreError> {
        from_json("plugin's log", &self.log)
    }

    /// What it used.
    ///
    /// # Errors
    ///
    /// If what is stored cannot be read.
    pub fn used(&self) -> Result<Used, StoreError> {
        from_json("plugin's use", &self.used)
    }
}

const COLUMNS: &str = "id, version_id, at, purpose, code, failure, log, used, \
                       CAST(LENGTH(recording) AS BIGINT) AS recording_bytes";

/// A call that has ended.
#[derive(Debug, Clone, Copy)]
pub struct NewCall<'a> {
    /// Which version was called.
    pub version_id: &'a str,
    /// Who asked and about what.
    pub purpose: &'a str,
    /// How it went.
    pub outcome: &'a Outcome,
    /// What is needed to run it again, where that is kept.
    pub recording: Option<&'a [u8]>,
}

/// Keeps a call, and of its version's older ones only the newest `keep` that went well and as many that did not; answers
/// its name. To be called in a transaction.
pub async fn insert(
    db: &impl ConnectionTrait,
    now: i64,
    new: &NewCall<'_>,
    keep: i64,
) -> Result<String, StoreError> {
    let id = new_id(now);
    let failure = new.outcome.result.as_ref().err();
    let code = failure.map(|failure| failure.code.name());
    let text = failure
        .map(|failure| to_json("plugin's failure", failure))
        .transpose()?;
    let sql = "INSERT INTO plugin_call (id, version_id, at, purpose, code, failure, log, used, recording) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let values = values![
        id.as_str(),
        new.version_id,
        now,
        new.purpose,
        code.clone(),
        text,
        to_json("plugin's log", &new.outcome.log)?,
        to_json("plugin's use", &new.outcome.used)?,
        new.recording.map(<[u8]>::to_vec)
    ];
    execute(db, sql, values).await?;
    let alike = match code {
        Some(_) => "code IS NOT NULL",
        None => "code IS NULL",
    };
    let sql = format!(
        "DELETE FROM plugin_call WHERE version_id = $1 AND {alike} AND id < \
         (SELECT MIN(id) FROM (SELECT id FROM plugin_call WHERE version_id = $1 AND {alike} \
          ORDER BY id DESC LIMIT $2) newest)"
    );
    execute(db, &sql, values![new.version_id, keep]).await?;
    Ok(id)
}

/// One call.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<PluginCall, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM plugin_call WHERE id = $1");
    let row = one(db, &sql, values![id]).await?;
    row.ok_or_else(|| StoreError::unknown("call of a plugin", id))
}

/// Calls of a version, newest first; only those that came to nothing if `failed`.
pub async fn list(
    db: &impl ConnectionTrait,
    version_id: &str,
    failed: bool,
    page: Page<'_>,
) -> Result<Vec<PluginCall>, StoreError> {
    let only = if failed { "AND code IS NOT NULL" } else { "" };
    // Every name given so far sorts before this.
    let before = page.after.unwrap_or("~");
    let sql = format!(
        "SELECT {COLUMNS} FROM plugin_call WHERE version_id = $1 AND id < $2 {only} \
         ORDER BY id DESC LIMIT $3"
    );
    let limit = page.limit.cast_signed();
    all(db, &sql, values![version_id, before, limit]).await
}

#[derive(FromQueryResult)]
struct Kept {
    recording: Option<Vec<u8>>,
}

/// What is needed to run a call again, where it is kept.
pub async fn recording(db: &impl ConnectionTrait, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT recording FROM plugin_call WHERE id = $1";
    let row: Option<Kept> = one(db, sql, values![id]).await?;
    let row = row.ok_or_else(|| StoreError::unknown("call of a plugin", id))?;
    Ok(row.recording)
}
