//! The same voxels as a CalculiX input deck (C3D8), so that an outside solver can judge ours.

use std::fmt::Write;

use super::model::Model;

/// A deck for one load case of `model`; prints the displacements of all nodes.
///
/// Node numbers are ours plus one; only nodes of material appear. C3D8 is the same fully
/// integrated brick as ours.
#[must_use]
pub fn deck(model: &Model, case: usize, e_mpa: f64) -> String {
    let grid = &model.grid;
    let mut used = vec![false; grid.nodes()];
    let mut elements = String::new();
    for (element, _) in model.solid.iter().enumerate().filter(|(_, solid)| **solid) {
        let nodes = grid.element_nodes(element);
        for n in nodes {
            used[n] = true;
        }
        // Bottom ring counter-clockwise, then the top one.
        let ring = [0, 1, 3, 2, 4, 5, 7, 6]
            .map(|a| (nodes[a] + 1).to_string())
            .join(", ");
        line(&mut elements, format_args!("{}, {ring}", element + 1));
    }
    let mut out = String::from("*NODE, NSET=ALL\n");
    for n in (0..grid.nodes()).filter(|&n| used[n]) {
        let at = grid.node_position(n);
        let [x, y, z] = [0, 1, 2].map(|a| model.origin[a] + at[a] as f64 * grid.voxel_mm);
        line(&mut out, format_args!("{}, {x:.9}, {y:.9}, {z:.9}", n + 1));
    }
    out.push_str("*ELEMENT, TYPE=C3D8, ELSET=PART\n");
    out.push_str(&elements);
    line(
        &mut out,
        format_args!("*MATERIAL, NAME=M\n*ELASTIC\n{e_mpa:.9}, {:.9}", grid.nu),
    );
    out.push_str("*SOLID SECTION, ELSET=PART, MATERIAL=M\n*BOUNDARY\n");
    for n in &model.supports {
        line(&mut out, format_args!("{}, 1, 3", n + 1));
    }
    out.push_str("*STEP\n*STATIC\n*CLOAD\n");
    for (dof, f) in model.cases[case]
        .1
        .iter()
        .enumerate()
        .filter(|(_, f)| **f != 0.0)
    {
        let (node, component) = (dof % grid.nodes(), dof / grid.nodes());
        line(
            &mut out,
            format_args!("{}, {}, {f:.12e}", node + 1, component + 1),
        );
    }
    out.push_str("*NODE PRINT, NSET=ALL\nU\n*END STEP\n");
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}
