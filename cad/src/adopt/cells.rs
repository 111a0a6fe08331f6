//! The part in small cells, as rays along all three axes see it: a slit that one of them misses another meets.

use super::{FACE_TOLERANCE_MM, MAX_EFFORT, effort, place};
use crate::families::{DesignSpace, Shape};
use crate::field::Voxels;
use crate::field::voxelise::voxelise_simple;
use crate::mesh::Mesh;

/// Cells along the edge of a voxel.
const FINER: f64 = 4.0;
/// The most cells.
const MAX_CELLS: f64 = 2e6;
/// A share of a cell that rounding explains.
const ROUNDING: f64 = 1e-6;
/// The share of a cell that may be otherwise: the broken edge of a coarse mesh.
const EDGE: f64 = 0.1;
/// So many cells may be otherwise by less; films and slits are in more.
const EDGES: usize = 100;
/// A voxel is open if gaps go through so much of a section of it.
const OPEN: f64 = 0.75;

/// The part in cells.
pub(super) struct Cells {
    /// The most of each cell that any ray sees filled.
    most: Voxels,
    /// The least.
    least: Vec<f64>,
}

impl Cells {
    /// Looks at a part from three sides, unless that would take too much, or shows that it overlaps itself.
    pub(super) fn of(mesh: &Mesh, space: &DesignSpace, voxel_mm: f64) -> Result<Self, String> {
        let size = space.size();
        let cell = (voxel_mm / FINER).max((size.iter().product::<f64>() / MAX_CELLS).cbrt());
        let counts = size.map(|s| (s / cell - 1e-9).ceil() as usize);
        let origin = space.envelope.min;
        let mut most = Voxels::uniform(counts, origin, cell, 0.0);
        let mut least = vec![1.0_f64; most.fill.len()];
        for turn in 0..3 {
            let turned = |of: [f64; 3]| [0, 1, 2].map(|a| of[(a + turn) % 3]);
            let mesh = Mesh {
                vertices: mesh.vertices.iter().map(|&v| turned(v)).collect(),
                triangles: mesh.triangles.clone(),
            };
            let (counts, origin) = ([0, 1, 2].map(|a| counts[(a + turn) % 3]), turned(origin));
            if effort(&mesh, counts, origin, cell) > MAX_EFFORT {
                return Err("its surface is folded too often to be looked at".to_owned());
            }
            let seen = voxelise_simple(&mesh, counts, origin, cell)
                .ok_or_else(|| "it overlaps itself, or is inside out in places".to_owned())?;
            for (n, &fill) in seen.fill.iter().enumerate() {
                let at = [
                    n % counts[0],
                    n / counts[0] % counts[1],
                    n / counts[0] / counts[1],
                ];
                let mut own = [0; 3];
                for a in 0..3 {
                    own[(a + turn) % 3] = at[a];
                }
                let own = most.index(own[0], own[1], own[2]);
                most.fill[own] = most.fill[own].max(fill);
                least[own] = least[own].min(fill);
            }
        }
        Ok(Self { most, least })
    }

    /// What is solid where it must be empty, or empty where it must be solid, further than a cell from the border.
    pub(super) fn region_reasons(&self, space: &DesignSpace) -> Vec<String> {
        // Half the diagonal of a cell, so that all of it is beyond the border.
        let margin = self.most.voxel_mm * 3f64.sqrt() / 2.0 + FACE_TOLERANCE_MM;
        let (mut filled, mut missing) = (Wrong::default(), Wrong::default());
        for (n, (&most, &least)) in self.most.fill.iter().zip(&self.least).enumerate() {
            let at = self.most.centre(n);
            let void = deepest(&space.voids, at);
            if void > margin {
                filled.add(most, at);
            } else if void < -margin
                && deepest(&space.solids, at).min(space.envelope_depth(at)) > margin
            {
                missing.add(1.0 - least, at);
            }
        }
        let found = [
            filled.told("is solid where it must be empty"),
            missing.told("is empty where it must be solid"),
        ];
        found.into_iter().flatten().collect()
    }

    /// Empties the voxels that a gap narrower than a voxel goes through, beside those that the brief asks for. The analysis
    /// would take them for full, and what they join for joined.
    pub(super) fn open_gaps(&self, voxels: &mut Voxels, space: &DesignSpace) {
        let cells = &self.most;
        let widest = (voxels.voxel_mm / cells.voxel_mm).round().max(1.0) as usize;
        let mut gap = vec![false; self.least.len()];
        for axis in 0..3 {
            self.gaps_along(axis, widest, &mut gap);
        }
        let mut count = vec![0.0; voxels.fill.len()];
        for (n, _) in gap.iter().enumerate().filter(|(_, gap)| **gap) {
            let at = cells.centre(n);
            if deepest(&space.voids, at) > -cells.voxel_mm {
                continue;
            }
            let of = |a: usize| {
                let along = ((at[a] - voxels.origin[a]) / voxels.voxel_mm) as usize;
                along.min(voxels.counts[a] - 1)
            };
            count[voxels.index(of(0), of(1), of(2))] += 1.0;
        }
        let open = OPEN * (voxels.voxel_mm / cells.voxel_mm).powi(2);
        for (fill, count) in voxels.fill.iter_mut().zip(count) {
            if count >= open {
                *fill = 0.0;
            }
        }
    }

    /// Marks the cells of every run between two solid ones, up to `widest` of them.
    fn gaps_along(&self, axis: usize, widest: usize, gap: &mut [bool]) {
        let counts = self.most.counts;
        let step = [1, counts[0], counts[0] * counts[1]][axis];
        let (b, c) = ((axis + 1) % 3, (axis + 2) % 3);
        let steps = [1, counts[0], counts[0] * counts[1]];
        for j in 0..counts[b] {
            for k in 0..counts[c] {
                let first = j * steps[b] + k * steps[c];
                let mut solid_before: Option<usize> = None;
                for i in 0..counts[axis] {
                    if self.least[first + i * step] < 1.0 - ROUNDING {
                        continue;
                    }
                    if let Some(before) = solid_before
                        && i - before > 1
                        && i - before <= widest + 1
                    {
                        for between in before + 1..i {
                            gap[first + between * step] = true;
                        }
                    }
                    solid_before = Some(i);
                }
            }
        }
    }
}

fn deepest(shapes: &[Shape], at: [f64; 3]) -> f64 {
    let depths = shapes.iter().map(|shape| shape.depth(at));
    depths.fold(f64::NEG_INFINITY, f64::max)
}

/// Cells that are not as they must be.
#[derive(Default)]
struct Wrong {
    cells: usize,
    worst: f64,
    at: [f64; 3],
}

impl Wrong {
    fn add(&mut self, share: f64, at: [f64; 3]) {
        if share <= ROUNDING {
            return;
        }
        self.cells += 1;
        if share > self.worst {
            (self.worst, self.at) = (share, at);
        }
    }

    fn told(&self, what: &str) -> Option<String> {
        let wrong = self.worst > EDGE || self.cells > EDGES;
        wrong.then(|| {
            let (cells, share, at) = (self.cells, 100.0 * self.worst, place(self.at));
            format!("it {what}: in {cells} cells, {share:.0} % of one at {at}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adopt::tests::block;
    use crate::mesh::Bounds;

    fn space() -> DesignSpace {
        DesignSpace {
            envelope: Bounds {
                min: [0.0; 3],
                max: [40.0, 20.0, 20.0],
            },
            solids: Vec::new(),
            voids: Vec::new(),
            interfaces: Vec::new(),
        }
    }

    fn both(a: &Mesh, b: &Mesh) -> Mesh {
        let mut both = a.clone();
        let many = u32::try_from(a.vertices.len()).unwrap();
        both.vertices.extend(&b.vertices);
        both.triangles
            .extend(b.triangles.iter().map(|t| t.map(|v| v + many)));
        both
    }

    /// How many voxels of a bar are full, as the analysis has it.
    fn full(mesh: &Mesh, opened: bool) -> usize {
        let counts = [20, 10, 10];
        let mut voxels = crate::field::voxelise::voxelise(mesh, counts, [0.0; 3], 2.0);
        let cells = Cells::of(mesh, &space(), 2.0).unwrap();
        if opened {
            cells.open_gaps(&mut voxels, &space());
        }
        voxels.fill.iter().filter(|fill| **fill >= 0.5).count()
    }

    #[test]
    fn a_slit_however_thin_opens_the_voxels_it_goes_through() {
        let whole = block([0.0, 4.0, 4.0], [40.0, 12.0, 12.0]);
        assert_eq!((full(&whole, false), full(&whole, true)), (320, 320));
        for (from, to) in [(20.5, 20.501), (20.3, 20.7), (19.6, 20.4)] {
            let left = block([0.0, 4.0, 4.0], [from, 12.0, 12.0]);
            let right = block([to, 4.0, 4.0], [40.0, 12.0, 12.0]);
            let slit = both(&left, &right);
            assert_eq!(full(&slit, false), 320, "the analysis does not see it");
            assert!(full(&slit, true) <= 320 - 16, "{from} to {to}");
        }
    }

    #[test]
    fn a_part_that_overlaps_itself_or_folds_without_end_is_refused() {
        let told = |mesh: &Mesh| Cells::of(mesh, &space(), 2.0).err().unwrap_or_default();
        let one = block([0.0; 3], [20.0; 3]);
        assert_eq!(told(&one), "");
        let other = block([10.0; 3], [19.0; 3]);
        assert!(told(&both(&one, &other)).starts_with("it overlaps itself"));
        let lobe = block([20.0, 5.0, 5.0], [30.0, 15.0, 15.0]);
        let mut turned = lobe.clone();
        for triangle in &mut turned.triangles {
            triangle.swap(0, 1);
        }
        assert_eq!(told(&both(&block([0.0; 3], [9.0; 3]), &lobe)), "");
        assert!(told(&both(&block([0.0; 3], [9.0; 3]), &turned)).starts_with("it overlaps itself"));
        let plates = (0..300).map(|n| {
            let x = f64::from(n) * 0.1;
            block([x, 0.0, 0.0], [x + 0.05, 20.0, 20.0])
        });
        let comb = plates.reduce(|all, one| both(&all, &one)).unwrap();
        assert!(told(&comb).starts_with("its surface is folded too often"));
    }
}
