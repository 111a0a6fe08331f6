//! Density-based topology optimisation: least compliance for a given volume.

pub mod filter;
pub mod optimise;
pub mod overhang;
pub mod project;
