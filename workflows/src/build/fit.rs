//! Whether a cell can make a build, and if not, why.

use serde::{Deserialize, Serialize};

/// What a cell says of its machine when it enrols.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Printer profiles it runs G-code of.
    pub printers: Vec<String>,
    /// Materials it has loaded or can load.
    pub materials: Vec<String>,
    /// Usable build volume, mm; unknown means whatever its printer profile says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mm: Option<[f64; 3]>,
}

/// What a build needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Needs {
    /// Printer profile it is sliced for.
    pub printer: String,
    /// Material.
    pub material: String,
    /// Size of the part, mm, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_mm: Option<[f64; 3]>,
}

/// Why a cell cannot make a build.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// The G-code is for another printer.
    #[error("it is sliced for `{needed}`; the cell runs {offered:?}")]
    Printer {
        /// The profile the build needs.
        needed: String,
        /// The profiles the cell offers.
        offered: Vec<String>,
    },
    /// The cell lacks the material.
    #[error("it needs `{needed}`; the cell has {offered:?}")]
    Material {
        /// The material the build needs.
        needed: String,
        /// The materials the cell offers.
        offered: Vec<String>,
    },
    /// The part is too large.
    #[error("it measures {size:?} mm; the cell holds {room:?} mm")]
    Volume {
        /// Size of the part.
        size: [f64; 3],
        /// Room the cell has.
        room: [f64; 3],
    },
}

/// Says whether a cell can make a build. Names are compared without case; the part lies as it was sliced.
///
/// # Errors
///
/// The first reason why not: printer, then material, then volume.
pub fn fits(needs: &Needs, cell: &Capabilities) -> Result<(), Misfit> {
    if !offers(&cell.printers, &needs.printer) {
        return Err(Misfit::Printer {
            needed: needs.printer.clone(),
            offered: cell.printers.clone(),
        });
    }
    if !offers(&cell.materials, &needs.material) {
        return Err(Misfit::Material {
            needed: needs.material.clone(),
            offered: cell.materials.clone(),
        });
    }
    match (needs.size_mm, cell.volume_mm) {
        (Some(size), Some(room)) if !size.iter().zip(room).all(|(size, room)| *size <= room) => {
            Err(Misfit::Volume { size, room })
        }
        _ => Ok(()),
    }
}

/// Whether a cell that asks for work could take a build; of what it leaves open, it takes anything.
#[must_use]
pub fn could_take(asks: &Capabilities, printer: &str, material: &str) -> bool {
    let open_or = |offered: &[String], needed| offered.is_empty() || offers(offered, needed);
    open_or(&asks.printers, printer) && open_or(&asks.materials, material)
}

/// Why a cell that asks for work could not take a build; nothing if it could.
#[must_use]
pub fn why_not(asks: &Capabilities, printer: &str, material: &str) -> Option<Misfit> {
    if could_take(asks, printer, material) {
        return None;
    }
    if !asks.printers.is_empty() && !offers(&asks.printers, printer) {
        return Some(Misfit::Printer {
            needed: printer.to_owned(),
            offered: asks.printers.clone(),
        });
    }
    Some(Misfit::Material {
        needed: material.to_owned(),
        offered: asks.materials.clone(),
    })
}

fn offers(offered: &[String], needed: &str) -> bool {
    offered.iter().any(|name| name.eq_ignore_ascii_case(needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_thing_missing_is_named() {
        let cell = Capabilities {
            printers: vec!["prusa_mk4".into()],
            materials: vec!["PETG".into()],
            volume_mm: Some([250.0, 210.0, 220.0]),
        };
        let needs = |printer: &str, material: &str, width| Needs {
            printer: printer.into(),
            material: material.into(),
            size_mm: Some([width, 50.0, 10.0]),
        };
        assert_eq!(fits(&needs("prusa_mk4", "petg", 250.0), &cell), Ok(()));
        let wrong = |needs: &Needs| fits(needs, &cell).expect_err("misfit");
        assert!(matches!(
            wrong(&needs("generic_marlin", "petg", 50.0)),
            Misfit::Printer { .. }
        ));
        assert!(matches!(
            wrong(&needs("prusa_mk4", "abs", 50.0)),
            Misfit::Material { .. }
        ));
        assert!(matches!(
            wrong(&needs("prusa_mk4", "petg", 251.0)),
            Misfit::Volume { .. }
        ));
        assert!(matches!(
            wrong(&needs("prusa_mk4", "petg", f64::NAN)),
            Misfit::Volume { .. }
        ));
    }
}
