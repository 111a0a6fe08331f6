//! Mesh and scan files in and out.

pub mod ply;
