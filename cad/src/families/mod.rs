//! Parametric part families: each turns its parameters into a [`DesignSpace`].

use serde::{Deserialize, Serialize};

use crate::mesh::Bounds;

pub mod bracket;

/// What a family fixes and what it leaves to the optimiser, in part coordinates (mm, +z is up on
/// the printer's bed, the envelope starts at the origin).
#[derive(Debug, Clone, PartialEq)]
pub struct DesignSpace {
    /// The box nothing may leave.
    pub envelope: Bounds,
    /// Always material.
    pub solids: Vec<Shape>,
    /// Never material; wins over `solids`.
    pub voids: Vec<Shape>,
    /// The surfaces other parts touch; they stay exactly where they are.
    pub interfaces: Vec<Interface>,
}

/// A primitive whose distance is known exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// An axis-aligned box.
    Cuboid {
        /// Smallest corner, mm.
        min: [f64; 3],
        /// Largest corner, mm.
        max: [f64; 3],
    },
    /// A cylinder along a coordinate axis.
    Cylinder {
        /// 0, 1 or 2.
        axis: usize,
        /// A point on the axis, mm; its coordinate along the axis is ignored.
        centre: [f64; 3],
        /// Radius, mm.
        radius: f64,
        /// Start along the axis, mm.
        from: f64,
        /// End along the axis, mm.
        to: f64,
    },
}

/// How an interface is shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceKind {
    /// A flat ring around `point`, perpendicular to `normal`.
    Plane,
    /// A cylindrical hole from `point` along `normal`.
    Bore,
}

/// What an interface does in the strength analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceRole {
    /// Held still.
    Support,
    /// Takes loads.
    Load,
    /// Neither; only its position matters.
    Datum,
}

/// How far an interface reaches, mm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Extent {
    /// Inner radius of a ring; the radius of a bore.
    pub inner_mm: f64,
    /// Outer radius of a ring; the radius of a bore.
    pub outer_mm: f64,
    /// Length of a bore along its normal; 0 for a plane.
    pub depth_mm: f64,
}

/// A surface of the part that something else touches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Unique in the part; loads name it.
    pub name: String,
    /// Centre of the ring, or of the bore's first end, mm.
    pub point: [f64; 3],
    /// Outward unit normal of a plane; axis direction of a bore.
    pub normal: [f64; 3],
    /// Plane or bore.
    pub kind: InterfaceKind,
    /// Support, load or datum.
    pub role: InterfaceRole,
    /// Radii and depth.
    pub extent: Extent,
}

impl Shape {
    /// Signed distance in mm, positive inside.
    #[must_use]
    pub fn depth(&self, p: [f64; 3]) -> f64 {
        match *self {
            Self::Cuboid { min, max } => {
                box_depth([0, 1, 2].map(|a| (p[a] - min[a]).min(max[a] - p[a])))
            }
            Self::Cylinder {
                axis,
                centre,
                radius,
                from,
                to,
            } => {
                let (b, c) = ((axis + 1) % 3, (axis + 2) % 3);
                let radial = radius - (p[b] - centre[b]).hypot(p[c] - centre[c]);
                let axial = (p[axis] - from).min(to - p[axis]);
                box_depth([radial, axial, f64::INFINITY])
            }
        }
    }
}

impl DesignSpace {
    /// Whether a point may never be material.
    #[must_use]
    pub fn is_void(&self, p: [f64; 3]) -> bool {
        self.envelope_depth(p) < 0.0 || self.voids.iter().any(|s| s.depth(p) > 0.0)
    }

    /// Whether a point is always material.
    #[must_use]
    pub fn is_solid(&self, p: [f64; 3]) -> bool {
        !self.is_void(p) && self.solids.iter().any(|s| s.depth(p) > 0.0)
    }

    /// Distance to the envelope, positive inside.
    #[must_use]
    pub fn envelope_depth(&self, p: [f64; 3]) -> f64 {
        Shape::Cuboid {
            min: self.envelope.min,
            max: self.envelope.max,
        }
        .depth(p)
    }

    /// Edge lengths of the envelope, mm.
    #[must_use]
    pub fn size(&self) -> [f64; 3] {
        [0, 1, 2].map(|a| self.envelope.max[a] - self.envelope.min[a])
    }

    /// The interface called `name`.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.name == name)
    }
}

impl Interface {
    /// The coordinate axis its normal lies along.
    #[must_use]
    pub fn axis(&self) -> usize {
        (0..3)
            .max_by(|&a, &b| self.normal[a].abs().total_cmp(&self.normal[b].abs()))
            .unwrap_or(0)
    }

    /// Distance of a point from the axis through `point` along the normal, mm.
    #[must_use]
    pub fn radius_of(&self, p: [f64; 3]) -> f64 {
        let (b, c) = ((self.axis() + 1) % 3, (self.axis() + 2) % 3);
        (p[b] - self.point[b]).hypot(p[c] - self.point[c])
    }
}

/// Distance to an intersection of slabs given the depth in each: exact inside and out.
fn box_depth(depths: [f64; 3]) -> f64 {
    let inside = depths[0].min(depths[1]).min(depths[2]);
    if inside >= 0.0 {
        return inside;
    }
    -depths
        .iter()
        .map(|d| d.min(0.0).powi(2))
        .sum::<f64>()
        .sqrt()
}
