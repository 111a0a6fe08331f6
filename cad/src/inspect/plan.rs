//! What a part must measure up to: written by the design beside the mesh, read by the inspection.

use serde::{Deserialize, Serialize};

use crate::mesh::dot;

/// Tolerances, datums and limits of one inspection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerificationPlan {
    /// Largest allowed deviation of the surface, either way, mm.
    pub tolerance_mm: f64,
    /// Faces that locate the part, most important first: they fix three, two and one degree of freedom.
    pub datums: Vec<DatumFace>,
    /// Share of the surface that must have been seen, 0 to 1.
    pub required_coverage: f64,
    /// Smallest connected area that counts as a deviation, mm².
    pub min_region_area_mm2: f64,
    /// Fewest scan points that count as a deviation.
    pub min_region_points: usize,
    /// Radius over which the deviation is averaged: coarser than the texture of the process, finer than a defect, mm.
    pub patch_radius_mm: f64,
    /// Where deviations are known and allowed.
    pub excluded: Vec<ExcludedRegion>,
    /// Where material in excess may be machined off.
    pub machinable: Vec<MachinableRegion>,
    /// Standard uncertainty of the scanner's calibration, mm.
    pub calibration_mm: f64,
    /// Direction the layers grow, in mesh coordinates.
    pub build_direction: [f64; 3],
}

impl Default for VerificationPlan {
    /// Sensible for fused deposition: ±0.3 mm.
    fn default() -> Self {
        Self {
            tolerance_mm: 0.3,
            datums: Vec::new(),
            required_coverage: 0.9,
            min_region_area_mm2: 4.0,
            min_region_points: 8,
            patch_radius_mm: 1.25,
            excluded: Vec::new(),
            machinable: Vec::new(),
            calibration_mm: 0.01,
            build_direction: [0.0, 0.0, 1.0],
        }
    }
}

/// A flat face that locates the part in its neighbours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatumFace {
    /// What drawings call it: `A`, `B`, `C`.
    pub name: String,
    /// A point in the face, mesh coordinates, mm.
    pub point: [f64; 3],
    /// Outward normal.
    pub normal: [f64; 3],
    /// Radius around `point` that belongs to the datum, mm.
    pub extent_mm: f64,
}

/// A box in which deviations are not judged, such as a support scar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExcludedRegion {
    /// Smallest coordinates, mm.
    pub min: [f64; 3],
    /// Largest coordinates, mm.
    pub max: [f64; 3],
    /// Why it is not judged.
    pub reason: String,
}

/// A box whose faces may be machined after printing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachinableRegion {
    /// Smallest coordinates, mm.
    pub min: [f64; 3],
    /// Largest coordinates, mm.
    pub max: [f64; 3],
    /// What the faces are called.
    pub name: String,
}

impl VerificationPlan {
    /// The first field whose value makes no sense, with what is wrong about it.
    pub(crate) fn fault(&self) -> Option<(&'static str, String)> {
        let positive = [
            ("tolerance_mm", self.tolerance_mm),
            ("min_region_area_mm2", self.min_region_area_mm2),
            ("patch_radius_mm", self.patch_radius_mm),
        ];
        for (name, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Some((name, format!("{value} is not a positive number")));
            }
        }
        if !(0.0..=1.0).contains(&self.required_coverage) {
            return Some((
                "required_coverage",
                format!("{} is not a share", self.required_coverage),
            ));
        }
        if !(self.calibration_mm.is_finite() && self.calibration_mm >= 0.0) {
            return Some((
                "calibration_mm",
                format!("{} is not a length", self.calibration_mm),
            ));
        }
        if !is_direction(self.build_direction) {
            return Some(("build_direction", "has no direction".to_owned()));
        }
        for datum in &self.datums {
            let finite = datum.point.iter().all(|x| x.is_finite());
            if !is_direction(datum.normal)
                || !finite
                || datum.extent_mm.is_nan()
                || datum.extent_mm <= 0.0
            {
                return Some((
                    "datums",
                    format!(
                        "face `{}` needs a finite point, a normal and an extent",
                        datum.name
                    ),
                ));
            }
        }
        None
    }

    /// Whether a point of the mesh is exempt from judgement.
    pub(crate) fn excludes(&self, p: [f64; 3]) -> bool {
        self.excluded.iter().any(|r| within(r.min, r.max, p))
    }

    /// Whether excess material at a point of the mesh may be machined off.
    pub(crate) fn allows_machining(&self, p: [f64; 3]) -> bool {
        self.machinable.iter().any(|r| within(r.min, r.max, p))
    }
}

fn is_direction(v: [f64; 3]) -> bool {
    let squared = dot(v, v);
    squared.is_finite() && squared > 1e-12
}

fn within(min: [f64; 3], max: [f64; 3], p: [f64; 3]) -> bool {
    (0..3).all(|k| min[k] <= p[k] && p[k] <= max[k])
}
