//! Mesh and scan files in and out.

pub mod ply;
pub mod stl;
pub mod threemf;
