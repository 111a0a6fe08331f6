//! The role `verifier`: what plugins say of a scan, beside our own measure of it.

use std::collections::BTreeMap;

use ::plugins::call::{Answer, Request};
use ::plugins::v1::types::ArtifactRef;
use ::plugins::v1::verify::{Disposition, Observation, Placement, Report, Request as Asked};
use ::plugins::world::World;
use tracing::warn;
use workflows::host::Inspected;
use workflows::model::{PluginFinding, PluginVerdict};

use super::panel::{Panel, is_for};
use super::predictor::About;
use crate::plugins::{Member, NoAnswer, Plugins, Question};
use crate::store::StoreError;
use crate::store::plugin_differences::{self, Difference};

/// Everybody who is asked what a part is like, as they stand at one moment.
pub(super) struct Verifiers(Panel);

/// A scan as plugins are told of it.
pub(super) struct Scan<'a> {
    /// What was inspected.
    pub(super) inspected: &'a Inspected<'a>,
    /// The kind of asset that the part is for.
    pub(super) kind: &'a str,
    /// The mesh that it should be.
    pub(super) mesh: ArtifactRef,
    /// What was scanned.
    pub(super) scan: ArtifactRef,
}

impl Verifiers {
    pub(super) async fn now(plugins: &Plugins) -> Result<Self, StoreError> {
        Panel::now(plugins, World::Verifier).await.map(Self)
    }

    /// Whether anybody has anything to do with a kind of asset.
    pub(super) fn know(&self, kind: &str) -> bool {
        self.0.about(kind).next().is_some()
    }

    /// What everybody says who serves: a part is looked at by all of them, each for what it knows. One that fails, or was
    /// set aside meanwhile, is logged and left out; one that this server could not ask is not. Whoever is only compared is
    /// asked too, and its answer kept for the comparison alone.
    ///
    /// # Errors
    ///
    /// Whatever kept this server from asking.
    pub(super) async fn inspect(
        &self,
        scan: &Scan<'_>,
        about: &About,
    ) -> Result<Vec<PluginVerdict>, NoAnswer> {
        let mut verdicts = Vec::new();
        let asset = scan.inspected.asset;
        for member in self.0.serving(scan.kind).filter(|one| is_for(one, asset)) {
            match self.ask(member, scan, about).await {
                Ok(verdict) => verdicts.push(verdict),
                Err(error @ (NoAnswer::Failed { .. } | NoAnswer::SetAside { .. })) => {
                    warn!(plugin = %member.row.plugin, "{error}");
                }
                // A part is not let through for want of a disk.
                Err(error) => return Err(error),
            }
        }
        for member in self.0.compared(scan.kind) {
            match self.ask(member, scan, about).await {
                Ok(verdict) => {
                    let difference = Difference {
                        asset: asset.to_owned(),
                        at: about.now_ms,
                        other: "built in".to_owned(),
                        own: numbers(&verdict.disposition),
                        theirs: numbers(scan.inspected.disposition),
                    };
                    let db = &self.0.plugins.db().write;
                    plugin_differences::put(db, &member.row.id, &difference).await?;
                }
                Err(error) => warn!(plugin = %member.row.plugin, "{error}"),
            }
        }
        Ok(verdicts)
    }

    async fn ask(
        &self,
        member: &Member,
        scan: &Scan<'_>,
        about: &About,
    ) -> Result<PluginVerdict, NoAnswer> {
        let inspected = scan.inspected;
        let purpose = format!("inspect a part for {}", inspected.asset);
        let question = Question {
            member,
            purpose: &purpose,
            request: Request::Verify(Asked {
                expected: scan.mesh.clone(),
                observations: vec![Observation {
                    artifact: scan.scan.clone(),
                    placement: Placement::Unknown,
                    uncertainty: Some(inspected.uncertainty_mm),
                }],
                tolerance: inspected.tolerance_mm,
            }),
            now_ms: about.now_ms,
            seed: about.seed,
        };
        let answered = self.0.plugins.ask(question).await?;
        let Answer::Verify(report) = answered.answer else {
            let why = anyhow::anyhow!("a verifier answered as a plugin of another world");
            return Err(NoAnswer::Trouble(why));
        };
        Ok(verdict(report, answered.by))
    }
}

fn verdict(report: Report, plugin: workflows::model::PluginUse) -> PluginVerdict {
    let findings = report.findings.into_iter().map(|finding| PluginFinding {
        code: finding.code,
        severity: finding.severity,
        at: finding.at.map(|(x, y, z)| [x, y, z]),
        detail: finding.detail,
    });
    PluginVerdict {
        disposition: match report.disposition {
            Disposition::Accept => "accept",
            Disposition::Rework => "rework",
            Disposition::Reject => "reject",
            Disposition::Inconclusive => "inconclusive",
        }
        .to_owned(),
        confidence: report.confidence,
        findings: findings.collect(),
        plugin,
    }
}

/// One for the disposition that it is, so that two that differ are 1 apart.
fn numbers(disposition: &str) -> BTreeMap<String, f64> {
    ["accept", "rework", "reject", "inconclusive"]
        .map(|name| (name.to_owned(), f64::from(u8::from(name == disposition))))
        .into()
}
