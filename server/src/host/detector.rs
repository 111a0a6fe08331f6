//! The role `detector`: what a plugin finds unusual in what was measured of an asset, and what that says of the present.

use std::collections::BTreeMap;

use ::plugins::call::{Answer, Request};
use ::plugins::v1::detect::{Anomaly, Request as Asked};
use ::plugins::v1::types::Series;
use ::plugins::world::World;
use predict::anomaly::AnomalyScore;
use tracing::warn;
use workflows::model::Detected;

use super::panel::{Panel, is_for, told_asset};
use super::predictor::{About, Subject};
use crate::plugins::{Member, NoAnswer, Plugins, Question};
use crate::store::plugin_differences::{self, Difference};
use crate::store::{self, StoreError};

/// The newest samples of a metric that a detector is told.
const MOST_SAMPLES: usize = 10_000;
/// The share of what is told that is there to learn what is normal, as for the detector in the server.
const NORMAL: f64 = 0.75;
/// The name under which a comparison tells the score.
const SCORE: &str = "anomaly";

/// Everybody who is asked what is unusual, as they stand at one moment.
pub struct Detectors(Panel);

impl Detectors {
    /// Who is asked now.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn now(plugins: &Plugins) -> Result<Self, StoreError> {
        Panel::now(plugins, World::Detector).await.map(Self)
    }

    /// Whether anybody serves a kind of asset.
    #[must_use]
    pub fn serve(&self, kind: &str) -> bool {
        self.0.serving(kind).next().is_some()
    }

    /// How unusual the present of an asset is; none where nobody serves its kind, or nobody has an answer.
    pub async fn detect(&self, subject: &Subject, about: &About) -> Option<Detected> {
        let asset = &subject.asset;
        let serving = self.0.serving(&asset.kind);
        for member in serving.filter(|member| is_for(member, &asset.id)) {
            match self.ask(member, subject, about).await {
                Ok(detected) => return detected,
                // The next one is asked, or the detector in the server.
                Err(error) => warn!(plugin = %member.row.plugin, "{error}"),
            }
        }
        None
    }

    /// Asks those who are only compared, and keeps how far they are from the score that was told.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn compare(
        &self,
        kind: &str,
        told: &[(&Subject, Option<&AnomalyScore>, &str)],
        about: &About,
    ) -> Result<(), StoreError> {
        for member in self.0.compared(kind) {
            let mut differences = Vec::new();
            for (subject, score, other) in told {
                match self.ask(member, subject, about).await {
                    Ok(Some(own)) => differences.push(Difference {
                        asset: subject.asset.id.clone(),
                        at: about.now_ms,
                        other: (*other).to_owned(),
                        own: number(Some(&own.score)),
                        theirs: number(*score),
                    }),
                    Ok(None) => {}
                    Err(error) => warn!(plugin = %member.row.plugin, "{error}"),
                }
            }
            let tx = store::begin(&self.0.plugins.db().write).await?;
            for difference in &differences {
                plugin_differences::put(&tx, &member.row.id, difference).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    async fn ask(
        &self,
        member: &Member,
        subject: &Subject,
        about: &About,
    ) -> Result<Option<Detected>, NoAnswer> {
        let series = told_series(subject);
        let Some((first, last)) = span(&series) else {
            return Ok(None);
        };
        let asset = &subject.asset;
        let purpose = format!("watch {}", asset.id);
        let question = Question {
            member,
            purpose: &purpose,
            request: Request::Detect(Asked {
                asset: told_asset(asset),
                series,
                since: (first + NORMAL * (last - first)).round(),
            }),
            now_ms: about.now_ms,
            seed: about.seed,
        };
        let answered = self.0.plugins.ask(question).await?;
        let Answer::Detect(anomalies) = answered.answer else {
            // The host holds answers to the world of their question.
            return Ok(None);
        };
        Ok(Some(Detected {
            score: present(&anomalies, last),
            plugin: answered.by,
        }))
    }
}

/// The newest samples of each metric, sorted by metric.
fn told_series(subject: &Subject) -> Vec<Series> {
    let series = subject.samples.iter().map(|(metric, samples)| {
        let newest = samples.times_ms.len().saturating_sub(MOST_SAMPLES);
        Series {
            metric: metric.clone(),
            // Samples come without.
            unit: String::new(),
            times: samples.times_ms[newest..]
                .iter()
                .map(|&t| t as f64)
                .collect(),
            values: samples.values[newest..].to_vec(),
        }
    });
    series.filter(|series| !series.times.is_empty()).collect()
}

fn span(series: &[Series]) -> Option<(f64, f64)> {
    let times = || series.iter().flat_map(|one| one.times.iter().copied());
    Some((times().reduce(f64::min)?, times().reduce(f64::max)?))
}

/// What the anomalies say of the last moment: the greatest score of those that last until then. Of its metrics each next
/// one has half the share of the one before.
fn present(anomalies: &[Anomaly], last: f64) -> AnomalyScore {
    let lasting = anomalies.iter().filter(|anomaly| anomaly.end >= last);
    let worst = lasting.max_by(|a, b| a.score.total_cmp(&b.score));
    let Some(worst) = worst else {
        return AnomalyScore {
            score: 0.0,
            attribution: Vec::new(),
        };
    };
    let weight = |n: usize| 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let all: f64 = (0..worst.metrics.len()).map(weight).sum();
    let metrics = worst.metrics.iter().enumerate();
    AnomalyScore {
        score: worst.score,
        attribution: metrics
            .map(|(n, metric)| (metric.clone(), weight(n) / all))
            .collect(),
    }
}

fn number(score: Option<&AnomalyScore>) -> BTreeMap<String, f64> {
    let score = score.map(|score| (SCORE.to_owned(), score.score));
    score.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anomaly(end: f64, score: f64, metrics: &[&str]) -> Anomaly {
        Anomaly {
            start: 0.0,
            end,
            score,
            kind: "spike".to_owned(),
            metrics: metrics.iter().map(|&metric| metric.to_owned()).collect(),
        }
    }

    #[test]
    fn only_what_lasts_until_now_is_the_present() {
        let past = [anomaly(9.0, 0.9, &["a"])];
        assert_eq!(present(&past, 10.0).score, 0.0);
        let now = [
            anomaly(10.0, 0.4, &["a"]),
            anomaly(12.0, 0.7, &["b", "a"]),
            anomaly(9.9, 1.0, &[]),
        ];
        let score = present(&now, 10.0);
        assert_eq!(score.score, 0.7);
        let [(first, most), (_, less)] = &score.attribution[..] else {
            panic!("{score:?}");
        };
        assert_eq!(first, "b");
        assert!((most + less - 1.0).abs() < 1e-12 && most > less);
    }
}
