//! A brief's supports and loads on a set of voxels.

use crate::brief::{Brief, Load};
use crate::families::{DesignSpace, Interface, InterfaceRole};
use crate::fem::grid::{Field, Grid};
use crate::field::{Voxels, components};
use crate::mesh::{cross, sub};

/// Stiffness of an empty voxel relative to a full one.
pub const VOID_STIFFNESS: f64 = 1e-9;

/// A structure ready to be analysed.
#[derive(Debug, Clone)]
pub struct Model {
    /// Elements and what is held.
    pub grid: Grid,
    /// Corner of the grid, mm.
    pub origin: [f64; 3],
    /// Which elements are material.
    pub solid: Vec<bool>,
    /// Young's modulus per element, N/mm².
    pub e: Vec<f64>,
    /// Nodes held still.
    pub supports: Vec<usize>,
    /// Load cases with their nodal forces, N.
    pub cases: Vec<(Load, Field)>,
    /// Full voxels left out because nothing holds them.
    pub loose: usize,
}

/// Why a structure cannot be analysed.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ModelError {
    /// No voxel is full.
    #[error("the part has no material")]
    Empty,
    /// No material touches any support.
    #[error("no material touches a support interface; the part would fall")]
    NotHeld,
    /// No material, or none that is held, where a load acts.
    #[error("load `{load}`: no held material at interface `{interface}` to carry it")]
    NotCarried {
        /// The load.
        load: String,
        /// The interface.
        interface: String,
    },
}

impl Model {
    /// Takes voxels at least half full as material, drops what is not connected to a support, and
    /// spreads each load over its interface so that force and moment are kept.
    ///
    /// # Errors
    /// If a support or a load interface has no material.
    pub fn new(brief: &Brief, voxels: &Voxels) -> Result<Self, ModelError> {
        let space = brief.design_space();
        let full: Vec<bool> = voxels.fill.iter().map(|&f| f >= 0.5).collect();
        if !full.contains(&true) {
            return Err(ModelError::Empty);
        }
        let mut grid = Grid::new(voxels.counts, voxels.voxel_mm, brief.material.nu);
        let held = support_nodes(&grid, voxels.origin, &space, &full);
        let solid = held_voxels(&grid, &full, &held);
        let supports = support_nodes(&grid, voxels.origin, &space, &solid);
        if supports.is_empty() {
            return Err(ModelError::NotHeld);
        }
        grid.fix_nodes(&supports);
        let mut cases = Vec::new();
        for load in &brief.loads {
            let not_carried = || ModelError::NotCarried {
                load: load.name.clone(),
                interface: load.at.clone(),
            };
            let interface = space.interface(&load.at).ok_or_else(not_carried)?;
            let nodes = interface_nodes(&grid, voxels.origin, interface, &solid);
            let force = spread(&grid, voxels.origin, &nodes, load, interface.point)
                .ok_or_else(not_carried)?;
            cases.push((load.clone(), force));
        }
        let e_mpa = brief.material.e_mpa;
        let e = solid
            .iter()
            .map(|&s| if s { e_mpa } else { e_mpa * VOID_STIFFNESS })
            .collect();
        let count = |set: &[bool]| set.iter().filter(|&&s| s).count();
        let loose = count(&full) - count(&solid);
        Ok(Self {
            grid,
            origin: voxels.origin,
            solid,
            e,
            supports,
            cases,
            loose,
        })
    }
}

fn support_nodes(grid: &Grid, origin: [f64; 3], space: &DesignSpace, solid: &[bool]) -> Vec<usize> {
    let mut nodes: Vec<usize> = space
        .interfaces
        .iter()
        .filter(|i| i.role == InterfaceRole::Support)
        .flat_map(|i| interface_nodes(grid, origin, i, solid))
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// The full voxels connected through faces to a held node.
fn held_voxels(grid: &Grid, full: &[bool], held: &[usize]) -> Vec<bool> {
    let (label, found) = components(grid.counts, full);
    let mut keep = vec![false; found as usize + 1];
    for &node in held {
        for element in elements_around(grid, node) {
            keep[label[element] as usize] = true;
        }
    }
    keep[0] = false;
    label.iter().map(|&l| keep[l as usize]).collect()
}

fn elements_around(grid: &Grid, node: usize) -> impl Iterator<Item = usize> {
    let at = grid.node_position(node);
    let counts = grid.counts;
    (0..8usize).filter_map(move |n| {
        let cell = [0, 1, 2].map(|a| at[a].wrapping_sub(n >> a & 1));
        (0..3)
            .all(|a| cell[a] < counts[a])
            .then(|| (cell[2] * counts[1] + cell[1]) * counts[0] + cell[0])
    })
}

/// Nodes of material on the layer of the grid nearest to a plane interface, within its ring.
fn interface_nodes(
    grid: &Grid,
    origin: [f64; 3],
    interface: &Interface,
    solid: &[bool],
) -> Vec<usize> {
    let (axis, h) = (interface.axis(), grid.voxel_mm);
    let nearest = ((interface.point[axis] - origin[axis]) / h).round() as isize;
    let inward = -interface.normal[axis].signum() as isize;
    for layer in [nearest, nearest + inward] {
        let nodes: Vec<usize> = (0..grid.nodes())
            .filter(|&n| {
                let at = grid.node_position(n);
                let p = [0, 1, 2].map(|a| origin[a] + at[a] as f64 * h);
                let radius = interface.radius_of(p);
                at[axis] as isize == layer
                    && radius >= interface.extent.inner_mm - 0.5 * h
                    && radius <= interface.extent.outer_mm + 0.01 * h
                    && elements_around(grid, n).any(|e| solid[e])
            })
            .collect();
        if nodes.len() >= 3 {
            return nodes;
        }
    }
    Vec::new()
}

/// Equal forces plus a rotation field of forces, so that the sum and the moment are exact.
fn spread(
    grid: &Grid,
    origin: [f64; 3],
    nodes: &[usize],
    load: &Load,
    centre: [f64; 3],
) -> Option<Field> {
    if nodes.is_empty() {
        return None;
    }
    let count = nodes.len() as f64;
    let positions: Vec<[f64; 3]> = nodes
        .iter()
        .map(|&n| {
            let at = grid.node_position(n);
            [0, 1, 2].map(|a| origin[a] + at[a] as f64 * grid.voxel_mm)
        })
        .collect();
    let middle = [0, 1, 2].map(|a| positions.iter().map(|p| p[a]).sum::<f64>() / count);
    let moment = cross(sub(load.point_mm.unwrap_or(centre), middle), load.force_n);
    let mut inertia = nalgebra::Matrix3::zeros();
    for p in &positions {
        let r = nalgebra::Vector3::from(sub(*p, middle));
        inertia += nalgebra::Matrix3::identity() * r.norm_squared() - r * r.transpose();
    }
    let turn = inertia.lu().solve(&nalgebra::Vector3::from(moment))?;
    let all = grid.nodes();
    let mut force = vec![0.0; 3 * all];
    for (&node, p) in nodes.iter().zip(&positions) {
        let share = cross([turn[0], turn[1], turn[2]], sub(*p, middle));
        for a in 0..3 {
            force[a * all + node] += load.force_n[a] / count + share[a];
        }
    }
    Some(force)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brief::tests::BRACKET;

    #[test]
    fn a_load_beside_its_interface_keeps_force_and_moment() {
        let mut brief = Brief::from_toml(BRACKET).unwrap();
        let point = [40.0, 25.0, 30.0];
        brief.loads[0].point_mm = Some(point);
        brief.loads[0].force_n = [3.0, -5.0, 7.0];
        let full = Voxels::uniform(brief.counts(), [0.0; 3], 2.0, 1.0);
        let model = Model::new(&brief, &full).unwrap();
        let (load, force) = &model.cases[0];
        let (all, mut sum, mut moment) = (model.grid.nodes(), [0.0; 3], [0.0; 3]);
        for n in 0..all {
            let at = model.grid.node_position(n).map(|x| x as f64 * 2.0);
            let f = [0, 1, 2].map(|a| force[a * all + n]);
            let m = cross(sub(at, point), f);
            for a in 0..3 {
                sum[a] += f[a];
                moment[a] += m[a];
            }
        }
        for a in 0..3 {
            assert!((sum[a] - load.force_n[a]).abs() < 1e-12, "{sum:?}");
            assert!(moment[a].abs() < 1e-9, "{moment:?}");
        }
    }

    #[test]
    fn missing_material_is_named() {
        let brief = Brief::from_toml(BRACKET).unwrap();
        let mut voxels = Voxels::uniform(brief.counts(), [0.0; 3], 2.0, 0.0);
        assert_eq!(Model::new(&brief, &voxels).unwrap_err(), ModelError::Empty);
        for n in 0..voxels.fill.len() {
            voxels.fill[n] = if voxels.cell(n)[0] < 3 { 1.0 } else { 0.0 };
        }
        let error = Model::new(&brief, &voxels).unwrap_err();
        assert!(matches!(error, ModelError::NotCarried { .. }), "{error}");
        voxels.fill.iter_mut().for_each(|f| *f = 1.0 - *f);
        let error = Model::new(&brief, &voxels).unwrap_err();
        assert_eq!(error, ModelError::NotHeld);
    }
}
