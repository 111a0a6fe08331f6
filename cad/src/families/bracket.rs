//! The fan-tray bracket: a wall with bolt holes, a plate, and a boss that carries the fan.

use serde::{Deserialize, Serialize};

use super::{DesignSpace, Extent, Interface, InterfaceKind, InterfaceRole, Shape};
use crate::mesh::Bounds;

/// Parameters of the bracket; the wall stands on x = 0, the plate lies on z = 0, the boss rises
/// from the plate along +z. Defaults make the 60 × 40 × 40 mm tray bracket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bracket {
    /// Along x.
    pub length_mm: f64,
    /// Along y.
    pub width_mm: f64,
    /// Along z.
    pub height_mm: f64,
    /// Thickness of the plate of the parametric solid.
    pub plate_mm: f64,
    /// Thickness of the wall, and of the pads the bolts press on.
    pub wall_mm: f64,
    /// Diameter of the bolt holes through the wall.
    pub bolt_diameter_mm: f64,
    /// Outer diameter of the pad around each bolt hole (washer and tool room).
    pub pad_diameter_mm: f64,
    /// Bolt positions in the wall, (y, z).
    pub bolts_mm: Vec<[f64; 2]>,
    /// Position of the boss, (x, y).
    pub boss_mm: [f64; 2],
    /// Outer diameter of the boss.
    pub boss_diameter_mm: f64,
    /// Height of the boss above z = 0.
    pub boss_height_mm: f64,
    /// Diameter of the bore through the boss.
    pub bore_diameter_mm: f64,
}

impl Default for Bracket {
    fn default() -> Self {
        Self {
            length_mm: 60.0,
            width_mm: 40.0,
            height_mm: 40.0,
            plate_mm: 6.0,
            wall_mm: 6.0,
            bolt_diameter_mm: 6.0,
            pad_diameter_mm: 14.0,
            bolts_mm: vec![[10.0, 28.0], [30.0, 28.0]],
            boss_mm: [45.0, 20.0],
            boss_diameter_mm: 24.0,
            boss_height_mm: 16.0,
            bore_diameter_mm: 10.0,
        }
    }
}

impl Bracket {
    /// Every parameter that must be positive, by its name in the brief.
    pub(crate) fn sizes(&self) -> [(&'static str, f64); 10] {
        [
            ("part.length_mm", self.length_mm),
            ("part.width_mm", self.width_mm),
            ("part.height_mm", self.height_mm),
            ("part.plate_mm", self.plate_mm),
            ("part.wall_mm", self.wall_mm),
            ("part.bolt_diameter_mm", self.bolt_diameter_mm),
            ("part.pad_diameter_mm", self.pad_diameter_mm),
            ("part.boss_diameter_mm", self.boss_diameter_mm),
            ("part.boss_height_mm", self.boss_height_mm),
            ("part.bore_diameter_mm", self.bore_diameter_mm),
        ]
    }

    /// What contradicts itself: the field, and what is wrong with it.
    pub(crate) fn contradiction(&self) -> Option<(&'static str, String)> {
        let pad = self.pad_diameter_mm / 2.0;
        let boss = self.boss_diameter_mm / 2.0;
        if self.bolts_mm.is_empty() {
            return Some((
                "part.bolts_mm",
                "needs at least one bolt to hold the part".into(),
            ));
        }
        if self.pad_diameter_mm < self.bolt_diameter_mm + 2.0 {
            return Some((
                "part.pad_diameter_mm",
                "must exceed the bolt diameter by 2 mm or more".into(),
            ));
        }
        if self.boss_diameter_mm < self.bore_diameter_mm + 2.0 {
            return Some((
                "part.boss_diameter_mm",
                "must exceed the bore diameter by 2 mm or more".into(),
            ));
        }
        for (n, &[y, z]) in self.bolts_mm.iter().enumerate() {
            if !(y >= pad && y <= self.width_mm - pad && z >= pad && z <= self.height_mm - pad) {
                return Some((
                    "part.bolts_mm",
                    format!(
                        "bolt {} at y {y}, z {z} has its pad outside the wall",
                        n + 1
                    ),
                ));
            }
            if z - pad < self.plate_mm {
                return Some(("part.bolts_mm", format!("bolt {} meets the plate", n + 1)));
            }
            for (m, &[v, w]) in self.bolts_mm[..n].iter().enumerate() {
                if (y - v).hypot(z - w) < self.pad_diameter_mm {
                    return Some((
                        "part.bolts_mm",
                        format!("the pads of bolts {} and {} overlap", m + 1, n + 1),
                    ));
                }
            }
        }
        let [x, y] = self.boss_mm;
        if !(x - boss >= self.wall_mm
            && x + boss <= self.length_mm
            && y >= boss
            && y <= self.width_mm - boss)
        {
            return Some((
                "part.boss_mm",
                format!("boss at x {x}, y {y} does not stand on the plate between wall and edge"),
            ));
        }
        if self.boss_height_mm <= self.plate_mm || self.boss_height_mm > self.height_mm {
            return Some((
                "part.boss_height_mm",
                "must lie between plate_mm and height_mm".into(),
            ));
        }
        if self.wall_mm >= self.length_mm || self.plate_mm >= self.height_mm {
            return Some((
                "part.wall_mm",
                "wall and plate must be thinner than the part".into(),
            ));
        }
        None
    }

    /// The thinnest feature that must be resolved, by name.
    pub(crate) fn thinnest(&self) -> (&'static str, f64) {
        let ring = (self.boss_diameter_mm - self.bore_diameter_mm) / 2.0;
        let pad = (self.pad_diameter_mm - self.bolt_diameter_mm) / 2.0;
        [
            ("part.wall_mm", self.wall_mm),
            ("part.bolt_diameter_mm", self.bolt_diameter_mm),
            ("part.bore_diameter_mm", self.bore_diameter_mm),
            ("the ring around the bore", ring),
            ("the pad around a bolt hole", pad),
        ]
        .into_iter()
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or(("part.wall_mm", self.wall_mm))
    }

    /// Frozen pads and boss, keep-outs for bolts, tools and rotor, and the interfaces.
    ///
    /// Each pad is a column down to the bed, so that it prints without support.
    #[must_use]
    pub fn design_space(&self) -> DesignSpace {
        let envelope = Bounds {
            min: [0.0; 3],
            max: [self.length_mm, self.width_mm, self.height_mm],
        };
        let (hole, pad) = (self.bolt_diameter_mm / 2.0, self.pad_diameter_mm / 2.0);
        let (bore, boss) = (self.bore_diameter_mm / 2.0, self.boss_diameter_mm / 2.0);
        let [bx, by] = self.boss_mm;
        let vertical = |radius, from, to| Shape::Cylinder {
            axis: 2,
            centre: [bx, by, 0.0],
            radius,
            from,
            to,
        };
        let mut solids = vec![vertical(boss, 0.0, self.boss_height_mm)];
        let mut voids = vec![
            vertical(bore, -1e3, 1e3),
            // The rotor turns above the boss.
            vertical(boss + 2.0, self.boss_height_mm, 1e3),
        ];
        let mut interfaces = vec![
            Interface {
                name: "boss".into(),
                point: [bx, by, self.boss_height_mm],
                normal: [0.0, 0.0, 1.0],
                kind: InterfaceKind::Plane,
                role: InterfaceRole::Load,
                extent: Extent {
                    inner_mm: bore,
                    outer_mm: boss,
                    depth_mm: 0.0,
                },
            },
            Interface {
                name: "bore".into(),
                point: [bx, by, 0.0],
                normal: [0.0, 0.0, 1.0],
                kind: InterfaceKind::Bore,
                role: InterfaceRole::Datum,
                extent: Extent {
                    inner_mm: bore,
                    outer_mm: bore,
                    depth_mm: self.boss_height_mm,
                },
            },
            Interface {
                name: "foot".into(),
                point: [bx, by, 0.0],
                normal: [0.0, 0.0, -1.0],
                kind: InterfaceKind::Plane,
                role: InterfaceRole::Datum,
                extent: Extent {
                    inner_mm: bore,
                    outer_mm: boss,
                    depth_mm: 0.0,
                },
            },
        ];
        for (n, &[y, z]) in self.bolts_mm.iter().enumerate() {
            let along_x = |radius, from, to| Shape::Cylinder {
                axis: 0,
                centre: [0.0, y, z],
                radius,
                from,
                to,
            };
            solids.push(along_x(pad, 0.0, self.wall_mm));
            solids.push(Shape::Cuboid {
                min: [0.0, y - pad, 0.0],
                max: [self.wall_mm, y + pad, z],
            });
            voids.push(along_x(hole, -1e3, 1e3));
            // Room for the bolt's head and the tool.
            voids.push(along_x(pad, self.wall_mm, 1e3));
            interfaces.push(Interface {
                name: format!("bolt_{}", n + 1),
                point: [0.0, y, z],
                normal: [-1.0, 0.0, 0.0],
                kind: InterfaceKind::Plane,
                role: InterfaceRole::Support,
                extent: Extent {
                    inner_mm: hole,
                    outer_mm: pad,
                    depth_mm: 0.0,
                },
            });
            interfaces.push(Interface {
                name: format!("bolt_{}_head", n + 1),
                point: [self.wall_mm, y, z],
                normal: [1.0, 0.0, 0.0],
                kind: InterfaceKind::Plane,
                role: InterfaceRole::Datum,
                extent: Extent {
                    inner_mm: hole,
                    outer_mm: pad,
                    depth_mm: 0.0,
                },
            });
            interfaces.push(Interface {
                name: format!("bolt_{}_bore", n + 1),
                point: [0.0, y, z],
                normal: [1.0, 0.0, 0.0],
                kind: InterfaceKind::Bore,
                role: InterfaceRole::Datum,
                extent: Extent {
                    inner_mm: hole,
                    outer_mm: hole,
                    depth_mm: self.wall_mm,
                },
            });
        }
        DesignSpace {
            envelope,
            solids,
            voids,
            interfaces,
        }
    }

    /// Volume of the parametric solid (plate, wall, boss, minus holes), mm³.
    #[must_use]
    pub fn solid_volume_mm3(&self) -> f64 {
        let disc = |d: f64| std::f64::consts::PI * d * d / 4.0;
        self.length_mm * self.width_mm * self.plate_mm
            + self.wall_mm * self.width_mm * (self.height_mm - self.plate_mm)
            + disc(self.boss_diameter_mm) * (self.boss_height_mm - self.plate_mm)
            - disc(self.bore_diameter_mm) * self.boss_height_mm
            - self.bolts_mm.len() as f64 * disc(self.bolt_diameter_mm) * self.wall_mm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_bracket_is_consistent_and_knows_its_regions() {
        let bracket = Bracket::default();
        assert_eq!(bracket.contradiction(), None);
        let space = bracket.design_space();
        assert!(space.is_solid([45.0 + 8.0, 20.0, 5.0]), "boss");
        assert!(space.is_void([45.0, 20.0, 5.0]), "bore");
        assert!(space.is_void([45.0, 20.0, 30.0]), "rotor");
        assert!(space.is_solid([2.0, 10.0, 10.0]), "column under a pad");
        assert!(space.is_void([2.0, 10.0, 28.0]), "bolt hole");
        let free = [20.0, 20.0, 10.0];
        assert!(!space.is_solid(free) && !space.is_void(free));
    }

    #[test]
    fn contradictions_name_the_field() {
        type Spoil = fn(&mut Bracket);
        let cases: [(&str, Spoil); 4] = [
            ("part.bolts_mm", |b| b.bolts_mm[0] = [2.0, 28.0]),
            ("part.boss_mm", |b| b.boss_mm = [55.0, 20.0]),
            ("part.boss_height_mm", |b| b.boss_height_mm = 80.0),
            ("part.pad_diameter_mm", |b| b.pad_diameter_mm = 6.5),
        ];
        for (field, spoil) in cases {
            let mut bracket = Bracket::default();
            spoil(&mut bracket);
            assert_eq!(bracket.contradiction().map(|c| c.0), Some(field));
        }
    }
}
