//! A cell set whose boundary is one closed 2-manifold.
//!
//! Cells are repaired until no two inside cells meet in an edge or a corner only (a *well-composed*
//! set; Latecki 1997 shows that exactly then the boundary is a 2-manifold).

use super::surface::SurfaceError;
use super::{Voxels, components};

/// The field with a layer of empty cells around it, in one piece, without cavities, well-composed.
///
/// # Errors
/// If no value is positive.
pub(super) fn composed(field: &Voxels) -> Result<Voxels, SurfaceError> {
    let mut field = padded(field);
    one_solid_piece(&mut field)?;
    make_well_composed(&mut field);
    Ok(field)
}

/// Adds a layer of empty cells on every side, so that the surface closes inside the grid.
fn padded(field: &Voxels) -> Voxels {
    let counts = field.counts.map(|n| n + 2);
    let origin = field.origin.map(|x| x - field.voxel_mm);
    let mut out = Voxels::uniform(counts, origin, field.voxel_mm, -field.voxel_mm);
    for n in 0..field.fill.len() {
        let [i, j, k] = field.cell(n);
        let slot = out.index(i + 1, j + 1, k + 1);
        // A value that is not a number is no material.
        out.fill[slot] = if field.fill[n].is_nan() {
            -field.voxel_mm
        } else {
            field.fill[n]
        };
    }
    out
}

/// Keeps the largest inside component and fills what the outside cannot reach.
fn one_solid_piece(field: &mut Voxels) -> Result<(), SurfaceError> {
    let small = 1e-3 * field.voxel_mm;
    let inside: Vec<bool> = field.fill.iter().map(|&v| v > 0.0).collect();
    let (label, found) = components(field.counts, &inside);
    if found == 0 {
        return Err(SurfaceError::Empty);
    }
    let mut sizes = vec![0usize; found as usize + 1];
    for &l in &label {
        sizes[l as usize] += 1;
    }
    // The first of equals, so that the choice does not depend on anything else.
    let keep = (1..sizes.len())
        .rev()
        .max_by_key(|&l| sizes[l])
        .unwrap_or(1) as u32;
    for (value, &l) in field.fill.iter_mut().zip(&label) {
        if l != 0 && l != keep {
            *value = -small;
        }
    }
    let outside: Vec<bool> = field.fill.iter().map(|&v| v <= 0.0).collect();
    let (label, _) = components(field.counts, &outside);
    for (value, &l) in field.fill.iter_mut().zip(&label) {
        // Cell 0 is padding, so its component is the outside.
        if l != 0 && l != label[0] {
            *value = small;
        }
    }
    Ok(())
}

/// Fills cells until no two inside cells meet in an edge or corner only, and no two outside ones.
///
/// Filling only ever adds cells and the outermost layer never needs it, so it ends; cells that were
/// nearest to the surface are chosen.
fn make_well_composed(field: &mut Voxels) {
    let small = 1e-3 * field.voxel_mm;
    loop {
        let mut changed = false;
        let [nx, ny, nz] = field.counts;
        for k in 0..nz - 1 {
            for j in 0..ny - 1 {
                for i in 0..nx - 1 {
                    while let Some(cell) = critical(field, [i, j, k]) {
                        field.fill[cell] = small;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            return;
        }
        // Filling can close off a cavity.
        if one_solid_piece(field).is_err() {
            return;
        }
    }
}

/// The outside cell to fill in a critical 2 × 2 × 2 block, if the block is critical.
fn critical(field: &Voxels, at: [usize; 3]) -> Option<usize> {
    let cell = |n: usize| field.index(at[0] + (n & 1), at[1] + (n >> 1 & 1), at[2] + (n >> 2));
    let inside = |n: usize| field.fill[cell(n)] > 0.0;
    let nearest = |candidates: &[usize]| {
        candidates
            .iter()
            .map(|&n| cell(n))
            .max_by(|&a, &b| field.fill[a].total_cmp(&field.fill[b]).then(b.cmp(&a)))
    };
    for axis in 0..3usize {
        let (u, v) = (1 << ((axis + 1) % 3), 1 << ((axis + 2) % 3));
        for base in [0, 1 << axis] {
            let [a, b, c, d] = [base, base + u, base + u + v, base + v];
            if inside(a) == inside(c) && inside(b) == inside(d) && inside(a) != inside(b) {
                return if inside(a) {
                    nearest(&[b, d])
                } else {
                    nearest(&[a, c])
                };
            }
        }
    }
    let full: usize = (0..8).filter(|&n| inside(n)).count();
    for n in 0..4 {
        let opposite = 7 - n;
        if full == 2 && inside(n) && inside(opposite) {
            let rest: Vec<usize> = (0..8).filter(|&m| m != n && m != opposite).collect();
            return nearest(&rest);
        }
        if full == 6 && !inside(n) && !inside(opposite) {
            return nearest(&[n, opposite]);
        }
    }
    None
}
