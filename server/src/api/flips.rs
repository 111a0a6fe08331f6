//! The flip report: where a shadow or a canary answered otherwise than the revision that serves.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use workflows::model::Timestamp;
use workflows::policy::{Difference, TraceStep, explain, first_difference, read_facts};
use workflows::script::{Limits, Script};

use super::name::PageQuery;
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::store::comparisons::{self, comparison};
use crate::store::{self, StoreError, scripts::Scripts};

/// How many assets are named with their number of flips.
const ASSETS: i64 = 100;

/// Where a revision answered otherwise than the one that serves.
#[derive(Debug, Serialize, ToSchema)]
pub struct FlipReport {
    /// The policy.
    policy: String,
    /// Digest of the revision compared.
    revision: String,
    /// How many decisions it was asked about.
    compared: i64,
    /// How many of them it would have made, or made, otherwise.
    flipped: i64,
    /// How often it failed; each counts as a flip.
    failed: i64,
    /// How often what was answered, most frequent first.
    pairs: Vec<PairView>,
    /// The assets with most flips, at most 100.
    assets: Vec<AssetFlipsView>,
    /// This page of flips, newest first.
    flips: Vec<FlipView>,
    /// Where the flips go on.
    next: Option<String>,
}

/// How often a revision answered one thing where the one that serves answered another.
#[derive(Debug, Serialize, ToSchema)]
pub struct PairView {
    /// What the one that serves answered, e.g. `monitor`.
    pub before: String,
    /// What the revision answered, e.g. `start replace_part`.
    pub after: String,
    /// Whether that is a flip.
    pub flipped: bool,
    /// How often.
    pub count: i64,
    /// On how many assets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assets: Option<i64>,
}

/// An asset and how often a revision flipped on it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetFlipsView {
    /// The asset.
    pub asset: String,
    /// How often.
    pub flips: i64,
}

/// One decision that came out otherwise.
#[derive(Debug, Serialize, ToSchema)]
pub struct FlipView {
    /// The decision.
    pub decision: String,
    /// The asset decided on.
    pub asset: String,
    /// The moment the facts speak of.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why it was asked: `shadow`, `canary` or `replay`.
    pub role: String,
    /// Digest of the revision it was compared with.
    pub before_revision: String,
    /// What that one answered.
    pub before: String,
    /// What the new revision answered.
    pub after: String,
    /// The first statement in which the two part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_difference: Option<DifferenceView>,
}

/// The first statement in which two revisions part.
#[derive(Debug, Serialize, ToSchema)]
pub struct DifferenceView {
    /// The one of the revision before; absent where it had ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<TraceStepView>,
    /// The one of the new revision; absent where it had ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<TraceStepView>,
}

/// A statement that ran.
#[derive(Debug, Serialize, ToSchema)]
pub struct TraceStepView {
    /// Line, from 1.
    line: u32,
    /// Column, from 1.
    column: u32,
    /// What sort of statement.
    what: String,
    /// Its first line.
    text: String,
    /// Whether a condition held, a case fitted, or a loop was entered.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<bool>,
    /// What it read, by the name the script gives it.
    values: BTreeMap<String, Value>,
}

impl From<Difference> for DifferenceView {
    fn from(difference: Difference) -> Self {
        Self {
            before: difference.before.map(Into::into),
            after: difference.after.map(Into::into),
        }
    }
}

impl From<TraceStep> for TraceStepView {
    fn from(step: TraceStep) -> Self {
        let what = serde_json::to_value(step.what).unwrap_or_default();
        Self {
            line: step.line,
            column: step.column,
            what: what.as_str().unwrap_or_default().to_owned(),
            text: step.text,
            taken: step.taken,
            values: step.values,
        }
    }
}

/// Where a shadow or a canary answered otherwise than the revision that serves, and the first line in which they part.
#[utoipa::path(get, path = "/api/v1/policies/{name}/revisions/{digest}/flips", tag = "policies",
    params(("name" = String, Path), ("digest" = String, Path), PageQuery),
    responses((status = 200, body = FlipReport)))]
pub async fn get_flips(
    app: App,
    _: auth::Reader,
    Path((name, digest)): Path<(String, String)>,
    Query(query): Query<PageQuery>,
) -> ApiResult<Json<FlipReport>> {
    let db = &app.db.read;
    Scripts::Policies.revision(db, &name, &digest).await?;
    let page = query.page()?;
    let rows = comparisons::flips(db, &name, &digest, page).await?;
    let next = PageQuery::next(page, rows.len(), rows.last().map(|r| r.id.as_str()));
    let next = next.map(str::to_owned);
    let pairs = comparisons::pairs(db, &name, &digest).await?;
    let count = |of: &dyn Fn(&comparisons::Pair) -> bool| {
        let counted = pairs.iter().filter(|p| of(p));
        counted.map(|p| p.comparisons).sum()
    };
    let assets = comparisons::assets(db, &name, &digest, ASSETS).await?;
    Ok(Json(FlipReport {
        compared: count(&|_| true),
        flipped: count(&|p| p.flipped),
        failed: count(&|p| p.failed),
        flips: with_differences(&app, rows).await?,
        assets: assets
            .into_iter()
            .map(|a| AssetFlipsView {
                asset: a.asset,
                flips: a.flips,
            })
            .collect(),
        pairs: pairs
            .into_iter()
            .map(|p| PairView {
                before: p.before_outcome,
                after: p.outcome,
                flipped: p.flipped,
                count: p.comparisons,
                assets: Some(p.assets),
            })
            .collect(),
        next,
        policy: name,
        revision: digest,
    }))
}

async fn with_differences(
    app: &App,
    rows: Vec<comparison::Model>,
) -> Result<Vec<FlipView>, ApiError> {
    let mut scripts = Sources::default();
    let mut pairs = Vec::new();
    for row in &rows {
        let before = scripts.get(app, &row.policy, &row.before_revision).await?;
        let after = scripts.get(app, &row.policy, &row.revision).await?;
        let facts = match store::decisions::get(&app.db.read, &row.decision_id).await {
            Ok(decision) => Some(decision.facts),
            Err(StoreError::Unknown { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        pairs.push(before.zip(after).zip(facts));
    }
    let parted = tokio::task::spawn_blocking(move || {
        let part = |pair: Option<((Script, Script), String)>| {
            pair.and_then(|((before, after), facts)| difference(&before, &after, &facts))
        };
        pairs.into_iter().map(part).collect::<Vec<_>>()
    });
    let parted = parted.await.map_err(ApiError::internal)?;
    let flip = |(row, first_difference): (comparison::Model, Option<DifferenceView>)| FlipView {
        decision: row.decision_id,
        asset: row.asset,
        at: Timestamp(row.at),
        role: row.role,
        before_revision: row.before_revision,
        before: row.before_outcome,
        after: row.outcome,
        first_difference,
    };
    Ok(rows.into_iter().zip(parted).map(flip).collect())
}

/// The first statement in which two scripts part on the same facts; nothing if the facts cannot be read.
pub(super) fn difference(before: &Script, after: &Script, facts: &str) -> Option<DifferenceView> {
    let facts = read_facts(facts).ok()?;
    let limits = Limits::decision();
    let (before, after) = (
        explain(before, &facts, &limits),
        explain(after, &facts, &limits),
    );
    first_difference(&before, &after).map(Into::into)
}

/// Revisions that have been compiled already, by digest; one that is gone or does not compile any more is nothing.
#[derive(Default)]
pub(super) struct Sources(BTreeMap<String, Option<Script>>);

impl Sources {
    /// The script of a revision.
    pub(super) async fn get(
        &mut self,
        app: &App,
        policy: &str,
        digest: &str,
    ) -> Result<Option<Script>, StoreError> {
        if let Some(known) = self.0.get(digest) {
            return Ok(known.clone());
        }
        let stored = Scripts::Policies
            .revision(&app.db.read, policy, digest)
            .await;
        let script = match stored {
            Ok(revision) => Script::compile(policy, &revision.source).ok(),
            Err(StoreError::Unknown { .. }) => None,
            Err(error) => return Err(error),
        };
        self.0.insert(digest.to_owned(), script.clone());
        Ok(script)
    }
}
