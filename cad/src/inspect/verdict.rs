//! What an inspection says: a disposition, its reasons and the figures behind them.

use serde::{Deserialize, Serialize};

use crate::inspect::datum::DatumReport;

/// What becomes of the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Within tolerance, uncertainty included.
    Accept,
    /// Outside only by material that may be machined off.
    Rework,
    /// Outside beyond doubt.
    Reject,
    /// Measure again: this scan cannot tell.
    Inconclusive,
}

/// Stable name of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// Every judged patch is within tolerance.
    WithinTolerance,
    /// Material is missing deeper than a fault of size.
    MissingFeature,
    /// Material in excess.
    Oversize,
    /// The surface lies too deep.
    Undersize,
    /// The layers above some height are displaced.
    LayerShift,
    /// The part is larger or smaller as a whole.
    Scale,
    /// The mirror image of the scan fits.
    Mirror,
    /// Most of the surface is somewhere else.
    WrongPart,
    /// Too little of the surface was seen.
    LowCoverage,
    /// Several poses fit equally well and the part is not symmetric.
    AmbiguousPose,
    /// A deviation is neither inside nor outside within the uncertainty.
    Uncertain,
}

/// One reason for a disposition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable name.
    pub code: ReasonCode,
    /// For people.
    pub message: String,
}

/// Where the scan lies: `mesh point = rotation · scan point + translation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pose {
    /// Rows of the rotation matrix.
    pub rotation: [[f64; 3]; 3],
    /// Translation, mm.
    pub translation: [f64; 3],
    /// Covariance of a small turn (rad) about the middle of the part and a shift (mm), row by row.
    pub covariance: [[f64; 6]; 6],
    /// Further poses that fit as well because the part is symmetric.
    pub symmetric_poses: usize,
}

/// Deviations over the seen surface, each patch counting by its area; positive is excess material.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Deviation {
    /// Mean, mm.
    pub mean: f64,
    /// Standard deviation, mm.
    pub sd: f64,
    /// 95th percentile of the absolute value, mm.
    pub p95: f64,
    /// The value with the largest absolute value, mm.
    pub peak: f64,
}

/// Which way a region deviates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// Material in excess.
    Excess,
    /// Material missing.
    Missing,
}

/// A connected part of the surface that is not within tolerance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Middle of the region, mesh coordinates, mm.
    pub centroid: [f64; 3],
    /// Area that is outside or in doubt, mm².
    pub area_mm2: f64,
    /// Area that is outside beyond doubt, mm².
    pub out_area_mm2: f64,
    /// Largest patch deviation, mm.
    pub peak_mm: f64,
    /// Which way.
    pub sign: Sign,
    /// Scan points that show it.
    pub count: usize,
    /// Whether all of it may be machined.
    pub machinable: bool,
}

/// The surface that looks one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// `+x`, `-x` and so on: the dominant direction of its normals.
    pub name: String,
    /// Area, mm².
    pub area_mm2: f64,
    /// Share that was seen.
    pub coverage: f64,
    /// Deviation of what was seen.
    pub deviation: Deviation,
}

/// The result of one inspection; the same input gives the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What becomes of the part.
    pub disposition: Disposition,
    /// Why, most important first.
    pub reasons: Vec<Reason>,
    /// Tolerance it was judged by, mm.
    pub tolerance_mm: f64,
    /// Share of the judged surface that was seen.
    pub coverage: f64,
    /// Share of the surface that the plan exempts.
    pub excluded_share: f64,
    /// Robust standard deviation of single points about the surface, mm.
    pub sigma_mm: f64,
    /// Typical expanded uncertainty (k = 2) of one patch, mm.
    pub expanded_uncertainty_mm: f64,
    /// Where the scan lies.
    pub pose: Pose,
    /// Fitted size of the part relative to the design; reported, never applied.
    pub scale: f64,
    /// Deviation of the patches.
    pub deviation: Deviation,
    /// Parts of the surface that are not within tolerance, largest first.
    pub regions: Vec<Region>,
    /// The surface by direction.
    pub sides: Vec<Side>,
    /// How the datum faces were found.
    pub datums: Vec<DatumReport>,
    /// Share of the scan points within three robust standard deviations.
    pub inlier_share: f64,
    /// Points in the scan.
    pub points: usize,
    /// Points without company, left out as dust.
    pub outliers: usize,
}

impl Verdict {
    /// The one true serialisation: JSON in the order of the fields, numbers rounded to a nanometre.
    #[must_use]
    pub fn canonical_json(&self) -> String {
        // A struct of numbers, strings and lists always has a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A few lines for people.
    #[must_use]
    pub fn summary(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("disposition  {}\n", self.disposition);
        for reason in &self.reasons {
            let _ = writeln!(text, "reason       {}: {}", reason.code, reason.message);
        }
        let d = &self.deviation;
        let _ = writeln!(text, "coverage     {:.1} %", self.coverage * 100.0);
        let _ = writeln!(
            text,
            "deviation    mean {:+.3} mm, sd {:.3} mm, 95 % within {:.3} mm, peak {:+.3} mm",
            d.mean, d.sd, d.p95, d.peak
        );
        let _ = writeln!(
            text,
            "tolerance    ±{} mm, expanded uncertainty {:.3} mm (k = 2), point sigma {:.3} mm",
            self.tolerance_mm, self.expanded_uncertainty_mm, self.sigma_mm
        );
        let _ = writeln!(text, "scale        {:.5}", self.scale);
        for region in &self.regions {
            let c = region.centroid;
            let _ = writeln!(
                text,
                "region       {:.1} mm² at [{:.1}, {:.1}, {:.1}], peak {:+.2} mm, {} points",
                region.area_mm2, c[0], c[1], c[2], region.peak_mm, region.count
            );
        }
        text
    }
}

impl std::fmt::Display for Disposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Rework => "rework",
            Self::Reject => "reject",
            Self::Inconclusive => "inconclusive",
        })
    }
}

impl std::fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::WithinTolerance => "within_tolerance",
            Self::MissingFeature => "missing_feature",
            Self::Oversize => "oversize",
            Self::Undersize => "undersize",
            Self::LayerShift => "layer_shift",
            Self::Scale => "scale",
            Self::Mirror => "mirror",
            Self::WrongPart => "wrong_part",
            Self::LowCoverage => "low_coverage",
            Self::AmbiguousPose => "ambiguous_pose",
            Self::Uncertain => "uncertain",
        })
    }
}

/// Rounds to a millionth, so that a verdict does not carry digits nobody measured.
pub(crate) fn rounded(x: f64) -> f64 {
    // Adding zero turns minus zero into zero.
    (x * 1e6).round() / 1e6 + 0.0
}
