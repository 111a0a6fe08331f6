//! Geometric multigrid as preconditioner: a V-cycle with Chebyshev smoothing.
//!
//! The fine level is matrix-free; every coarser level is the exact Galerkin product, stored as a
//! 27-point stencil of 3 × 3 blocks, because rediscretised coarse levels lose their worth at the
//! stiffness contrast of topology optimisation. Odd counts are rounded up: the coarse grid then
//! reaches beyond the fine one by half an element, with nothing in it.

use rayon::prelude::*;

use super::element::Matrix24;
use super::grid::Grid;

/// Chebyshev degree on the fine and coarse levels.
const DEGREE: usize = 2;
/// The smoother treats eigenvalues between the greatest and the greatest over this.
const SPREAD: f64 = 12.0;
/// Levels at most this large are solved directly.
const DIRECT_NODES: usize = 150;

/// The preconditioner for one set of element moduli.
pub struct Multigrid<'a> {
    grid: &'a Grid,
    e: &'a [f64],
    /// Inverse diagonal per node of the fine level, fixed components zero.
    fine_inverse: Vec<f64>,
    levels: Vec<Level>,
    factor: Cholesky,
}

/// One coarse level.
struct Level {
    counts: [usize; 3],
    /// Per row of nodes along x: for each of 27 offsets (x fastest) and 9 couplings, the whole row.
    stencil: Vec<f64>,
    /// Inverse diagonal; zero where nothing couples.
    inverse: Vec<f64>,
    greatest: f64,
}

impl<'a> Multigrid<'a> {
    /// Builds all coarse levels.
    #[must_use]
    pub fn new(grid: &'a Grid, e: &'a [f64]) -> Self {
        let nodes = grid.nodes();
        let diagonal = grid.diagonal(e);
        let mut fine_inverse = vec![0.0; 3 * nodes];
        for (n, inverse) in fine_inverse.iter_mut().enumerate() {
            *inverse = 1.0 / diagonal[n % nodes];
        }
        for &dof in &grid.fixed {
            fine_inverse[dof] = 0.0;
        }
        let (mut counts, mut matrices) = coarsen_fine(grid, e);
        let mut levels = vec![Level::assemble(counts, &matrices)];
        while counts.iter().map(|n| n + 1).product::<usize>() > DIRECT_NODES
            && counts.iter().any(|&n| n > 1)
        {
            (counts, matrices) = coarsen(counts, &matrices);
            levels.push(Level::assemble(counts, &matrices));
        }
        let factor = Cholesky::of(levels.last().unwrap_or(&levels[0]));
        Self {
            grid,
            e,
            fine_inverse,
            levels,
            factor,
        }
    }

    /// One V-cycle from zero: `z ≈ K⁻¹ r`.
    #[must_use]
    pub fn precondition(&self, r: &[f64]) -> Vec<f64> {
        let apply = |x: &[f64], y: &mut [f64]| self.grid.apply(self.e, x, y);
        let smoother = Smoother {
            apply: &apply,
            inverse: &self.fine_inverse,
            greatest: self.grid.modes.bound,
        };
        let (mut x, residual) = smoother.smooth_from_zero(r);
        let coarse = restrict(self.grid.counts, self.levels[0].counts, &residual);
        let correction = self.cycle(0, &coarse);
        prolong_add(self.grid.counts, self.levels[0].counts, &correction, &mut x);
        for &dof in &self.grid.fixed {
            x[dof] = 0.0;
        }
        smoother.improve(r, &mut x);
        x
    }

    fn cycle(&self, level: usize, r: &[f64]) -> Vec<f64> {
        if level + 1 == self.levels.len() {
            return self.factor.solve(r);
        }
        let (here, below) = (&self.levels[level], &self.levels[level + 1]);
        let apply = |x: &[f64], y: &mut [f64]| here.apply(x, y);
        let smoother = Smoother {
            apply: &apply,
            inverse: &here.inverse,
            greatest: here.greatest,
        };
        let (mut x, residual) = smoother.smooth_from_zero(r);
        let coarse = restrict(here.counts, below.counts, &residual);
        prolong_add(
            here.counts,
            below.counts,
            &self.cycle(level + 1, &coarse),
            &mut x,
        );
        smoother.improve(r, &mut x);
        x
    }
}

/// Chebyshev iteration on the diagonally scaled operator.
struct Smoother<'a> {
    apply: &'a dyn Fn(&[f64], &mut [f64]),
    inverse: &'a [f64],
    greatest: f64,
}

impl Smoother<'_> {
    /// Smooths `K x = b` from `x = 0`; returns `x` and its residual.
    fn smooth_from_zero(&self, b: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut x = vec![0.0; b.len()];
        let mut residual = b.to_vec();
        self.sweep(&mut x, &mut residual, true);
        (x, residual)
    }

    /// Smooths `K x = b` from a given `x`.
    fn improve(&self, b: &[f64], x: &mut [f64]) {
        let mut residual = vec![0.0; b.len()];
        (self.apply)(x, &mut residual);
        for (r, b) in residual.iter_mut().zip(b) {
            *r = b - *r;
        }
        self.sweep(x, &mut residual, false);
    }

    fn sweep(&self, x: &mut [f64], residual: &mut [f64], with_last_residual: bool) {
        let least = self.greatest / SPREAD;
        let (middle, half) = (0.5 * (self.greatest + least), 0.5 * (self.greatest - least));
        let sigma = middle / half;
        let mut rho = 1.0 / sigma;
        let mut step: Vec<f64> = residual
            .iter()
            .zip(self.inverse)
            .map(|(r, d)| r * d / middle)
            .collect();
        let mut product = vec![0.0; x.len()];
        for n in 0..DEGREE {
            for (x, s) in x.iter_mut().zip(&step) {
                *x += s;
            }
            let last = n + 1 == DEGREE;
            if last && !with_last_residual {
                return;
            }
            (self.apply)(&step, &mut product);
            for (r, p) in residual.iter_mut().zip(&product) {
                *r -= p;
            }
            if !last {
                let next = 1.0 / (2.0 * sigma - rho);
                let (keep, add) = (next * rho, 2.0 * next / half);
                for ((s, r), d) in step.iter_mut().zip(&*residual).zip(self.inverse) {
                    *s = keep * *s + add * r * d;
                }
                rho = next;
            }
        }
    }
}

impl Level {
    fn assemble(counts: [usize; 3], matrices: &[Matrix24]) -> Self {
        let n = counts.map(|c| c + 1);
        let nodes: usize = n.iter().product();
        let mut stencil = vec![0.0; nodes * 243];
        for (element, matrix) in matrices.iter().enumerate() {
            let [i, j, k] = cell(counts, element);
            for a in 0..8usize {
                let node = ((k + (a >> 2)) * n[1] + j + (a >> 1 & 1)) * n[0] + i + (a & 1);
                for b in 0..8usize {
                    let offset = |bit: usize| (b >> bit & 1) + 1 - (a >> bit & 1);
                    let block = ((offset(2) * 3 + offset(1)) * 3 + offset(0)) * 9;
                    for c in 0..3 {
                        for d in 0..3 {
                            stencil[slot(n[0], node, block + 3 * c + d)] +=
                                matrix[3 * a + c][3 * b + d];
                        }
                    }
                }
            }
        }
        let mut inverse = vec![0.0; 3 * nodes];
        for node in 0..nodes {
            for c in 0..3 {
                let value = stencil[slot(n[0], node, 13 * 9 + 4 * c)];
                inverse[c * nodes + node] = if value > 0.0 { 1.0 / value } else { 0.0 };
            }
        }
        let mut level = Self {
            counts,
            stencil,
            inverse,
            greatest: 1.0,
        };
        level.greatest = level.greatest_eigenvalue();
        level
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) {
        let n = self.counts.map(|c| c + 1);
        let nodes: usize = n.iter().product();
        let layer = n[0] * n[1];
        let (yx, rest) = y.split_at_mut(nodes);
        let (yy, yz) = rest.split_at_mut(nodes);
        yx.par_chunks_mut(layer)
            .zip(yy.par_chunks_mut(layer))
            .zip(yz.par_chunks_mut(layer))
            .enumerate()
            .for_each(|(k, ((yx, yy), yz))| self.apply_layer(x, k, &mut [yx, yy, yz]));
    }

    /// One layer of nodes; as on the fine grid, wider registers change the speed only.
    fn apply_layer(&self, x: &[f64], k: usize, y: &mut [&mut [f64]; 3]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "the processor was just asked for AVX2")]
            return unsafe { self.apply_layer_avx2(x, k, y) };
        }
        self.apply_layer_plain(x, k, y);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn apply_layer_avx2(&self, x: &[f64], k: usize, y: &mut [&mut [f64]; 3]) {
        self.apply_layer_plain(x, k, y);
    }

    #[inline(always)]
    fn apply_layer_plain(&self, x: &[f64], k: usize, y: &mut [&mut [f64]; 3]) {
        let n = self.counts.map(|c| c + 1);
        let nodes: usize = n.iter().product();
        for y in y.iter_mut() {
            y.fill(0.0);
        }
        for j in 0..n[1] {
            let rows = &self.stencil[(k * n[1] + j) * 243 * n[0]..][..243 * n[0]];
            for dz in usize::from(k == 0)..3 - usize::from(k + 1 == n[2]) {
                for dy in usize::from(j == 0)..3 - usize::from(j + 1 == n[1]) {
                    let other = ((k + dz - 1) * n[1] + j + dy - 1) * n[0];
                    for dx in 0..3 {
                        let (first, last) = (usize::from(dx == 0), n[0] - usize::from(dx == 2));
                        let block = ((dz * 3 + dy) * 3 + dx) * 9;
                        for (c, y) in y.iter_mut().enumerate() {
                            let y = &mut y[j * n[0] + first..j * n[0] + last];
                            for d in 0..3 {
                                let s = &rows[(block + 3 * c + d) * n[0] + first..][..y.len()];
                                let x = &x[d * nodes + other + first + dx - 1..][..y.len()];
                                for ((y, s), x) in y.iter_mut().zip(s).zip(x) {
                                    *y += s * x;
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Greatest eigenvalue of the scaled operator by power iteration from a fixed start, with a
    /// margin because the iteration approaches it from below.
    fn greatest_eigenvalue(&self) -> f64 {
        let mut v: Vec<f64> = (0..self.inverse.len())
            .map(|n| {
                if self.inverse[n] > 0.0 {
                    ((n * 2_654_435_761) % 1009) as f64 - 504.0
                } else {
                    0.0
                }
            })
            .collect();
        let mut w = vec![0.0; v.len()];
        let mut value = 1.0;
        for _ in 0..12 {
            let size = super::grid::dot(&v, &v).sqrt();
            if size == 0.0 {
                return 1.0;
            }
            v.iter_mut().for_each(|x| *x /= size);
            self.apply(&v, &mut w);
            w.iter_mut().zip(&self.inverse).for_each(|(w, d)| *w *= d);
            value = super::grid::dot(&w, &w).sqrt();
            std::mem::swap(&mut v, &mut w);
        }
        value * 1.15
    }
}

/// Position in a stencil of coupling `block` of a node, for rows of `row` nodes.
const fn slot(row: usize, node: usize, block: usize) -> usize {
    (node / row * 243 + block) * row + node % row
}

const fn cell(counts: [usize; 3], element: usize) -> [usize; 3] {
    [
        element % counts[0],
        element / counts[0] % counts[1],
        element / (counts[0] * counts[1]),
    ]
}

/// Weight of coarse corner `b` at corner `a` of fine child `child`.
fn weight(child: usize, a: usize, b: usize) -> f64 {
    let mut weight = 1.0;
    for bit in 0..3 {
        let at = ((child >> bit & 1) + (a >> bit & 1)) as f64 / 2.0;
        weight *= if b >> bit & 1 == 1 { at } else { 1.0 - at };
    }
    weight
}

/// `P' K P` for one child.
fn project(child: usize, matrix: &Matrix24) -> Matrix24 {
    let mut weights = [[0.0; 8]; 8];
    for (a, row) in weights.iter_mut().enumerate() {
        for (b, w) in row.iter_mut().enumerate() {
            *w = weight(child, a, b);
        }
    }
    let mut half = [[0.0; 24]; 24];
    for r in 0..24 {
        for b in 0..8 {
            for a in 0..8 {
                let w = weights[a][b];
                if w == 0.0 {
                    continue;
                }
                for d in 0..3 {
                    half[r][3 * b + d] += w * matrix[r][3 * a + d];
                }
            }
        }
    }
    let mut out = [[0.0; 24]; 24];
    for b in 0..8 {
        for a in 0..8 {
            let w = weights[a][b];
            if w == 0.0 {
                continue;
            }
            for d in 0..3 {
                for c in 0..24 {
                    out[3 * b + d][c] += w * half[3 * a + d][c];
                }
            }
        }
    }
    out
}

/// Element matrices of the first coarse level, from the fine moduli and the fixed components.
fn coarsen_fine(grid: &Grid, e: &[f64]) -> ([usize; 3], Vec<Matrix24>) {
    let counts = grid.counts.map(|n| n.div_ceil(2));
    let children: Vec<Matrix24> = (0..8).map(|child| project(child, &grid.ke)).collect();
    let nodes = grid.nodes();
    let mut fixed = vec![0u8; nodes];
    for &dof in &grid.fixed {
        fixed[dof % nodes] |= 1 << (dof / nodes);
    }
    let matrices = (0..counts.iter().product())
        .into_par_iter()
        .map(|element| {
            let parent = cell(counts, element);
            let mut sum = [[0.0; 24]; 24];
            for (child, projected) in children.iter().enumerate() {
                let at = [0, 1, 2].map(|a| 2 * parent[a] + (child >> a & 1));
                if (0..3).any(|a| at[a] >= grid.counts[a]) {
                    continue;
                }
                let fine = (at[2] * grid.counts[1] + at[1]) * grid.counts[0] + at[0];
                let corners = grid.element_nodes(fine);
                if corners.iter().any(|&n| fixed[n] != 0) {
                    let free = |r: usize| fixed[corners[r / 3]] >> (r % 3) & 1 == 0;
                    let mut masked = grid.ke;
                    for (r, row) in masked.iter_mut().enumerate() {
                        for (c, x) in row.iter_mut().enumerate() {
                            *x *= if free(r) && free(c) { e[fine] } else { 0.0 };
                        }
                    }
                    add(&mut sum, &project(child, &masked), 1.0);
                } else {
                    add(&mut sum, projected, e[fine]);
                }
            }
            sum
        })
        .collect();
    (counts, matrices)
}

fn coarsen(fine: [usize; 3], matrices: &[Matrix24]) -> ([usize; 3], Vec<Matrix24>) {
    let counts = fine.map(|n| n.div_ceil(2));
    let out = (0..counts.iter().product())
        .into_par_iter()
        .map(|element| {
            let parent = cell(counts, element);
            let mut sum = [[0.0; 24]; 24];
            for child in 0..8usize {
                let at = [0, 1, 2].map(|a| 2 * parent[a] + (child >> a & 1));
                if (0..3).all(|a| at[a] < fine[a]) {
                    let n = (at[2] * fine[1] + at[1]) * fine[0] + at[0];
                    add(&mut sum, &project(child, &matrices[n]), 1.0);
                }
            }
            sum
        })
        .collect();
    (counts, out)
}

fn add(sum: &mut Matrix24, matrix: &Matrix24, factor: f64) {
    for (s, m) in sum.iter_mut().flatten().zip(matrix.iter().flatten()) {
        *s += factor * m;
    }
}

/// The transpose of the interpolation, gathered per coarse node.
fn restrict(fine: [usize; 3], coarse: [usize; 3], r: &[f64]) -> Vec<f64> {
    let (nf, nc) = (fine.map(|n| n + 1), coarse.map(|n| n + 1));
    let (all, few) = (nf.iter().product::<usize>(), nc.iter().product::<usize>());
    let mut out = vec![0.0; 3 * few];
    // Fine neighbours along one axis and their weights; a missing one weighs nothing.
    let along = |at: usize, n: usize| {
        let middle = 2 * at;
        [
            (middle.wrapping_sub(1), 0.5),
            (middle, 1.0),
            (middle + 1, 0.5),
        ]
        .map(|(p, w)| if p < n { (p, w) } else { (0, 0.0) })
    };
    for node in 0..few {
        let [i, j, k] = [node % nc[0], node / nc[0] % nc[1], node / (nc[0] * nc[1])];
        let mut sum = [0.0; 3];
        for (fk, wk) in along(k, nf[2]) {
            for (fj, wj) in along(j, nf[1]) {
                for (fi, wi) in along(i, nf[0]) {
                    let (n, w) = ((fk * nf[1] + fj) * nf[0] + fi, wi * wj * wk);
                    for (c, s) in sum.iter_mut().enumerate() {
                        *s += w * r[c * all + n];
                    }
                }
            }
        }
        for (c, s) in sum.into_iter().enumerate() {
            out[c * few + node] = s;
        }
    }
    out
}

/// Adds the interpolated coarse correction.
fn prolong_add(fine: [usize; 3], coarse: [usize; 3], x: &[f64], out: &mut [f64]) {
    let (nf, nc) = (fine.map(|n| n + 1), coarse.map(|n| n + 1));
    let (all, few) = (nf.iter().product::<usize>(), nc.iter().product::<usize>());
    for node in 0..all {
        let [i, j, k] = [node % nf[0], node / nf[0] % nf[1], node / (nf[0] * nf[1])];
        let mut sum = [0.0; 3];
        for ck in [k / 2, k.div_ceil(2)] {
            for cj in [j / 2, j.div_ceil(2)] {
                for ci in [i / 2, i.div_ceil(2)] {
                    let n = (ck * nc[1] + cj) * nc[0] + ci;
                    for (c, s) in sum.iter_mut().enumerate() {
                        *s += x[c * few + n];
                    }
                }
            }
        }
        for (c, s) in sum.into_iter().enumerate() {
            // Each of the eight parents counts one eighth; coinciding ones add up.
            out[c * all + node] += s / 8.0;
        }
    }
}

/// Dense factor of the coarsest level.
struct Cholesky {
    size: usize,
    lower: Vec<f64>,
    /// Components nothing couples to.
    empty: Vec<bool>,
}

impl Cholesky {
    fn of(level: &Level) -> Self {
        let n = level.counts.map(|c| c + 1);
        let nodes: usize = n.iter().product();
        let size = 3 * nodes;
        let mut a = vec![0.0; size * size];
        for node in 0..nodes {
            let at = [node % n[0], node / n[0] % n[1], node / (n[0] * n[1])];
            for offset in 0..27usize {
                let shift = [offset % 3, offset / 3 % 3, offset / 9];
                if (0..3).any(|a| at[a] + shift[a] < 1 || at[a] + shift[a] > n[a]) {
                    continue;
                }
                let [i, j, k] = [0, 1, 2].map(|a| at[a] + shift[a] - 1);
                let other = (k * n[1] + j) * n[0] + i;
                for c in 0..3 {
                    for d in 0..3 {
                        a[(c * nodes + node) * size + d * nodes + other] =
                            level.stencil[slot(n[0], node, offset * 9 + 3 * c + d)];
                    }
                }
            }
        }
        let empty: Vec<bool> = level.inverse.iter().map(|&d| d == 0.0).collect();
        for r in 0..size {
            if empty[r] {
                a[r * size + r] = 1.0;
            }
        }
        for r in 0..size {
            for c in 0..=r {
                let (row_r, row_c) = (&a[r * size..r * size + c], &a[c * size..c * size + c]);
                let sum = a[r * size + c] - super::grid::dot(row_r, row_c);
                a[r * size + c] = if r == c {
                    // A floor keeps a component that is void but for round-off harmless.
                    let floor = 1e-13 * a[r * size + r].max(f64::MIN_POSITIVE);
                    sum.max(floor).sqrt()
                } else {
                    sum / a[c * size + c]
                };
            }
        }
        Self {
            size,
            lower: a,
            empty,
        }
    }

    fn solve(&self, b: &[f64]) -> Vec<f64> {
        let n = self.size;
        let mut x = b.to_vec();
        for r in 0..n {
            let sum = super::grid::dot(&self.lower[r * n..r * n + r], &x[..r]);
            x[r] = (x[r] - sum) / self.lower[r * n + r];
        }
        for r in (0..n).rev() {
            x[r] /= self.lower[r * n + r];
            let value = x[r];
            for (x, l) in x[..r].iter_mut().zip(&self.lower[r * n..r * n + r]) {
                *x -= value * l;
            }
        }
        for (x, &empty) in x.iter_mut().zip(&self.empty) {
            if empty {
                *x = 0.0;
            }
        }
        x
    }
}
