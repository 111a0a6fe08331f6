//! The flip report: where a shadow or a canary answered otherwise than the revision that serves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use workflows::model::Timestamp;
use workflows::policy::{Difference, TraceStep, explain, first_difference, read_facts};
use workflows::script::Script;

use super::name::PageQuery;
use super::script::{Turns, in_time};
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::store::comparisons::{self, comparison};
use crate::store::{self, StoreError, scripts::Scripts};

/// How many assets are named with their number of flips.
const ASSETS: i64 = 100;
/// Flips of one page whose first difference is told, unless a replay asks for more or fewer.
pub(super) const DIFFERENCES: usize = 20;
/// How long the differences of one page may take to be found.
pub(super) const DIFFERENCES_TAKE: Duration = Duration::from_secs(5);
/// Flips of each pair of answers whose first difference is told before that of any further one.
const OF_EACH_PAIR: usize = 5;

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
    /// Why that is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_difference: Option<NoDifferenceView>,
}

/// Why the first statement in which two revisions part is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoDifferenceView {
    /// Only so many are told of one page.
    OneOfMany,
    /// It was not found in time.
    NotInTime,
    /// All statements that are kept are alike.
    NoneFound,
    /// The facts cannot be read, or one of the revisions is gone.
    Unreadable,
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
///
/// Of one page 20 of these lines are told, the first flips of each pair of answers first, and no more than are found
/// within 5 seconds; the other flips say in `no_difference` why theirs is not.
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
        flips: with_differences(&app, rows, DIFFERENCES_TAKE).await?,
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
    time: Duration,
) -> Result<Vec<FlipView>, ApiError> {
    let mut scripts = Sources::default();
    let mut pairs = Vec::new();
    let answers = rows.iter().map(|row| (&row.before_outcome, &row.outcome));
    for at in told_first(answers, DIFFERENCES) {
        let row = &rows[at];
        let before = scripts.get(app, &row.policy, &row.before_revision).await?;
        let after = scripts.get(app, &row.policy, &row.revision).await?;
        let facts = match store::decisions::get(&app.db.read, &row.decision_id).await {
            Ok(decision) => Some(decision.facts),
            Err(StoreError::Unknown { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        pairs.push((at, FlipPair::of(before, after, facts)));
    }
    let mut parted = parted(pairs, time).await?;
    let flip = |(at, row): (usize, comparison::Model)| {
        let (first_difference, no_difference) = shown(parted.remove(&at));
        FlipView {
            decision: row.decision_id,
            asset: row.asset,
            at: Timestamp(row.at),
            role: row.role,
            before_revision: row.before_revision,
            before: row.before_outcome,
            after: row.outcome,
            first_difference,
            no_difference,
        }
    };
    Ok(rows.into_iter().enumerate().map(flip).collect())
}

/// Whose first difference is told, of flips with these pairs of answers: the first of each pair, the second of each,
/// and so on up to the fifth, so that a frequent pair leaves room for a rare one; then the others in their order.
pub(super) fn told_first<P: Ord>(pairs: impl Iterator<Item = P>, told: usize) -> BTreeSet<usize> {
    let mut known = BTreeMap::<P, usize>::new();
    let ranked = pairs.enumerate().map(|(at, pair)| {
        let nth = known.entry(pair).or_default();
        *nth += 1;
        ((*nth).min(OF_EACH_PAIR + 1), at)
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_unstable();
    ranked.into_iter().take(told).map(|(_, at)| at).collect()
}

/// Two revisions and the facts on which they answer otherwise.
pub(super) struct FlipPair {
    before: Script,
    after: Script,
    facts: String,
}

/// Where two revisions part, or why that is not told.
pub(super) type Parted = Result<DifferenceView, NoDifferenceView>;

impl FlipPair {
    /// These, if there are all.
    pub(super) fn of(
        before: Option<Script>,
        after: Option<Script>,
        facts: Option<String>,
    ) -> Option<Self> {
        Some(Self {
            before: before?,
            after: after?,
            facts: facts?,
        })
    }

    /// The first statement in which the two part on the facts.
    fn part(&self, turns: &Turns) -> Parted {
        let facts = read_facts(&self.facts).map_err(|_| NoDifferenceView::Unreadable)?;
        let explained = |script: &Script| {
            let begun = turns.begin();
            let explained = begun.then(|| explain(script, &facts, turns.limits()));
            let known = explained.filter(|_| !turns.is_over());
            known.ok_or(NoDifferenceView::NotInTime)
        };
        let (before, after) = (explained(&self.before)?, explained(&self.after)?);
        let none = if before.is_cut_off() || after.is_cut_off() {
            NoDifferenceView::NotInTime
        } else {
            NoDifferenceView::NoneFound
        };
        first_difference(&before, &after)
            .map(Into::into)
            .ok_or(none)
    }
}

/// Where the revisions of flips part, by the place of the flip on its page; what takes longer than `time` altogether is
/// not found in time.
pub(super) async fn parted(
    flips: Vec<(usize, Option<FlipPair>)>,
    time: Duration,
) -> ApiResult<BTreeMap<usize, Parted>> {
    let part = move |turns: &Turns| {
        let flips = flips.into_iter().map(|(at, pair)| {
            let pair = pair.ok_or(NoDifferenceView::Unreadable);
            (at, pair.and_then(|pair| pair.part(turns)))
        });
        flips.collect::<BTreeMap<_, _>>()
    };
    let mut parted = in_time(time, vec![part]).await?;
    Ok(parted.pop().unwrap_or_default())
}

/// What a flip shows of where its revisions part: that, or why not.
pub(super) fn shown(parted: Option<Parted>) -> (Option<DifferenceView>, Option<NoDifferenceView>) {
    match parted {
        Some(Ok(difference)) => (Some(difference), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, Some(NoDifferenceView::OneOfMany)),
    }
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

#[cfg(test)]
mod tests {
    use workflows::policy::Facts;

    use super::*;
    use crate::store::decisions::decision;
    use crate::testing::{NOW, TestServer};

    const MONITOR: &str = r#"fn decide(facts) { #{ action: "monitor", reason: "ok" } }"#;
    const SHIFT: &str = r#"fn decide(facts) { #{ action: "shift_bandwidth", reason: "hot" } }"#;
    /// Few operations, each of which compares hundreds of items.
    const SLOW: &str = "fn decide(facts) { let a = []; a.pad(900, 1); while a == a { } }";

    /// Flips of a revision of this source, of which the last has a pair of answers of its own.
    async fn flips(app: &App, source: &str, count: usize) -> Vec<comparison::Model> {
        let db = &app.db.write;
        let before = Scripts::Policies.activate(db, NOW, "p", MONITOR).await;
        let before = before.unwrap().digest;
        let after = Scripts::Policies.put(db, NOW, "p", source, None).await;
        let after = after.unwrap().digest;
        let facts = Facts::about("fan-1", "fan", Timestamp(NOW));
        let row = decision::Model {
            id: "d".into(),
            asset: facts.asset.clone(),
            policy: "p".into(),
            revision: before.clone(),
            facts: serde_json::to_string(&facts).unwrap(),
            verdict: r#"{"action":"monitor","reason":"ok"}"#.into(),
            reason: "ok".into(),
            operations: 0,
            duration_us: 0,
            run_id: None,
            at: NOW,
            stopped_by: None,
            fell_back: None,
        };
        store::decisions::insert(db, row).await.unwrap();
        let flip = |n: usize| comparison::Model {
            id: format!("{n:02}"),
            decision_id: "d".into(),
            policy: "p".into(),
            asset: "fan-1".into(),
            at: NOW,
            before_revision: before.clone(),
            revision: after.clone(),
            role: "shadow".into(),
            before_outcome: "monitor".into(),
            outcome: if n + 1 < count { "often" } else { "rare" }.into(),
            flipped: true,
            failed: false,
        };
        (0..count).map(flip).collect()
    }

    #[tokio::test]
    async fn twenty_differences_of_a_page_are_told_that_of_a_rare_pair_among_them() {
        let server = TestServer::with(&[]).await;
        let rows = flips(&server.app, SHIFT, 25).await;
        let told = with_differences(&server.app, rows, DIFFERENCES_TAKE).await;
        let told = told.unwrap();
        let with = told.iter().filter(|flip| flip.first_difference.is_some());
        assert_eq!(with.count(), DIFFERENCES);
        assert!(told[24].first_difference.is_some());
        for flip in told.iter().filter(|flip| flip.first_difference.is_none()) {
            assert_eq!(flip.no_difference, Some(NoDifferenceView::OneOfMany));
        }
    }

    #[tokio::test]
    async fn a_revision_that_takes_too_long_is_not_waited_for_and_that_is_told() {
        let server = TestServer::with(&[]).await;
        let rows = flips(&server.app, SLOW, 3).await;
        let told = with_differences(&server.app, rows, Duration::from_millis(300)).await;
        for flip in told.unwrap() {
            assert_eq!(flip.no_difference, Some(NoDifferenceView::NotInTime));
        }
    }

    #[test]
    fn the_first_of_each_pair_are_told_before_the_others() {
        let told = |pairs: &str, told| {
            let told = told_first(pairs.chars(), told);
            told.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(told("aaaaaaaaab", 4), [0, 1, 2, 9]);
        assert_eq!(told("aaaaaaaaaab", 8), [0, 1, 2, 3, 4, 5, 6, 10]);
        assert_eq!(told("ab", 0), [0; 0]);
        assert_eq!(told("ab", 9), [0, 1]);
    }
}
