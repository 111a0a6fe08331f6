//! Parts that plugins propose: the first that is as sound as one of our own is made, and none that is not.

use std::collections::BTreeMap;

use cad::adopt::{AdoptError, adopt};
use cad::brief::Brief;
use cad::design::Design;
use cad::error_chain;
use serde::{Deserialize, Serialize};

use super::StepError;
use crate::host::{Compared, Designing, Host};
use crate::model::{self, Asset, PluginUse, Proposal};

/// The file of a design that tells of the proposals behind it.
pub(super) const FILE: &str = "proposal";
/// Whose answer was taken where no plugin's was.
const BUILT_IN: &str = "built in";
/// How far a redesign is when what was taken is compared.
const AFTER: f64 = 0.95;
/// A part that nothing pulls at would hold infinitely much, which is no number to compare.
const MOST_FOS: f64 = 1e6;

/// A proposal that was not taken, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Digest of its mesh.
    pub mesh: String,
    /// Everything that is wrong with it, as far as it was looked at.
    pub reasons: Vec<String>,
    /// Which plugin.
    pub plugin: PluginUse,
}

/// What became of the proposals.
#[derive(Default)]
pub(super) struct Judged {
    /// The first sound one.
    pub(super) taken: Option<(Design, Proposal)>,
    /// Those before it.
    pub(super) refused: Vec<Refused>,
}

/// What is stored of the proposals behind a design.
#[derive(Serialize, Deserialize)]
pub(super) struct Record<T, R> {
    pub(super) taken: Option<T>,
    pub(super) refused: R,
}

/// What became of them in an earlier attempt, which has kept its design: nobody is asked again, for they might answer
/// otherwise.
pub(super) fn again(
    kept: &model::Design,
    brief: &Brief,
    host: &dyn Host,
) -> Result<Judged, StepError> {
    let Some(file) = kept.artifacts.get(FILE) else {
        return Ok(Judged::default());
    };
    let record: Record<Proposal, Vec<Refused>> =
        serde_json::from_slice(&host.artifact(&file.digest)?)
            .map_err(|e| StepError::failed("invalid_proposal", e))?;
    let Record { taken, refused } = record;
    let taken = match taken {
        None => None,
        Some(proposal) => match sound(&proposal, brief, host, (0.0, AFTER))? {
            Ok(design) => Some((design, proposal)),
            Err(reasons) => {
                let why = format!("the part was sound, and is not: {}", reasons.join("; "));
                return Err(StepError::failed("invalid_proposal", why));
            }
        },
    };
    Ok(Judged { taken, refused })
}

/// Judges proposals in their order until one is sound. Together they are `share` of the work.
pub(super) fn judge(
    proposals: Vec<Proposal>,
    brief: &Brief,
    host: &dyn Host,
    share: f64,
) -> Result<Judged, StepError> {
    let mut refused = Vec::new();
    let each = share / proposals.len().max(1) as f64;
    for (n, proposal) in proposals.into_iter().enumerate() {
        match sound(&proposal, brief, host, (n as f64 * each, each))? {
            Ok(design) => {
                let taken = Some((design, proposal));
                return Ok(Judged { taken, refused });
            }
            Err(reasons) => refused.push(Refused {
                mesh: proposal.mesh,
                reasons,
                plugin: proposal.plugin,
            }),
        }
    }
    let taken = None;
    Ok(Judged { taken, refused })
}

/// Has what was taken compared with what plugins propose that do not serve.
pub(super) fn compare(
    asset: &Asset,
    brief: &Brief,
    (design, by): (&Design, Option<&PluginUse>),
    host: &dyn Host,
) -> Result<(), StepError> {
    for proposal in host.plugin_designs(asset, brief, Designing::Compared)? {
        let own = match sound(&proposal, brief, host, (AFTER, 0.0))? {
            Ok(design) => numbers(&design),
            Err(_) => refused_numbers(&proposal),
        };
        host.plugin_compared(&Compared {
            plugin: &proposal.plugin,
            asset: &asset.id,
            other: by.map_or(BUILT_IN, |by| &by.digest),
            own,
            theirs: numbers(design),
        })?;
    }
    Ok(())
}

fn numbers(design: &Design) -> BTreeMap<String, f64> {
    let certificate = &design.certificate;
    numbered(
        1.0,
        certificate.mass_g,
        certificate.factor_of_safety.min(MOST_FOS),
    )
}

/// As if it held nothing, which nobody has shown that it does.
fn refused_numbers(proposal: &Proposal) -> BTreeMap<String, f64> {
    numbered(0.0, proposal.mass_g, 0.0)
}

fn numbered(sound: f64, mass_g: f64, factor_of_safety: f64) -> BTreeMap<String, f64> {
    [
        ("sound".to_owned(), sound),
        ("mass_g".to_owned(), mass_g),
        ("factor_of_safety".to_owned(), factor_of_safety),
    ]
    .into()
}

/// The part of a proposal if it is sound, or all that is wrong with it.
fn sound(
    proposal: &Proposal,
    brief: &Brief,
    host: &dyn Host,
    (from, width): (f64, f64),
) -> Result<Result<Design, Vec<String>>, StepError> {
    let bytes = host.artifact(&proposal.mesh)?;
    let mesh = match cad::formats::stl::read(&bytes) {
        Ok(mesh) => mesh,
        Err(error) => return Ok(Err(vec![error_chain(&error)])),
    };
    let told = &mut |share: f64| host.progress(from + width * share, "checking a proposal");
    match adopt(mesh, brief, proposal.build_direction, told) {
        Ok(design) => Ok(Ok(design)),
        Err(AdoptError::Refused { reasons }) => Ok(Err(reasons)),
        Err(AdoptError::Cancelled) => Err(StepError::Cancelled),
    }
}
