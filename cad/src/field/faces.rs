//! The faces of frozen shapes and keep-outs: planes across an axis and cylinders along one.

use crate::families::Shape;

/// What a surface is made of at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Face {
    /// Optimised material.
    Soft,
    /// The plane where a coordinate has a value, mm.
    Plane { axis: usize, at: f64 },
    /// A cylinder along an axis, mm.
    Cylinder {
        axis: usize,
        /// On the axis, 0 along it, so that equal cylinders compare equal.
        centre: [f64; 3],
        radius: f64,
    },
}

/// Signed depth (positive inside) and the face it is measured to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    pub(super) mm: f64,
    pub(super) face: Face,
}

impl Side {
    /// The same seen from outside.
    pub(super) fn turned(self) -> Self {
        Self {
            mm: -self.mm,
            ..self
        }
    }
}

impl Face {
    /// The nearest point of an exact face; a point of optimised material stays.
    pub(super) fn nearest(&self, p: [f64; 3]) -> [f64; 3] {
        match *self {
            Self::Soft => p,
            Self::Plane { axis, at } => {
                let mut p = p;
                p[axis] = at;
                p
            }
            Self::Cylinder {
                axis,
                centre,
                radius,
            } => {
                let arm = arm(axis, centre, p);
                let length = f64::hypot(arm[0], arm[1]).max(1e-9);
                let mut p = p;
                for (n, a) in [(axis + 1) % 3, (axis + 2) % 3].into_iter().enumerate() {
                    p[a] = centre[a] + arm[n] * radius / length;
                }
                p
            }
        }
    }

    /// Unit normal of an exact face at a point, of either sense; none of optimised material.
    pub(super) fn normal(&self, p: [f64; 3]) -> Option<[f64; 3]> {
        let mut normal = [0.0; 3];
        match *self {
            Self::Soft => return None,
            Self::Plane { axis, .. } => normal[axis] = 1.0,
            Self::Cylinder { axis, centre, .. } => {
                let arm = arm(axis, centre, p);
                let length = f64::hypot(arm[0], arm[1]).max(1e-9);
                normal[(axis + 1) % 3] = arm[0] / length;
                normal[(axis + 2) % 3] = arm[1] / length;
            }
        }
        Some(normal)
    }
}

/// From a cylinder's axis to a point, in the two coordinates across it.
fn arm(axis: usize, centre: [f64; 3], p: [f64; 3]) -> [f64; 2] {
    [(axis + 1) % 3, (axis + 2) % 3].map(|a| p[a] - centre[a])
}

/// The face of a shape that decides whether a point is inside.
pub(super) fn nearest_face(shape: &Shape, p: [f64; 3]) -> Side {
    let slab = |axis, from, to| {
        let (below, above) = (p[axis] - from, to - p[axis]);
        let (mm, at) = if above < below {
            (above, to)
        } else {
            (below, from)
        };
        let face = Face::Plane { axis, at };
        Side { mm, face }
    };
    match *shape {
        Shape::Cuboid { min, max } => {
            let [x, y, z] = [0, 1, 2].map(|a| slab(a, min[a], max[a]));
            least(x, least(y, z))
        }
        Shape::Cylinder {
            axis,
            mut centre,
            radius,
            from,
            to,
        } => {
            let [u, v] = arm(axis, centre, p);
            centre[axis] = 0.0;
            let round = Side {
                mm: radius - u.hypot(v),
                face: Face::Cylinder {
                    axis,
                    centre,
                    radius,
                },
            };
            least(round, slab(axis, from, to))
        }
    }
}

/// The lesser depth; of equals the first.
pub(super) fn least(a: Side, b: Side) -> Side {
    if b.mm < a.mm { b } else { a }
}

/// The greater depth; of equals the first.
pub(super) fn most(a: Side, b: Side) -> Side {
    if b.mm > a.mm { b } else { a }
}
