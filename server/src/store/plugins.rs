//! Versions of plugins: what was uploaded, where each stands, and how it has been doing.

use ::plugins::lifecycle::{self, Blame, CrashPolicy, Event, Health, State};
use ::plugins::manifest::Manifest;
use ::plugins::world::World;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::json;

use super::database::{all, execute, for_update, number, one, skip_locked};
use super::{StoreError, audit, new_id};

table!(
    /// Versions of plugins.
    plugin_version, "plugin_version", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    plugin: String,
    version: String,
    world: String,
    digest: String,
    size_bytes: i64,
    manifest: String,
    signer: Option<String>,
    state: String,
    percent: Option<i64>,
    reason: Option<String>,
    since: i64,
    report: Option<String>,
    fence: i64,
    leased_until: Option<i64>,
    examinations: i64,
    calls: i64,
    failures: i64,
    failures_in_a_row: i64,
    uploaded_by: String,
    uploaded_at: i64,
});

impl plugin_version::Model {
    /// Where it stands.
    #[must_use]
    pub fn stands(&self) -> State {
        let percent = self.percent.and_then(|percent| u8::try_from(percent).ok());
        let reason = || self.reason.clone().unwrap_or_default();
        // Only this file writes the column, from the names of the states.
        match self.state.as_str() {
            "uploaded" => State::Uploaded,
            "compiling" => State::Compiling,
            "checking" => State::Checking,
            "shadow" => State::Shadow,
            "canary" => State::Canary {
                percent: percent.unwrap_or(1),
            },
            "active" => State::Active,
            "quarantined" => State::Quarantined { reason: reason() },
            _ => State::Retired,
        }
    }

    /// How it has been doing.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            failures_in_a_row: u32::try_from(self.failures_in_a_row).unwrap_or(u32::MAX),
            calls: self.calls.cast_unsigned(),
            failures: self.failures.cast_unsigned(),
        }
    }

    /// What it says about itself.
    ///
    /// # Errors
    ///
    /// If the stored text is no manifest any more: an older server took it.
    pub fn manifest(&self) -> Result<Manifest, StoreError> {
        self.manifest.parse().map_err(|error| {
            let (plugin, version) = (&self.plugin, &self.version);
            let message = format!("the manifest of `{plugin}` {version}: {error}");
            StoreError::refused("plugin.manifest", message)
        })
    }
}

/// A plugin's file that is admitted.
#[derive(Debug, Clone, Copy)]
pub struct NewVersion<'a> {
    /// What it says about itself.
    pub manifest: &'a Manifest,
    /// As it is written.
    pub text: &'a str,
    /// The digest of the whole file.
    pub digest: &'a str,
    /// Its size.
    pub size_bytes: i64,
    /// Who vouches for it, by the name of their key.
    pub signer: Option<&'a str>,
    /// Who uploaded it.
    pub by: &'a str,
}

/// Keeps a version; the same file again is the version that is there, and `false`. To be called in a transaction.
///
/// # Errors
///
/// `plugin.version-taken` for another file of a version that is there, `plugin.other-world` where other versions play
/// another role.
pub async fn upload(
    db: &impl ConnectionTrait,
    now: i64,
    new: &NewVersion<'_>,
) -> Result<(plugin_version::Model, bool), StoreError> {
    let (plugin, version) = (&new.manifest.name, new.manifest.version.to_string());
    let world = new.manifest.world.name();
    for known in list(db, Some(plugin)).await? {
        if known.version == version && known.digest == new.digest {
            return Ok((known, false));
        }
        if known.version == version {
            let why = format!(
                "version {version} of `{plugin}` is there, and another file ({}); give yours another version",
                known.digest
            );
            return Err(StoreError::refused("plugin.version-taken", why));
        }
        if known.world != world {
            let why = format!(
                "`{plugin}` is a {}; a {world} needs another name",
                known.world
            );
            return Err(StoreError::refused("plugin.other-world", why));
        }
    }
    let sql = "INSERT INTO plugin_version (id, plugin, version, world, digest, size_bytes, manifest, \
               signer, state, since, uploaded_by, uploaded_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'uploaded', $9, $10, $9) RETURNING *";
    let id = new_id(now);
    let values = values![
        id.as_str(),
        plugin.as_str(),
        version.as_str(),
        world,
        new.digest,
        new.size_bytes,
        new.text,
        new.signer.map(str::to_owned),
        now,
        new.by
    ];
    let row: Option<plugin_version::Model> = one(db, sql, values).await?;
    let row = row.ok_or_else(|| StoreError::unknown("plugin version", id))?;
    let detail = json!({ "version": version, "digest": new.digest, "signer": new.signer });
    let deed = (new.by, "upload_plugin");
    audit::record_with_fact(db, now, "plugin.uploaded", deed, plugin, &detail).await?;
    Ok((row, true))
}

/// One version.
pub async fn get(
    db: &impl ConnectionTrait,
    plugin: &str,
    version: &str,
) -> Result<plugin_version::Model, StoreError> {
    let row = plugin_version::Entity::find()
        .filter(plugin_version::Column::Plugin.eq(plugin))
        .filter(plugin_version::Column::Version.eq(version))
        .one(db)
        .await?;
    row.ok_or_else(|| StoreError::unknown("version of a plugin", format!("{plugin} {version}")))
}

/// One version by its id.
pub async fn by_id(
    db: &impl ConnectionTrait,
    id: &str,
) -> Result<plugin_version::Model, StoreError> {
    let row = plugin_version::Entity::find_by_id(id.to_owned())
        .one(db)
        .await?;
    row.ok_or_else(|| StoreError::unknown("version of a plugin", id))
}

/// All versions, or those of one plugin: by name, newest first.
pub async fn list(
    db: &impl ConnectionTrait,
    plugin: Option<&str>,
) -> Result<Vec<plugin_version::Model>, StoreError> {
    let mut find = plugin_version::Entity::find()
        .order_by_asc(plugin_version::Column::Plugin)
        .order_by_desc(plugin_version::Column::Id);
    if let Some(plugin) = plugin {
        find = find.filter(plugin_version::Column::Plugin.eq(plugin));
    }
    Ok(find.all(db).await?)
}

/// Versions of a world that are asked anything, in the order in which they are asked: who serves before who is only
/// compared, and the newest promotion first.
pub async fn serving(
    db: &impl ConnectionTrait,
    world: World,
) -> Result<Vec<plugin_version::Model>, StoreError> {
    let sql = "SELECT * FROM plugin_version WHERE world = $1 AND state IN ('canary', 'active', 'shadow') \
               ORDER BY CASE state WHEN 'canary' THEN 0 WHEN 'active' THEN 1 ELSE 2 END, since DESC, id";
    all(db, sql, values![world.name()]).await
}

/// Moves a version by an operator's word; whichever version of the plugin stood there is compared from now on. To be
/// called in a transaction.
///
/// # Errors
///
/// `plugin_state` if the event does not fit.
pub async fn move_by(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    (plugin, version): (&str, &str),
    event: &Event,
) -> Result<plugin_version::Model, StoreError> {
    let row = get(db, plugin, version).await?;
    // All versions at once, so that two operators cannot let two of them serve.
    let sql = format!(
        "SELECT * FROM plugin_version WHERE plugin = $1 ORDER BY id {}",
        for_update(db)
    );
    let all_of_it: Vec<plugin_version::Model> = all(db, &sql, values![plugin]).await?;
    let row = all_of_it
        .iter()
        .find(|one| one.id == row.id)
        .ok_or_else(|| StoreError::unknown("version of a plugin", version))?;
    let next = next_of(row, event)?;
    let alone = matches!(next, State::Canary { .. } | State::Active);
    for other in &all_of_it {
        if alone && other.id != row.id && other.stands().name() == next.name() {
            stand(db, now, actor, other, &next_of(other, &Event::Demoted)?).await?;
        }
    }
    if matches!(event, Event::Demoted) {
        forgive(db, row).await?;
    }
    stand(db, now, actor, row, &next).await?;
    by_id(db, &row.id).await
}

fn next_of(row: &plugin_version::Model, event: &Event) -> Result<State, StoreError> {
    let next = lifecycle::apply(&row.stands(), event);
    next.map_err(|error| StoreError::refused("plugin_state", error))
}

async fn forgive(db: &impl ConnectionTrait, row: &plugin_version::Model) -> Result<(), StoreError> {
    let sql = "UPDATE plugin_version SET failures_in_a_row = $2, examinations = 0 WHERE id = $1";
    let health = row.health().forgiven();
    let values = values![row.id.as_str(), i64::from(health.failures_in_a_row)];
    execute(db, sql, values).await?;
    Ok(())
}

/// Writes where a version stands, and tells it. Whoever held it to examine it holds it no longer.
async fn stand(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    row: &plugin_version::Model,
    next: &State,
) -> Result<(), StoreError> {
    write(db, now, row, next).await?;
    let (percent, reason) = columns(next);
    let detail = json!({ "version": row.version, "from": row.state, "to": next.name(), "percent": percent,
                         "reason": reason });
    let deed = (actor, "move_plugin");
    audit::record_with_fact(db, now, "plugin.moved", deed, &row.plugin, &detail).await
}

async fn write(
    db: &impl ConnectionTrait,
    now: i64,
    row: &plugin_version::Model,
    next: &State,
) -> Result<(), StoreError> {
    let (percent, reason) = columns(next);
    let sql = "UPDATE plugin_version SET state = $2, percent = $3, reason = $4, since = $5, \
               leased_until = NULL, fence = fence + 1 WHERE id = $1";
    let values = values![row.id.as_str(), next.name(), percent, reason, now];
    execute(db, sql, values).await?;
    Ok(())
}

fn columns(state: &State) -> (Option<i64>, Option<String>) {
    match state {
        State::Canary { percent } => (Some(i64::from(*percent)), None),
        State::Quarantined { reason } => (None, Some(reason.clone())),
        _ => (None, None),
    }
}

/// A version that one process compiles and checks.
#[derive(Debug, Clone)]
pub struct Examined {
    /// The version as it was taken.
    pub row: plugin_version::Model,
    fence: i64,
}

/// Of versions that may be taken.
const TO_EXAMINE: &str = "(state = 'uploaded' AND (leased_until IS NULL OR leased_until < $1)) \
     OR (state IN ('compiling', 'checking') AND leased_until < $1)";

/// Whether a version waits to be compiled and checked, or its examiner is gone.
pub async fn any_to_examine(db: &impl ConnectionTrait, now: i64) -> Result<bool, StoreError> {
    let sql = format!("SELECT COUNT(*) AS n FROM plugin_version WHERE {TO_EXAMINE}");
    Ok(number(db, &sql, values![now]).await? > Some(0))
}

/// How many processes may have ended over one version.
const MOST_EXAMINATIONS: i64 = 5;

/// Takes the version that has waited longest to be compiled and checked, or whose examiner is gone; one that too many
/// examiners are gone over is set aside. To be called in a transaction.
pub async fn take(
    db: &impl ConnectionTrait,
    now: i64,
    lease_ms: i64,
) -> Result<Option<Examined>, StoreError> {
    let sql = format!(
        "SELECT * FROM plugin_version WHERE {TO_EXAMINE} ORDER BY uploaded_at, id LIMIT 1 {}",
        skip_locked(db)
    );
    let found: Option<plugin_version::Model> = one(db, &sql, values![now]).await?;
    let Some(row) = found else {
        return Ok(None);
    };
    if row.examinations >= MOST_EXAMINATIONS {
        let reason = format!(
            "plugin.examination: {MOST_EXAMINATIONS} processes ended while they compiled or checked it"
        );
        let next = next_of(&row, &Event::Refused { reason })?;
        stand(db, now, "server", &row, &next).await?;
        return Ok(None);
    }
    let mut state = row.stands();
    for event in [Event::HandsLost, Event::CompilerTook] {
        // One that nobody has had in hand yet has lost no hands.
        state = lifecycle::apply(&state, &event).unwrap_or(state);
    }
    write(db, now, &row, &state).await?;
    let sql = "UPDATE plugin_version SET leased_until = $2, examinations = examinations + 1 \
               WHERE id = $1 RETURNING *";
    let row: Option<plugin_version::Model> =
        one(db, sql, values![row.id.as_str(), now + lease_ms]).await?;
    Ok(row.map(|row| Examined {
        fence: row.fence,
        row,
    }))
}

/// Keeps a version in hand for longer.
///
/// # Errors
///
/// `Stale` where somebody else has it, or an operator retired it.
pub async fn hold(
    db: &impl ConnectionTrait,
    until: i64,
    examined: &Examined,
) -> Result<(), StoreError> {
    let sql = "UPDATE plugin_version SET leased_until = $3 WHERE id = $1 AND fence = $2";
    let values = values![examined.row.id.as_str(), examined.fence, until];
    fresh(examined, execute(db, sql, values).await?)
}

/// Puts a version back that could not be examined for now, through no fault of its own; nobody takes it before `until`.
///
/// # Errors
///
/// As [`hold`].
pub async fn put_back(
    db: &impl ConnectionTrait,
    until: i64,
    examined: &Examined,
) -> Result<(), StoreError> {
    let next = State::Uploaded;
    let sql = "UPDATE plugin_version SET state = $3, leased_until = $4, examinations = examinations - 1 \
               WHERE id = $1 AND fence = $2";
    let values = values![examined.row.id.as_str(), examined.fence, next.name(), until];
    fresh(examined, execute(db, sql, values).await?)
}

/// Records how far the examination is: it is compiled, and now checked.
///
/// # Errors
///
/// As [`hold`].
pub async fn compiled(db: &impl ConnectionTrait, examined: &Examined) -> Result<(), StoreError> {
    let next = next_of(&examined.row, &Event::Compiled)?;
    let sql = "UPDATE plugin_version SET state = $3 WHERE id = $1 AND fence = $2";
    let values = values![examined.row.id.as_str(), examined.fence, next.name()];
    fresh(examined, execute(db, sql, values).await?)
}

/// Records how an examination ended, with what the checks said. To be called in a transaction.
///
/// # Errors
///
/// As [`hold`].
pub async fn examined(
    db: &impl ConnectionTrait,
    now: i64,
    examined: &Examined,
    event: &Event,
    report: Option<&str>,
) -> Result<(), StoreError> {
    let sql = "UPDATE plugin_version SET report = $3, failures_in_a_row = 0, examinations = 0 \
               WHERE id = $1 AND fence = $2";
    let values = values![
        examined.row.id.as_str(),
        examined.fence,
        report.map(str::to_owned)
    ];
    fresh(examined, execute(db, sql, values).await?)?;
    let row = by_id(db, &examined.row.id).await?;
    stand(db, now, "server", &row, &next_of(&row, event)?).await
}

fn fresh(examined: &Examined, rows: u64) -> Result<(), StoreError> {
    match rows {
        0 => Err(StoreError::stale("plugin version", &examined.row.id)),
        _ => Ok(()),
    }
}

/// Counts a call; says whether it put the version into quarantine. To be called in a transaction.
pub async fn count(
    db: &impl ConnectionTrait,
    now: i64,
    id: &str,
    blame: Blame,
    policy: CrashPolicy,
) -> Result<bool, StoreError> {
    let sql = format!(
        "SELECT * FROM plugin_version WHERE id = $1 {}",
        for_update(db)
    );
    let row: Option<plugin_version::Model> = one(db, &sql, values![id]).await?;
    let row = row.ok_or_else(|| StoreError::unknown("version of a plugin", id))?;
    let (health, event) = lifecycle::after_call(row.health(), blame, policy);
    let sql =
        "UPDATE plugin_version SET calls = $2, failures = $3, failures_in_a_row = $4 WHERE id = $1";
    let values = values![
        id,
        health.calls.cast_signed(),
        health.failures.cast_signed(),
        i64::from(health.failures_in_a_row)
    ];
    execute(db, sql, values).await?;
    // Calls that were under way when it was set aside say so again; the event does not fit its state then.
    let next = event.and_then(|event| lifecycle::apply(&row.stands(), &event).ok());
    let Some(next) = next else {
        return Ok(false);
    };
    stand(db, now, "server", &row, &next).await?;
    Ok(true)
}
