//! The fine grid: node numbering, what is fixed, and the matrix-free product.

use rayon::prelude::*;

use super::element::{Matrix24, Modes, stiffness};

/// Elements handled side by side in the product.
const LANES: usize = 8;

/// A vector over all nodes: every x component, then every y, then every z.
pub type Field = Vec<f64>;

/// A box of cubic elements and what holds it.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Elements along x, y and z.
    pub counts: [usize; 3],
    /// Edge of an element, mm.
    pub voxel_mm: f64,
    /// Poisson's ratio.
    pub nu: f64,
    /// Degrees of freedom held at zero, ascending.
    pub fixed: Vec<usize>,
    /// Element stiffness for E = 1 and this edge.
    pub ke: Matrix24,
    /// The same in sign-flip modes.
    pub modes: Modes,
}

impl Grid {
    /// A grid with nothing fixed.
    #[must_use]
    pub fn new(counts: [usize; 3], voxel_mm: f64, nu: f64) -> Self {
        let ke = stiffness(nu).map(|row| row.map(|x| x * voxel_mm));
        let modes = Modes::of(&ke);
        Self {
            counts,
            voxel_mm,
            nu,
            fixed: Vec::new(),
            ke,
            modes,
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.counts.iter().product()
    }

    /// Nodes along each axis.
    #[must_use]
    pub fn node_counts(&self) -> [usize; 3] {
        self.counts.map(|n| n + 1)
    }

    /// Number of nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.node_counts().iter().product()
    }

    /// Number of the node at a lattice position.
    #[must_use]
    pub const fn node(&self, [i, j, k]: [usize; 3]) -> usize {
        (k * (self.counts[1] + 1) + j) * (self.counts[0] + 1) + i
    }

    /// Lattice position of a node.
    #[must_use]
    pub const fn node_position(&self, node: usize) -> [usize; 3] {
        let (nx, ny) = (self.counts[0] + 1, self.counts[1] + 1);
        [node % nx, node / nx % ny, node / (nx * ny)]
    }

    /// Lattice position of an element.
    #[must_use]
    pub const fn element_position(&self, element: usize) -> [usize; 3] {
        let [nx, ny, _] = self.counts;
        [element % nx, element / nx % ny, element / (nx * ny)]
    }

    /// The eight nodes of an element, corner bits in order x, y, z.
    #[must_use]
    pub fn element_nodes(&self, element: usize) -> [usize; 8] {
        let [i, j, k] = self.element_position(element);
        [0, 1, 2, 3, 4, 5, 6, 7usize]
            .map(|a| self.node([i + (a & 1), j + (a >> 1 & 1), k + (a >> 2)]))
    }

    /// Holds all three components of some nodes.
    pub fn fix_nodes(&mut self, nodes: &[usize]) {
        let all = self.nodes();
        self.fixed
            .extend(nodes.iter().flat_map(|&n| [n, all + n, 2 * all + n]));
        self.fixed.sort_unstable();
        self.fixed.dedup();
    }

    /// `y = K x` for element moduli `e`; fixed components of `y` are zero.
    ///
    /// Element layers of even height are added first, then the odd ones; each node gets its sums in
    /// that order, whatever the number of threads.
    pub fn apply(&self, e: &[f64], x: &[f64], y: &mut [f64]) {
        y.fill(0.0);
        let nodes = self.nodes();
        let layer = (self.counts[0] + 1) * (self.counts[1] + 1);
        let (yx, rest) = y.split_at_mut(nodes);
        let (yy, yz) = rest.split_at_mut(nodes);
        for parity in 0..2usize {
            let skip = parity * layer;
            yx[skip..]
                .par_chunks_mut(2 * layer)
                .zip(yy[skip..].par_chunks_mut(2 * layer))
                .zip(yz[skip..].par_chunks_mut(2 * layer))
                .enumerate()
                .for_each(|(n, ((yx, yy), yz))| {
                    let k = 2 * n + parity;
                    if k < self.counts[2] {
                        self.apply_layer(e, x, k, &mut [yx, yy, yz]);
                    }
                });
        }
        for &dof in &self.fixed {
            y[dof] = 0.0;
        }
    }

    /// Adds element layer `k`; the outputs start at node layer `k`.
    ///
    /// Wider registers change the speed only: every lane does the same operations in the same
    /// order, so the bits are the same on every processor.
    fn apply_layer(&self, e: &[f64], x: &[f64], k: usize, y: &mut [&mut [f64]; 3]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            #[expect(unsafe_code, reason = "the processor was just asked for AVX-512")]
            return unsafe { self.apply_layer_avx512(e, x, k, y) };
        } else if std::arch::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "the processor was just asked for AVX2")]
            return unsafe { self.apply_layer_avx2(e, x, k, y) };
        }
        self.apply_layer_plain(e, x, k, y);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn apply_layer_avx512(&self, e: &[f64], x: &[f64], k: usize, y: &mut [&mut [f64]; 3]) {
        self.apply_layer_plain(e, x, k, y);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn apply_layer_avx2(&self, e: &[f64], x: &[f64], k: usize, y: &mut [&mut [f64]; 3]) {
        self.apply_layer_plain(e, x, k, y);
    }

    #[inline(always)]
    fn apply_layer_plain(&self, e: &[f64], x: &[f64], k: usize, y: &mut [&mut [f64]; 3]) {
        let [nx, ny, _] = self.counts;
        let nodes = self.nodes();
        let row = nx + 1;
        let layer = row * (ny + 1);
        for j in 0..ny {
            let moduli = &e[(k * ny + j) * nx..][..nx];
            let mut next = 0;
            while next < nx {
                // The last block reaches back over elements already done, whose modulus is then
                // taken as zero, so that short blocks occur only in narrow grids.
                let i = next.min(nx.saturating_sub(LANES));
                let m = LANES.min(nx - i);
                let mut u = [[[0.0f64; LANES]; 8]; 3];
                for (c, u) in u.iter_mut().enumerate() {
                    for (a, u) in u.iter_mut().enumerate() {
                        let start = c * nodes
                            + k * layer
                            + (a >> 2) * layer
                            + (j + (a >> 1 & 1)) * row
                            + i
                            + (a & 1);
                        if m == LANES {
                            u.copy_from_slice(&x[start..start + LANES]);
                        } else {
                            u[..m].copy_from_slice(&x[start..start + m]);
                        }
                    }
                }
                let mut scale = [0.0; LANES];
                scale[next - i..m].copy_from_slice(&moduli[next..i + m]);
                multiply(&self.modes, &mut u, &scale);
                for (c, u) in u.iter().enumerate() {
                    for (a, u) in u.iter().enumerate() {
                        let start = (a >> 2) * layer + (j + (a >> 1 & 1)) * row + i + (a & 1);
                        if m == LANES {
                            for (y, u) in y[c][start..start + LANES].iter_mut().zip(u) {
                                *y += u;
                            }
                        } else {
                            for (y, u) in y[c][start..start + m].iter_mut().zip(u) {
                                *y += u;
                            }
                        }
                    }
                }
                next = i + m;
            }
        }
    }

    /// Twice the strain energy of each element for E = 1: `u' Ke u`.
    #[must_use]
    pub fn energies(&self, u: &[f64]) -> Vec<f64> {
        let nodes = self.nodes();
        let mut out = vec![0.0; self.elements()];
        let plane = self.counts[0] * self.counts[1];
        out.par_chunks_mut(plane).enumerate().for_each(|(k, out)| {
            for (n, out) in out.iter_mut().enumerate() {
                let corners = self.element_nodes(k * plane + n);
                let mut v = [[[0.0; 1]; 8]; 3];
                for c in 0..3 {
                    for a in 0..8 {
                        v[c][a][0] = u[c * nodes + corners[a]];
                    }
                }
                let before = v;
                multiply(&self.modes, &mut v, &[1.0]);
                let mut sum = 0.0;
                for c in 0..3 {
                    for a in 0..8 {
                        sum += before[c][a][0] * v[c][a][0];
                    }
                }
                *out = sum;
            }
        });
        out
    }

    /// Sum of the moduli of the elements around each node, times the element diagonal.
    #[must_use]
    pub fn diagonal(&self, e: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.nodes()];
        for (element, &modulus) in e.iter().enumerate() {
            for node in self.element_nodes(element) {
                out[node] += modulus * self.modes.diagonal;
            }
        }
        out
    }
}

/// `u := scale * Ke u` for several elements side by side.
#[inline(always)]
fn multiply<const M: usize>(modes: &Modes, u: &mut [[[f64; M]; 8]; 3], scale: &[f64; M]) {
    for u in u.iter_mut() {
        walsh(u);
    }
    for (g, block) in modes.blocks.iter().enumerate() {
        let v = [u[0][g ^ 1], u[1][g ^ 2], u[2][g ^ 4]];
        for c in 0..3 {
            let out = &mut u[c][g ^ (1 << c)];
            for l in 0..M {
                out[l] = (block[c][0] * v[0][l] + block[c][1] * v[1][l] + block[c][2] * v[2][l])
                    * scale[l];
            }
        }
    }
    for u in u.iter_mut() {
        walsh(u);
    }
}

/// The unscaled Walsh–Hadamard transform over the eight corners, written out: a loop here is not
/// unrolled and costs half of the speed.
#[inline(always)]
fn walsh<const M: usize>(u: &mut [[f64; M]; 8]) {
    let [a, b, c, d, e, f, g, h] = *u;
    let ([a, b], [c, d]) = (butterfly(a, b), butterfly(c, d));
    let ([e, f], [g, h]) = (butterfly(e, f), butterfly(g, h));
    let ([a, c], [b, d]) = (butterfly(a, c), butterfly(b, d));
    let ([e, g], [f, h]) = (butterfly(e, g), butterfly(f, h));
    let ([a, e], [b, f]) = (butterfly(a, e), butterfly(b, f));
    let ([c, g], [d, h]) = (butterfly(c, g), butterfly(d, h));
    *u = [a, b, c, d, e, f, g, h];
}

/// Sum and difference.
#[inline(always)]
fn butterfly<const M: usize>(p: [f64; M], q: [f64; M]) -> [[f64; M]; 2] {
    let (mut sum, mut difference) = ([0.0; M], [0.0; M]);
    for l in 0..M {
        sum[l] = p[l] + q[l];
        difference[l] = p[l] - q[l];
    }
    [sum, difference]
}

/// Scalar product in a fixed order: the same bits for any number of threads.
#[must_use]
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    const CHUNK: usize = 4096;
    let mut total = 0.0;
    for (a, b) in a.chunks(CHUNK).zip(b.chunks(CHUNK)) {
        let mut lanes = [0.0; 8];
        let (mut whole_a, mut whole_b) = (a.chunks_exact(8), b.chunks_exact(8));
        for (a, b) in (&mut whole_a).zip(&mut whole_b) {
            for l in 0..8 {
                lanes[l] += a[l] * b[l];
            }
        }
        for (a, b) in whole_a.remainder().iter().zip(whole_b.remainder()) {
            lanes[0] += a * b;
        }
        total += lanes.iter().sum::<f64>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn the_product_equals_the_assembled_one() {
        let mut grid = Grid::new([11, 3, 4], 1.5, 0.3);
        grid.fix_nodes(&[0, 5]);
        let mut rng = Rng::new(3);
        let e: Vec<f64> = (0..grid.elements()).map(|_| rng.uniform()).collect();
        let mut x: Vec<f64> = (0..3 * grid.nodes()).map(|_| rng.normal()).collect();
        for &dof in &grid.fixed {
            x[dof] = 0.0;
        }
        let mut expected = vec![0.0; x.len()];
        for (element, modulus) in e.iter().enumerate() {
            let nodes = grid.element_nodes(element);
            let dof = |n: usize| n % 3 * grid.nodes() + nodes[n / 3];
            for r in 0..24 {
                for c in 0..24 {
                    expected[dof(r)] += modulus * grid.ke[r][c] * x[dof(c)];
                }
            }
        }
        for &dof in &grid.fixed {
            expected[dof] = 0.0;
        }
        let mut y = vec![0.0; x.len()];
        grid.apply(&e, &x, &mut y);
        for (a, b) in y.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-12);
        }
        let energy: f64 = grid.energies(&x).iter().zip(&e).map(|(a, b)| a * b).sum();
        assert!((energy - dot(&x, &y)).abs() < 1e-10 * energy);
    }
}
