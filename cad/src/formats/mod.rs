//! Mesh and scan files in and out.

pub mod stl;
pub mod threemf;
