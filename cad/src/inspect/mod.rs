//! Measuring a scan against a mesh and judging it.
