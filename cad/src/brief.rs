//! The redesign brief: what the part must be, carry and be made of; TOML in and out.

use serde::{Deserialize, Serialize};

use crate::families::bracket::Bracket;
use crate::families::{DesignSpace, InterfaceRole};

/// The largest number of elements a brief may ask for; about 1 kB of memory each.
pub const MAX_ELEMENTS: usize = 300_000;

/// What to design and how strong it must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brief {
    /// Name of the printer profile the part is made on.
    pub printer: String,
    /// Yield strength over the greatest von Mises stress must reach this.
    pub required_fos: f64,
    /// The part family and its parameters.
    pub part: Part,
    /// What it is made of.
    pub material: Material,
    /// How to search.
    #[serde(default)]
    pub optimise: Optimise,
    /// Forces it must carry, each a case of its own.
    #[serde(rename = "load")]
    pub loads: Vec<Load>,
}

/// A part family with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum Part {
    /// See [`Bracket`].
    FanTrayBracket(Bracket),
}

/// An isotropic, linear elastic material.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Material {
    /// Name the printer knows it by.
    pub name: String,
    /// Young's modulus in N/mm².
    pub e_mpa: f64,
    /// Poisson's ratio.
    pub nu: f64,
    /// Density, g/cm³.
    pub density_g_cm3: f64,
    /// Yield strength of the printed material in N/mm².
    pub yield_mpa: f64,
}

/// Settings of the topology optimiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimise {
    /// Edge of a voxel, mm.
    pub voxel_mm: f64,
    /// Share of the envelope that may be material; raised if the strength needs it.
    pub volume_fraction: f64,
    /// Design iterations.
    pub iterations: usize,
    /// Radius of the density filter, mm: the length scale of the design.
    pub r_min_mm: f64,
    /// The greatest share of the envelope to try before giving up on the factor of safety.
    pub max_volume_fraction: f64,
}

/// One load case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// What it is, for people.
    pub name: String,
    /// The interface that takes it.
    pub at: String,
    /// Force in part coordinates, N.
    pub force_n: [f64; 3],
    /// Where the force acts if not at the interface's centre, mm; its moment is carried too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_mm: Option<[f64; 3]>,
    /// Weight in the objective.
    #[serde(default = "one")]
    pub weight: f64,
}

/// Why a brief cannot be worked on; every variant names the field and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum BriefError {
    /// Not TOML, or an unknown, missing or wrongly typed field.
    #[error("brief is not valid: {message}")]
    Syntax {
        /// What the parser said, with line and column.
        message: String,
    },
    /// A number that must be positive is not.
    #[error("brief field `{field}` is {value}, it must be a positive number")]
    NonPositive {
        /// Field in the brief.
        field: String,
        /// What it was.
        value: f64,
    },
    /// A number outside its range.
    #[error("brief field `{field}` is {value}, it must lie between {least} and {greatest}")]
    OutOfRange {
        /// Field in the brief.
        field: String,
        /// What it was.
        value: f64,
        /// Smallest allowed.
        least: f64,
        /// Largest allowed.
        greatest: f64,
    },
    /// Parameters that contradict each other.
    #[error("brief field `{field}`: {problem}")]
    Contradiction {
        /// Field in the brief.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// No loads at all.
    #[error("brief has no `[[load]]`; give at least one with a name, an interface and a force")]
    NoLoads,
    /// A load acts at a point outside the part's envelope.
    #[error(
        "brief field `load[{index}].point_mm`: load `{name}` acts at {point:?} mm, outside the \
         envelope 0 to {envelope:?} mm; move the point or enlarge the part"
    )]
    LoadOutsideEnvelope {
        /// Position in the list.
        index: usize,
        /// Name of the load.
        name: String,
        /// Where it acts.
        point: [f64; 3],
        /// The envelope's far corner.
        envelope: [f64; 3],
    },
    /// A load names an interface the part does not have.
    #[error(
        "brief field `load[{index}].at`: load `{name}` acts on interface `{at}`, which the part \
         does not have; it has {known}"
    )]
    UnknownInterface {
        /// Position in the list.
        index: usize,
        /// Name of the load.
        name: String,
        /// The unknown interface.
        at: String,
        /// Those that exist.
        known: String,
    },
    /// A load pushes on something held still.
    #[error(
        "brief field `load[{index}].at`: load `{name}` acts on `{at}`, which takes no loads; use \
         {known}"
    )]
    NotALoadInterface {
        /// Position in the list.
        index: usize,
        /// Name of the load.
        name: String,
        /// The interface.
        at: String,
        /// Those that take loads.
        known: String,
    },
    /// Too coarse to show the thinnest feature.
    #[error(
        "brief field `optimise.voxel_mm` is {voxel_mm} mm, too coarse for {feature} of \
         {feature_mm} mm; use {remedy_mm} mm or less"
    )]
    VoxelTooCoarse {
        /// What was asked for.
        voxel_mm: f64,
        /// The feature that would vanish.
        feature: String,
        /// Its size.
        feature_mm: f64,
        /// What would do.
        remedy_mm: f64,
    },
    /// More elements than the memory quota holds.
    #[error(
        "brief field `optimise.voxel_mm` gives {elements} elements, the quota is {quota}; use \
         {remedy_mm:.2} mm or more"
    )]
    TooManyElements {
        /// How many it would be.
        elements: usize,
        /// How many are allowed.
        quota: usize,
        /// What would do.
        remedy_mm: f64,
    },
    /// The interfaces alone need more material than allowed.
    #[error(
        "brief field `optimise.volume_fraction` is {value}, but the frozen interfaces alone fill \
         {frozen:.3} of the envelope; use {remedy:.2} or more"
    )]
    VolumeBelowFrozen {
        /// What was asked for.
        value: f64,
        /// What the interfaces need.
        frozen: f64,
        /// What would do.
        remedy: f64,
    },
}

impl Default for Optimise {
    fn default() -> Self {
        Self {
            voxel_mm: 2.0,
            volume_fraction: 0.22,
            iterations: 45,
            r_min_mm: 4.0,
            max_volume_fraction: 0.5,
        }
    }
}

impl Brief {
    /// Reads and validates a brief.
    ///
    /// # Errors
    /// The first thing wrong with it, naming the field and what would be right.
    pub fn from_toml(text: &str) -> Result<Self, BriefError> {
        let brief: Self = toml::from_str(text).map_err(|e| BriefError::Syntax {
            message: e.to_string().trim_end().to_owned(),
        })?;
        brief.validate()?;
        Ok(brief)
    }

    /// Writes the brief as TOML that [`Brief::from_toml`] reads back equal.
    ///
    /// # Errors
    /// If a number has no TOML form.
    pub fn to_toml(&self) -> Result<String, BriefError> {
        toml::to_string(self).map_err(|e| BriefError::Syntax {
            message: e.to_string(),
        })
    }

    /// The family's frozen regions, keep-outs and interfaces.
    #[must_use]
    pub fn design_space(&self) -> DesignSpace {
        let Part::FanTrayBracket(bracket) = &self.part;
        bracket.design_space()
    }

    /// Voxels along each axis.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        // The tiny slack keeps 60 / 0.6 at 100.
        self.design_space()
            .size()
            .map(|s| (s / self.optimise.voxel_mm - 1e-9).ceil() as usize)
    }

    /// Checks everything that can be known before computing.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn validate(&self) -> Result<(), BriefError> {
        let Part::FanTrayBracket(bracket) = &self.part;
        let own = [
            ("required_fos", self.required_fos),
            ("material.e_mpa", self.material.e_mpa),
            ("material.density_g_cm3", self.material.density_g_cm3),
            ("material.yield_mpa", self.material.yield_mpa),
            ("optimise.voxel_mm", self.optimise.voxel_mm),
            ("optimise.volume_fraction", self.optimise.volume_fraction),
            ("optimise.iterations", self.optimise.iterations as f64),
            ("optimise.r_min_mm", self.optimise.r_min_mm),
        ];
        for (field, value) in own.into_iter().chain(bracket.sizes()) {
            if !(value.is_finite() && value > 0.0) {
                return Err(BriefError::NonPositive {
                    field: field.into(),
                    value,
                });
            }
        }
        let ranges = [
            ("material.nu", self.material.nu, 0.0, 0.45),
            (
                "optimise.volume_fraction",
                self.optimise.volume_fraction,
                0.01,
                0.95,
            ),
            (
                "optimise.max_volume_fraction",
                self.optimise.max_volume_fraction,
                self.optimise.volume_fraction,
                0.95,
            ),
            (
                "optimise.iterations",
                self.optimise.iterations as f64,
                1.0,
                500.0,
            ),
            ("required_fos", self.required_fos, 1.0, 100.0),
            ("part.length_mm", bracket.length_mm, 5.0, 1000.0),
            ("part.width_mm", bracket.width_mm, 5.0, 1000.0),
            ("part.height_mm", bracket.height_mm, 5.0, 1000.0),
        ];
        for (field, value, least, greatest) in ranges {
            if !(value >= least && value <= greatest) {
                return Err(BriefError::OutOfRange {
                    field: field.into(),
                    value,
                    least,
                    greatest,
                });
            }
        }
        if let Some((field, problem)) = bracket.contradiction() {
            return Err(BriefError::Contradiction {
                field: field.into(),
                problem,
            });
        }
        self.validate_voxels(bracket)?;
        self.validate_loads()
    }

    fn validate_voxels(&self, bracket: &Bracket) -> Result<(), BriefError> {
        let voxel_mm = self.optimise.voxel_mm;
        let (feature, feature_mm) = bracket.thinnest();
        // One voxel per feature carries load; anything less vanishes.
        if voxel_mm > feature_mm {
            return Err(BriefError::VoxelTooCoarse {
                voxel_mm,
                feature: feature.into(),
                feature_mm,
                remedy_mm: feature_mm / 2.0,
            });
        }
        let size = self.design_space().size();
        let wanted = size.iter().map(|s| (s / voxel_mm).ceil()).product::<f64>();
        if wanted > MAX_ELEMENTS as f64 {
            return Err(BriefError::TooManyElements {
                elements: wanted.min(1e18) as usize,
                quota: MAX_ELEMENTS,
                remedy_mm: (size.iter().product::<f64>() / MAX_ELEMENTS as f64).cbrt() * 1.05,
            });
        }
        let frozen = self.frozen_share();
        let value = self.optimise.volume_fraction;
        if value < frozen + 0.01 {
            return Err(BriefError::VolumeBelowFrozen {
                value,
                frozen,
                remedy: frozen + 0.06,
            });
        }
        Ok(())
    }

    fn validate_loads(&self) -> Result<(), BriefError> {
        if self.loads.is_empty() {
            return Err(BriefError::NoLoads);
        }
        let space = self.design_space();
        for (index, load) in self.loads.iter().enumerate() {
            let name = load.name.clone();
            let known = |only_loads: bool| {
                let names: Vec<_> = space
                    .interfaces
                    .iter()
                    .filter(|i| !only_loads || i.role == InterfaceRole::Load)
                    .map(|i| format!("`{}`", i.name))
                    .collect();
                names.join(", ")
            };
            let Some(interface) = space.interface(&load.at) else {
                let at = load.at.clone();
                return Err(BriefError::UnknownInterface {
                    index,
                    name,
                    at,
                    known: known(false),
                });
            };
            if interface.role != InterfaceRole::Load {
                let at = load.at.clone();
                return Err(BriefError::NotALoadInterface {
                    index,
                    name,
                    at,
                    known: known(true),
                });
            }
            if let Some(point) = load.point_mm
                && (point.iter().any(|x| x.is_nan()) || space.envelope_depth(point) < 0.0)
            {
                let envelope = space.envelope.max;
                return Err(BriefError::LoadOutsideEnvelope {
                    index,
                    name,
                    point,
                    envelope,
                });
            }
            let size = crate::mesh::length(load.force_n);
            if !(size.is_finite() && size > 0.0) {
                let field = format!("load[{index}].force_n");
                return Err(BriefError::NonPositive { field, value: size });
            }
            if !(load.weight.is_finite() && load.weight > 0.0) {
                let field = format!("load[{index}].weight");
                return Err(BriefError::NonPositive {
                    field,
                    value: load.weight,
                });
            }
        }
        Ok(())
    }

    /// Share of the envelope's voxels that are frozen solid.
    fn frozen_share(&self) -> f64 {
        let (space, counts) = (self.design_space(), self.counts());
        let h = self.optimise.voxel_mm;
        let mut solid = 0usize;
        for k in 0..counts[2] {
            for j in 0..counts[1] {
                for i in 0..counts[0] {
                    let p = [i, j, k].map(|n| (n as f64 + 0.5) * h);
                    solid += usize::from(space.is_solid(p));
                }
            }
        }
        solid as f64 / counts.iter().product::<usize>() as f64
    }
}

const fn one() -> f64 {
    1.0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The default bracket in PETG under a shock and two imbalance cases.
    pub(crate) const BRACKET: &str = r#"
printer = "prusa_mk4"
required_fos = 2.0
[part]
family = "fan_tray_bracket"
[material]
name = "petg"
e_mpa = 2000.0
nu = 0.38
density_g_cm3 = 1.27
yield_mpa = 45.0
[optimise]
voxel_mm = 2.0
[[load]]
name = "shock"
at = "boss"
force_n = [0.0, 0.0, -120.0]
[[load]]
name = "imbalance x"
at = "boss"
force_n = [30.0, 0.0, 0.0]
[[load]]
name = "imbalance y"
at = "boss"
force_n = [0.0, 30.0, 0.0]
"#;

    #[test]
    fn a_brief_survives_writing_and_reading() {
        let brief = Brief::from_toml(BRACKET).unwrap();
        assert_eq!(brief.counts(), [30, 20, 20]);
        assert_eq!(Brief::from_toml(&brief.to_toml().unwrap()).unwrap(), brief);
        let json = serde_json::to_string(&brief).unwrap();
        assert_eq!(serde_json::from_str::<Brief>(&json).unwrap(), brief);
    }

    #[test]
    fn every_mistake_is_a_distinct_error_that_names_the_field() {
        let cases = [
            (
                "required_fos = 2.0",
                "required_fos = 2.0\ncolour = 1",
                "colour",
            ),
            (
                "voxel_mm = 2.0",
                "voxel_mm = -2.0",
                "`optimise.voxel_mm` is -2",
            ),
            ("voxel_mm = 2.0", "voxel_mm = 9.0", "too coarse"),
            ("voxel_mm = 2.0", "voxel_mm = 0.2", "quota"),
            (
                "voxel_mm = 2.0",
                "voxel_mm = 2.0\nvolume_fraction = 0.05",
                "frozen interfaces",
            ),
            ("nu = 0.38", "nu = 0.6", "`material.nu` is 0.6"),
            ("at = \"boss\"", "at = \"lid\"", "interface `lid`"),
            ("at = \"boss\"", "at = \"bolt_1\"", "takes no loads"),
            (
                "at = \"boss\"",
                "at = \"boss\"\npoint_mm = [70.0, 0.0, 0.0]",
                "outside the envelope",
            ),
            ("[part]", "[part]\nlength_mm = 0.0", "`part.length_mm` is 0"),
            ("[part]", "[part]\nlenght_mm = 60.0", "lenght_mm"),
            ("[part]", "[part]\nboss_mm = [55.0, 20.0]", "part.boss_mm"),
            (
                "force_n = [0.0, 0.0, -120.0]",
                "force_n = [0.0, 0.0, nan]",
                "load[0].force_n",
            ),
        ];
        for (from, to, expected) in cases {
            let error = Brief::from_toml(&BRACKET.replacen(from, to, 1))
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
