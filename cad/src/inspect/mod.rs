//! Measuring a scan against a mesh and judging it.

pub mod scan;
