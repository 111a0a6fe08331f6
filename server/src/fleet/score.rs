//! Scores every asset whose kind has a model, and keeps the predictions.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use predict::failure::FailureModel;
use predict::series::Samples;
use workflows::model::{Asset, AssetState, Detected, Prediction, Scored, Timestamp};
use workflows::steps::{self, predict_asset};

use crate::app::App;
use crate::host::detector::Detectors;
use crate::host::predictor::{self, About, Predictors, Subject};
use crate::host::{installed, present_since, reach, unit_history};
use crate::store;
use crate::store::outcomes::outcome;

/// How many assets are scored between two looks at the database.
const BATCH: usize = 16;

/// A model that serves a kind of asset.
struct Champion {
    model: Arc<FailureModel>,
    digest: String,
    size_bytes: usize,
}

/// Scores the assets named, or all, as of now; an asset that cannot be scored is left out and logged.
pub(super) async fn score(app: &App, about: Option<&[String]>) -> anyhow::Result<Vec<Prediction>> {
    let assets = store::assets::list(&app.db.read).await?;
    let scorers = Scorers::now(app, &assets).await?;
    let outcomes = outcomes_by_asset(app).await?;
    let now = app.clock.now();
    let wanted = |a: &Asset| about.is_none_or(|names| names.contains(&a.id));
    let mut by_kind = BTreeMap::<String, Vec<Asset>>::new();
    for asset in assets.into_iter().filter(serves).filter(wanted) {
        by_kind.entry(asset.kind.clone()).or_default().push(asset);
    }
    let (mut predictions, mut unscored) = (Vec::new(), Vec::new());
    for (kind, assets) in &by_kind {
        let Some(step_ms) = scorers.longest_step_ms(kind) else {
            continue;
        };
        for batch in assets.chunks(BATCH) {
            let mut subjects = Vec::new();
            for asset in batch {
                let told = outcomes.get(&asset.id).map_or(&[][..], Vec::as_slice);
                let samples = usable_samples(app, asset, told, step_ms, now).await?;
                if samples.values().any(|samples| !samples.times_ms.is_empty()) {
                    subjects.push(Subject {
                        asset: asset.clone(),
                        installed_ms: installed(told, now.0),
                        samples: Arc::new(samples),
                    });
                }
            }
            let (made, refused) = scorers.predict(kind, subjects, now).await?;
            unscored.extend(refused);
            let tx = store::begin(&app.db.write).await?;
            for prediction in &made {
                store::predictions::put(&tx, now.0, prediction).await?;
            }
            tx.commit().await?;
            predictions.extend(made);
        }
    }
    // One line a tick: a fleet of which half is not measured would fill the log with the same words.
    if let Some(first) = unscored.first() {
        tracing::warn!(
            "{} assets cannot be scored; the first: {first}",
            unscored.len()
        );
    }
    predictions.sort_by(|a, b| a.asset.cmp(&b.asset));
    record(app, now, predictions.len()).await?;
    Ok(predictions)
}

/// Whoever scores, as they stand at one moment: plugins before models.
struct Scorers {
    predictors: Predictors,
    detectors: Detectors,
    champions: BTreeMap<String, Champion>,
    seed: u64,
}

impl Scorers {
    async fn now(app: &App, assets: &[Asset]) -> anyhow::Result<Self> {
        Ok(Self {
            predictors: Predictors::now(&app.plugins).await?,
            detectors: Detectors::now(&app.plugins).await?,
            champions: champions(app, assets).await?,
            seed: app.config.fleet.seed,
        })
    }

    /// None for a kind that nobody scores.
    fn longest_step_ms(&self, kind: &str) -> Option<i64> {
        let champion = self.champions.get(kind);
        let of_model = champion.map(|champion| champion.model.step_ms());
        // Who is only compared has nobody to be compared with where nobody serves.
        let anybody = of_model.is_some() || self.predictors.serve(kind);
        let longest = self.predictors.longest_step_ms(kind).max(of_model);
        longest.filter(|_| anybody)
    }

    /// What is predicted of assets of one kind, and why nothing is of the others.
    async fn predict(
        &self,
        kind: &str,
        subjects: Vec<Subject>,
        now: Timestamp,
    ) -> anyhow::Result<(Vec<Prediction>, Vec<String>)> {
        let champion = self.champions.get(kind);
        let about = About {
            model: champion.map(Champion::told),
            now_ms: now.0,
            seed: self.seed as u32,
        };
        let by_plugins = self.predictors.score(kind, &subjects, &about).await;
        let mut detected = Vec::with_capacity(subjects.len());
        for subject in &subjects {
            detected.push(self.detectors.detect(subject, &about).await);
        }
        let model = champion.map(|champion| (champion.model.clone(), champion.digest.clone()));
        let answered = tokio::task::spawn_blocking(move || {
            let (mut made, mut refused) = (Vec::new(), Vec::new());
            let told = by_plugins.into_iter().zip(detected);
            for (subject, (scored, detected)) in subjects.into_iter().zip(told) {
                match predicted(&subject, scored, detected, model.as_ref()) {
                    Ok((prediction, scored)) => made.push((prediction, subject, scored)),
                    Err(error) => refused.push(format!("{error:#}")),
                }
            }
            (made, refused)
        });
        let (made, refused) = answered.await.context("scoring panicked")?;
        let (predictions, said): (Vec<_>, Vec<_>) = made
            .into_iter()
            .map(|(prediction, subject, scored)| (prediction, (subject, scored)))
            .unzip();
        // Who is only compared is never in the way of what was said.
        let compared = self.predictors.compare(kind, &said, &about).await;
        not_compared(kind, compared);
        let watched: Vec<_> = predictions
            .iter()
            .zip(&said)
            .map(|(prediction, (subject, _))| {
                (subject, prediction.anomaly.as_ref(), watcher(prediction))
            })
            .collect();
        let compared = self.detectors.compare(kind, &watched, &about).await;
        not_compared(kind, compared);
        Ok((predictions, refused))
    }
}

fn not_compared(kind: &str, compared: Result<(), store::StoreError>) {
    if let Err(error) = compared {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "failed to compare what plugins say of assets of kind `{kind}`"
        );
    }
}

impl Champion {
    fn told(&self) -> predictor::Champion {
        predictor::Champion::new(&self.model, &self.digest, self.size_bytes)
    }
}

/// Who says how unusual the present is.
fn watcher(prediction: &Prediction) -> &str {
    let plugin = prediction.detector.as_ref();
    plugin.map_or("built in", |plugin| &plugin.digest)
}

/// What is predicted of one asset, by the score of a plugin or else by the model's.
fn predicted(
    subject: &Subject,
    by_plugin: Option<Scored>,
    detected: Option<Detected>,
    model: Option<&(Arc<FailureModel>, String)>,
) -> anyhow::Result<(Prediction, Scored)> {
    let asset = &subject.asset;
    let scored = match (by_plugin, model) {
        (Some(scored), _) => scored,
        (None, Some((model, digest))) => {
            let history = unit_history(&asset.id, &subject.samples, model.step_ms(), false)?;
            steps::score(model, digest, history)?
        }
        (None, None) => anyhow::bail!("no plugin has an answer for `{}`", asset.id),
    };
    // A prediction speaks from the last sample it saw, so that it is the same whenever it is made.
    let last = subject.samples.values().filter_map(|s| s.times_ms.last());
    let last = last.max().context("nothing was measured")?;
    let (prediction, _) = predict_asset(asset, &scored, detected, Timestamp(*last))?;
    Ok((prediction, scored))
}

/// What was measured of the part now in an asset, no further back than a history can depend on: a long record of a
/// whole batch need not fit in memory.
async fn usable_samples(
    app: &App,
    asset: &Asset,
    outcomes: &[outcome::Model],
    step_ms: i64,
    now: Timestamp,
) -> anyhow::Result<BTreeMap<String, Samples>> {
    let Some(last_ms) = app.telemetry.last_ms(&asset.id).await? else {
        return Ok(BTreeMap::new());
    };
    let from_ms = reach(last_ms.min(now.0), step_ms).max(present_since(outcomes, now.0));
    Ok(app.telemetry.raw_many(&asset.id, from_ms, now.0).await?)
}

async fn outcomes_by_asset(app: &App) -> anyhow::Result<BTreeMap<String, Vec<outcome::Model>>> {
    let mut by_asset = BTreeMap::<String, Vec<outcome::Model>>::new();
    for outcome in store::outcomes::list(&app.db.read, None).await? {
        let of_asset = by_asset.entry(outcome.asset.clone()).or_default();
        of_asset.push(outcome);
    }
    Ok(by_asset)
}

fn serves(asset: &Asset) -> bool {
    matches!(asset.state, AssetState::InService | AssetState::StoodIn)
}

async fn champions(app: &App, assets: &[Asset]) -> anyhow::Result<BTreeMap<String, Champion>> {
    let mut champions = BTreeMap::new();
    let kinds: std::collections::BTreeSet<&str> = assets.iter().map(|a| a.kind.as_str()).collect();
    for kind in kinds {
        let Some(row) = store::models::champion(&app.db.read, "failure", kind).await? else {
            continue;
        };
        let bytes = app.artifacts.get(&row.digest).await?;
        let model = FailureModel::from_bytes(&bytes)
            .with_context(|| format!("failed to read the model of `{kind}`"))?;
        let champion = Champion {
            model: Arc::new(model),
            digest: row.digest,
            size_bytes: bytes.len(),
        };
        champions.insert(kind.to_owned(), champion);
    }
    Ok(champions)
}

async fn record(app: &App, now: Timestamp, scored: usize) -> anyhow::Result<()> {
    let tx = store::begin(&app.db.write).await?;
    let detail = serde_json::json!({ "scored": scored });
    store::events::record(&tx, now.0, "fleet.scored", "fleet", &detail).await?;
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use predict::failure::Training;
    use predict::history::UnitHistory;
    use predict::wear;
    use serde_json::json;
    use workflows::model::NewModel;

    use super::*;
    use crate::store::outcomes::NewOutcome;
    use crate::telemetry::Sample;
    use crate::testing::TestServer;

    const HOUR_MS: i64 = 3_600_000;

    /// Trains on a fleet of the past and lets the model serve fans.
    async fn serve_a_model(app: &App, fleet: &[UnitHistory]) {
        let trained = FailureModel::train(fleet, &Training::default(), &mut |_| {
            ControlFlow::Continue(())
        });
        let (model, _) = trained.expect("a model");
        let digest = app.artifacts.put(model.to_bytes().into()).await;
        let new = NewModel {
            kind: "failure".into(),
            asset_kind: "fan".into(),
            digest: digest.expect("stored"),
            evaluation: json!({}),
        };
        let row = store::models::insert(&app.db.write, 0, ("r", "1"), &new).await;
        let crowned = store::models::crown(&app.db.write, &row.expect("a row")).await;
        crowned.expect("crowned");
    }

    /// Some rows of a history, an hour apart.
    fn samples(history: &UnitHistory, rows: std::ops::Range<usize>, from_ms: i64) -> Vec<Sample> {
        let row = |(n, row): (usize, usize)| {
            let named = history.metrics.iter().zip(&history.rows[row]);
            named.map(move |(metric, &value)| Sample {
                asset: "fan-1".into(),
                metric: metric.as_str().into(),
                time_ms: from_ms + n as i64 * HOUR_MS,
                value,
            })
        };
        rows.enumerate().flat_map(row).collect()
    }

    #[tokio::test]
    async fn a_part_just_put_in_is_scored_and_the_old_one_s_risk_is_gone() {
        let server = TestServer::with(&[]).await;
        let app = &server.app;
        let asset = json!({ "id": "fan-1", "kind": "fan", "name": "fan", "locality": "hall", "row": 0, "col": 0 });
        let asset = serde_json::from_value(asset).unwrap();
        store::assets::put(&app.db.write, 0, &asset).await.unwrap();
        let fleet = wear::fleet(1, 6, &[0.4, 0.7]);
        serve_a_model(app, &fleet).await;
        let append = async |samples| {
            let kept = app.telemetry.append(app.now_ms(), samples).await.unwrap();
            assert_eq!(kept.rejected, []);
        };
        let present = async || {
            let now = app.now_ms();
            let known = store::predictions::present_of_all(&app.db.read, now).await;
            known.unwrap().iter().map(|p| p.at.0).collect::<Vec<_>>()
        };
        let worn = &fleet[0];
        let begun = app.now_ms() - 100 * HOUR_MS;
        let count = worn.rows.len();
        append(samples(worn, count - 60..count, begun)).await;
        score(app, None).await.unwrap();
        let last = begun + 59 * HOUR_MS;
        assert_eq!(present().await, [last]);

        let replaced = async |at| {
            let new = NewOutcome {
                asset: "fan-1",
                kind: "replaced",
                at,
                note: "",
                step: None,
            };
            let db = &app.db.write;
            assert!(store::outcomes::insert(db, at, new).await.unwrap());
        };
        replaced(app.now_ms() + HOUR_MS).await;
        assert_eq!(present().await, [last], "it is only announced");
        replaced(last).await;
        assert!(present().await.is_empty());
        assert!(score(app, None).await.unwrap().is_empty());
        let said = store::predictions::latest_of_all(&app.db.read).await;
        assert_eq!(said.unwrap().len(), 1, "what was said stays on record");

        append(samples(&fleet[1], 0..1, last + HOUR_MS)).await;
        let made = score(app, None).await.unwrap();
        assert_eq!(made.len(), 1, "one sample has no pace of its own");
        assert_eq!(present().await, [last + HOUR_MS]);
    }
}
