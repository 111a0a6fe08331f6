//! What operators say of a plugin: what it may reach, its settings, the assets it is asked about, how often it may fail.

use ::plugins::grants::Capabilities;
use ::plugins::lifecycle::CrashPolicy;
use sea_orm::{ConnectionTrait, EntityTrait};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::database::{execute, from_json, to_json};
use super::{StoreError, audit};

table!(
    /// Settings of plugins, by name; one nobody has set anything for has none.
    plugin_settings, "plugin_settings", {
    #[sea_orm(primary_key, auto_increment = false)]
    plugin: String,
    granted: String,
    config: String,
    asset_kinds: String,
    crash_policy: String,
    changed_at: i64,
});

/// Settings of a plugin, for all its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginSettings {
    /// What it may reach.
    pub granted: Capabilities,
    /// What it is told as its settings.
    pub config: Map<String, Value>,
    /// Kinds of assets that it is asked about, as globs.
    pub asset_kinds: Vec<String>,
    /// How often it may fail.
    pub crash_policy: CrashPolicy,
}

impl Default for PluginSettings {
    /// Nothing is granted, and it is asked about every asset.
    fn default() -> Self {
        Self {
            granted: Capabilities::default(),
            config: Map::new(),
            asset_kinds: vec!["*".to_owned()],
            crash_policy: CrashPolicy::default(),
        }
    }
}

impl PluginSettings {
    /// Whether the plugin is asked about assets of a kind.
    #[must_use]
    pub fn covers(&self, asset_kind: &str) -> bool {
        let mut globs = self.asset_kinds.iter();
        globs.any(|glob| ::plugins::grants::matches(glob, asset_kind))
    }
}

/// The settings of a plugin; where nobody has set any, the defaults.
pub async fn get(db: &impl ConnectionTrait, plugin: &str) -> Result<PluginSettings, StoreError> {
    let row = plugin_settings::Entity::find_by_id(plugin.to_owned())
        .one(db)
        .await?;
    let Some(row) = row else {
        return Ok(PluginSettings::default());
    };
    Ok(PluginSettings {
        granted: from_json("grant", &row.granted)?,
        config: from_json("plugin's settings", &row.config)?,
        asset_kinds: from_json("list of kinds", &row.asset_kinds)?,
        crash_policy: from_json("crash policy", &row.crash_policy)?,
    })
}

/// Sets them. To be called in a transaction.
pub async fn put(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    plugin: &str,
    settings: &PluginSettings,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO plugin_settings (plugin, granted, config, asset_kinds, crash_policy, changed_at) \
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (plugin) DO UPDATE SET granted = EXCLUDED.granted, \
               config = EXCLUDED.config, asset_kinds = EXCLUDED.asset_kinds, \
               crash_policy = EXCLUDED.crash_policy, changed_at = EXCLUDED.changed_at";
    let values = values![
        plugin,
        to_json("grant", &settings.granted)?,
        to_json("plugin's settings", &settings.config)?,
        to_json("list of kinds", &settings.asset_kinds)?,
        to_json("crash policy", &settings.crash_policy)?,
        now
    ];
    execute(db, sql, values).await?;
    // A setting may be a password: what is granted is told, what is set is not.
    let detail = json!({ "granted": settings.granted, "asset_kinds": settings.asset_kinds,
                         "crash_policy": settings.crash_policy });
    let deed = (actor, "set_plugin");
    audit::record_with_fact(db, now, "plugin.set", deed, plugin, &detail).await
}
