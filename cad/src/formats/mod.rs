//! Mesh and scan files in and out.
