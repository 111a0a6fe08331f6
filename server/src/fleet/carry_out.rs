//! Carries a decision out: one transaction records it, asks the guards, and starts its run.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use workflows::model::{Asset, AssetState, Prediction, Timestamp, Twin};
use workflows::policy::{Crowd, Decision, Guard, GuardSettings, Situation, Stopped, stopped_by};

use super::known::Known;
use crate::app::App;
use crate::config;
use crate::store::comparisons::comparison;
use crate::store::decisions::decision;
use crate::store::runs::NewRun;
use crate::store::{self, StoreError, guards, scripts::Scripts};

/// A decision to be recorded and carried out.
pub(super) struct Order<'a> {
    /// The row to be.
    pub row: decision::Model,
    /// What was decided.
    pub decision: Decision,
    /// What it was decided on.
    pub prediction: &'a Prediction,
    /// What other revisions answered.
    pub comparisons: Vec<comparison::Model>,
}

/// One transaction: the decision, what it was compared with, and the run it starts; answers the run.
///
/// What stands in the way of the run is told with the decision and stops nobody else's.
pub(super) async fn carry_out(
    app: &App,
    mut order: Order<'_>,
    known: &Known,
) -> anyhow::Result<Option<String>> {
    let tx = store::begin(&app.db.write).await?;
    // Two ticks at once would both find that nothing is being done.
    store::decisions::one_at_a_time(&tx).await?;
    let decided = order.decision.clone();
    if let Some(workflow) = decided.workflow() {
        let wish = Wish {
            workflow,
            dedup_key: dedup_key(&decided),
        };
        match Scripts::Workflows.active(&tx, workflow).await {
            Ok(revision) => match may_start(app, &tx, &order, known, &wish).await? {
                None => start(app, &tx, &mut order, &wish, &revision.digest).await?,
                Some(stopped) => note_stop(app, &tx, &mut order.row, workflow, &stopped).await?,
            },
            // A dry run tells this too, so it comes before the guards.
            Err(StoreError::Unknown { .. }) => note_unknown(&mut order.row, workflow),
            Err(error) => return Err(error.into()),
        }
    }
    store::decisions::insert(&tx, order.row.clone()).await?;
    for compared in order.comparisons {
        store::comparisons::insert(&tx, compared).await?;
    }
    tx.commit().await?;
    Ok(order.row.run_id)
}

/// The run a decision asks for.
struct Wish<'a> {
    workflow: &'a str,
    /// What names its cause.
    dedup_key: Option<&'a str>,
}

/// What names the cause of a run: many decisions of one cause start one run.
fn dedup_key(decision: &Decision) -> Option<&str> {
    match decision {
        Decision::Start { event, .. } => event.get("dedup_key").and_then(Value::as_str),
        _ => None,
    }
}

/// Asks the guards, and claims the cause of the run if they let it pass.
async fn may_start(
    app: &App,
    tx: &store::DatabaseTransaction,
    order: &Order<'_>,
    known: &Known,
    wish: &Wish<'_>,
) -> Result<Option<Stopped>, StoreError> {
    let now = app.now_ms();
    let situation = situation(app, tx, order, known, wish).await?;
    let stopped = stopped_by(&settings(&app.config.policy), &situation);
    if stopped.is_none() && claim(app, tx, wish).await? {
        return Ok(None);
    }
    let Some(key) = wish.dedup_key else {
        return Ok(stopped);
    };
    // Another request claimed the cause between the look and the claim, or before.
    let cause = guards::same_cause(tx, now, wish.workflow, key).await?;
    if let Some(cause) = cause.filter(|_| stopped.as_ref().is_none_or(is_repeat)) {
        guards::suppress(tx, now, wish.workflow, &cause).await?;
        let again = Situation {
            same_cause: Some(cause),
            ..situation
        };
        return Ok(stopped_by(&settings(&app.config.policy), &again));
    }
    Ok(stopped)
}

fn is_repeat(stopped: &Stopped) -> bool {
    stopped.guard == Guard::Deduplication
}

async fn claim(
    app: &App,
    tx: &store::DatabaseTransaction,
    wish: &Wish<'_>,
) -> Result<bool, StoreError> {
    let Some(key) = wish.dedup_key else {
        return Ok(true);
    };
    let now = app.now_ms();
    let until = now.saturating_add(app.config.policy.dedup_window_s.saturating_mul(1_000));
    guards::claim_cause(tx, now, (wish.workflow, key), until).await
}

async fn situation(
    app: &App,
    tx: &store::DatabaseTransaction,
    order: &Order<'_>,
    known: &Known,
    wish: &Wish<'_>,
) -> Result<Situation, StoreError> {
    let policy = &order.row.policy;
    let asset = &order.prediction.asset;
    let open_runs = store::decisions::open_runs(tx).await?;
    let same_cause = match wish.dedup_key {
        Some(key) => guards::same_cause(tx, app.now_ms(), wish.workflow, key).await?,
        None => None,
    };
    let dry_run = if app.config.policy.dry_run {
        Some("every policy".to_owned())
    } else {
        let on = guards::dry_run(tx, policy).await?;
        on.then(|| format!("policy `{policy}`"))
    };
    let since = app.now_ms() - settings(&app.config.policy).cool_down_ms;
    Ok(Situation {
        now: Timestamp(app.now_ms()),
        kill_switch: guards::kill_switch(tx).await?,
        dry_run,
        open_run: open_runs.get(asset).cloned(),
        // Not what was known at the beginning of the tick: a run may have come and gone since.
        acted_at: store::decisions::acted_on(tx, asset, since)
            .await?
            .map(Timestamp),
        same_cause,
        crowds: crowds(&app.config.policy, &known.twin, &open_runs, asset),
    })
}

fn settings(policy: &config::Policy) -> GuardSettings {
    GuardSettings {
        cool_down_ms: (policy.cooldown_hours * 3_600_000.0) as i64,
        max_assets: policy.max_assets,
    }
}

/// Those among which an asset is counted: all, its kind, its locality.
fn crowds(
    caps: &config::Policy,
    twin: &Twin,
    open_runs: &BTreeMap<String, String>,
    about: &str,
) -> Vec<Crowd> {
    let Some(asset) = twin.assets.get(about) else {
        return Vec::new();
    };
    let crowd = |of: String, max_percent: f64, among: &dyn Fn(&Asset) -> bool| {
        let them = || {
            let there = twin
                .assets
                .values()
                .filter(|a| a.state != AssetState::Retired);
            there.filter(move |a| among(a))
        };
        let touched = them().filter(|a| {
            a.id != about && (a.state == AssetState::Offline || open_runs.contains_key(&a.id))
        });
        Crowd {
            of,
            assets: u32::try_from(them().count()).unwrap_or(u32::MAX),
            touched: u32::try_from(touched.count()).unwrap_or(u32::MAX),
            max_percent,
        }
    };
    let (kind, locality) = (&asset.kind, &asset.locality);
    vec![
        crowd("the fleet".into(), caps.max_fleet_percent, &|_| true),
        crowd(format!("kind `{kind}`"), caps.max_kind_percent, &|a| {
            a.kind == *kind
        }),
        crowd(
            format!("locality `{locality}`"),
            caps.max_locality_percent,
            &|a| a.locality == *locality,
        ),
    ]
}

async fn start(
    app: &App,
    tx: &store::DatabaseTransaction,
    order: &mut Order<'_>,
    wish: &Wish<'_>,
    revision: &str,
) -> Result<(), StoreError> {
    let event = event(order);
    let new = NewRun {
        workflow: wish.workflow,
        revision,
        event: &event,
        seed: Some(app.config.fleet.seed),
        decision: Some(&order.row.id),
        actor: &format!("policy {}", order.row.policy),
    };
    let run = store::runs::create(tx, app.now_ms(), &new).await?;
    if let Some(key) = wish.dedup_key {
        guards::stand_for(tx, (wish.workflow, key), &run.id).await?;
    }
    order.row.run_id = Some(run.id);
    Ok(())
}

fn note_unknown(row: &mut decision::Model, workflow: &str) {
    let why_not = format!("there is no workflow `{workflow}`");
    tracing::warn!(policy = row.policy, asset.id = %row.asset,
        "a decision on `{}` is not carried out: {why_not}", row.asset);
    row.reason = format!("{}; not carried out: {why_not}", row.reason);
}

/// What the run is given: what the policy added, and what is not for it to say.
fn event(order: &Order<'_>) -> Value {
    let mut event = json!({});
    if let Decision::Start { event: more, .. } = &order.decision {
        event = json!(more);
    }
    event["asset"] = json!(order.prediction.asset);
    event["at"] = json!(order.prediction.at);
    event["decision"] = json!(order.row.id);
    event
}

/// Tells what stopped a decision: in its row, and as a fact.
async fn note_stop(
    app: &App,
    tx: &store::DatabaseTransaction,
    row: &mut decision::Model,
    workflow: &str,
    stopped: &Stopped,
) -> Result<(), StoreError> {
    tracing::info!(policy = row.policy, asset.id = %row.asset, guard = stopped.guard.name(),
        "a decision on `{}` is not carried out: {}", row.asset, stopped.reason);
    row.stopped_by = Some(store::database::to_json("guard", stopped)?);
    let detail = json!({
        "decision": row.id,
        "policy": row.policy,
        "workflow": workflow,
        "stopped_by": stopped,
    });
    store::events::record(tx, app.now_ms(), "decision.stopped", &row.asset, &detail).await?;
    Ok(())
}
