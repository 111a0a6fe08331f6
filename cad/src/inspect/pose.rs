//! Rigid motions in space.

use crate::mesh::{dot, length};

/// A proper rotation and a translation: `q = rotation · p + translation`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rigid {
    /// Rows of the rotation matrix.
    pub(crate) rotation: [[f64; 3]; 3],
    /// Translation, mm.
    pub(crate) translation: [f64; 3],
}

impl Rigid {
    /// Stays where it is.
    pub(crate) const IDENTITY: Self = Self {
        rotation: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        translation: [0.0; 3],
    };

    /// The image of a point.
    pub(crate) fn apply(&self, p: [f64; 3]) -> [f64; 3] {
        add(self.turn(p), self.translation)
    }

    /// The image of a direction.
    pub(crate) fn turn(&self, v: [f64; 3]) -> [f64; 3] {
        self.rotation.map(|row| dot(row, v))
    }

    /// `self` after `first`.
    pub(crate) fn after(&self, first: &Self) -> Self {
        Self {
            rotation: product(self.rotation, first.rotation),
            translation: self.apply(first.translation),
        }
    }

    /// The motion back.
    pub(crate) fn inverse(&self) -> Self {
        let rotation = transpose(self.rotation);
        let back = Self {
            rotation,
            translation: [0.0; 3],
        };
        Self {
            rotation,
            translation: back.turn(self.translation).map(|x| -x),
        }
    }

    /// A small motion: turn by the rotation vector `w` about `centre`, then shift by `v`.
    pub(crate) fn about(centre: [f64; 3], w: [f64; 3], v: [f64; 3]) -> Self {
        let turn = Self {
            rotation: exponential(w),
            translation: [0.0; 3],
        };
        let translation = add(sub3(centre, turn.turn(centre)), v);
        Self {
            translation,
            ..turn
        }
    }

    /// Angle of the rotation, radians.
    pub(crate) fn angle(&self) -> f64 {
        let r = self.rotation;
        let sine = length([r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]]);
        sine.atan2(r[0][0] + r[1][1] + r[2][2] - 1.0)
    }
}

/// `a + b`.
pub(crate) fn add(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// `a · s`.
pub(crate) fn scaled(a: [f64; 3], s: f64) -> [f64; 3] {
    a.map(|x| x * s)
}

/// `a` made one long, or zero if it has no direction.
pub(crate) fn unit(a: [f64; 3]) -> [f64; 3] {
    let l = length(a);
    if l > 0.0 {
        scaled(a, 1.0 / l)
    } else {
        [0.0; 3]
    }
}

/// Rows of the product of two matrices.
pub(crate) fn product(a: [[f64; 3]; 3], b: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let columns = transpose(b);
    a.map(|row| columns.map(|column| dot(row, column)))
}

/// Rows of the transposed matrix.
pub(crate) fn transpose(a: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    [0, 1, 2].map(|j| [a[0][j], a[1][j], a[2][j]])
}

/// The rotation by a rotation vector (Rodrigues).
fn exponential(w: [f64; 3]) -> [[f64; 3]; 3] {
    let angle = length(w);
    let (a, b) = if angle < 1e-8 {
        (1.0, 0.5)
    } else {
        (angle.sin() / angle, (1.0 - angle.cos()) / (angle * angle))
    };
    let k = [[0.0, -w[2], w[1]], [w[2], 0.0, -w[0]], [-w[1], w[0], 0.0]];
    let kk = product(k, k);
    let mut r = Rigid::IDENTITY.rotation;
    for i in 0..3 {
        for j in 0..3 {
            r[i][j] += a * k[i][j] + b * kk[i][j];
        }
    }
    r
}

fn sub3(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    crate::mesh::sub(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_motion_and_its_inverse_cancel() {
        let pose = Rigid::about([1.0, 2.0, 3.0], [0.3, -0.9, 0.4], [5.0, 6.0, -7.0]);
        let p = [0.2, 9.0, -4.0];
        let back = pose.inverse().apply(pose.apply(p));
        assert!((0..3).all(|k| (back[k] - p[k]).abs() < 1e-12));
        let round = pose.inverse().after(&pose);
        assert!(round.angle().abs() < 1e-12);
        assert!((pose.angle() - length([0.3, -0.9, 0.4])).abs() < 1e-12);
    }
}
