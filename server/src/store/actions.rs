//! Actions: what was done to the twin, each once under its key.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;
use workflows::model::{Action, ActionKind, Asset, AssetState};

use super::database::{execute, to_json};
use super::{Page, StoreError, assets, events, new_id, outbox};

table!(
    /// Actions; `body` is the JSON of a [`workflows::model::Action`].
    action, "action", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    run_id: String,
    position: String,
    key: String,
    kind: String,
    body: String,
    at: i64,
});

/// Carries an action out on the twin, records it and puts it out to the webhook; doing it again changes nothing.
/// To be called in a transaction.
///
/// # Errors
///
/// `Unknown` when it names an asset there is not.
pub async fn carry_out(
    db: &impl ConnectionTrait,
    now: i64,
    (run, position): (&str, &str),
    action: &Action,
) -> Result<bool, StoreError> {
    let id = new_id(now);
    let (kind, subject) = name(&action.kind);
    let sql = "INSERT INTO action (id, run_id, position, key, kind, body, at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (run_id, position, key) DO NOTHING";
    let values = values![
        id.as_str(),
        run,
        position,
        action.key.as_str(),
        kind,
        to_json("action", action)?,
        now
    ];
    if execute(db, sql, values).await? == 0 {
        return Ok(false);
    }
    apply(db, now, &action.kind).await?;
    let payload = json!({ "id": id, "run": run, "position": position, "action": action });
    outbox::put(db, now, &id, &format!("action.{kind}"), &payload).await?;
    events::record(db, now, &format!("action.{kind}"), subject, &payload).await?;
    Ok(true)
}

fn name(kind: &ActionKind) -> (&'static str, &str) {
    match kind {
        ActionKind::CreateStandIn { asset, .. } => ("create_stand_in", asset),
        ActionKind::RemoveStandIn { stand_in } => ("remove_stand_in", stand_in),
        ActionKind::SwapTo { from, .. } => ("swap_to", from),
        ActionKind::AdjustBandwidth { asset, .. } => ("adjust_bandwidth", asset),
        ActionKind::SwapPart { asset, .. } => ("swap_part", asset),
    }
}

async fn apply(db: &impl ConnectionTrait, now: i64, kind: &ActionKind) -> Result<(), StoreError> {
    match kind {
        ActionKind::CreateStandIn {
            asset,
            stand_in,
            locality,
        } => {
            let original = assets::hold(db, asset).await?;
            assets::put(db, now, &stand_in_of(original, stand_in, locality)).await
        }
        ActionKind::RemoveStandIn { stand_in } => {
            for mut asset in assets::list(db).await? {
                if asset.attributes.get("stand_in") == Some(&json!(stand_in)) {
                    asset.attributes.remove("stand_in");
                    asset.state = AssetState::InService;
                    assets::put(db, now, &asset).await?;
                }
            }
            assets::remove(db, stand_in).await?;
            Ok(())
        }
        ActionKind::SwapTo { from, to } => {
            let mut serving = assets::hold(db, to).await?;
            serving.state = AssetState::InService;
            assets::put(db, now, &serving).await?;
            let mut relieved = assets::hold(db, from).await?;
            relieved.state = AssetState::StoodIn;
            relieved.attributes.insert("stand_in".into(), json!(to));
            assets::put(db, now, &relieved).await
        }
        ActionKind::AdjustBandwidth { asset, share } => {
            let mut asset = assets::hold(db, asset).await?;
            asset
                .attributes
                .insert("bandwidth_share".into(), json!(share));
            assets::put(db, now, &asset).await
        }
        ActionKind::SwapPart { asset, build, .. } => {
            let mut asset = assets::hold(db, asset).await?;
            asset.state = AssetState::InService;
            asset.attributes.insert("part_build".into(), json!(build));
            asset.attributes.insert("part_since_ms".into(), json!(now));
            asset.attributes.remove("stand_in");
            asset.attributes.remove("bandwidth_share");
            assets::put(db, now, &asset).await
        }
    }
}

/// A stand-in is an asset like the one it stands in for, not yet serving, in another place.
fn stand_in_of(original: Asset, id: &str, locality: &str) -> Asset {
    let mut stand_in = Asset {
        id: id.to_owned(),
        name: format!("{} (stand-in)", original.name),
        locality: locality.to_owned(),
        state: AssetState::Standby,
        part: None,
        ..original
    };
    stand_in.attributes.insert("virtual".into(), json!(true));
    stand_in
        .attributes
        .insert("stands_in_for".into(), json!(original.id));
    stand_in
}

/// Actions, newest first.
pub async fn list(
    db: &impl ConnectionTrait,
    run: Option<&str>,
    page: Page<'_>,
) -> Result<Vec<action::Model>, StoreError> {
    let mut find = action::Entity::find()
        .order_by_desc(action::Column::Id)
        .limit(page.limit);
    if let Some(run) = run {
        find = find.filter(action::Column::RunId.eq(run));
    }
    if let Some(after) = page.after {
        find = find.filter(action::Column::Id.lt(after));
    }
    Ok(find.all(db).await?)
}
