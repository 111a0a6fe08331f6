//! The role `predictor`: which plugins are asked about an asset, what they are told, and what their answers mean.
//!
//! Whoever serves is asked in turn until somebody answers; what nobody answers for is the model's. A version that is only
//! compared is asked beside them, and its answers go nowhere but into the comparison.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::plugins::call::{Answer, Request};
use ::plugins::v1::predict::{Column, History, Outlook, Quantile, Request as Asked, Risk};
use ::plugins::v1::types::ArtifactRef;
use ::plugins::world::World;
use predict::failure::{FailureModel, Fps, Horizon, LifeHours, Reason};
use predict::history::UnitHistory;
use predict::series::Samples;
use tracing::{debug, warn};
use workflows::model::{Asset, Scored};

use super::history::unit_history;
use super::panel::{Panel, is_for, told_asset};
use crate::plugins::{Member, NoAnswer, Plugins, Question};
use crate::store::plugin_differences::{self, Difference};
use crate::store::{self, StoreError};

const HOUR_MS: f64 = 3_600_000.0;
/// The name under which a comparison tells the median of the remaining life, in hours.
const MEDIAN_LIFE: &str = "life_p50_hours";

/// An asset to be scored, and what was measured of the part now in it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The asset.
    pub asset: Asset,
    /// When that part was put in, where it is known.
    pub installed_ms: Option<i64>,
    /// By metric.
    pub samples: Arc<BTreeMap<String, Samples>>,
}

/// The model that serves a kind of asset, as plugins are told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Champion {
    artifact: ArtifactRef,
    horizons: Vec<Horizon>,
}

impl Champion {
    /// A model and its bytes' digest and size.
    #[must_use]
    pub fn new(model: &FailureModel, digest: &str, size_bytes: usize) -> Self {
        Self {
            artifact: ArtifactRef {
                digest: digest.to_owned(),
                media_type: workflows::steps::MODEL_MEDIA.to_owned(),
                size: u32::try_from(size_bytes).unwrap_or(u32::MAX),
                name: workflows::steps::MODEL_NAME.to_owned(),
            },
            horizons: model.horizons().cloned().collect(),
        }
    }
}

/// What a question to predictors is about, beside the assets.
#[derive(Debug, Clone)]
pub struct About {
    /// The model that serves assets of this kind.
    pub model: Option<Champion>,
    /// The moment.
    pub now_ms: i64,
    /// Where all randomness starts from.
    pub seed: u32,
}

impl About {
    fn horizons(&self) -> Vec<Horizon> {
        let of_model = self.model.as_ref().map(|model| model.horizons.clone());
        of_model.unwrap_or_else(Horizon::standard)
    }
}

/// Everybody who is asked for scores, as they stand at one moment.
pub struct Predictors(Panel);

impl Predictors {
    /// Who is asked now.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn now(plugins: &Plugins) -> Result<Self, StoreError> {
        Panel::now(plugins, World::Predictor).await.map(Self)
    }

    /// Whether anybody serves a kind of asset.
    #[must_use]
    pub fn serve(&self, kind: &str) -> bool {
        self.0.serving(kind).next().is_some()
    }

    /// The longest step of the histories that a kind's predictors are told, in milliseconds.
    #[must_use]
    pub fn longest_step_ms(&self, kind: &str) -> Option<i64> {
        self.0.about(kind).filter_map(step_ms).max()
    }

    /// How plugins score assets of one kind; none where nobody serves one, or nobody has an answer.
    pub async fn score(
        &self,
        kind: &str,
        subjects: &[Subject],
        about: &About,
    ) -> Vec<Option<Scored>> {
        let mut scored: Vec<Option<Scored>> = vec![None; subjects.len()];
        for member in self.0.serving(kind) {
            let open: Vec<usize> = (0..subjects.len())
                .filter(|&at| scored[at].is_none() && is_for(member, &subjects[at].asset.id))
                .collect();
            let asked: Vec<&Subject> = open.iter().map(|&at| &subjects[at]).collect();
            // Where it has no answer the next one is asked, or the model.
            let answers = self.answers(member, kind, &asked, about).await;
            for (at, answer) in open.into_iter().zip(answers) {
                scored[at] = answer;
            }
        }
        scored
    }

    /// Asks those who are only compared, and keeps how far they are from what was said.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn compare(
        &self,
        kind: &str,
        said: &[(Subject, Scored)],
        about: &About,
    ) -> Result<(), StoreError> {
        let subjects: Vec<&Subject> = said.iter().map(|(subject, _)| subject).collect();
        for member in self.0.compared(kind) {
            let answers = self.answers(member, kind, &subjects, about).await;
            let tx = store::begin(&self.0.plugins.db().write).await?;
            for ((subject, theirs), own) in said.iter().zip(&answers) {
                if let Some(own) = own {
                    let difference = Difference {
                        asset: subject.asset.id.clone(),
                        at: about.now_ms,
                        other: theirs.model.clone(),
                        own: numbers(&own.fps),
                        theirs: numbers(&theirs.fps),
                    };
                    plugin_differences::put(&tx, &member.row.id, &difference).await?;
                }
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// What one says of several assets at once. Where it fails, it is asked about each alone: over one asset it has no
    /// answer for, the others are not left without.
    async fn answers(
        &self,
        member: &Member,
        kind: &str,
        subjects: &[&Subject],
        about: &About,
    ) -> Vec<Option<Scored>> {
        let plugin = &member.row.plugin;
        let alone = match self.ask(member, kind, subjects, about).await {
            Ok(answers) => return answers,
            Err(error) => {
                warn!(plugin = %plugin, "{error}");
                subjects.len() > 1 && matches!(error, NoAnswer::Failed { .. })
            }
        };
        let mut answers: Vec<Option<Scored>> = vec![None; subjects.len()];
        for (answer, subject) in answers.iter_mut().zip(subjects).filter(|_| alone) {
            match self.ask(member, kind, &[subject], about).await {
                Ok(mut said) => *answer = said.pop().flatten(),
                Err(error @ NoAnswer::Failed { .. }) => warn!(plugin = %plugin, "{error}"),
                Err(error) => {
                    warn!(plugin = %plugin, "{error}");
                    break;
                }
            }
        }
        answers
    }

    /// One call about several assets; none for those that it declines, or that nothing was measured of.
    async fn ask(
        &self,
        member: &Member,
        kind: &str,
        subjects: &[&Subject],
        about: &About,
    ) -> Result<Vec<Option<Scored>>, NoAnswer> {
        let mut answers: Vec<Option<Scored>> = vec![None; subjects.len()];
        let told: Vec<(usize, UnitHistory)> = subjects
            .iter()
            .enumerate()
            .filter_map(|(at, subject)| Some((at, history(member, subject)?)))
            .collect();
        let Some((first, _)) = told.first() else {
            return Ok(answers);
        };
        let purpose = match told.len() {
            1 => format!("score {}", subjects[*first].asset.id),
            count => format!("score {count} assets of kind {kind}"),
        };
        let horizons = about.horizons();
        let histories = told
            .iter()
            .map(|(at, history)| told_history(subjects[*at], history));
        let request = Asked {
            histories: histories.collect(),
            horizons: horizons.iter().map(|one| one.hours * HOUR_MS).collect(),
            model: about.model.as_ref().map(|model| model.artifact.clone()),
        };
        let question = Question {
            member,
            purpose: &purpose,
            request: Request::Predict(request),
            now_ms: about.now_ms,
            seed: about.seed,
        };
        let answered = self.0.plugins.ask(question).await?;
        let Answer::Predict(outlooks) = answered.answer else {
            // The host holds answers to the world of their question.
            return Ok(answers);
        };
        for ((at, history), outlook) in told.into_iter().zip(outlooks) {
            match outlook {
                Outlook::Risk(risk) => {
                    answers[at] = Some(Scored {
                        fps: fps(risk, &horizons),
                        model: member.row.digest.clone(),
                        plugin: Some(answered.by.clone()),
                        history,
                    });
                }
                Outlook::Declined(why) => {
                    let asset = &subjects[at].asset.id;
                    debug!(plugin = %member.row.plugin, "`{}` declines `{asset}`: {why}", member.row.plugin);
                }
            }
        }
        Ok(answers)
    }
}

fn step_ms(member: &Member) -> Option<i64> {
    let predictor = member.manifest.predictor.as_ref()?;
    i64::try_from(predictor.step_ms).ok()
}

/// The newest rows of an asset's history, as many as the plugin wants.
fn history(member: &Member, subject: &Subject) -> Option<UnitHistory> {
    let rows = member.manifest.predictor.as_ref()?.rows as usize;
    let told = unit_history(&subject.asset.id, &subject.samples, step_ms(member)?, false);
    let mut history = told.ok().filter(|history| !history.rows.is_empty())?;
    let older = history.rows.len().saturating_sub(rows);
    history.rows.drain(..older);
    Some(history)
}

fn told_history(subject: &Subject, history: &UnitHistory) -> History {
    let last = subject.samples.values().filter_map(|s| s.times_ms.last());
    // The last sample falls into the last row.
    let last = last.max().copied().unwrap_or_default();
    let rows_before = i64::try_from(history.rows.len()).unwrap_or(i64::MAX) - 1;
    let column = |(n, metric): (usize, &String)| Column {
        metric: metric.clone(),
        // Samples come without.
        unit: String::new(),
        values: history.rows.iter().map(|row| row[n]).collect(),
    };
    History {
        asset: told_asset(&subject.asset),
        installed: subject.installed_ms.map(|at| at as f64),
        start: (last - rows_before * history.step_ms) as f64,
        step: history.step_ms as f64,
        columns: history.metrics.iter().enumerate().map(column).collect(),
    }
}

/// What an outlook means here. The host has held it to the contract: one probability for each horizon, and so on.
fn fps(risk: Risk, horizons: &[Horizon]) -> Fps {
    let names = horizons.iter().map(|horizon| horizon.name.clone());
    let reason = |told: ::plugins::v1::predict::Reason| Reason {
        metric: told.metric,
        feature: told.feature,
        value: told.value,
        typical: Some(told.typical).filter(|typical| typical.is_finite()),
        contribution: told.contribution / HOUR_MS,
    };
    Fps {
        by_horizon: names.zip(risk.probabilities).collect(),
        remaining_life_hours: life(&risk.remaining_life),
        reasons: risk.reasons.into_iter().map(reason).collect(),
        model: None,
    }
}

/// The three quantiles that are kept, between those that were told; none where these do not reach as far.
fn life(told: &[Quantile]) -> Option<LifeHours> {
    let at = |p: f64| {
        let above = told.iter().position(|quantile| quantile.p >= p - 1e-9)?;
        let upper = &told[above];
        if (upper.p - p).abs() <= 1e-9 {
            return Some(upper.after / HOUR_MS);
        }
        let lower = told.get(above.checked_sub(1)?)?;
        let share = (p - lower.p) / (upper.p - lower.p);
        Some((lower.after + share * (upper.after - lower.after)) / HOUR_MS)
    };
    Some(LifeHours {
        p05: at(0.05)?,
        p50: at(0.5)?,
        p95: at(0.95)?,
    })
}

fn numbers(fps: &Fps) -> BTreeMap<String, f64> {
    let mut numbers = fps.by_horizon.clone();
    if let Some(life) = fps.remaining_life_hours {
        numbers.insert(MEDIAN_LIFE.to_owned(), life.p50);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantiles(told: &[(f64, f64)]) -> Vec<Quantile> {
        let quantile = |&(p, hours): &(f64, f64)| Quantile {
            p,
            after: hours * HOUR_MS,
        };
        told.iter().map(quantile).collect()
    }

    #[test]
    fn the_quantiles_that_are_kept_lie_between_those_that_were_told() {
        let exact = life(&quantiles(&[(0.05, 1.0), (0.5, 10.0), (0.95, 100.0)])).unwrap();
        assert_eq!((exact.p05, exact.p50, exact.p95), (1.0, 10.0, 100.0));
        let between = life(&quantiles(&[(0.01, 2.0), (0.09, 4.0), (0.99, 94.0)])).unwrap();
        assert!((between.p05 - 3.0).abs() < 1e-9, "{between:?}");
        assert!((between.p95 - 90.0).abs() < 1e-9, "{between:?}");
        for short in [&[][..], &[(0.5, 1.0)], &[(0.1, 1.0), (0.95, 2.0)]] {
            assert_eq!(life(&quantiles(short)), None, "{short:?}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_nothing_and_milliseconds_become_hours() {
        let reason = |typical| ::plugins::v1::predict::Reason {
            metric: "m".to_owned(),
            feature: "mean_5".to_owned(),
            value: 3.0,
            typical,
            contribution: 7_200_000.0,
        };
        let risk = Risk {
            probabilities: vec![0.1, 0.2],
            remaining_life: Vec::new(),
            reasons: vec![reason(f64::NAN), reason(1.0)],
        };
        let fps = fps(risk, &Horizon::standard()[..2]);
        assert_eq!(fps.by_horizon["7d"], 0.2);
        assert_eq!(fps.remaining_life_hours, None);
        let told: Vec<_> = fps
            .reasons
            .iter()
            .map(|r| (r.typical, r.contribution))
            .collect();
        assert_eq!(told, [(None, 2.0), (Some(1.0), 2.0)]);
    }
}
